"""One Record out of several processes: their latencies resampled by process first, the rest as the first read it.

The noise of a latency sits between processes (memory layout, neighbours, clocks): more samples within one process do
not narrow what differs from that process to the next.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.core.record import Note, Record
from attnbench.core.stats import Estimate, median_estimate, quantile
from attnbench.metrics.metric import Options, chosen

__all__ = ["SAMPLES", "as_kept", "check", "latency_only", "merged", "sampled", "without_others"]

SAMPLES = "latency.samples_ms"

_MEDIAN = "latency.median_ms"
_THROTTLED = "throttle_reasons"
_MOST = 1000

# What is so much work in the time of one of these, whose interval ends at the other two; the first is its share of
# what the roof allows.
_RATES = (
    ((_MEDIAN, "latency.ci_low_ms", "latency.ci_high_ms"),
     ("roofline.percent_of_roof", "roofline.flops_per_s", "roofline.bytes_per_s")),
    (("latency.cold_ms", "latency.cold_low_ms", "latency.cold_high_ms"), ("roofline.cold_percent_of_roof",)),
)  # fmt: skip
_ABOVE_ROOF = {
    "at_roof": "it stands at the roof: what is above 100 % is within the interval of its latency",
    "impossible": "it is faster than the roof, so that the count, the time or the roof is wrong: `attnbench doctor "
                  "--fresh` measures the roof anew",
}  # fmt: skip

# How one figure of each process becomes one of all. Without the samples of a cold step its interval spans theirs, and
# of what casts doubt the worst is kept.
_ACROSS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "latency.set_aside": sum,
    "latency.warmup_ms": statistics.median,
    "latency.compile_ms": statistics.median,
    "latency.cold_ms": statistics.median,
    "latency.cold_low_ms": min,
    "latency.cold_high_ms": max,
    "latency.kernel_ms": statistics.median,
    "latency.host_ms": statistics.median,
    "latency.other_cores": max,
    "latency.launch_bound": any,
}


def check(options: Options, *, isolate: bool) -> None:
    """See that so many processes can be had, and have something to measure.

    Raises:
        UsageError: they cannot, or have not.
    """
    count = options.processes
    if not 0 < count <= _MOST:
        raise UsageError(f"--processes {count} is out of range: give a whole number from 1 to {_MOST}.")
    if count > 1 and not isolate:
        raise UsageError(f"--processes {count} needs worker processes: leave --no-isolate away.")
    if count > 1 and all(each.name != "latency" for each in chosen(options.metrics)):
        raise UsageError(f"--processes {count} is for the latency: add it to --metrics {','.join(options.metrics)}.")


def latency_only(options: Options) -> Options:
    """What the processes behind the first measure.

    They are as large as the first was, so that live tensors alone are guard enough for them.
    """
    return replace(options, metrics=("latency",), scratch=False)


def sampled(record: Record) -> bool:
    """Whether it is a whole answer with samples of the latency."""
    return record.ok and bool(record.value(SAMPLES))


def merged(first: Record, others: Sequence[Record], target: float) -> Record:
    """The record of all processes: the first one's, which is sampled, with a latency over it and those of the others.

    Median and interval are resampled by process first; mean, p95 and minimum are of all samples. Figures that are
    derived from the latency follow its median. `target` is the wished precision. Processes that failed are told in a
    note, and so is an interval that is still too wide.
    """
    heard = [first, *filter(sampled, others)]
    failed = tuple(_failed(others, len(heard)))
    if len(heard) == 1:
        return replace(first, notes=(*first.notes, *failed))
    series = [record.value(SAMPLES) for record in heard]
    estimate = median_estimate(series)
    figures = _across(heard) | _over(series, estimate)
    figures |= _derived(first, figures)
    readings = tuple(replace(each, value=figures.get(each.name, each.value)) for each in first.readings)
    whose = Note("method", f"the latency is of {len(heard)} processes, what else was measured of the first of them")
    judged = (*_imprecise(heard, estimate, target), *_above_roof(first, figures), *failed)
    notes = (*_heard_notes(heard, figures), whose, *judged)
    return replace(first, readings=readings, notes=notes, env=_env(heard))


def without_others(first: Record) -> Record:
    """The record of a first process that is not sampled, behind which no other is started; a status says why."""
    why = Note("processes", "no other process was started, since the first gave no samples of the latency")
    return replace(first, notes=(*first.notes, why)) if first.ok else first


def _over(series: Sequence[Sequence[float]], estimate: Estimate) -> dict[str, Any]:
    """The figures that follow from the samples of each process."""
    pooled = [sample for samples in series for sample in samples]
    return {
        _MEDIAN: estimate.median,
        "latency.ci_low_ms": estimate.low,
        "latency.ci_high_ms": estimate.high,
        "latency.mean_ms": statistics.fmean(pooled),
        "latency.p95_ms": quantile(pooled, 0.95),
        "latency.min_ms": min(pooled),
        "latency.processes": len(series),
        "latency.samples": len(pooled),
        SAMPLES: [list(samples) for samples in series],
    }


def _across(heard: Sequence[Record]) -> dict[str, Any]:
    """The figures of which each process gave one."""
    values = {name: [value for each in heard if (value := each.value(name)) is not None] for name in _ACROSS}
    return {name: _ACROSS[name](found) for name, found in values.items() if found}


def _derived(first: Record, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The first one's rates, which were taken in its own times, in those of all processes."""
    found: dict[str, Any] = {}
    for (time, _, _), rates in _RATES:
        own, ms = first.value(time), figures.get(time, 0)
        if own and ms > 0:
            slower = ms / own
            found |= {name: rate / slower for name in rates if (rate := first.value(name)) is not None}
    return found | ({"roofline.bound": "launch"} if figures.get("latency.launch_bound") else {})


