"""What disturbs samples while they are taken: a device that slows itself down, others on our cores or beside them."""

import math
import os
import time
from collections.abc import Callable

import torch

from attnbench.metrics.conditions import Watch
from attnbench.metrics.hardware import OtherLoad

__all__ = ["OTHERS", "SLOWED", "CoreSpeed", "Disturbances", "crowded"]

# The words for other programs on our cores, and for a core that is slow for reasons which this system does not tell,
# among the device's own reasons.
OTHERS, SLOWED = "other programs", "a slowed core"

# Of one core: less than this is the system's own ticking; of a stretch of a tenth of a second, counted in hundredths,
# twice as much is.
_TICKING, _TICKING_OF_A_STRETCH = 0.1, 0.25

# The loop takes some 70 us; the fastest of three is not one that was interrupted.
_LOOP, _LOOPS = 6000, 3
# A neighbour on the other half of the same core costs a third; of a quiet core one look in fifty differs by as much.
_SLOWER = 1.25


def crowded(other_cores: float, ticking: float = _TICKING) -> bool:
    """Whether others and our own threads need more cores than this process may use."""
    return other_cores + torch.get_num_threads() > _cores() + ticking


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CoreSpeed:
    """The speed of the core that this thread runs on, read in-band: by a fixed loop of the interpreter.

    In a virtual machine nothing else tells that another one works on the other half of the same core, nor the clock.
    What the loop takes is held against the least that it has taken since the process began.
    """

    best = math.inf

    def __init__(self, loop: Callable[[], float] | None = None) -> None:
        self._loop = loop or _loop_seconds

    def slowed(self) -> bool:
        """Whether the core is clearly slower now than it has been."""
        now = min(self._loop() for _ in range(_LOOPS))
        CoreSpeed.best = min(CoreSpeed.best, now)
        return now > _SLOWER * CoreSpeed.best


def _loop_seconds() -> float:
    start = time.perf_counter()
    for _ in range(_LOOP):
        pass
    return time.perf_counter() - start


class Disturbances:
    """Asked for a stretch of samples at a time: the reasons of the device's `watch`, and what slows a CPU's threads."""

    def __init__(self, watch: Watch, device: str) -> None:
        self._watch = watch
        self._cpu = device == "cpu"
        self._load, self._core = OtherLoad(), CoreSpeed()

    def look(self) -> tuple[str, ...]:
        """What disturbed the machine since the last look."""
        found = list(self._watch.look())
        if self._cpu and self._core.slowed():
            found.append(SLOWED)
        if self._cpu and self._others_crowd():
            found.append(OTHERS)
        return tuple(found)

    def _others_crowd(self) -> bool:
        cores, self._load = self._load.cores(), OtherLoad()
        return cores is not None and crowded(cores, _TICKING_OF_A_STRETCH)
