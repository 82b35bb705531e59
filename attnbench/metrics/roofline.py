"""Where a step stands under the measured roof of its device: intensity, what bounds it, and how near it comes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.core.errors import UnsupportedError
from attnbench.core.record import Note, Reading
from attnbench.core.units import human_bytes
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.roof.cache import measured_peaks
from attnbench.metrics.roof.peaks import Peaks
from attnbench.metrics.roof.work import Work, at_peaks, work_of
from attnbench.metrics.subject import Subject

__all__ = ["Time", "Times", "Work", "place_under_roof", "times_of", "under_roof", "work_of"]


@metric(name="roofline", on="after", fields=("roofline",), needs=("macs", "backward_macs", "bytes_moved", "latency"))
def place_under_roof(subject: Subject, options: Options) -> Iterator[Finding]:
    """The step's arithmetic and its least traffic against measured peaks, and its time against the roof of both.

    Williams, Waterman and Patterson 2009, Roofline, doi:10.1145/1498765.1498785.
    """
    case = subject.case
    try:
        _refuse_skipping(subject)
        work, times = work_of(case.mode, subject.readings), times_of(subject.readings)
        peaks = measured_peaks(case.device, case.dtype)
    except UnsupportedError as error:
        yield Note("not_measured", f"roofline: {error}")
        return
    yield from under_roof(work, times, peaks)
    if times.cold is None:
        yield Note("not_measured", "roofline.cold_percent_of_roof, roofline.cold_roof_ms: no latency of cold caches")


def _refuse_skipping(subject: Subject) -> None:
    """A part says of itself that, compiled, it skips what a mask hides (`skips_masked`); counters count all of it."""
    parts = subject.module.modules()
    if subject.case.engine == "compile" and any(getattr(part, "skips_masked", False) for part in parts):
        raise UnsupportedError("the MACs are those of the dense product, and the compiled kernel of flex_attention "
                               "skips the blocks that its mask hides")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Time:
    """Milliseconds a step, and half of the width of their 95 % interval as a fraction of them."""

    ms: float
    precision: float


@dataclass(frozen=True, slots=True)
class Times:
    """With warm caches and, where it was measured, with cold ones; and whether the device waited for the host."""

    warm: Time
    cold: Time | None = None
    launch_bound: bool = False


def times_of(readings: Mapping[str, Any]) -> Times:
    """The measured times of a step.

    Raises:
        UnsupportedError: there is none.
    """
    warm = _time(readings, "median_ms", "ci_low_ms", "ci_high_ms")
    if warm is None:
        raise UnsupportedError("its latency was not measured")
    cold = _time(readings, "cold_ms", "cold_low_ms", "cold_high_ms")
    return Times(warm, cold, bool(readings.get("latency.launch_bound")))


def _time(readings: Mapping[str, Any], name: str, low: str, high: str) -> Time | None:
    ms, lowest, highest = (readings.get(f"latency.{each}") for each in (name, low, high))
    if not ms:
        return None
    return Time(ms, 0.0 if lowest is None or highest is None else (highest - lowest) / 2 / ms)


def under_roof(work: Work, times: Times, peaks: Peaks) -> Iterator[Finding]:
    """The readings of the roofline, and the doubts about them."""
    rate, seconds = peaks.bandwidth(work.bytes), times.warm.ms / 1e3
    compute, memory = at_peaks(work, peaks)
    bound = "compute" if compute > memory else "memory"
    roof = max(compute, memory)
    yield Reading("roofline.percent_of_roof", 100 * roof / times.warm.ms, "percent", "higher", "% of roof")
    yield Reading("roofline.roof_ms", roof, "ms")
    yield Reading("roofline.intensity", work.flops / work.bytes, "FLOP/B", "same")
    yield Reading("roofline.bound", "launch" if times.launch_bound else bound)
    yield Reading("roofline.flops_per_s", work.flops / seconds, "FLOP/s", "higher")
    yield Reading("roofline.bytes_per_s", work.bytes / seconds, "B/s", "higher")
    yield Reading("roofline.peak_flops_per_s", peaks.flops_per_s, "FLOP/s")
    yield Reading("roofline.peak_bytes_per_s", rate, "B/s")
    yield Reading("roofline.method", _method(work, peaks))
    yield from _doubts(times.warm, roof, bound, work, peaks)
    if times.cold is not None:
        yield from _cold(times.cold, compute, work, peaks)


def _cold(time: Time, compute: float, work: Work, peaks: Peaks) -> Iterator[Finding]:
    """With cold caches all comes from the memory."""
    memory = 1e3 * work.bytes / peaks.memory_bandwidth
    roof = max(compute, memory)
    yield Reading("roofline.cold_roof_ms", roof, "ms")
    yield Reading("roofline.cold_percent_of_roof", 100 * roof / time.ms, "percent", "higher")
    yield from _doubts(time, roof, "compute" if compute > memory else "memory", work, peaks, cold=True)


def _doubts(time: Time, roof: float, bound: str, work: Work, peaks: Peaks, *, cold: bool = False) -> Iterator[Note]:
    if peaks.disturbed and not cold:
        yield Note("roof", "the roof was measured while other processes used the device, and may be too low: quiet "
                           f"the machine, then {_FRESH}")  # fmt: skip
    if roof <= time.ms:
        return
    which = f"the {bound} roof" + (" of cold caches" if cold else "")
    if roof <= time.ms * (1 + time.precision):
        yield Note("at_roof", f"it stands at {which}: what is above 100 % is within the interval of its latency")
        return
    wrong = f"it is faster than {which}, so that the count, the time or the roof is wrong"
    yield Note("impossible", f"{wrong}. It may be {_causes(bound, work, peaks)}a roof measured while the machine was "
                             f"busy: {_FRESH}")  # fmt: skip


def _causes(bound: str, work: Work, peaks: Peaks) -> str:
    causes = []
    if bound == "compute" and work.convolves:
        causes.append("an algorithm with fewer multiplications than were counted (Winograd's, of a convolution), or ")
    if bound == "compute" and peaks.dtype != "fp32":
        causes.append(f"products in another type than {peaks.dtype}, or ")
    return "".join(causes)


_FRESH = "`attnbench doctor --fresh` measures it anew"


def _method(work: Work, peaks: Peaks) -> str:
    threads = "" if peaks.threads is None else f" with {peaks.threads} thread{'s' * (peaks.threads > 1)}"
    longest = peaks.ladder[-1].footprint
    buffers = f"buffers of {human_bytes(min(work.bytes, longest))} or more"
    short = "" if work.bytes <= longest or peaks.beyond_caches else (
        ", which may be too fast: for want of free memory they lie within the last-level cache")  # fmt: skip
    return (
        "2 FLOPs a useful MAC, and those of FFTs of the forward, but no elementwise arithmetic, against the best "
        f"{peaks.dtype} product ({peaks.product}); inputs, weights and outputs once each against the best of copying, "
        f"reading and filling {buffers}{short}; both measured at {peaks.measured_at}{threads}"
    )
