"""What the latency instrument reads and says, with a clock that only steps move, and with a simulated device."""

import random
from collections.abc import Callable
from functools import partial
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import FakeCuda
from metrics_subjects import FakeClock, subject_of, values

from attnbench.core.record import Reading
from attnbench.metrics import latency
from attnbench.metrics.latency import measure_latency
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.metrics.timing.sampling import sample, warm_up
from attnbench.metrics.timing.timers import host_block


def noisy(level: float, spread: float, n: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level * (1 + spread * rng.uniform(-1, 1)) for _ in range(n)]


class Watching:
    """A device that tells what it was told to tell."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons

    def look(self) -> tuple[str, ...]:
        return self.reasons

    def findings(self) -> Any:
        yield Reading("env.throttle_reasons", list(self.reasons))


class Load:
    """How many cores others use."""

    cores_used: float | None = 0.0

    def cores(self) -> float | None:
        return self.cores_used


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock(2.0)
    monkeypatch.setattr(latency.time, "perf_counter", fake)
    monkeypatch.setattr(latency, "host_block", partial(host_block, clock_ns=lambda: round(fake.now * 1e9)))
    for function in (warm_up, sample):
        monkeypatch.setattr(latency, function.__name__, partial(function, clock=fake))
    monkeypatch.setattr(latency, "watch", lambda device: Watching())
    monkeypatch.setattr(latency, "OtherLoad", Load)
    monkeypatch.setattr(latency, "Disturbances", lambda watching, device: watching)
    monkeypatch.setattr(Load, "cores_used", 0.0)
    return fake


def stepping(clock: FakeClock, *ms: float, mode: str = "fwd") -> Subject:
    """A Subject of which each forward takes the next of the given times, over and over."""
    times = cycle(ms)

    def step(x: Any) -> Any:
        clock.now += next(times) / 1000
        return x * 1

    return subject_of(step, (3,), where="cpu", mode=mode)


def test_the_latency_of_steps_that_take_two_milliseconds(clock: FakeClock) -> None:
    found = list(measure_latency(stepping(clock, 2.0), Options(max_time=2.0)))
    readings = {each.name: each.value for each in found if isinstance(each, Reading)}
    for name in ("median_ms", "ci_low_ms", "ci_high_ms", "mean_ms", "p95_ms", "min_ms"):
        assert readings[f"latency.{name}"] == pytest.approx(2.0, rel=1e-5)
    assert readings["latency.samples"] == len(readings["latency.samples_ms"])
    assert readings["latency.samples"] in (50, 51)  # a tenth of a second
    assert readings["latency.processes"] == 1
    assert readings["latency.set_aside"] == 0
    assert readings["latency.warmup_ms"] == pytest.approx(22.0)  # one step, and two windows of five
    assert "blocks of 1 steps" in readings["latency.method"]
    assert "latency.host_ms" not in readings
    (median,) = (each for each in found if isinstance(each, Reading) and each.name == "latency.median_ms")
    assert (median.low, median.high, median.better) == ("latency.ci_low_ms", "latency.ci_high_ms", "lower")
    assert median.title == "Latency"


def test_a_fast_step_is_timed_in_blocks(clock: FakeClock) -> None:
    readings, _ = values(measure_latency(stepping(clock, 0.01), Options()))
    assert readings["latency.median_ms"] == pytest.approx(0.01, rel=1e-3)
    assert "blocks of 100 steps" in readings["latency.method"]


def test_an_interval_wider_than_asked_for_is_said(clock: FakeClock) -> None:
    wild = noisy(20.0, 0.8, 977)
    _, notes = values(measure_latency(stepping(clock, *wild), Options(max_time=0.5, precision_target=0.01)))
    (said,) = (note.text for note in notes if note.kind == "imprecise")
    assert "imprecise" in said
    assert "±1.0%" in said
    _, notes = values(measure_latency(stepping(clock, 20.0), Options(max_time=0.5, precision_target=0.01)))
    assert "imprecise" not in {note.kind for note in notes}


def test_the_mean_and_the_tail_are_those_of_the_samples(clock: FakeClock) -> None:
    """Nineteen steps of 1 ms and one of 11 ms: median 1, mean 1.5."""
    steps = stepping(clock, *([1.0] * 19), 11.0)
    readings, _ = values(measure_latency(steps, Options(max_time=2, precision_target=0.2)))
    assert readings["latency.median_ms"] == pytest.approx(1.0)
    assert readings["latency.mean_ms"] == pytest.approx(1.5, rel=0.1)
    assert readings["latency.min_ms"] == pytest.approx(1.0)
    assert 1.0 < readings["latency.p95_ms"] <= 11.0


def test_a_backward_is_the_difference_of_both_and_of_the_forward(clock: FakeClock) -> None:
    """A forward of 2 ms whose backward takes 5 ms."""

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            clock.now += 0.002
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            clock.now += 0.005
            return gradient

    subject = subject_of(lambda x: Slow.apply(x), (3,), where="cpu", mode="bwd")
    subject.tensors[0].requires_grad_()
    readings, _ = values(measure_latency(subject, Options()))
    assert readings["latency.median_ms"] == pytest.approx(5.0, rel=1e-4)
    assert readings["latency.method"].startswith("by difference")


def test_other_programs_on_the_cores_are_told(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "cores_used", 64.0)
    readings, notes = values(measure_latency(stepping(clock, 2.0), Options()))
    assert readings["latency.other_cores"] == 64
    assert "busy" in {note.kind for note in notes}
    monkeypatch.setattr(Load, "cores_used", None)
    readings, notes = values(measure_latency(stepping(clock, 2.0), Options()))
    assert "latency.other_cores" not in readings
    assert any("latency.other_cores" in note.text for note in notes)


def test_a_disturbance_throughout_is_told_and_the_row_is_there(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "watch", lambda device: Watching("hw_thermal"))
    readings, _ = values(measure_latency(stepping(clock, 2.0), Options(max_time=0.5)))
    assert readings["latency.median_ms"] == pytest.approx(2.0)
    assert readings["latency.set_aside"] == 0
    assert readings["env.throttle_reasons"] == ["hw_thermal"]


def test_where_most_is_set_aside_it_is_said(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mostly(Watching):
        def look(self) -> tuple[str, ...]:
            return ("hw_thermal",) if clock.now % 1.0 < 0.8 else ()

    monkeypatch.setattr(latency, "watch", lambda device: Mostly())
    noise = noisy(2.0, 0.2, 997)
    readings, notes = values(measure_latency(stepping(clock, *noise), Options(max_time=3.0, precision_target=1e-6)))
    assert readings["latency.set_aside"] > readings["latency.samples"] > 20
    assert "hw_thermal" in next(note.text for note in notes if note.kind == "set_aside")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    timer = fake.timer()

    def seconds() -> float:
        return fake.host / 1000

    monkeypatch.setattr(latency, "EventTimer", lambda: timer)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda name: SimpleNamespace(L2_cache_size=2**20))
    for function in (warm_up, sample):
        monkeypatch.setattr(latency, function.__name__, partial(function, clock=seconds))
    monkeypatch.setattr(latency, "watch", lambda name: Watching())
    monkeypatch.setattr(latency, "Disturbances", lambda watching, name: watching)
    return fake


def on_device(run: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> Subject:
    subject = subject_of(lambda x: x, (3,), where="cpu")
    subject.case = subject.case.with_(device="cuda")
    monkeypatch.setattr(Subject, "repeat", lambda self, steps, what=None: run(steps))
    return subject


def test_cold_and_warm_stand_side_by_side(device: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = on_device(device.steps(0.01, 0.5, 0.8), monkeypatch)
    found = list(measure_latency(subject, Options()))
    readings, _ = values(iter(found))
    assert readings["latency.median_ms"] == pytest.approx(0.5)
    assert readings["latency.cold_ms"] == pytest.approx(0.8)
    assert readings["latency.host_ms"] == pytest.approx(0.01)
    assert readings["latency.launch_bound"] is False
    titles = {each.name: each.title for each in found if isinstance(each, Reading) and each.title}
    assert titles == {"latency.median_ms": "Warm latency", "latency.cold_ms": "Cold latency"}


def test_small_steps_are_launch_bound_and_advice_is_given(device: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    readings, notes = values(measure_latency(on_device(device.steps(0.02, 0.005), monkeypatch), Options()))
    assert readings["latency.median_ms"] == pytest.approx(0.005)
    assert readings["latency.host_ms"] == pytest.approx(0.02)
    assert readings["latency.launch_bound"] is True
    (advice,) = (note.text for note in notes if note.kind == "launch_bound")
    assert "--engine cudagraph" in advice


def test_a_backward_has_a_difference_of_device_times_and_no_host_time(
    device: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = on_device(device.steps(0.01, 0.5), monkeypatch)
    subject.case = subject.case.with_(mode="bwd")
    whole, kept = device.steps(0.02, 0.7, 0.9), device.steps(0.01, 0.2, 0.3)
    monkeypatch.setattr(
        Subject, "repeat", lambda self, steps, what=None: (kept if what == "forward_kept" else whole)(steps)
    )
    readings, notes = values(measure_latency(subject, Options()))
    assert readings["latency.median_ms"] == pytest.approx(0.5)
    assert readings["latency.cold_ms"] == pytest.approx(0.6)
    assert "latency.host_ms" not in readings
    assert any("latency.host_ms" in note.text for note in notes)


def test_where_the_queue_cannot_be_kept_full_the_method_says_so(
    device: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(steps: int) -> None:
        for _ in range(steps):
            device.launch(0.02, 0.005)
            device.synchronize()

    readings, notes = values(measure_latency(on_device(waits, monkeypatch), Options()))
    assert "with gaps" in readings["latency.method"]
    assert "latency.launch_bound" not in readings
    assert {"gaps", "not_measured"} <= {note.kind for note in notes}
