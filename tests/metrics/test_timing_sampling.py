"""Warm-up and sampling with a clock that moves only when a canned block takes its time."""

import random
from collections.abc import Callable, Iterator

import pytest
from metrics_subjects import FakeClock

from attnbench.core.stats import median_estimate
from attnbench.metrics.metric import Options
from attnbench.metrics.timing import sampling
from attnbench.metrics.timing.sampling import Samples, difference, sample, steps_a_block, warm_up


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
    ("ms", "steps"), [(0.001, 1000), (0.01, 100), (0.15, 7), (0.07, 14), (1.0, 1), (5.0, 1), (0.0, 1000)]
)
def test_a_block_lasts_a_millisecond(ms: float, steps: int) -> None:
    assert steps_a_block(ms) == steps
    clock = FakeClock(ms)
    warm_up(clock.block, max_time=2.0, clock=clock)
    assert (clock.asked[0], set(clock.asked[1:])) == (1, {steps})


def test_blocks_grow_when_the_first_step_was_much_slower_than_the_rest() -> None:
    clock = FakeClock(100.0, after=0.01)
    warm_up(clock.block, max_time=2.0, clock=clock)
    assert clock.asked[:7] == [1, 1, 1, 1, 1, 1, 100]


def taken(clock: FakeClock, look: Callable[[], tuple[str, ...]] = lambda: (), **options: float) -> Samples:
    return sample(clock.block, 4, Options(**options), look, clock)  # type: ignore[arg-type]


def test_sampling_stops_at_the_first_look_when_nothing_varies() -> None:
    clock = FakeClock(2.0)
    samples = taken(clock, precision_target=0.01, max_time=10)
    assert samples == Samples([2.0] * 20, 4, median_estimate([[2.0] * 20]))
    assert clock.asked == [4] * 20


def test_the_first_look_is_not_before_a_tenth_of_a_second() -> None:
    """A shorter stretch knows nothing of how the machine drifts, and its interval is narrow by luck."""
    clock = FakeClock(0.25)
    assert len(taken(clock, precision_target=0.01, max_time=10).ms) in (100, 101)


def test_sampling_stops_once_the_interval_is_narrow_enough() -> None:
    clock = FakeClock(*noisy(1.0, 0.03, 5000))
    samples = taken(clock, precision_target=0.01, max_time=100)
    assert samples.estimate.precision <= 0.01
    assert 100 < len(samples.ms) < 4000
    assert clock.now - 1000 < 100
    assert samples.estimate == median_estimate([samples.ms])


