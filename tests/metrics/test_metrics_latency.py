"""Warm-up, sampling and throughput with a clock that moves only when a canned block takes its time."""

import math
import random
from functools import partial
from itertools import cycle

import pytest
from metrics_subjects import FakeClock, subject_of, values

from attnbench.core.record import Reading
from attnbench.core.stats import median_estimate
from attnbench.metrics import latency
from attnbench.metrics.latency import Samples, measure_latency, measure_throughput, sample, warm_up
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject


def noisy(level: float, spread: float, n: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level * (1 + spread * rng.uniform(-1, 1)) for _ in range(n)]


def test_warm_up_ends_when_two_windows_agree() -> None:
    clock = FakeClock(50.0, after=4.0)
    assert warm_up(clock.block, max_time=100, clock=clock) == 4
    assert len(clock.asked) == 1 + 5 + 5


def test_warm_up_waits_while_the_time_still_falls() -> None:
    falling = [10 * 0.99**step for step in range(100)]  # 5 % from window to window
    clock = FakeClock(*falling, after=3.0)
    assert warm_up(clock.block, max_time=1000, clock=clock) == pytest.approx(3.0)
    assert len(clock.asked) > 100


def test_warm_up_takes_no_more_than_a_fifth_of_the_time() -> None:
    clock = FakeClock(*(1.05**step for step in range(200)))
    begin = clock.now
    level = warm_up(clock.block, max_time=2.0, clock=clock)
    assert 0.4 <= clock.now - begin <= 0.4 * 1.1
    assert level > 10


def test_a_slow_module_is_warmed_up_by_very_few_steps() -> None:
    clock = FakeClock(60_000.0)
    assert warm_up(clock.block, max_time=2.0, clock=clock) == 60_000
    assert clock.asked == [1, 1]


@pytest.mark.parametrize(
    ("ms", "steps"), [(0.001, 200), (0.01, 20), (0.15, 1), (0.07, 3), (0.2, 1), (5.0, 1), (0.0, 1000)]
)
def test_a_block_lasts_a_fifth_of_a_millisecond(ms: float, steps: int) -> None:
    clock = FakeClock(ms)
    warm_up(clock.block, max_time=2.0, clock=clock)
    assert (clock.asked[0], set(clock.asked[1:])) == (1, {steps})


def test_blocks_grow_when_the_first_step_was_much_slower_than_the_rest() -> None:
    clock = FakeClock(100.0, after=0.01)
    warm_up(clock.block, max_time=2.0, clock=clock)
    assert clock.asked[:7] == [1, 1, 1, 1, 1, 1, 20]


def taken(clock: FakeClock, **options: float) -> Samples:
    return sample(clock.block, 4, Options(**options), clock)  # type: ignore[arg-type]


def test_sampling_stops_at_the_first_look_when_nothing_varies() -> None:
    clock = FakeClock(1.0)
    samples = taken(clock, precision_target=0.01, max_time=10)
    assert samples == Samples([1.0] * 20, 4, median_estimate([1.0] * 20))
    assert clock.asked == [4] * 20


def test_sampling_stops_once_the_interval_is_narrow_enough() -> None:
    clock = FakeClock(*noisy(1.0, 0.1, 5000))
    samples = taken(clock, precision_target=0.01, max_time=100)
    assert samples.estimate.precision <= 0.01
    assert 20 < len(samples.ms) < 2000
    assert clock.now - 1000 < 100
    assert samples.estimate == median_estimate(samples.ms)


def test_a_tighter_target_takes_more_samples() -> None:
    counts = [
        len(taken(FakeClock(*noisy(1.0, 0.1, 20_000)), precision_target=target, max_time=1000).ms)
        for target in (0.05, 0.01, 0.005)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_looks_are_a_quarter_apart() -> None:
    """Each look is a chance to stop by luck: the numbers of samples at which sampling may stop are few."""
    clock, looks = FakeClock(*noisy(1.0, 0.3, 5000)), []

    def looking(samples: list[float]) -> object:
        looks.append(len(samples))
        return median_estimate(samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "median_estimate", looking)
        taken(clock, precision_target=0.001, max_time=1)
    assert looks[:5] == [20, 25, 31, 38, 47]


def test_sampling_stops_when_the_time_is_over() -> None:
    clock = FakeClock(*noisy(1.0, 0.9, 50_000))
    begin = clock.now
    samples = taken(clock, precision_target=1e-9, max_time=0.5)
    assert 0.5 <= clock.now - begin < 0.52
    assert samples.estimate.precision > 1e-9


@pytest.mark.parametrize("ms", [200.0, 60_000.0])
def test_a_slow_module_gets_five_samples_all_the_same(ms: float) -> None:
    assert len(taken(FakeClock(ms), precision_target=0.01, max_time=0.1).ms) == 5


def test_two_levels_are_never_called_precise() -> None:
    """A machine that changes between two speeds has no median to be precise about."""
    slow_and_fast = ([1.0] * 10 + [1.5] * 10) * 50
    samples = taken(FakeClock(*slow_and_fast), precision_target=0.01, max_time=2.0)
    assert (samples.estimate.low, samples.estimate.high) == (1.0, 1.5)
    assert len(samples.ms) > 300


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock(2.0)
    monkeypatch.setattr(latency.time, "perf_counter", fake)
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: round(fake.now * 1e9))
    for function in (warm_up, sample):
        monkeypatch.setattr(latency, function.__name__, partial(function, clock=fake))
    return fake


