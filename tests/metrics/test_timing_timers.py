"""Timing by events against a device whose queue is simulated, so that the true times are known."""

import time

import pytest
import torch
from fake_cuda import FakeCuda

from attnbench.metrics.timing.timers import EventTimer, host_block


@pytest.fixture
def device() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def timer(device: FakeCuda) -> EventTimer:
    return device.timer()


def test_a_block_on_the_host_is_timed_around_all_of_its_steps() -> None:
    now = iter([1_000, 9_000])
    asked: list[int] = []
    assert host_block(asked.append, lambda: next(now))(4) == pytest.approx(0.002)
    assert asked == [4]


def test_a_host_that_sleeps_is_timed_by_the_real_clock() -> None:
    assert host_block(lambda steps: time.sleep(0.002))(1) >= 2.0


@pytest.mark.parametrize(("host_ms", "kernel_ms"), [(0.01, 0.005), (0.01, 0.5), (0.3, 0.004), (2.0, 0.1)])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_launch_gaps_are_no_part_of_the_devices_time(
    device: FakeCuda, timer: EventTimer, host_ms: float, kernel_ms: float, steps: int
) -> None:
    block = timer.warm(device.steps(host_ms, kernel_ms))
    assert [block(steps) for _ in range(3)] == pytest.approx([kernel_ms] * 3)
    assert not timer.gaps
    assert timer.hosts == pytest.approx([host_ms] * 3)


def test_without_the_hold_the_gaps_would_count(device: FakeCuda) -> None:
    """The negative control of the fake: 50 launches of 10 us with kernels of 5 us take the device 500 us."""
    start, stop = device.Event(True), device.Event(True)
    start.record()
    device.steps(0.01, 0.005)(50)
    stop.record()
    assert start.elapsed_time(stop) / 50 == pytest.approx(0.01, rel=0.05)


def test_the_hold_is_as_long_as_the_host_needs_and_no_longer(device: FakeCuda, timer: EventTimer) -> None:
    block = timer.warm(device.steps(0.1, 0.01))
    block(20)
    block(20)
    assert 2.0 < device.slept[-1] <= 3.1  # 20 launches take the host 2 ms


def test_a_step_that_waits_for_the_device_is_found_out(device: FakeCuda, timer: EventTimer) -> None:
    def run(steps: int) -> None:
        for _ in range(steps):
            device.launch(0.01, 0.02)
            device.synchronize()

    times = [timer.warm(run)(10) for _ in range(3)]
    assert timer.gaps
    assert timer.hosts == []
    assert times[-1] == pytest.approx(0.03, rel=0.05)  # launch, then kernel, then launch
    held = sum(device.slept)
    timer.warm(run)(10)
    assert sum(device.slept) - held <= 200  # and not tried again and again


def test_a_queue_that_is_too_short_is_found_out(device: FakeCuda, timer: EventTimer) -> None:
    """The host blocks while more than 100 launches wait."""

    def run(steps: int) -> None:
        for _ in range(steps * 300):
            device.launch(0.004, 0.002)
            device.host = max(device.host, device.free - 100 * 0.002)

    timer.warm(run)(1)
    assert timer.gaps


def test_cold_steps_find_nothing_in_the_cache_and_the_flush_does_not_count(
    device: FakeCuda, timer: EventTimer
) -> None:
    run = device.steps(0.01, 0.005, cold_ms=0.008)
    assert timer.warm(run)(10) == pytest.approx(0.005)
    assert timer.cold(run, 1024)(10) == pytest.approx(0.008)
    assert timer.warm(run)(10) == pytest.approx(0.005)
    assert len(timer.hosts) == 2  # what the host takes for a flush and a step says nothing of the step


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device_small_steps_are_launch_bound_and_large_ones_are_not() -> None:
    def products(size: int) -> tuple[float, float]:
        x = torch.randn(size, size, device="cuda")
        timer = EventTimer()

        def run(steps: int) -> None:
            for _ in range(steps):
                x @ x

        block = timer.warm(run)
        times = [block(20) for _ in range(20)]
        assert not timer.gaps
        return sorted(times)[10], sorted(timer.hosts)[10]

    small, large = products(16), products(8192)
    assert small[1] > small[0]
    assert large[1] < large[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device_cold_is_slower_than_warm_for_what_fits_in_the_cache() -> None:
    x = torch.randn(1024, 1024, device="cuda")
    timer = EventTimer()

    def run(steps: int) -> None:
        for _ in range(steps):
            torch.add(x, 1.0, out=x)

    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    warm, cold = timer.warm(run), timer.cold(run, l2_bytes)
    assert sorted(cold(10) for _ in range(20))[10] > sorted(warm(10) for _ in range(20))[10]
