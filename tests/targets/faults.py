"""What modules do to the process that measures them; each does it at once, and needs no torch to be loaded."""

import contextlib
import ctypes
import fcntl
import logging
import mmap
import os
import platform
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable

__all__ = ["FAULTS"]

FAULTS: dict[str, Callable[[], object]] = {}


def fault(act: Callable[[], object]) -> Callable[[], object]:
    FAULTS[act.__name__] = act
    return act


def once(act: Callable[[], object]) -> Callable[[], object]:
    """A module is called many times in a measurement."""
    done: list[bool] = []

    def first() -> None:
        if not done:
            done.append(True)
            act()

    FAULTS[act.__name__] = first
    return first


def cpp(symbol: str, *arguments: bytes) -> None:
    """Call a function of the C++ library; what it throws nobody catches."""
    getattr(ctypes.CDLL("libstdc++.so.6"), symbol)(*arguments)


def pipes() -> list[int]:
    """The descriptors behind the standard ones that are pipes one can write to."""
    found = []
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
            if is_pipe and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                found.append(number)
    return found


# It ends the process.


@fault
def segfault() -> None:
    ctypes.string_at(0)


@fault
def segfault_in_a_thread() -> None:
    thread = threading.Thread(target=ctypes.string_at, args=(0,))
    thread.start()
    thread.join()


@fault
def fpe() -> None:
    """A division of integers by zero in C, where the processor minds."""
    ctypes.CDLL(None).div(1, 0)
    signal.raise_signal(signal.SIGFPE)


@fault
def bus() -> None:
    """A page of a file that has become shorter."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        page[0]


@fault
def ill() -> None:
    """What no processor of its kind has for an instruction."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x0f\x0b" if platform.machine() in ("x86_64", "AMD64") else b"\0\0\0\0")
    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


@fault
def abort() -> None:
    os.abort()


@fault
def assertion() -> None:
    os.write(2, b"ld: my_kernel.cc:12: launch: Assertion `blocks > 0' failed.\n")
    os.abort()


@fault
def thrown() -> None:
    cpp("_ZSt21__throw_runtime_errorPKc", b"no such kernel")


@fault
def thrown_bad_alloc() -> None:
    cpp("_ZSt17__throw_bad_allocv")


@fault
def no_thread() -> None:
    os.write(2, b"\nlibgomp: Thread creation failed: Resource temporarily unavailable\n")
    os._exit(1)


@fault
def overflow() -> None:
    class Deep:
        def __call__(self) -> None:
            self()

    sys.setrecursionlimit(10**6)
    Deep()()


@fault
def exit_3() -> None:
    os._exit(3)


@fault
def exit_0() -> None:
    os._exit(0)


@fault
def exit_with_words() -> None:
    print("my_library: licence expired", flush=True)  # noqa: T201
    os._exit(1)


@fault
def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@fault
def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@fault
def real_time_signal() -> None:
    signal.raise_signal(signal.SIGRTMIN + 3)


@fault
def exit_beside_a_daemon() -> None:
    """A daemon holds all pipes open for as long as it lives."""
    subprocess.Popen(["sleep", "60"], pass_fds=pipes(), start_new_session=True)
    os._exit(5)


@fault
def shared() -> None:
    """No limit of a process counts what it shares."""
    held = mmap.mmap(-1, 2**31)
    for at in range(0, 2**31, mmap.PAGESIZE):
        held[at] = 1


# It does not answer.


@fault
def hang() -> None:
    time.sleep(600)


@fault
def hang_with_the_lock() -> None:
    """In C, without letting another thread of Python's run."""
    ctypes.PyDLL(None).sleep(600)


@fault
def hang_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


@fault
def swallow() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)
            raise ValueError


@fault
def print_for_ever() -> None:
    while True:
        print("y" * 1000)  # noqa: T201


# It disturbs the conversation.


@fault
def write_to_all_pipes() -> None:
    for number in pipes():
        with contextlib.suppress(OSError):
            os.write(number, b"\xff\xfe{]\n")


@fault
def forge_an_answer() -> None:
    for number in pipes():
        with contextlib.suppress(OSError):
            os.write(number, b'{"event": "done", "status": "ok", "reason": ""}\n')


@fault
def close_everything() -> None:
    os.closerange(3, 256)


@fault
def take_its_place() -> None:
    """Close everything, and have files where the pipes were."""
    os.closerange(3, 256)
    for _ in range(64):
        os.open(os.devnull, os.O_WRONLY)


# It raises, and the process lives.


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise ValueError("no words")


class NeedsTwo(Exception):  # noqa: N818
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


@fault
def raises() -> None:
    raise RuntimeError("I do not feel like it")


@fault
def raises_unspeakable() -> None:
    raise Unspeakable


@fault
def raises_at_length() -> None:
    raise RuntimeError("o" * 10_000_000)


@fault
def raises_what_cannot_be_built() -> None:
    raise NeedsTwo  # type: ignore[call-arg]


@fault
def raises_surrogates() -> None:
    raise ValueError("caf\udce9")


@fault
def raises_interrupt() -> None:
    raise KeyboardInterrupt


@fault
def raises_generator_exit() -> None:
    raise GeneratorExit


@fault
def raises_stop_iteration() -> None:
    next(iter(()))


@fault
def sys_exit_4() -> None:
    sys.exit(4)


@fault
def sys_exit_words() -> None:
    sys.exit("that was it")


@fault
def recursion() -> None:
    recursion()


# It goes on.


@fault
def print_much() -> None:
    print('1 {"event": "done", "status": "ok", "reason": ""}\n' * 4000)  # noqa: T201


@fault
def print_bytes() -> None:
    os.write(1, b"\xff\xfe\x00 half a letter \xc3")
    os.write(2, b"\xa9 and a bell \x07\n")


@fault
def read_input() -> None:
    sys.stdin.read()


@once
def close_standard_streams() -> None:
    for number in range(3):
        os.close(number)


@fault
def close_stdout() -> None:
    sys.stdout.close()


@once
def start_a_thread() -> None:
    threading.Thread(target=rest, name="resting").start()


def rest() -> None:
    time.sleep(60)


@once
def fork_a_child() -> None:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)


@once
def fork_and_go_on() -> None:
    """Both of them return."""
    os.fork()


@once
def start_a_process() -> None:
    subprocess.Popen(["sleep", "60"])


@fault
def change_the_process() -> None:
    """State that is not torch's."""
    os.environ["ATTNBENCH_WAS_HERE"] = "1"
    os.environ.pop("PATH", None)
    os.chdir("/")
    sys.path.insert(0, "/nowhere")
    warnings.simplefilter("error")
    logging.getLogger().setLevel(logging.CRITICAL)
    sys.setrecursionlimit(345)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 30)
    random.seed(5)
