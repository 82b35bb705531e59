"""What a case leaves behind in its process, for which the next one needs another: a worker that is spent."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from attnbench.core.case import Case
from attnbench.core.places import is_own
from attnbench.core.units import GIB, MIB, human_bytes
from attnbench.metrics.hardware import release_memory

__all__ = ["Before", "is_broken"]

# What a case may leave in memory: libraries that it loaded, small caches. More would be missing to the next.
_HOST_BYTES = GIB
_DEVICE_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Before:
    """What was there before a case began."""

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    resident: int
    on_device: int

    @classmethod
    def now(cls) -> "Before":
        return cls(frozenset(threading.enumerate()), _children(), _at_first(), _on_device())

    def left_behind(self, case: Case) -> list[str]:
        """What is there that was not, in words, after a measurement of the Case."""
        threads = sum(thread not in self.threads and _is_the_users(thread) for thread in threading.enumerate())
        # torch keeps the processes that it compiles in.
        children = len(_children() - self.children) if case.engine != "compile" else 0
        return [*_counted(threads, "thread", "threads"), *_counted(children, "process", "processes"), *self._memory()]

    def _memory(self) -> list[str]:
        """Asked a second time once everything is given back that nobody holds."""
        if not self._too_much():
            return []
        release_memory()
        return self._too_much()

    def _too_much(self) -> list[str]:
        host, device = _resident() - self.resident, _on_device() - self.on_device
        return ([f"{human_bytes(host)} of memory"] if host > _HOST_BYTES else []) + (
            [f"{human_bytes(device)} of the device's memory"] if device > _DEVICE_BYTES else [])  # fmt: skip


def _counted(number: int, one: str, several: str) -> Iterator[str]:
    if number:
        yield f"a running {one}" if number == 1 else f"{number} running {several}"


def _is_the_users(thread: threading.Thread) -> bool:
    """Libraries have threads of their own, which wait."""
    work = getattr(thread, "_target", None) or type(thread).run
    code = getattr(work, "__code__", None)
    return code is not None and is_own(code.co_filename)


def _children() -> frozenset[int]:
    """Processes that this one started and that still run, where the system tells."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):  # there is none, or no such call
        return frozenset()
    found = set()
    for file in Path("/proc/self/task").glob("*/children"):
        found |= {int(word) for word in file.read_text().split()}
    return frozenset(each for each in found if not _is_dead(each))


def _is_dead(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@cache
def _at_first() -> int:
    """Bytes that this process held before it did anything for a case."""
    return _resident()


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _on_device() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]


def is_broken(case: Case) -> bool:
    """Whether an error has made CUDA unusable for the rest of this process, as an illegal access does; or may have.

    A recording that was broken off can leave the allocator, or the random numbers, as nobody else expects them.
    """
    if not case.device.startswith("cuda") or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    if case.engine == "cudagraph":
        return True
    try:
        torch.cuda.synchronize()
    except Exception:  # whatever it says: nothing else will work
        return True
    return False
