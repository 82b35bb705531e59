"""How long one step takes: warm and, on a GPU, cold; the median with its interval, and what it holds and does not."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from attnbench.core.record import Note, Reading
from attnbench.core.stats import quantile
from attnbench.metrics.conditions import watch
from attnbench.metrics.hardware import OtherLoad, malloc_state
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Step, Subject
from attnbench.metrics.timing.disturbance import OTHERS, SLOWED, Disturbances, crowded
from attnbench.metrics.timing.sampling import Block, Samples, difference, sample, steps_a_block, warm_up
from attnbench.metrics.timing.timers import EventTimer, Run, host_block

__all__ = ["measure_latency", "time_of"]

# Of the sampling on a GPU, this part of the time is for cold caches.
_COLD = 0.4
_BY_DIFFERENCE = "by difference: a step forward and backward less a forward that keeps what the backward needs; "
_LAUNCH_BOUND = ("the device waits for the host: launching a step takes longer than its kernels do; --engine cudagraph "
                 "or a bigger --batch-size shows those")  # fmt: skip
_SLOWED = ("the core ran slower throughout than it can, and so did the steps (its clock is down, or a neighbour works "
           "on the other half of it): quiet the machine, or let it cool")  # fmt: skip
_GAPS = ("the device's queue could not be kept full, since a step waits for the device or has more kernels than the "
         "queue holds: the latency holds the gaps between them")  # fmt: skip


@metric(name="latency", on="device", fields=("latency",))
def measure_latency(subject: Subject, options: Options) -> Iterator[Finding]:
    """The median time of a step and its 95 % interval."""
    if subject.case.device.startswith("cuda"):
        yield from _on_cuda(subject, options)
    else:
        yield from _on_cpu(subject, options)


def _on_cpu(subject: Subject, options: Options) -> Iterator[Finding]:
    load = OtherLoad()
    taken = _sampled(subject, host_block, options)
    others = load.cores()
    yield from _readings(taken, options)
    threads = torch.get_num_threads()
    how = (f"perf_counter_ns around blocks of {taken.samples.steps} steps, {threads} threads, {malloc_state()} malloc; "
           "caches as warm as the step before leaves them")  # fmt: skip
    yield _method(subject, how)
    yield Note("not_measured", "latency.host_ms, latency.launch_bound, latency.cold_ms, latency.cold_low_ms, "
                               "latency.cold_high_ms: on the CPU host and device are one, and caches are not "
                               "flushed")  # fmt: skip
    if others is None:
        yield Note("not_measured", "latency.other_cores: this system does not tell the load of others")
        return
    yield Reading("latency.other_cores", others, "count", "lower")
    if not taken.samples.set_aside and (crowded(others) or OTHERS in taken.samples.disturbances):
        yield Note("busy", "other processes used the same cores meanwhile, and the latency holds that disturbance: "
                           "quiet the machine, or leave them cores with --threads")  # fmt: skip


def _on_cuda(subject: Subject, options: Options) -> Iterator[Finding]:
    timer = EventTimer()
    warm = _sampled(subject, timer.warm, replace(options, max_time=options.max_time * (1 - _COLD)))
    yield from _readings(warm, options, title="Warm latency")
    how = (f"CUDA events around blocks of {warm.samples.steps} steps, "
           f"{'with gaps between launches' if timer.gaps else 'the queue kept full'}, caches warm")  # fmt: skip
    yield _method(subject, how)
    yield from _host_readings(subject, timer, warm.samples.estimate.median)
    yield from _cold_readings(subject, timer, replace(options, max_time=options.max_time * _COLD))
    yield Note("not_measured", "latency.other_cores: the CPU's load is not that of the device")


def _method(subject: Subject, how: str) -> Reading:
    return Reading("latency.method", (_BY_DIFFERENCE if subject.case.mode == "bwd" else "") + how)


def _host_readings(subject: Subject, timer: EventTimer, median: float) -> Iterator[Finding]:
    if timer.gaps or not timer.hosts:
        yield Note("gaps", _GAPS)
        yield Note("not_measured", "latency.host_ms, latency.launch_bound: the host's time holds waiting")
        return
    if subject.case.mode == "bwd":
        yield Note("not_measured", "latency.host_ms, latency.launch_bound: a backward is not launched alone")
        return
    host = statistics.median(timer.hosts)
    yield Reading("latency.host_ms", host, "ms", "lower")
    yield Reading("latency.launch_bound", host > median)
    if host > median:
        yield Note("launch_bound", _LAUNCH_BOUND)


def _cold_readings(subject: Subject, timer: EventTimer, options: Options) -> Iterator[Finding]:
    l2_bytes = torch.cuda.get_device_properties(subject.case.device).L2_cache_size
    cold = _sampled(subject, lambda run: timer.cold(run, l2_bytes), options).samples.estimate
    yield Reading("latency.cold_ms", cold.median, "ms", "lower", "Cold latency", "latency.cold_low_ms",
                  "latency.cold_high_ms")  # fmt: skip
    yield Reading("latency.cold_low_ms", cold.low, "ms", "lower")
    yield Reading("latency.cold_high_ms", cold.high, "ms", "lower")


def time_of(subject: Subject, options: Options) -> Samples:
    """Samples of one step by the timer of its device, caches warm: for instruments that set times side by side."""
    timed = EventTimer().warm if subject.case.device.startswith("cuda") else host_block
    return _sampled(subject, timed, options).samples


@dataclass(frozen=True, slots=True)
class _Taken:
    """Samples, how long it took to be warm for them, and what the device told of itself meanwhile."""

    samples: Samples
    warm_up_ms: float
    conditions: tuple[Finding, ...]


def _sampled(subject: Subject, timed: Callable[[Run], Block], options: Options) -> _Taken:
    def block(what: Step) -> Block:
        return timed(lambda steps: subject.repeat(steps, what))

    whole = block(subject.whole)
    begin = time.perf_counter()
    step_ms = warm_up(whole, options.max_time)
    if subject.case.mode == "bwd":
        kept = block("forward_kept")
        warm_up(kept, options.max_time)
        whole = difference(whole, kept)
    warm_up_ms = (time.perf_counter() - begin) * 1e3
    device = watch(subject.case.device)
    disturbances = Disturbances(device, subject.case.device)
    samples = sample(whole, steps_a_block(step_ms), options, disturbances.look)
    return _Taken(samples, warm_up_ms, tuple(device.findings()))


def _readings(taken: _Taken, options: Options, title: str = "Latency") -> Iterator[Finding]:
    samples, estimate = taken.samples, taken.samples.estimate
    if estimate.median <= 0:
        yield Note("lost", "the time of the backward is lost in the noise of what it is the difference of: give it "
                           "more --max-time, or quiet the machine")  # fmt: skip
        return
    yield Reading("latency.median_ms", estimate.median, "ms", "lower", title, "latency.ci_low_ms", "latency.ci_high_ms")
    yield Reading("latency.ci_low_ms", estimate.low, "ms", "lower")
    yield Reading("latency.ci_high_ms", estimate.high, "ms", "lower")
    yield Reading("latency.mean_ms", statistics.fmean(samples.ms), "ms", "lower")
    yield Reading("latency.p95_ms", quantile(samples.ms, 0.95), "ms", "lower")
    yield Reading("latency.min_ms", min(samples.ms), "ms", "lower")
    yield Reading("latency.processes", 1, "count")
    yield Reading("latency.samples", len(samples.ms), "count")
    yield Reading("latency.samples_ms", samples.ms, "ms")
    yield Reading("latency.set_aside", len(samples.set_aside), "count")
    yield Reading("latency.warmup_ms", taken.warm_up_ms, "ms")
    yield from taken.conditions
    yield from _doubts(samples, options)


def _doubts(samples: Samples, options: Options) -> Iterator[Note]:
    if len(samples.set_aside) > len(samples.ms):
        yield Note("set_aside", "most samples were set aside, since they were taken while the machine was disturbed "
                                f"({', '.join(samples.disturbances)})")  # fmt: skip
    if SLOWED in samples.disturbances and not samples.set_aside:
        yield Note("slowed", _SLOWED)
    if samples.estimate.precision > options.precision_target:
        yield Note("imprecise", f"imprecise: the latency's interval is wider than the ±{options.precision_target:.1%} "
                                "asked for when --max-time is over; give it more, or quiet the machine")  # fmt: skip