def _above_roof(first: Record, figures: Mapping[str, Any]) -> Iterator[Note]:
    """That a step is faster than is possible, within its interval or not, in the times of all processes."""
    said = {note.kind: note.text for note in first.notes if note.kind in _ABOVE_ROOF}
    kinds = []
    for (time, low, high), (share, *_) in _RATES:
        above = figures.get(share, 0) / 100 - 1
        if above > 0:
            ms = figures[time]
            within = above <= (figures.get(high, ms) - figures.get(low, ms)) / 2 / ms
            kinds.append("at_roof" if within else "impossible")
    yield from (Note(kind, said.get(kind, _ABOVE_ROOF[kind])) for kind in dict.fromkeys(kinds))


def _env(heard: Sequence[Record]) -> dict[str, Any]:
    """The first one's machine, with every reason for a throttled clock that any of them saw."""
    seen = [record.env[_THROTTLED] for record in heard if isinstance(record.env.get(_THROTTLED), list)]
    reasons = list(dict.fromkeys(reason for found in seen for reason in found))
    return dict(heard[0].env) | ({_THROTTLED: reasons} if seen else {})


def _heard_notes(heard: Sequence[Record], figures: Mapping[str, Any]) -> Iterator[Note]:
    """The first one's notes, and doubts of another kind that came up in another process, each kind once."""
    anew = {"imprecise", *_ABOVE_ROOF}
    if figures.get("latency.set_aside", 0) <= figures["latency.samples"]:
        anew.add("set_aside")  # that most were is no longer so
    yield from (note for note in heard[0].notes if note.kind not in anew)
    # What the others did not measure, and how they were built, the first one knows better.
    kinds = anew | {"not_measured", "built"} | {note.kind for note in heard[0].notes}
    for record in heard[1:]:
        yield from (note for note in record.notes if note.kind not in kinds)
        kinds |= {note.kind for note in record.notes}


def _imprecise(heard: Sequence[Record], estimate: Estimate, target: float) -> Iterator[Note]:
    if estimate.precision <= target:
        return
    wide = f"imprecise: the latency's interval over {len(heard)} processes is wider than the ±{target:.1%} asked for"
    quiet = "or quiet the machine"
    if all(any(note.kind == "imprecise" for note in record.notes) for record in heard):
        yield Note("imprecise", f"{wide}, and so is that of each: give more --max-time and more --processes, {quiet}")
    else:
        yield Note("imprecise", f"{wide}, since they differ, against which more --max-time does not help: give more "
                                f"--processes, {quiet}")  # fmt: skip


def _failed(others: Sequence[Record], heard: int) -> Iterator[Note]:
    reasons = dict.fromkeys(_why(record) for record in others if not sampled(record))
    if reasons:
        yield Note("processes", f"only {heard} of {1 + len(others)} processes gave a latency: {'; '.join(reasons)}")


def _why(record: Record) -> str:
    return "no samples" if record.ok else f"{record.status}, {record.reason}"


def as_kept(record: Record, options: Options) -> Record:
    """The record as it is stored: with a list of samples for each process where they are kept, else without them."""
    samples = record.value(SAMPLES)
    if samples is None:
        return record
    if options.keep_samples:
        nested = samples if samples and isinstance(samples[0], list) else [samples]
        return replace(record, readings=tuple(
            replace(each, value=nested) if each.name == SAMPLES else each for each in record.readings
        ))  # fmt: skip
    why = Note("not_measured", f"{SAMPLES}: not kept; --keep-samples keeps them")
    readings = tuple(each for each in record.readings if each.name != SAMPLES)
    return replace(record, readings=readings, notes=(*record.notes, why))
