"""Two steps timed against each other in quads (A B B A): what drifts or comes and goes between them meets both."""

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from attnbench.core.stats import quantile
from attnbench.metrics.timing.timers import Run

__all__ = ["Ms", "PairedBlock", "Pairing", "Quads", "host_and_cpu", "paired", "wall_only"]


class Ms(NamedTuple):
    """Milliseconds a step of one block: by the clock on the wall (or the device's), and of the process's CPU time.

    `cpu` is None where it says nothing of how long a step takes: on a GPU, and with several threads, which spin.
    """

    wall: float
    cpu: float | None = None


# Runs so many steps back to back.
PairedBlock = Callable[[int], Ms]
Clock = Callable[[], float]

# A step whose wall time is never nearer to its CPU time than this waits for something, or has others work for it.
_WAITS = 1.02
# Of all blocks so many have been let run through, even on a machine that is shared.
_UNDISTURBED = 0.1


@dataclass(frozen=True, slots=True)
class Pairing:
    """How long two steps are timed against each other in one process.

    Quads are taken until the standard error of their median is within `error` (as a logarithm: 0.002 is 0.2 %), at
    least `fewest`, at most `most`. No new one is begun after `seconds`, nor after `longest` where there are fewer than
    that, once there are five. A block of steps lasts at least `block_ms`.
    """

    error: float = 0.003
    fewest: int = 30
    most: int = 400
    seconds: float = 0.8
    longest: float = 2.4
    block_ms: float = 0.5


_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Quads:
    """What one process says: for each quad the logarithm of how much longer the second step takes than the first.

    `first_ms` and `second_ms` are the medians over all blocks by the clock that was judged by: `cpu`, or `wall`.
    """

    log_ratios: list[float]
    first_ms: float
    second_ms: float
    clock: str

    @property
    def median(self) -> float:
        return statistics.median(self.log_ratios)

    @property
    def error(self) -> float:
        """The median's standard error: a disturbed quad does not widen it."""
        return standard_error(self.log_ratios)


def standard_error(values: Sequence[float]) -> float:
    """That of their median, whatever their distribution: half the distance of the order statistics between which the
    median lies in two cases of three (a binomial count's standard deviation to each side of the middle)."""
    aside = 0.5 / math.sqrt(len(values))
    return (quantile(values, min(1.0, 0.5 + aside)) - quantile(values, max(0.0, 0.5 - aside))) / 2


def host_and_cpu(
    run: Run, clock_ns: Callable[[], int] = time.perf_counter_ns, cpu_ns: Callable[[], int] = time.process_time_ns
) -> PairedBlock:
    """Blocks of `run` by the host's clock, and by the CPU time that the process used in them.

    On one thread the CPU time is what the step costs, whoever else wants the core meanwhile.
    """

    def block(steps: int) -> Ms:
        start, began = clock_ns(), cpu_ns()
        run(steps)
        used, end = cpu_ns(), clock_ns()
        return Ms((end - start) / steps / 1e6, (used - began) / steps / 1e6)

    return block


def wall_only(block: Callable[[int], float]) -> PairedBlock:
    """A block of which only the time on the wall, or on the device, is known."""
    return lambda steps: Ms(block(steps))


def paired(
    first: PairedBlock,
    second: PairedBlock,
    steps: tuple[int, int],
    how: Pairing,
    rng: random.Random,
    clock: Clock = time.perf_counter,
) -> Quads:
    """Quads of two steps that are warm, in blocks of so many `steps`; each quad is ABBA or BAAB, by chance.

    A drift that is steady over a quad cancels in it: both are on average at its middle. The chance keeps what follows a
    rhythm of its own from meeting always the same one.
    """
    blocks = (first, second)
    quads: list[tuple[list[Ms], list[Ms]]] = []
    begin, check = clock(), max(_FEWEST, how.fewest)
    while True:
        order = (0, 1, 1, 0) if rng.random() < 0.5 else (1, 0, 0, 1)
        taken: tuple[list[Ms], list[Ms]] = ([], [])
        for which in order:
            taken[which].append(blocks[which](steps[which]))
        quads.append(taken)
        limit = how.seconds if len(quads) >= how.fewest else max(how.seconds, how.longest)
        over = len(quads) >= how.most or (len(quads) >= _FEWEST and clock() - begin >= limit)
        if not over and len(quads) < check:
            continue
        # A look takes time, and a look after each quad would stop at the first lucky one.
        check = len(quads) * 5 // 4
        found = _judged(quads)
        if over or found.error <= how.error:
            return found


def _judged(quads: Sequence[tuple[list[Ms], list[Ms]]]) -> Quads:
    cpu = _by_cpu(quads)
    first, second = (statistics.median(_time(ms, cpu) for quad in quads for ms in quad[which]) for which in (0, 1))
    return Quads(_log_ratios(quads, cpu), first, second, "cpu" if cpu else "wall")


def _by_cpu(quads: Sequence[tuple[list[Ms], list[Ms]]]) -> bool:
    """Whether the CPU time tells what both steps take: they neither wait, nor let others work for them.

    On a shared machine a step that does neither takes longer on the wall, too, but not in every block.
    """
    for which in (0, 1):
        shares = [ms.wall / ms.cpu if ms.cpu else math.inf for quad in quads for ms in quad[which]]
        if not 1 / _WAITS <= quantile(shares, _UNDISTURBED) <= _WAITS:
            return False
    return True


def _log_ratios(quads: Sequence[tuple[list[Ms], list[Ms]]], cpu: bool) -> list[float]:
    return [
        statistics.fmean(math.log(_time(ms, cpu)) for ms in second) - statistics.fmean(
            math.log(_time(ms, cpu)) for ms in first)
        for first, second in quads
    ]  # fmt: skip


def _time(ms: Ms, cpu: bool) -> float:
    return ms.cpu if cpu and ms.cpu is not None else ms.wall
