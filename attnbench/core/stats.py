"""Statistics of a series of samples in the order they were taken: pure functions that know nothing of benchmarks."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Z95", "Estimate", "geometric_mean", "median_estimate", "quantile", "student_t"]

Z95 = 1.959963984540054
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond the last one it serves on, which
# makes an interval a little too wide.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

_SEGMENTS = 10
_RESAMPLES = 1000
# By how much the level drifts over minutes, as a variance, in units of what it drifts by between tenths of a run. The
# noise of a computer is of the kind 1/f: two seconds differ by no less than two tenths of a second do, and taking more
# samples of one second does not help. The mean of 1/f noise over T1 differs from that over T2 by a variance that grows
# as ln(T2 / T1); for T2 of a few hundred times T1 that is about three times the variance between the tenths of T1.
_DRIFT = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its 95 % confidence interval."""

    median: float
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Half the interval's width as a fraction of the median; infinite for a median of zero."""
        return (self.high - self.low) / 2 / self.median if self.median else math.inf


def quantile(samples: Sequence[float], probability: float) -> float:
    """The quantile by linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
    ordered = sorted(samples)
    position = probability * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def geometric_mean(ratios: Sequence[float]) -> float:
    """The only mean that suits ratios (Fleming and Wallace 1986)."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def student_t(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t with so many degrees of freedom, at least 1."""
    return _T95[min(freedom, len(_T95)) - 1]


def median_estimate(series: Sequence[Sequence[float]]) -> Estimate:
    """The median and its 95 % interval, from the samples of one process or of several, each in the order taken.

    Neighbouring samples of a process resemble each other, so that stretches of time are resampled and not samples: a
    block bootstrap (Carlstein 1986) over ten segments of each process, for which their medians stand. Of several
    processes these are resampled first, and segments within them (Davison and Hinkley 1997, section 3.8). Percentile
    intervals of few units are too narrow; they are widened to Student's t (Hesterberg 2015).

    The interval of a single process is wider than its bootstrap by what the machine drifts by over minutes, which is
    told from its drift between segments (`_DRIFT`). What differs from one process to the next, such as the layout of
    memory, is not in it: only several processes tell that. Of positive samples, such as times, the spread is that of
    their logarithms: the interval is one of factors, and never reaches zero.

    Raises:
        ValueError: a single process with less than two samples, which have no spread.
    """
    median = statistics.median(statistics.median(samples) for samples in series)
    processes = [_segment_medians(samples) for samples in series]
    if min(map(min, series)) <= 0:
        below, above = _spread(processes)
        return Estimate(median, median - below, median + above)
    below, above = _spread([[math.log(value) for value in segments] for segments in processes])
    return Estimate(median, median * math.exp(-below), median * math.exp(above))


def _segment_medians(samples: Sequence[float]) -> list[float]:
    """The medians of ten stretches of equal length, or the samples themselves where they are no more than ten."""
    count = min(_SEGMENTS, len(samples))
    cuts = [round(n * len(samples) / count) for n in range(count + 1)]
    return [statistics.median(samples[start:stop]) for start, stop in pairwise(cuts)]


def _spread(processes: list[list[float]]) -> tuple[float, float]:
    """How far the interval reaches below and above the middle of the segments of one process or of several."""
    return _spread_of_processes(processes) if len(processes) > 1 else _spread_of_one(processes[0])


def _spread_of_one(segments: list[float]) -> tuple[float, float]:
    if len(segments) < 2:
        raise ValueError("an interval needs at least two samples")

    def draw(rng: random.Random) -> float:
        return _middle_mean(rng.choices(segments, k=len(segments)))

    centre, lowest, highest = _middle_mean(segments), min(segments), max(segments)
    below, above = _bootstrap(draw, centre, len(segments))
    wider = math.sqrt(1 + _DRIFT * len(segments))
    # A run that saw several levels has seen what there is: no farther beyond them than they lie apart.
    reach = highest - lowest
    return min(below * wider, centre - lowest + reach), min(above * wider, highest - centre + reach)


def _middle_mean(values: list[float]) -> float:
    """The mean without the lowest and the highest fifth: one segment that was disturbed does not carry it away, and
    yet it moves when the segments are at two levels, of which a median would show one."""
    beyond = len(values) // 5
    return statistics.fmean(sorted(values)[beyond : len(values) - beyond])


def _spread_of_processes(processes: list[list[float]]) -> tuple[float, float]:
    def draw(rng: random.Random) -> float:
        chosen = rng.choices(processes, k=len(processes))
        return statistics.fmean(statistics.fmean(rng.choices(each, k=len(each))) for each in chosen)

    return _bootstrap(draw, statistics.fmean(map(statistics.fmean, processes)), len(processes))


def _bootstrap(draw: Callable[[random.Random], float], centre: float, units: int) -> tuple[float, float]:
    """How far the 95 % interval of what is drawn from so many units reaches below and above `centre`."""
    rng = random.Random(0)  # the same samples have the same interval
    drawn = [draw(rng) for _ in range(_RESAMPLES)]
    wider = student_t(units - 1) / Z95 * math.sqrt(units / (units - 1))
    return (centre - quantile(drawn, 0.025)) * wider, (quantile(drawn, 0.975) - centre) * wider
