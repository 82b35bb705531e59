"""The statistics against simulations with a known truth, closed forms and other implementations."""

import math
import random
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from attnbench.core import stats
from attnbench.core.stats import geometric_mean, median_estimate, quantile, student_t

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


def flicker(rng: random.Random, n: int) -> list[float]:
    """1/f noise: the sum of twelve terms that change at ever longer intervals (Voss and McCartney)."""
    terms, series = [rng.gauss(0, 1) for _ in range(12)], []
    for step in range(n):
        octave = (step & -step).bit_length() - 1 if step else 0  # each term changes half as often as the one before
        terms[min(octave, 11)] = rng.gauss(0, 1)
        series.append(math.fsum(terms))
    return series


def coverage(draw: Draw, n: int, runs: int) -> float:
    """How often the interval of `n` samples holds the true median, which is zero for every `draw` above."""
    rng = random.Random(20240607)
    estimates = [median_estimate([draw(rng, n)]) for _ in range(runs)]
    return sum(each.low <= 0 <= each.high for each in estimates) / runs


@pytest.mark.parametrize("draw", [normal, lognormal, cauchy], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize(("n", "runs"), [(5, 500), (20, 500), (100, 300), (500, 150)])
def test_the_interval_covers_the_median_of_independent_samples(draw: Draw, n: int, runs: int) -> None:
    assert coverage(draw, n, runs) >= 0.95


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_the_interval_covers_the_median_of_correlated_samples(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = partial(ar1, rho=rho)
    assert coverage(draw, 500, 200) >= 0.93
    # Negative control: an interval of each sample for itself is far too narrow.
    monkeypatch.setattr(stats, "_SEGMENTS", 500)
    monkeypatch.setattr(stats, "_DRIFT", 0.0)
    assert coverage(draw, 500, 40) <= 0.85


def short_of_long(rng: random.Random, n: int) -> list[float]:
    """A short stretch of 1/f noise, of which the median of a stretch thirty times as long is zero."""
    series = flicker(rng, 30 * n)
    start, level = rng.randrange(29 * n), statistics.median(series)
    return [value - level for value in series[start : start + n]]


def test_the_interval_of_a_short_run_covers_the_median_of_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage(short_of_long, 100, 150) >= 0.9
    # Without what the level drifts by in the long run it is an interval of the short run only.
    monkeypatch.setattr(stats, "_DRIFT", 0.0)
    assert coverage(short_of_long, 100, 150) <= 0.7


def launches(rng: random.Random, processes: int, between: float, within: float) -> list[list[float]]:
    """Processes whose levels differ, with samples about each level."""
    levels = [rng.gauss(100, between) for _ in range(processes)]
    return [[rng.gauss(level, within) for _ in range(60)] for level in levels]


def processes_cover(processes: int, between: float, within: float, runs: int = 150) -> float:
    rng = random.Random(7)
    estimates = [median_estimate(launches(rng, processes, between, within)) for _ in range(runs)]
    return sum(each.low <= 100 <= each.high for each in estimates) / runs


@pytest.mark.parametrize(("processes", "between", "within"), [(3, 2, 1), (5, 2, 1), (5, 0, 3), (5, 0.5, 3), (10, 2, 5)])
def test_the_interval_of_several_processes_covers_the_level(processes: int, between: float, within: float) -> None:
    assert processes_cover(processes, between, within) >= 0.9


def test_what_differs_between_processes_is_not_in_the_interval_of_their_samples_together() -> None:
    rng = random.Random(3)
    held = 0
    for _ in range(100):
        together = [sample for each in launches(rng, 5, 2, 0.1) for sample in each]
        rng.shuffle(together)
        estimate = median_estimate([together])
        held += estimate.low <= 100 <= estimate.high
    assert held <= 80
    assert processes_cover(5, 2, 0.1, 100) >= 0.9


def test_the_interval_of_processes_is_that_of_students_t() -> None:
    """Levels that are known exactly: mean and t interval of five numbers, to what a thousand resamples can tell."""
    levels = [10.0, 10.2, 9.9, 10.1, 10.05]
    estimate = median_estimate([[level] * 20 for level in levels])
    half = 2.776 * statistics.stdev(levels) / math.sqrt(5)
    assert estimate.median == 10.05
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_of_one_process_is_not_wider_than_it_must_be() -> None:
    """White noise: the standard error of a tenth of 500 normal samples, Student's t of 9, and the drift allowed for."""
    rng = random.Random(7)
    widths = [(lambda each: each.high - each.low)(median_estimate([normal(rng, 500)])) for _ in range(100)]
    tenth = 1.2533 / math.sqrt(50)
    assert statistics.fmean(widths) == pytest.approx(2 * 2.262 * tenth * math.sqrt(0.1 + 3), rel=0.15)


def test_the_same_samples_have_the_same_interval() -> None:
    samples = normal(random.Random(2), 77)
    assert median_estimate([samples]) == median_estimate([list(samples)])


def test_an_interval_is_of_the_unit_of_its_samples() -> None:
    samples = [abs(value) + 5 for value in normal(random.Random(2), 77)]
    one, thousand = median_estimate([samples]), median_estimate([[1000 * value for value in samples]])
    assert [thousand.low, thousand.high] == pytest.approx([1000 * one.low, 1000 * one.high])


def test_times_have_a_positive_bound_and_differences_may_have_a_negative_one() -> None:
    wild = [1.0, 30.0, 0.5, 80.0, 2.0, 100.0, 0.1]
    assert 0 < median_estimate([wild]).low < 0.1
    assert median_estimate([[value - 2 for value in wild]]).low < 0


def test_the_interval_of_times_is_one_of_factors() -> None:
    """Samples that are as often half as twice the median: so is the interval, whatever its width."""
    samples = [2.0 ** random.Random(seed).uniform(-1, 1) for seed in range(500)]
    estimate, inverse = median_estimate([samples]), median_estimate([[1 / sample for sample in samples]])
    assert [1 / inverse.high, 1 / inverse.low] == pytest.approx([estimate.low, estimate.high], rel=0.05)


def test_a_narrow_interval_is_the_same_of_times_and_of_differences() -> None:
    samples = [10 + 0.01 * value for value in normal(random.Random(4), 200)]
    times, differences = median_estimate([samples]), median_estimate([[value - 20 for value in samples]])
    assert times.high - times.low == pytest.approx(differences.high - differences.low, rel=0.01)


def test_the_interval_reaches_no_farther_beyond_the_segments_than_they_lie_apart() -> None:
    """Half of the run at one speed, half at another: e^0 and e^0.5 reach from e^-0.5 to e^1."""
    estimate = median_estimate([[1.0] * 50 + [math.exp(0.5)] * 50])
    assert estimate.low >= estimate.median * math.exp(-0.25 - 0.5) * (1 - 1e-9)
    assert estimate.high <= estimate.median * math.exp(0.25 + 0.5) * (1 + 1e-9)
    assert estimate.low < 1 < math.exp(0.5) < estimate.high


def test_one_sample_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        median_estimate([[1.0]])


@pytest.mark.parametrize(("freedom", "quantile_"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (10, 2.2281)])
def test_students_t(freedom: int, quantile_: float) -> None:
    """Against the published table (NIST, two-sided 95 %)."""
    assert student_t(freedom) == pytest.approx(quantile_, abs=6e-4)
    assert student_t(1000) >= 1.96


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


def test_the_precision_is_half_the_width_as_a_fraction() -> None:
    assert stats.Estimate(10, 9, 12).precision == pytest.approx(0.15)
    assert stats.Estimate(0, -1, 1).precision == math.inf
    assert median_estimate([[2.0] * 30]).precision == 0


def test_the_order_of_the_samples_matters_to_the_interval_and_not_to_the_median() -> None:
    samples = ar1(random.Random(5), 400, 0.95)
    shuffled = random.Random(0).sample(samples, len(samples))
    walk, independent = median_estimate([samples]), median_estimate([shuffled])
    assert walk.median == independent.median
    assert walk.high - walk.low > 2 * (independent.high - independent.low)
