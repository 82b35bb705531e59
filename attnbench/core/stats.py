"""Statistics of a series of samples in the order they were taken: pure functions that know nothing of benchmarks."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "autocorrelation_time", "geometric_mean", "median_estimate", "quantile"]

_Z95 = 1.959963984540054


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


def autocorrelation_time(series: Sequence[float]) -> float:
    """How many samples of the series weigh as much as one independent sample; at least 1.

    1 + 2 * the sum of the autocorrelations, cut where the sum of a neighbouring pair first turns negative (Geyer
    1992, initial positive sequence), which keeps the noise of the far lags out.
    """
    n = len(series)
    mean = math.fsum(series) / n
    centred = [value - mean for value in series]
    variance = math.fsum(value * value for value in centred)
    if n < 4 or variance == 0:
        return 1.0

    def rho(lag: int) -> float:
        return math.fsum(a * b for a, b in zip(centred, centred[lag:], strict=False)) / variance

    total = 1.0
    # A third of the series is as far as lags can be estimated at all.
    for lag in range(1, max(2, n // 3), 2):
        pair = rho(lag) + rho(lag + 1)
        if pair <= 0:
            break
        total += 2 * pair
    return max(1.0, min(total, n / 2))


def median_estimate(samples: Sequence[float]) -> Estimate:
    """The median with a distribution-free 95 % interval that respects autocorrelation.

    The interval runs between two order statistics. For independent samples their ranks follow from the binomial
    distribution; samples of one process are not independent, so the ranks are set apart by the square root of the
    autocorrelation time of the series "at or below the median", which is what the variance of a sample median
    depends on. With fewer than six samples no interval of 95 % exists: it is then the whole range, which says less
    than 95 % and is never narrower than what is known.
    """
    ordered = sorted(samples)
    n = len(ordered)
    median = statistics.median(ordered)
    below = [1.0 if sample <= median else 0.0 for sample in samples]
    spread = _Z95 / 2 * math.sqrt(n * autocorrelation_time(below))
    # Rounding outwards, and one rank more, keeps the coverage at 95 % for small n.
    low = max(0, math.floor(n / 2 - spread) - 1)
    high = min(n - 1, math.ceil(n / 2 + spread))
    return Estimate(median, ordered[low], ordered[high])
