"""How a worker ended, in a status and a sentence: from its exit code, its report, its last words and the kernel."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attnbench.core import control_group
from attnbench.core.errors import AttnbenchError
from attnbench.core.places import place_in_report
from attnbench.core.units import human_bytes

__all__ = ["Death", "WorkerDied", "kernel_kills", "obituary", "silence"]

# What a process says that was refused memory, in C++ or by its thread library.
_NO_MEMORY = re.compile(r"std::bad_alloc|can't allocate memory|libgomp: (Thread creation failed|Out of memory)")
_CUT = "  ..."  # where faulthandler leaves out the rest of a deep stack


class WorkerDied(AttnbenchError):  # noqa: N818 - it is news, not a mistake
    """The worker ended in the middle of an answer: `status` is that of the row, the message its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Death:
    """`code` is the exit code, or minus the signal, or None where it had to be ended; `report` what faulthandler wrote
    of its threads, `words` its last ones, `starved` whether the kernel has killed for want of memory meanwhile."""

    code: int | None
    report: str = ""
    words: str = ""
    starved: bool | None = None


def obituary(death: Death) -> WorkerDied:
    """The row's status and reason."""
    if death.code is None:
        return WorkerDied("crashed", "it closed the pipe that its worker answers through")
    if _NO_MEMORY.search(death.words):
        return WorkerDied("oom", f"it ended the worker process for want of memory: {death.words}")
    if death.code >= 0:
        return WorkerDied("crashed", f"it ended the worker process with exit code {death.code}{_last(death.words)}")
    if -death.code == signal.SIGKILL:
        return _killed(death.starved)
    name, place = _named(-death.code), _place(death.report)
    if -death.code == signal.SIGTERM:
        return WorkerDied("crashed", f"the worker process was told to end (SIGTERM){place}")
    words = _last(death.words) if -death.code == signal.SIGABRT else ""
    return WorkerDied("crashed", f"it crashed the worker process ({name}){_depth(death.report)}{place}{words}")


def _killed(starved: bool | None) -> WorkerDied:
    if starved:
        return WorkerDied("oom", "the system's out-of-memory killer ended the worker process")
    known = ", and not by the system's out-of-memory killer" if starved is not None else ""
    return WorkerDied("crashed", f"the worker process was killed (SIGKILL){known}")


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _last(words: str) -> str:
    return f"; its last words: {words}" if words else ""


def _place(report: str) -> str:
    place = place_in_report(report)
    return f" in {place}" if place else ""


def _depth(report: str) -> str:
    """A stack that was too deep to be written down is what overflows."""
    return ", more than 100 calls deep," if _CUT in report.splitlines() else ""


def silence(seconds: float, report: str, printed: int | None) -> WorkerDied:
    """That of a worker which was given up after so many seconds; `printed` is what it printed without end, in bytes."""
    place = place_in_report(report)
    where = f", in {place}" if place else ""
    but = f" but what it prints, {human_bytes(printed)} so far" if printed is not None else ""
    return WorkerDied("timeout", f"nothing came from it for {seconds:g} s (--timeout){but}{where}")


def kernel_kills(process: int) -> Callable[[], bool | None]:
    """Begin to watch the out-of-memory killer; what is returned says later whether it has struck since, if it tells.

    The control group of the process knows only its own. Where it does not tell, the whole system is asked.
    """
    count = control_group.kills(str(process))
    if (before := count()) is None:
        count = _kills_of_the_system
        before = count()

    def struck() -> bool | None:
        after = count()
        return None if before is None or after is None else after > before

    return struck


def _kills_of_the_system() -> int | None:
    try:
        rows = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return next(int(count) for name, count in rows if name == "oom_kill")
    except (OSError, StopIteration, ValueError):
        return None
