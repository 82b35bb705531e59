"""The most memory that this process had resident, as the system counts it: over one step where it can be reset."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.metrics.footprint.parts import Figure, Unknown

__all__ = ["Resident", "resident_peak"]

_RESET = ("the process's peak: the most that it had resident, reset before a step of its own (VmHWM); Python and torch "
          "are in it")  # fmt: skip
_WHOLE_LIFE = "the process's peak: the most that it had resident since it began (ru_maxrss), which cannot be reset"
_NONE = "the process's peak: not told by this system"


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes, and in words what they are."""

    peak: Figure
    method: str


def resident_peak(step: Callable[[], Any], proc: Path = Path("/proc/self")) -> Resident:
    """Runs the step once. Linux resets the peak when a 5 is written to `clear_refs` (proc(5)); others never do."""
    reset = _reset(proc)
    step()
    peak = _high_water(proc) if reset else None
    if peak is not None:
        return Resident(peak, _RESET)
    peak = _of_whole_life()
    return Resident(Unknown("this system does not tell it"), _NONE) if peak is None else Resident(peak, _WHOLE_LIFE)


def _reset(proc: Path) -> bool:
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water(proc: Path) -> int | None:
    try:
        lines = (proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _of_whole_life() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit or None
