"""Throughput with a clock that moves only when a step takes its time."""

from itertools import cycle
from typing import Any

import pytest
from metrics_subjects import FakeClock, subject_of, values

from attnbench.metrics import throughput
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.metrics.throughput import measure_throughput


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock(2.0)
    monkeypatch.setattr(throughput.time, "perf_counter", fake)
    return fake


def stepping(clock: FakeClock, *ms: float) -> Subject:
    """A Subject of which each step takes the next of the given times, over and over."""
    times = cycle(ms)

    def step(x: Any) -> Any:
        clock.now += next(times) / 1000
        return x

    return subject_of(step, (3,), where="cpu")


@pytest.mark.parametrize("ms", [0.01, 2.0, 90.0, 5000.0])
def test_throughput_is_the_batch_over_the_time(clock: FakeClock, ms: float) -> None:
    readings, notes = values(measure_throughput(stepping(clock, ms), Options(max_time=2.0)))
    assert readings["throughput.samples_per_s"] == pytest.approx(2 * 1000 / ms)  # batch 2
    assert readings["throughput.tokens_per_s"] == pytest.approx(2 * 1000 / ms * 8)  # 8 tokens
    assert {note.kind for note in notes} <= {"not_measured"}


def test_its_interval_holds_what_differs_from_run_to_run(clock: FakeClock) -> None:
    """Runs of about 40 ms, between two thirds and four thirds of a millisecond a step."""
    slow_and_fast = [*([2 / 3] * 40), *([4 / 3] * 40)]
    readings, _ = values(measure_throughput(stepping(clock, *slow_and_fast), Options(max_time=2.0)))
    low, rate, high = (readings[f"throughput.{name}_per_s"] for name in ("ci_low", "samples", "ci_high"))
    assert 1500 < rate < 3000
    assert low < 0.95 * rate < rate < high
    steady, _ = values(measure_throughput(stepping(clock, 1.0), Options(max_time=2.0)))
    assert steady["throughput.ci_low_per_s"] == pytest.approx(2000)
    assert steady["throughput.ci_high_per_s"] == pytest.approx(2000)


def test_throughput_runs_long_enough_and_not_for_ever(clock: FakeClock) -> None:
    begin = clock.now
    values(measure_throughput(stepping(clock, 0.5), Options(max_time=10.0)))
    assert 0.4 < clock.now - begin < 1.0


def test_a_few_long_steps_have_no_interval_and_say_so(clock: FakeClock) -> None:
    begin = clock.now
    readings, notes = values(measure_throughput(stepping(clock, 5000.0), Options(max_time=2.0)))
    assert "throughput.ci_low_per_s" not in readings
    assert any("throughput.ci_low_per_s" in note.text for note in notes)
    assert clock.now - begin == pytest.approx(20)  # to warm up, to find the steps of a run, and two runs


def test_the_throughput_of_a_network_has_no_tokens_and_says_so(clock: FakeClock) -> None:
    subject = stepping(clock, 1.0)
    subject.case = subject.case.with_(tokens=None)
    readings, notes = values(measure_throughput(subject, Options()))
    assert "throughput.tokens_per_s" not in readings
    assert [note.kind for note in notes] == ["not_measured"]


def test_a_backward_alone_has_no_throughput(clock: FakeClock) -> None:
    subject = stepping(clock, 1.0)
    subject.case = subject.case.with_(mode="bwd")
    readings, notes = values(measure_throughput(subject, Options()))
    assert readings == {}
    assert "cannot be run back to back" in notes[0].text