def test_a_tighter_target_takes_more_samples() -> None:
    counts = [
        len(taken(FakeClock(*noisy(1.0, 0.03, 50_000)), precision_target=target, max_time=1000).ms)
        for target in (0.02, 0.01, 0.005)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_looks_are_a_quarter_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a chance to stop by luck: the numbers of samples at which sampling may stop are few."""
    looks = []

    def looking(series: list[list[float]]) -> object:
        looks.append(len(series[0]))
        return median_estimate(series)

    monkeypatch.setattr(sampling, "median_estimate", looking)
    taken(FakeClock(*noisy(2.0, 0.3, 5000)), precision_target=0.001, max_time=1)
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


def test_two_levels_in_any_order_are_hardly_ever_called_precise() -> None:
    """Each block at one of two speeds: in a few of many looks, ten stretches happen to agree."""
    lucky = 0
    for seed in range(40):
        rng = random.Random(seed)
        levels = [rng.choice((1.0, 1.5)) * rng.uniform(0.999, 1.001) for _ in range(600)]
        lucky += taken(FakeClock(*levels), precision_target=0.01, max_time=2.0).estimate.precision <= 0.01
    assert lucky <= 6


def test_two_levels_in_turns_are_never_called_precise() -> None:
    """A machine that changes between two speeds has no median to be precise about."""
    slow_and_fast = ([1.0] * 10 + [1.5] * 10) * 50
    samples = taken(FakeClock(*slow_and_fast), precision_target=0.01, max_time=2.0)
    assert samples.estimate.precision > 0.05
    assert len(samples.ms) > 300


def test_a_level_that_drifts_is_never_called_precise() -> None:
    """Each block is 0.15 % slower than the one before: neighbours agree to far better than the target."""
    drifting = [1 + 0.0015 * step for step in range(2000)]
    samples = taken(FakeClock(*drifting), precision_target=0.01, max_time=4.0)
    assert samples.estimate.precision > 0.3
    assert samples.estimate.low < min(samples.ms)
    assert samples.estimate.high > max(samples.ms)


def test_outliers_move_neither_the_median_nor_much_of_the_interval() -> None:
    spiked = [50.0 if step % 25 == 24 else 1.0 + 0.001 * (step % 7) for step in range(5000)]
    samples = taken(FakeClock(*spiked), precision_target=0.01, max_time=10.0)
    assert samples.estimate.median == pytest.approx(1.003, abs=0.002)
    assert samples.estimate.precision <= 0.01
    assert max(samples.ms) == 50.0  # flagged by its tail, not dropped


def disturbed_between(clock: FakeClock, *spans: tuple[float, float]) -> Callable[[], tuple[str, ...]]:
    """Looks that see a throttled device when a stretch ends within one of the spans, in seconds from now."""
    begin = clock.now

    def look() -> tuple[str, ...]:
        at = clock.now - begin
        return ("hw_thermal",) if any(start < at <= end + 0.1 for start, end in spans) else ()

    return look


def slowed(clock_ms: float, slow: tuple[int, int]) -> Iterator[float]:
    for step in range(20_000):
        yield clock_ms * (1.3 if slow[0] <= step < slow[1] else 1) * (1 + 0.002 * (step % 5))


def test_samples_of_a_throttled_device_are_set_aside() -> None:
    """Steps of 4 ms in blocks of 4: a stretch of seven blocks lasts 0.112 s; blocks 14 to 20 are slow."""
    clock = FakeClock(*slowed(4.0, (14, 21)))
    look = disturbed_between(clock, (0.225, 0.37))
    samples = taken(clock, look, precision_target=1e-6, max_time=1.0)
    assert len(samples.set_aside) >= 7
    assert max(samples.ms) < 4.1 < max(samples.set_aside)
    assert samples.disturbances == ("hw_thermal",)


def test_what_is_set_aside_does_not_depend_on_its_value() -> None:
    clock = FakeClock(*slowed(4.0, (0, 0)))
    samples = taken(clock, disturbed_between(clock, (0.1, 0.2)), precision_target=1e-6, max_time=1.0)
    assert samples.set_aside
    assert max(samples.set_aside) < 4.1


def test_a_device_that_is_always_throttled_is_measured_all_the_same() -> None:
    clock = FakeClock(*noisy(4.0, 0.01, 5000))
    samples = taken(clock, lambda: ("hw_thermal",), precision_target=0.5, max_time=0.5)
    assert samples.set_aside == []
    assert len(samples.ms) >= 5
    assert samples.disturbances == ("hw_thermal",)
    assert clock.now - 1000 >= 0.5  # it waited for better times as long as it might


def test_sampling_goes_on_until_enough_was_undisturbed() -> None:
    clock = FakeClock(4.0)
    samples = taken(clock, disturbed_between(clock, (-1, 0.9)), precision_target=0.01, max_time=10)
    assert len(samples.ms) >= 20
    assert 1.2 < clock.now - 1000 < 3


def test_a_difference_takes_both_in_alternating_order() -> None:
    order: list[str] = []

    def block(name: str, ms: float) -> Callable[[int], float]:
        def run(steps: int) -> float:
            order.append(name)
            return ms * (1 if len(order) % 2 else 1.1)  # whatever comes second is slower

        return run

    both = difference(block("whole", 30.0), block("part", 10.0))
    found = [both(3) for _ in range(4)]
    assert order == ["part", "whole", "whole", "part"] * 2
    assert found == pytest.approx([23.0, 19.0, 23.0, 19.0])
