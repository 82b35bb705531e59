"""What disturbs samples while they are taken: a device that slows itself down, others on our cores or beside them."""

import math
import os
import statistics
import time
from collections.abc import Callable

import torch

from attnbench.core.surroundings import Surroundings
from attnbench.metrics.conditions import Watch, sharing, watch
from attnbench.metrics.hardware import OtherLoad
from attnbench.metrics.nvml import gpu_of

__all__ = ["OTHERS", "SLOWED", "Around", "CoreSpeed", "Disturbances", "crowded"]

# The words for other programs on our cores, and for a core that is slow for reasons which this system does not tell,
# among the device's own reasons.
OTHERS, SLOWED = "other programs", "a slowed core"

# Of one core: less than this is the system's own ticking; of a stretch of a tenth of a second, counted in hundredths,
# twice as much is.
_TICKING, _TICKING_OF_A_STRETCH = 0.1, 0.25

# The loop takes some 70 us; the fastest of three is not one that was interrupted.
_LOOP, _LOOPS = 6000, 3
# Before and after a stretch of timing so many are taken, whose median is what the core is like.
_LOOPS_AROUND = 25
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


class Around:
    """What surrounds the timing that goes on from now until it is asked."""

    def __init__(self, device: str) -> None:
        self._device, self._watch = device, watch(device)
        self._reasons = self._watch.look()
        self._loops = self._more_loops()
        self._load = OtherLoad()

    def seen(self) -> Surroundings:
        """All that was seen since."""
        # A look that is due only later says what the last one said.
        reasons = dict.fromkeys((*self._reasons, *self._watch.look(), *self._sharing()))
        cores = self._load.cores()
        loops = [*self._loops, *self._more_loops()]
        return Surroundings(cores, statistics.median(loops) * 1e6, tuple(reasons))

    def _sharing(self) -> tuple[str, ...]:
        gpu = gpu_of(self._device) if self._device.startswith("cuda") else None
        return (OTHERS,) if gpu is not None and sharing(gpu) else ()

    def _more_loops(self) -> list[float]:
        return [_loop_seconds() for _ in range(_LOOPS_AROUND)]


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
