"""The statistics against simulations with a known truth, closed forms and other implementations."""

import math
import random
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from attnbench.core import stats
from attnbench.core.stats import autocorrelation_time, geometric_mean, median_estimate, quantile

Draw = Callable[[random.Random, int], list[float]]


def normal(rng: random.Random, n: int) -> list[float]:
    return [rng.gauss(0, 1) for _ in range(n)]


def lognormal(rng: random.Random, n: int) -> list[float]:
    return [rng.lognormvariate(0, 1) - 1 for _ in range(n)]  # the median of a lognormal is 1


def cauchy(rng: random.Random, n: int) -> list[float]:
    return [math.tan(math.pi * (rng.random() - 0.5)) for _ in range(n)]


def ar1(rng: random.Random, n: int, rho: float) -> list[float]:
    value, series = rng.gauss(0, 1), []
    for _ in range(n):
        series.append(value)
        value = rho * value + math.sqrt(1 - rho**2) * rng.gauss(0, 1)
    return series


def coverage(draw: Draw, n: int, runs: int) -> float:
    """How often the interval of `n` samples holds the true median, which is zero for every `draw` above."""
    rng = random.Random(20240607)
    estimates = [median_estimate(draw(rng, n)) for _ in range(runs)]
    return sum(each.low <= 0 <= each.high for each in estimates) / runs


@pytest.mark.parametrize("draw", [normal, lognormal, cauchy], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize(("n", "runs"), [(20, 1500), (100, 1000), (500, 500)])
def test_the_interval_covers_the_median_of_independent_samples(draw: Draw, n: int, runs: int) -> None:
    assert 0.93 <= coverage(draw, n, runs) <= 0.995


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_the_interval_covers_the_median_of_correlated_samples(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = partial(ar1, rho=rho)
    assert coverage(draw, 500, 400) >= 0.88
    # Negative control: taken for independent, the same samples give an interval that is far too narrow.
    monkeypatch.setattr(stats, "autocorrelation_time", lambda series: 1.0)
    assert coverage(draw, 500, 400) <= {0.5: 0.87, 0.9: 0.6}[rho]


def test_the_interval_is_not_wider_than_it_must_be() -> None:
    rng = random.Random(7)
    widths = [(lambda each: each.high - each.low)(median_estimate(normal(rng, 500))) for _ in range(100)]
    # The median's standard error is 1.2533 / sqrt(n) for a normal distribution.
    assert statistics.fmean(widths) == pytest.approx(2 * 1.96 * 1.2533 / math.sqrt(500), rel=0.25)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.9])
def test_the_autocorrelation_time_is_the_closed_form(rho: float) -> None:
    found = [autocorrelation_time(ar1(random.Random(seed), 6000, rho)) for seed in range(3)]
    assert statistics.fmean(found) == pytest.approx((1 + rho) / (1 - rho), rel=0.2)


def test_the_autocorrelation_time_is_never_below_one_nor_above_half_the_series() -> None:
    assert autocorrelation_time([1.0, -1.0] * 50) == 1
    assert autocorrelation_time([3.0] * 50) == 1
    assert autocorrelation_time([1.0, 2.0]) == 1
    assert autocorrelation_time([*([0.0] * 10), *([1.0] * 10)]) <= 10


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("probability", [0, 0.05, 0.25, 0.5, 0.9, 0.95, 1])
def test_the_quantile_is_numpys(n: int, probability: float) -> None:
    samples = normal(random.Random(n), n)
    assert quantile(samples, probability) == pytest.approx(float(np.quantile(samples, probability)))


def test_the_quantile_is_the_standard_librarys() -> None:
    samples = lognormal(random.Random(3), 41)
    cuts = statistics.quantiles(samples, n=20, method="inclusive")
    assert [quantile(samples, cut / 20) for cut in range(1, 20)] == pytest.approx(cuts)


def test_the_geometric_mean() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4)
    assert geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1)
    ratios = [abs(each) + 0.1 for each in cauchy(random.Random(1), 30)]
    assert geometric_mean(ratios) == pytest.approx(statistics.geometric_mean(ratios))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_of_a_few_samples_the_interval_is_the_whole_range(n: int) -> None:
    samples = normal(random.Random(n), n)
    estimate = median_estimate(samples)
    assert (estimate.low, estimate.high) == (min(samples), max(samples))
    assert estimate.median == statistics.median(samples)


def test_the_precision_is_half_the_width_as_a_fraction() -> None:
    assert stats.Estimate(10, 9, 12).precision == pytest.approx(0.15)
    assert stats.Estimate(0, -1, 1).precision == math.inf
    assert median_estimate([2.0] * 30).precision == 0


def test_the_order_of_the_samples_matters_to_the_interval_and_not_to_the_median() -> None:
    samples = ar1(random.Random(5), 400, 0.95)
    shuffled = random.Random(0).sample(samples, len(samples))
    walk, independent = median_estimate(samples), median_estimate(shuffled)
    assert walk.median == independent.median
    assert walk.high - walk.low > 2 * (independent.high - independent.low)