def stepping(clock: FakeClock, *ms: float) -> Subject:
    """A Subject of which each step takes the next of the given times, over and over."""
    times = cycle(ms)

    def step(x: object) -> object:
        clock.now += next(times) / 1000
        return x

    return subject_of(step, (3,), where="cpu")


@pytest.mark.parametrize("ms", [0.01, 2.0, 90.0, 5000.0])
def test_throughput_is_the_batch_over_the_time(clock: FakeClock, ms: float) -> None:
    readings, notes = values(measure_throughput(stepping(clock, ms), Options(max_time=2.0)))
    assert readings["throughput.samples_per_s"] == pytest.approx(2 * 1000 / ms)  # batch 2
    assert readings["throughput.tokens_per_s"] == pytest.approx(2 * 1000 / ms * 8)  # 8 tokens
    assert notes == []


def test_throughput_runs_long_enough_and_not_for_ever(clock: FakeClock) -> None:
    begin = clock.now
    values(measure_throughput(stepping(clock, 0.5), Options(max_time=10.0)))
    assert 0.3 < clock.now - begin < 1.5


def test_the_throughput_of_a_network_has_no_tokens_and_says_so(clock: FakeClock) -> None:
    subject = stepping(clock, 1.0)
    subject.case = subject.case.with_(tokens=None)
    readings, notes = values(measure_throughput(subject, Options()))
    assert "throughput.tokens_per_s" not in readings
    assert [note.kind for note in notes] == ["not_measured"]


def test_the_latency_of_steps_that_take_two_milliseconds(clock: FakeClock) -> None:
    found = list(measure_latency(stepping(clock, 2.0), Options(max_time=2.0)))
    readings = {each.name: each.value for each in found if isinstance(each, Reading)}
    for name in ("median_ms", "ci_low_ms", "ci_high_ms", "mean_ms", "p95_ms", "min_ms"):
        assert readings[f"latency.{name}"] == pytest.approx(2.0, rel=1e-6)
    assert readings["latency.samples"] == 20
    assert readings["latency.processes"] == 1
    assert "blocks of 1 steps" in readings["latency.method"]
    assert "latency.host_ms" not in readings
    (median,) = (each for each in found if isinstance(each, Reading) and each.name == "latency.median_ms")
    assert (median.low, median.high, median.better) == ("latency.ci_low_ms", "latency.ci_high_ms", "lower")


def test_a_fast_step_is_timed_in_blocks(clock: FakeClock) -> None:
    readings, _ = values(measure_latency(stepping(clock, 0.01), Options()))
    assert readings["latency.median_ms"] == pytest.approx(0.01, rel=1e-3)
    assert "blocks of 20 steps" in readings["latency.method"]


def test_an_interval_wider_than_asked_for_is_said(clock: FakeClock) -> None:
    wild = noisy(20.0, 0.8, 977)
    _, notes = values(measure_latency(stepping(clock, *wild), Options(max_time=0.5, precision_target=0.01)))
    (said,) = (note.text for note in notes if note.kind == "imprecise")
    assert "±1.0%" in said
    _, notes = values(measure_latency(stepping(clock, 20.0), Options(max_time=0.5, precision_target=0.01)))
    assert "imprecise" not in {note.kind for note in notes}


def test_the_mean_and_the_tail_are_those_of_the_samples(clock: FakeClock) -> None:
    """Nineteen steps of 1 ms and one of 11 ms: median 1, mean 1.5."""
    readings, _ = values(
        measure_latency(stepping(clock, *([1.0] * 19), 11.0), Options(max_time=2, precision_target=0.2))
    )
    assert readings["latency.median_ms"] == pytest.approx(1.0)
    assert readings["latency.mean_ms"] == pytest.approx(1.5, rel=0.05)
    assert readings["latency.min_ms"] == pytest.approx(1.0)
    assert math.isclose(readings["latency.p95_ms"], 1.5, rel_tol=0.05)
