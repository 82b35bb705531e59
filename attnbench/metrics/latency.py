"""How long one step takes: warm-up until stable, then samples until the median's interval is narrow enough."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from attnbench.core.record import Note, Reading
from attnbench.core.stats import Estimate, median_estimate, quantile
from attnbench.metrics.hardware import OtherLoad, malloc_state
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["Samples", "measure_latency", "measure_throughput", "sample", "warm_up"]

Clock = Callable[[], float]

# A block of steps lasts at least this long, so that reading the clock twice (0.1 us) is under a thousandth of it.
_BLOCK_MS = 0.2
_MIN_SAMPLES = 5
# Of one core: less than this is the system's own ticking.
_OTHERS = 0.1
_STABLE = 0.02


@dataclass(frozen=True, slots=True)
class Samples:
    """Milliseconds a step, in the order they were taken, each the mean over a block of `steps` steps."""

    ms: list[float]
    steps: int
    estimate: Estimate


@metric(name="latency", on="device", fields=("latency",))
def measure_latency(subject: Subject, options: Options) -> Iterator[Finding]:
    """The median time of a step and its 95 % interval."""
    cuda = subject.case.device.startswith("cuda")
    hosts: list[float] = []
    block = (lambda steps: _cuda_block(subject, steps, hosts)) if cuda else (lambda steps: _cpu_block(subject, steps))
    step_ms = warm_up(block, options.max_time)
    hosts.clear()
    others = OtherLoad()
    samples = sample(block, _steps_a_block(step_ms), options)
    yield from _latency_readings(samples)
    yield from _host_readings(hosts, samples.estimate.median) if cuda else _cpu_readings(samples, others.cores())
    if samples.estimate.precision > options.precision_target:
        target = f"±{options.precision_target:.1%}"
        yield Note("imprecise", f"the latency's interval is wider than the {target} asked for when --max-time is over: "
                                "give it more, or quiet the machine")  # fmt: skip


def _latency_readings(samples: Samples) -> Iterator[Finding]:
    estimate = samples.estimate
    yield Reading("latency.median_ms", estimate.median, "ms", "lower", "Latency", low="latency.ci_low_ms",
                  high="latency.ci_high_ms")  # fmt: skip
    yield Reading("latency.ci_low_ms", estimate.low, "ms", "lower")
    yield Reading("latency.ci_high_ms", estimate.high, "ms", "lower")
    yield Reading("latency.mean_ms", statistics.fmean(samples.ms), "ms", "lower")
    yield Reading("latency.p95_ms", quantile(samples.ms, 0.95), "ms", "lower")
    yield Reading("latency.min_ms", min(samples.ms), "ms", "lower")
    yield Reading("latency.processes", 1, "count")
    yield Reading("latency.samples", len(samples.ms), "count")


def _cpu_readings(samples: Samples, other_cores: float | None) -> Iterator[Finding]:
    threads = torch.get_num_threads()
    how = f"perf_counter_ns around blocks of {samples.steps} steps, {threads} threads, {malloc_state()} malloc"
    yield Reading("latency.method", how)
    yield Note("not_measured", "latency.host_ms, latency.launch_bound: on the CPU host and device are one")
    if other_cores is None:
        return
    yield Reading("latency.other_cores", other_cores, "count", "lower")
    if other_cores + threads > (os.cpu_count() or 1) + _OTHERS:
        yield Note("busy", "other processes used the same cores meanwhile, and the latency holds that disturbance: "
                           "quiet the machine, or leave them cores with --threads")  # fmt: skip


def _host_readings(hosts: list[float], median: float) -> Iterator[Finding]:
    host = statistics.median(hosts)
    launch_bound = host >= 0.9 * median
    yield Reading("latency.method", "CUDA events around blocks of steps, caches warm")
    yield Reading("latency.host_ms", host, "ms", "lower")
    yield Reading("latency.launch_bound", launch_bound)
    if launch_bound:
        yield Note("launch_bound", "the device waits for the host: this is the time of the launches, not of the "
                                   "kernels; a bigger --batch-size shows those")  # fmt: skip


def _cpu_block(subject: Subject, steps: int) -> float:
    """Milliseconds a step over a block, no clock read inside it."""
    start = time.perf_counter_ns()
    subject.repeat(steps)
    return (time.perf_counter_ns() - start) / steps / 1e6


def _cuda_block(subject: Subject, steps: int, hosts: list[float]) -> float:
    """Milliseconds a step between two events on the device; the host's time to launch goes to `hosts`."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin = time.perf_counter_ns()
    start.record()
    subject.repeat(steps)
    stop.record()
    hosts.append((time.perf_counter_ns() - begin) / steps / 1e6)
    stop.synchronize()
    return float(start.elapsed_time(stop)) / steps


def _steps_a_block(step_ms: float) -> int:
    return max(1, round(_BLOCK_MS / step_ms)) if step_ms > 0 else 1000


def warm_up(block: Callable[[int], float], max_time: float, clock: Clock = time.perf_counter) -> float:
    """Run until two windows of five blocks agree to 2 % or a fifth of the time is over; the level in ms a step."""
    deadline = clock() + max_time / 5
    steps = _steps_a_block(block(1))
    before = float("inf")
    while True:
        window = []
        for _ in range(5):
            window.append(block(steps))
            if clock() >= deadline:
                return statistics.median(window)
        level = statistics.median(window)
        if abs(level - before) <= _STABLE * level:
            return level
        before, steps = level, _steps_a_block(level)


def sample(block: Callable[[int], float], steps: int, options: Options, clock: Clock = time.perf_counter) -> Samples:
    """Take samples until the interval of the median is within the target, or the time is over."""
    deadline = clock() + options.max_time
    taken: list[float] = []
    check = 20
    while True:
        taken.append(block(steps))
        over = clock() >= deadline and len(taken) >= _MIN_SAMPLES
        if not over and len(taken) < check:
            continue
        estimate = median_estimate(taken)
        if over or estimate.precision <= options.precision_target:
            return Samples(taken, steps, estimate)
        # Looking again after each sample would stop at the first lucky interval; a quarter more samples is a new look.
        check = len(taken) * 5 // 4


@metric(name="throughput", on="device", fields=("throughput",))
def measure_throughput(subject: Subject, options: Options) -> Iterator[Finding]:
    """Samples a second from steps run back to back, with one synchronisation at the end."""
    subject.step()
    subject.synchronize()
    seconds, steps = 0.0, 1
    wanted = min(0.3, options.max_time / 5)
    while True:
        seconds = _back_to_back(subject, steps)
        if seconds >= wanted:
            break
        steps = max(steps * 2, round(steps * 1.2 * wanted / max(seconds, 1e-9)))
    rate = subject.case.batch_size * steps / seconds
    yield Reading("throughput.samples_per_s", rate, "1/s", "higher", "Throughput")
    if subject.case.tokens is not None:
        yield Reading("throughput.tokens_per_s", rate * subject.case.tokens, "1/s", "higher")
    else:
        yield Note("not_measured", "throughput.tokens_per_s: a network's input is images, not tokens")


def _back_to_back(subject: Subject, steps: int) -> float:
    start = time.perf_counter()
    subject.repeat(steps)
    subject.synchronize()
    return time.perf_counter() - start
