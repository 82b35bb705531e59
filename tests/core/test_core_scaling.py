"""The slope of a log-log line against closed forms worked out by hand."""

import math
import random

import pytest

from attnbench.core.scaling import log_slope
from attnbench.core.stats import Estimate


def exact(*costs: float) -> list[Estimate]:
    return [Estimate(cost, cost, cost) for cost in costs]


def test_a_pure_power_is_found_with_no_doubt() -> None:
    slope = log_slope([256, 1024, 4096], exact(*(3e-6 * n**1.5 for n in (256, 1024, 4096))))
    assert slope.value == pytest.approx(1.5)
    assert slope.high - slope.low == pytest.approx(0, abs=1e-6)


def test_points_off_the_line_by_hand() -> None:
    # x = 0, 1, 2; y = 0, 2, 1 (in units of log): slope (1*1)/2 = 0.5, line 0.5, 1, 1.5, residuals -0.5, 1, -0.5:
    # s^2 = 1.5 / 1, se = sqrt(1.5 / 2), and t(1) = 12.706.
    slope = log_slope([1, math.e, math.e**2], exact(1, math.e**2, math.e))  # type: ignore[list-item]
    assert slope.value == pytest.approx(0.5)
    assert slope.high - slope.value == pytest.approx(12.706 * math.sqrt(0.75))
    assert slope.value - slope.low == pytest.approx(12.706 * math.sqrt(0.75))


def test_the_intervals_of_the_costs_count_by_hand() -> None:
    # x = 0, 1, 2, weights -1/2, 0, 1/2; every cost is known to a factor of e^0.1 either way, which is 1.96 standard
    # deviations: the slope is known to sqrt(2) * 0.1 / 2.
    costs = [Estimate(c, c * math.exp(-0.1), c * math.exp(0.1)) for c in (1, math.e, math.e**2)]
    slope = log_slope([1, math.e, math.e**2], costs)  # type: ignore[list-item]
    assert slope.value == pytest.approx(1)
    assert slope.high - slope.value == pytest.approx(math.sqrt(2) * 0.05)


def test_the_interval_covers_the_truth_at_least_as_often_as_it_says() -> None:
    rng = random.Random(0)
    sizes = [256, 576, 1024, 2304, 4096]
    hits = 0
    for _ in range(1000):
        costs = [n**1.2 * math.exp(rng.gauss(0, 0.05)) for n in sizes]
        slope = log_slope(sizes, exact(*costs))
        hits += slope.low <= 1.2 <= slope.high
    assert 930 <= hits <= 970  # 950 expected, three standard deviations of 7
