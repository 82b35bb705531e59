"""When a launch on this machine is worth nothing: others work beside it, its core is slow, or its device holds back."""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from attnbench.core.surroundings import Surroundings

__all__ = ["best_loop", "best_of", "slowed", "unrest"]

# What others may take of the machine: an agent that ticks, and no program that works. Even on a core of its own one
# shares caches, memory and clock with the step that is timed, which slows each kind of step differently.
_SHARE, _LEAST_CORES = 0.1, 0.25
# A neighbour on the other half of the same core costs the loop a third; one look in fifty at a quiet core as much.
_SLOWER: Final = 1.25
# Of one run the yardsticks are steadier than that. Beside an unseen neighbour ratios to them spread by 3 to 5 %, and
# without the launches in which they took so much more than at their best, by 1 % (by 2 % under a millisecond).
_SLOWER_HERE: Final = 1.08


def unrest(around: Iterable[Surroundings], device: str, loop_us: float | None = None, cores: int | None = None) -> str:
    """What disturbed a launch, in a few words for a list; "" is nothing.

    `loop_us` is what the interpreter's loop takes on such a core while it is quiet, None where that is not known, and
    `cores` the machine's number of them.
    """
    seen = list(around)
    busy = max((each.other_cores or 0.0 for each in seen), default=0.0)
    if busy > _bearable(device, cores or os.cpu_count() or 1):
        return "other programs were busy"
    reasons = dict.fromkeys(reason for each in seen for reason in each.reasons)
    if reasons:
        return f"the device was held down or shared ({', '.join(reasons)})"
    slowest = max((each.loop_us for each in seen if each.loop_us), default=None)
    if loop_us and slowest and slowest > _SLOWER * loop_us:
        return "the core was slower than it can be, as beside a neighbour on its other half"
    return ""


def slowed(ms: Mapping[str, float], here: Mapping[str, float], stored: Mapping[str, float]) -> str:
    """Whether a yardstick took clearly more than it can: than its best in this run, `here`, or when it was `stored`."""
    for name, now in ms.items():
        least = min(here.get(name, now), stored.get(name, now) * _SLOWER / _SLOWER_HERE)
        if now > _SLOWER_HERE * least:
            return "the yardsticks took longer than they can"
    return ""


def best_of(ms: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """The least that each yardstick took, `known` being what they took before."""
    return {name: min(now, known.get(name, now)) for name, now in ms.items()}


def best_loop(around: Iterable[Surroundings], known: float | None = None) -> float | None:
    """The least that the loop took, `known` being what it took before."""
    return min((us for us in (known, *(each.loop_us for each in around)) if us), default=None)


def _bearable(device: str, cores: int) -> float:
    """Cores that others may use; beside a GPU all but the one that feeds it."""
    if device.startswith("cuda"):
        return max(_LEAST_CORES, cores - 1.0)
    return max(_LEAST_CORES, _SHARE * cores)
