"""Which kernels a step runs on a CUDA device, how often, and how long the device is busy with them: CUPTI's opinion."""

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from attnbench.core.errors import named
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Step, Subject

__all__ = ["Activity", "Profiler", "activity_of", "busy_ms", "kernel_findings", "measure_kernels", "table",
           "variation", "without"]  # fmt: skip

Kind = Literal["kernel", "memcpy", "memset"]

_FIELDS = "kernels, latency.kernel_ms"
_STEPS, _FEWEST = 5, 2
# torch.cuda._sleep runs it, and nothing else does: it stands between one step and the next.
_MARK = "spin_kernel"
# A session may lose its first kernels, more of them the more sessions there were before (pytorch #192021).
_LEAD = 64
_KINDS: dict[str, Kind] = {"kernel": "kernel", "gpu_memcpy": "memcpy", "gpu_memset": "memset"}
_BY_PREFIX: dict[str, Kind] = {"Memcpy": "memcpy", "Memset": "memset"}
_WAITING = ("Context Sync", "Stream Sync", "Event Sync", "Stream Wait Event")
_UNSEEN = ("the profiler saw no kernel of steps that ran: CUPTI is missing, or kept for administrators or by another "
           "profiler")  # fmt: skip
_METHOD = ("kernels: CUPTI over {steps} steps, each waited for; kernel_ms is the median time that the device was busy, "
           "copies and fills among it, what overlaps counted once")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Activity:
    """One piece of work of the device; in microseconds, from any beginning."""

    name: str
    start_us: float
    duration_us: float
    kind: Kind = "kernel"


# Runs each of these so many times, a mark before each and one at the end, and gives what the device did meanwhile.
Profiler = Callable[[Subject, Sequence[Step], int], list[Activity]]


@metric(name="kernels", on="after", fields=("kernels", "latency.kernel_ms"))
def measure_kernels(subject: Subject, options: Options) -> Iterator[Finding]:
    """The kernels of a step by name, and its kernel time. It comes last: a profiler must not be near other timers."""
    if not subject.case.device.startswith("cuda"):
        yield Note("not_measured", f"{_FIELDS}: a CPU runs operators, no kernels; `show --by op` lists them")
    elif not _detachable(torch.version.cuda):
        yield Note("not_measured", f"{_FIELDS}: a profiler of CUDA {torch.version.cuda} stays in the process and slows "
                                   "down what is timed after it; from CUDA 12.6 on it does not")  # fmt: skip
    else:
        yield from kernel_findings(subject, _profiled, _affordable(subject, options))


def _detachable(cuda: str | None) -> bool:
    """Whether CUPTI can be taken out of the process again, CUDA graphs or not (pytorch #144455)."""
    return cuda is None or tuple(int(part) for part in cuda.split(".")[:2]) >= (12, 6)


def _affordable(subject: Subject, options: Options) -> int:
    """Steps to look at: fewer where a step is so long that they would take more than the time for samples."""
    step_ms = subject.readings.get("latency.median_ms") or 0.0
    return max(_FEWEST, min(_STEPS, int(options.max_time * 1000 / step_ms))) if step_ms > 0 else _STEPS


def kernel_findings(subject: Subject, profiler: Profiler, steps: int = _STEPS) -> Iterator[Finding]:
    """What the profiler's activities say of the step; in mode `bwd` of what it runs after its forward."""
    try:
        seen = profiler(subject, subject.parts, steps)
    except Exception as error:  # the profiler's, or the driver's
        yield Note("not_measured", f"{_FIELDS}: the profiler failed ({named(error)})")
        return
    parts = _between_marks(seen, steps * len(subject.parts))
    if parts is None:
        marks = sum(_is_mark(activity) for activity in seen)
        yield Note("not_measured", f"{_FIELDS}: " + ("the profiler lost kernels" if marks else _UNSEEN))
        return
    whole, forward = parts[:steps], parts[steps:]
    own = [without(step, part) for step, part in zip(whole, forward, strict=True)] if forward else whole
    if not any(own):
        yield Note("not_measured", f"{_FIELDS}: the step runs no kernel")
        return
    yield Reading("kernels", table(own))
    yield Reading("latency.kernel_ms", statistics.median(busy_ms(step) for step in own), "ms", "lower")
    yield Note("method", _METHOD.format(steps=steps))
    if (varies := variation(own)) is not None:
        yield Note("kernels_vary", f"not every step runs the same kernels ({varies}): its times are a mixture")


