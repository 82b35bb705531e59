"""Searches the largest size whose peak stays within a limit: few trials, the answer tried on both sides; no effects."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["STEPS", "Found", "Trial", "search"]

T = TypeVar("T")

# Distances between two sizes that modules are made for: any, pairs, windows of 7, patches of 4, 8, 14, 16, and both.
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 56, 64, 96, 112, 128, 224, 256)
# A first guess reaches far beyond where weights hide how the peak grows; this bounds it.
_FASTEST = 8


@dataclass(frozen=True, slots=True)
class Trial(Generic[T]):
    """What is known of one size: its peak in bytes; or none, because it is refused or cannot be predicted."""

    size: int
    peak: int | None
    refused: bool = False
    told: T | None = None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The largest size that fits, the next larger one that was tried, the step between sizes, and how many trials.

    `largest` is None when nothing fits; `beyond` is None when nothing larger was left to try.
    """

    largest: Trial[T] | None
    beyond: Trial[T] | None
    step: int
    trials: int


def search(attempt: Callable[[int], Trial[T]], memory: int, start: int, limit: int) -> Found[T]:
    """The largest size from 1 to `limit` whose peak is at most `memory`, beginning at `start`.

    A larger size is taken to need at least as much; that the next larger one does not fit is tried all the same. Sizes
    that are refused are not too large: the search keeps to the sizes that are accepted, as many steps from `start`.
    """
    return _Search(attempt, memory, limit).run(start)


class _Search(Generic[T]):
    """Remembers what was tried, so that no size is tried twice."""

    def __init__(self, attempt: Callable[[int], Trial[T]], memory: int, limit: int) -> None:
        self._attempt, self._memory, self._limit = attempt, memory, limit
        self._tried: dict[int, Trial[T]] = {}
        self._step = 0

    def run(self, start: int) -> Found[T]:
        first = self._at(start)
        if first.peak is None:
            return self._found(None, first)
        upwards = self._fits(first)
        self._step = self._discovered(start, 1 if upwards else -1)
        if self._step:
            return self._upwards(first) if upwards else self._downwards(first)
        if upwards:
            return self._found(first, self._ceiling(start))
        return self._found(None, first)

    def _at(self, size: int) -> Trial[T]:
        if size not in self._tried:
            self._tried[size] = self._attempt(size)
        return self._tried[size]

    def _fits(self, trial: Trial[T]) -> bool:
        return trial.peak is not None and trial.peak <= self._memory

    def _exceeds(self, trial: Trial[T]) -> bool:
        return trial.peak is not None and trial.peak > self._memory

    def _found(self, largest: Trial[T] | None, beyond: Trial[T] | None) -> Found[T]:
        return Found(largest, beyond, self._step, len(self._tried))

    def _discovered(self, start: int, direction: int) -> int:
        """The smallest step that leads to another size that is not refused; 0 when none does."""
        if direction > 0 and start >= self._limit:
            return 1
        for step in sorted({*STEPS, start, start - start // 2}):
            if 1 <= start + direction * step <= self._limit and not self._at(start + direction * step).refused:
                return step
        return 0

    def _ceiling(self, start: int) -> Trial[T] | None:
        """The refusal of the next larger size where smaller ones are accepted; else `start` is the only size."""
        if all(self._at(size).refused for size in {start - 1, start // 2} if size):
            return None
        self._step = 1
        return self._at(start + 1)

    def _upwards(self, low: Trial[T]) -> Found[T]:
        """From a size that fits, its neighbour first: the two tell how the peak grows."""
        high, reach = None, low.size + self._step
        while high is None and reach <= self._limit:
            trial = self._at(reach)
            low, high = (trial, None) if self._fits(trial) else (low, trial)
            reach = self._reached(low)
        if high is None:
            return self._found(low, None)
        low, high = self._narrowed(low, high)
        return self._doubled(low, high) if high.refused else self._found(low, high)

    def _doubled(self, low: Trial[T], high: Trial[T]) -> Found[T]:
        """A refusal is no ceiling where twice the size is accepted, as it is by modules that want powers of two."""
        while 2 * low.size <= self._limit:
            twice = self._at(2 * low.size)
            if twice.refused:
                return self._found(low, high if high.size > low.size else twice)
            self._step = low.size
            if not self._fits(twice):
                return self._found(*self._narrowed(low, twice))
            low = twice
        return self._found(low, high if high.size > low.size else None)

    def _downwards(self, high: Trial[T]) -> Found[T]:
        """From a size that is too large; a refusal is taken for a size below the smallest that is accepted."""
        floor = 0
        while high.size - self._step > floor:
            half = high.size // 2 if floor == 0 else (floor + high.size) // 2
            trial = self._at(max(self._on_lattice(half, high.size), self._lowest(floor, high.size)))
            if self._fits(trial):
                return self._found(*self._narrowed(trial, high))
            if trial.refused:
                floor = trial.size
            elif self._exceeds(trial):
                high = trial
            else:
                return self._found(None, trial)
        return self._halved(high)

    def _halved(self, high: Trial[T]) -> Found[T]:
        """Below the last step there may be a half, as there is for modules that want powers of two."""
        while high.size > 1 and not (half := self._at(high.size // 2)).refused:
            if self._fits(half):
                return self._found(half, high)
            high = half
        return self._found(None, high)

    def _on_lattice(self, size: int, anchor: int) -> int:
        """The largest size up to `size` that is a number of steps from `anchor`."""
        return size - (size - anchor) % self._step

    def _lowest(self, floor: int, anchor: int) -> int:
        return floor + 1 + (anchor - floor - 1) % self._step

    def _reached(self, low: Trial[T]) -> int:
        """How far to go up next: where the growth so far says that the limit is, at least twice and at most 8 times."""
        earlier = [trial for trial in self._tried.values() if trial.size < low.size and self._fits(trial)]
        guess = _power_law(max(earlier, key=lambda trial: trial.size), low, self._memory) if earlier else None
        farthest = _FASTEST * low.size + self._step
        size = farthest if guess is None else min(max(int(guess), 2 * low.size), farthest)
        # The last step up to the limit is taken too; past it there is nothing to try.
        return max(self._on_lattice(min(size, self._limit), low.size), low.size + self._step)

    def _narrowed(self, low: Trial[T], high: Trial[T]) -> tuple[Trial[T], Trial[T]]:
        """Neighbours on the lattice, of which the lower fits and the higher does not.

        Where a size between one that fits and one that is too large is refused, the lattice is coarser than thought.
        """
        halve = False
        while (gap := high.size - low.size) > self._step:
            trial = self._at(self._between(low, high, halve))
            if self._fits(trial):
                low = trial
            elif trial.refused and not high.refused:
                self._step *= 2
            else:
                high = trial
            halve = not halve and 2 * (high.size - low.size) > gap
        return low, high

    def _between(self, low: Trial[T], high: Trial[T], halve: bool) -> int:
        guess = None if halve else _power_law(low, high, self._memory)
        size = (low.size + high.size) // 2 if guess is None else int(min(guess, high.size))
        size = self._on_lattice(size, low.size)
        last = self._on_lattice(high.size - 1, low.size)
        return min(max(size, low.size + self._step), last)


def _power_law(low: Trial[T], high: Trial[T], memory: int) -> float | None:
    """Where a power of the size that goes through both peaks reaches the limit; None when it does not grow."""
    if not low.peak or not high.peak or high.peak <= low.peak:
        return None
    exponent = math.log(high.peak / low.peak) / math.log(high.size / low.size)
    return float(low.size * math.exp(min(math.log(memory / low.peak) / exponent, 50.0)))
