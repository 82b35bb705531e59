"""What disturbs the samples while they are taken: a device that slows itself down, other programs on the same cores."""

import os

import torch

from attnbench.metrics.conditions import Watch
from attnbench.metrics.hardware import OtherLoad

__all__ = ["OTHERS", "Disturbances", "crowded"]

# The word for other programs on our cores, among the device's own reasons for being slow.
OTHERS = "other programs"

# Of one core: less than this is the system's own ticking; of a stretch of a tenth of a second, counted in hundredths,
# twice as much is.
_TICKING, _TICKING_OF_A_STRETCH = 0.1, 0.25


def crowded(other_cores: float, ticking: float = _TICKING) -> bool:
    """Whether others and our own threads need more cores than this process may use."""
    return other_cores + torch.get_num_threads() > _cores() + ticking


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Disturbances:
    """Asked for a stretch of samples at a time: the reasons of the device's `watch`, and on the CPU other load."""

    def __init__(self, watch: Watch, device: str) -> None:
        self._watch = watch
        self._cpu = device == "cpu"
        self._load = OtherLoad()

    def look(self) -> tuple[str, ...]:
        """What disturbed the machine since the last look."""
        reasons = self._watch.look()
        return (*reasons, OTHERS) if self._cpu and self._others_crowd() else reasons

    def _others_crowd(self) -> bool:
        cores, self._load = self._load.cores(), OtherLoad()
        return cores is not None and crowded(cores, _TICKING_OF_A_STRETCH)