def _is_mark(activity: Activity) -> bool:
    return _MARK in activity.name


def _between_marks(activities: Sequence[Activity], parts: int) -> list[list[Activity]] | None:
    """The last so many groups of activities between two marks; None when there are not that many."""
    groups: list[list[Activity]] = []
    for activity in sorted(activities, key=lambda each: each.start_us):
        if _is_mark(activity):
            groups.append([])
        elif groups:
            groups[-1].append(activity)
    return groups[-parts - 1 : -1] if len(groups) > parts else None


def without(step: Sequence[Activity], forward: Sequence[Activity]) -> list[Activity]:
    """A step without its forward, which ran first: as many kernels of each name as the forward alone runs."""
    left = Counter(activity.name for activity in forward)
    kept = []
    for activity in sorted(step, key=lambda each: each.start_us):
        if left[activity.name] > 0:
            left[activity.name] -= 1
        else:
            kept.append(activity)
    return kept


def busy_ms(step: Sequence[Activity]) -> float:
    """The length of the union of the activities' intervals: what overlaps on two streams counts once."""
    busy, end = 0.0, float("-inf")
    for activity in sorted(step, key=lambda each: each.start_us):
        stop = activity.start_us + activity.duration_us
        busy += max(0.0, stop - max(activity.start_us, end))
        end = max(end, stop)
    return busy / 1000


def table(steps: Sequence[Sequence[Activity]]) -> list[dict[str, Any]]:
    """By name, the longest first: calls a step, milliseconds a step, and the share in the sum of all durations."""
    calls = Counter(activity.name for step in steps for activity in step)
    kinds = {activity.name: activity.kind for step in steps for activity in step}
    spent: Counter[str] = Counter()
    for activity in (activity for step in steps for activity in step):
        spent[activity.name] += activity.duration_us  # type: ignore[assignment]
    total = sum(spent.values())
    return [
        {"name": name, "kind": kinds[name], "calls": _a_step(calls[name], len(steps)), "ms": us / len(steps) / 1000,
         "share": us / total if total else None}
        for name, us in spent.most_common()
    ]  # fmt: skip


def _a_step(calls: int, steps: int) -> int | float:
    return calls // steps if calls % steps == 0 else calls / steps


def variation(steps: Sequence[Sequence[Activity]]) -> str | None:
    """In what the first step that differs differs from the first; None when all run the same kernels as often."""
    first, *others = (Counter(activity.name for activity in step) for step in steps)
    for number, other in enumerate(others, start=2):
        for name in first | other:
            if first[name] != other[name]:
                return f"{name}: {first[name]} in step 1, {other[name]} in step {number}"
    return None


def _profiled(subject: Subject, parts: Sequence[Step], steps: int) -> list[Activity]:
    os.environ.setdefault("TEARDOWN_CUPTI", "1")  # or launches would be slower from now on
    for what in parts:
        subject.repeat(1, what)
    subject.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as session:
        for _ in range(_LEAD):
            _spin()
        for what in parts:
            for _ in range(steps):
                _mark(subject)
                subject.repeat(1, what)
        _mark(subject)
    _let_go(subject)
    return [activity for event in session.events() if (activity := activity_of(event)) is not None]


def _mark(subject: Subject) -> None:
    """Nothing of what came before, on whatever stream, is after it, and nothing of what follows is before."""
    subject.synchronize()
    _spin()
    subject.synchronize()


def _spin() -> None:
    torch.cuda._sleep(1)  # type: ignore[no-untyped-call]


def _let_go(subject: Subject) -> None:
    """CUPTI leaves the process at the end of a call to CUDA, once another thread has asked it to."""
    for _ in range(10):
        subject.synchronize()
        time.sleep(0.01)


def activity_of(event: Any) -> Activity | None:
    """What a profiler's event says the device worked on; None for what is no work: ranges, waiting, the host's own."""
    if event.device_type != DeviceType.CUDA or getattr(event, "is_user_annotation", False):
        return None
    told = getattr(event, "activity_type", None)  # older ones of torch do not tell
    kind = _KINDS.get(told) if told else _kind_by_name(event.name)
    if kind is None:
        return None
    return Activity(event.name, event.time_range.start, event.time_range.end - event.time_range.start, kind)


def _kind_by_name(name: str) -> Kind | None:
    if name.startswith(_WAITING):
        return None
    return next((kind for prefix, kind in _BY_PREFIX.items() if name.startswith(prefix)), "kernel")
