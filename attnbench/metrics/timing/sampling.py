"""Warm-up until the level is stable, samples until their interval is narrow: rules that know a block and a clock."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from attnbench.core.stats import Estimate, median_estimate
from attnbench.metrics.metric import Options

__all__ = ["Block", "Clock", "Look", "Samples", "difference", "sample", "steps_a_block", "warm_up"]

# Runs so many steps back to back; gives the milliseconds of one.
Block = Callable[[int], float]
Clock = Callable[[], float]
# Says what has disturbed the machine since the last time it was asked, in words; nothing if nothing has.
Look = Callable[[], tuple[str, ...]]

# A block lasts at least this long: reading the clock twice and entering the loop (2 us) are then 0.2 % of it.
_BLOCK_MS = 1.0
_MIN_SAMPLES = 5
# The first look at the interval comes after so many samples and so many seconds: a shorter stretch knows nothing of
# the machine's drift, and looks narrow by luck.
_FIRST_LOOK, _AT_LEAST = 20, 0.1
_STABLE = 0.02
# Disturbances are told of stretches this long; the system counts in hundredths of a second.
_STRETCH = 0.1


def _calm() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Samples:
    """Milliseconds a step, in the order they were taken, each the mean over a block of `steps` steps.

    `set_aside` are those taken while something disturbed the machine, where enough were taken undisturbed; they are
    not in `ms` and not in the estimate. `disturbances` says what disturbed whichever samples.
    """

    ms: list[float]
    steps: int
    estimate: Estimate
    set_aside: list[float] = field(default_factory=list)
    disturbances: tuple[str, ...] = ()


def steps_a_block(step_ms: float) -> int:
    """How many steps of that length make a block."""
    return max(1, round(_BLOCK_MS / step_ms)) if step_ms > 0 else 1000


def difference(whole: Block, part: Block) -> Block:
    """A block that tells by how much `whole` takes longer than `part`: one of each, in alternating order."""
    blocks = [whole, part]

    def block(steps: int) -> float:
        blocks.reverse()  # whatever drifts from the first to the second favours neither
        times = {each: each(steps) for each in blocks}
        return times[whole] - times[part]

    return block


def warm_up(block: Block, max_time: float, clock: Clock = time.perf_counter) -> float:
    """Run until two windows of five blocks agree to 2 % or a fifth of the time is over; the level in ms a step."""
    deadline = clock() + max_time / 5
    steps = steps_a_block(block(1))
    before = float("inf")
    while True:
        window = []
        for _ in range(5):
            window.append(block(steps))
            if clock() >= deadline:
                return statistics.median(window)
        level = statistics.median(window)
        if abs(level - before) <= _STABLE * level:
            return level
        before, steps = level, steps_a_block(level)


class _Taken:
    """Samples, and of each stretch of them what disturbed it."""

    def __init__(self, look: Look, clock: Clock) -> None:
        self.calm: list[float] = []
        self.disturbed: list[float] = []
        self.disturbances: set[str] = set()
        self._stretch: list[float] = []
        self._look, self._clock = look, clock
        self._began = clock()

    def __len__(self) -> int:
        return len(self.calm) + len(self.disturbed) + len(self._stretch)

    def add(self, ms: float) -> None:
        self._stretch.append(ms)
        if self._clock() - self._began >= _STRETCH:
            self.close()

    def close(self) -> None:
        """End the stretch: what disturbed it was there at some moment of it, and is held against all of it."""
        reasons = self._look()
        self.disturbances |= set(reasons)
        (self.disturbed if reasons else self.calm).extend(self._stretch)
        self._stretch, self._began = [], self._clock()


def sample(
    block: Block, steps: int, options: Options, look: Look = _calm, clock: Clock = time.perf_counter
) -> Samples:
    """Take samples until the interval of their median is within the target, or the time is over.

    Those taken while the machine was disturbed are set aside, which is no choice by their value; but where too few
    others are left when the time is over all of them count: a row is never empty because of it.
    """
    taken = _Taken(look, clock)
    earliest, deadline = clock() + _AT_LEAST, clock() + options.max_time
    check = _FIRST_LOOK
    while True:
        taken.add(block(steps))
        now = clock()
        over = now >= deadline and len(taken) >= _MIN_SAMPLES
        if not over and (len(taken) < check or now < earliest):
            continue
        taken.close()
        # Looking again after each sample would stop at the first lucky interval; a quarter more samples is a new look.
        check = len(taken) * 5 // 4
        if not over and len(taken.calm) < _FIRST_LOOK:
            continue
        samples = _judged(taken, steps)
        if over or samples.estimate.precision <= options.precision_target:
            return samples


def _judged(taken: _Taken, steps: int) -> Samples:
    disturbances = tuple(sorted(taken.disturbances))
    if len(taken.calm) >= min(_FIRST_LOOK, len(taken) / 2):
        return Samples(taken.calm, steps, median_estimate([taken.calm]), taken.disturbed, disturbances)
    every = [*taken.calm, *taken.disturbed]
    return Samples(every, steps, median_estimate([every]), [], disturbances)
