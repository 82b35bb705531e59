"""The measured exponent of a cost in N: the slope between logarithms, with an interval that covers both its doubts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.core.stats import Z95, Estimate, student_t

__all__ = ["Slope", "log_slope"]


@dataclass(frozen=True, slots=True)
class Slope:
    """An exponent and its 95 % interval."""

    value: float
    low: float
    high: float


def log_slope(sizes: Sequence[int], costs: Sequence[Estimate]) -> Slope:
    """The exponent p of cost = c * N^p by least squares of log cost on log N; at least three sizes.

    Two doubts widen the interval, added as squares: how far the points lie off the line (Student's t with n - 2
    degrees of freedom), and the intervals of the costs themselves. The first one alone would be nothing for three
    points that happen to lie on a line. What both leave out is a slope that is not the same beyond these sizes.
    """
    xs, ys = [math.log(size) for size in sizes], [math.log(cost.median) for cost in costs]
    n = len(xs)
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    spread = math.fsum((x - mean_x) ** 2 for x in xs)
    weights = [(x - mean_x) / spread for x in xs]
    slope = math.fsum(weight * y for weight, y in zip(weights, ys, strict=True))
    residuals = [y - mean_y - slope * (x - mean_x) for x, y in zip(xs, ys, strict=True)]
    off_line = math.fsum(residual**2 for residual in residuals) / (n - 2) / spread
    own = math.fsum((weight * _log_deviation(cost)) ** 2 for weight, cost in zip(weights, costs, strict=True))
    half = math.hypot(student_t(n - 2) * math.sqrt(off_line), Z95 * math.sqrt(own))
    return Slope(slope, slope - half, slope + half)


def _log_deviation(cost: Estimate) -> float:
    """The standard deviation of log cost that its 95 % interval tells of."""
    return (math.log(cost.high) - math.log(cost.low)) / 2 / Z95
