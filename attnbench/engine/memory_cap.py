"""Keeps a case within the memory that is there for it while it runs, so that too much is refused and not swapped.

On Linux the kernel itself holds this process to a limit of what it may write to (RLIMIT_DATA): an allocation beyond it
fails, in Python, torch or numpy alike, where otherwise the host would swap or its out-of-memory killer would choose
somebody. The soft limit alone is moved and put back. It counts addresses and not pages, so it stands that of the free
memory above what the process has now; compilers that torch starts inherit at least as much. Memory that processes
share is not counted; what fills the host with that still meets the out-of-memory killer, and is a row as well. A CUDA
driver reserves addresses by the terabyte for purposes of its own: such cases are not capped on the host, and on the
device CUDA itself refuses what does not fit.
"""

import errno
import mmap
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from attnbench.core.errors import OutOfMemoryError, first_line
from attnbench.core.places import place_of
from attnbench.core.units import MIB, human_bytes
from attnbench.metrics.hardware import free_bytes

if sys.platform != "win32":
    import resource

__all__ = ["host_kept_free", "is_out_of_memory", "out_of_memory", "within_limit"]

# The many ways to say it: torch, its allocators and libraries, C++, Python's threads.
_SAID = re.compile(r"(can't|cannot|unable to) allocate memory|out of memory|std::bad_alloc|can't start new thread"
                   r"|STATUS_ALLOC_FAILED|could not create a memory", re.IGNORECASE)  # fmt: skip
_WANTED = re.compile(r"DefaultCPUAllocator: .* allocate (\d+) bytes")
# What libraries take once for themselves, in all and for each thread: stacks, buffers of matrix products, code.
_ONCE, _FOR_EACH_THREAD = 64 * MIB, 16 * MIB


def host_kept_free(device: str) -> AbstractContextManager[None]:
    """Inside, no more can be taken from the host than is free now, where the case runs there.

    What it cannot take is raised as OutOfMemoryError, in a sentence.
    """
    free = free_bytes("cpu") if device == "cpu" else None
    return _Capped(free, "" if free is None else f"; {human_bytes(free)} were free on the host when it began")


def within_limit(device: str, limit: int | None) -> AbstractContextManager[None]:
    """Inside, a case can take no more than the limit: of the CUDA allocator exactly, of the host's with some room for
    what libraries take once.

    What it cannot take is raised as OutOfMemoryError, in a sentence.
    """
    if limit is None:
        return nullcontext()
    why = f"; --mem-limit allows {human_bytes(limit)}"
    if device.startswith("cuda"):
        return _fraction(device, limit, why)
    return _Capped(limit + _ONCE + _FOR_EACH_THREAD * torch.get_num_threads(), why)


class _Capped:
    """Inside, this process can take no more than so many bytes in addition, where the kernel sees to that.

    When the last byte is gone Python has none for an exception's way out either: nothing is made on it before there is
    memory again, and a little is put by for that moment.
    """

    def __init__(self, more: int | None, why: str) -> None:
        self._more, self._why = more, why
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> None:
        now = _data_bytes()
        if self._more is None or now is None:
            return
        self._set = resource.setrlimit
        self._reserve = mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        soft, hard = self._before = resource.getrlimit(resource.RLIMIT_DATA)
        known = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
        self._set(resource.RLIMIT_DATA, (min([now + self._more, *known]), hard))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._before is not None:
            self._reserve.close()
            self._set(resource.RLIMIT_DATA, self._before)
        if error is not None and is_out_of_memory(error):
            raise OutOfMemoryError(out_of_memory(error) + self._why) from error


def _data_bytes() -> int | None:
    """VmData: the private addresses that this process may write to, which is what the limit is about; Linux only."""
    if sys.platform != "linux":
        return None
    try:
        rows = Path("/proc/self/status").read_text().splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmData:"))
    except (OSError, StopIteration, ValueError):
        return None


@contextmanager
def _fraction(device: str, limit: int, why: str) -> Iterator[None]:
    """The limit above what the allocator holds, as the part of the device's memory that torch wants to be told."""
    if not torch.cuda.is_available():
        yield
        return
    total = torch.cuda.mem_get_info(device)[1]
    allowed = torch.cuda.memory_reserved(device) + limit
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    try:
        yield
    except Exception as error:  # foreign code
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(out_of_memory(error) + why) from error
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is what it lacks, on the device or the host; ours, which say more, are not meant."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and _SAID.search(first_line(error)) is not None


def out_of_memory(error: BaseException) -> str:
    """In words, with the place in the user's code."""
    text, place = first_line(error).rstrip("."), place_of(error)
    if wanted := _WANTED.search(text):
        text = f"can't allocate memory: it asked for {human_bytes(int(wanted[1]))} more"
    elif text == MemoryError.__name__:
        text = "out of memory"
    return f"{text} ({place})" if place else text
