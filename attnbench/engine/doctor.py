"""Examines a machine through a channel: what can be measured, how much two runs of the same differ, and its roof.

What it finds is one JSON object, put together part by part, so that what is known stands when somebody loses patience:
`device`, `env` (as in a record), `abilities` (each `name`, `can`, `how`, `advice`, `figures`), `noise`, `roof` (of each
dtype the measured peaks, or a `reason`) and `advice`. A part that was not asked for is null.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Record
from attnbench.core.stats import Estimate, median_estimate
from attnbench.engine.asking import Tell, measured
from attnbench.engine.processes import SAMPLES, latency_only, sampled
from attnbench.engine.workers.channels import Channel, Event, WorkerDied
from attnbench.metrics.metric import Options

__all__ = ["SCHEMA", "Plan", "advice", "blank", "examined", "noise_of"]

SCHEMA = 1

# Of one core: less than this is the system's own ticking.
_BUSY = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to find out: `case` is resolved, and its A/A run has as many processes as `options` say.

    `dtypes` are those of the roof; `quick` leaves A/A and roof out, `fresh` measures the roof anew. `timeout` is the
    silence in seconds after which a trial, a process or a roof is given up.
    """

    case: Case
    options: Options
    dtypes: Sequence[str]
    quick: bool = False
    fresh: bool = False
    timeout: float | None = None


def blank() -> dict[str, Any]:
    """The object of a machine of which nothing is known yet."""
    return {"schema": SCHEMA, "device": None, "env": None, "abilities": [], "noise": None, "roof": None, "advice": []}


def examined(plan: Plan, channel: Channel, tell: Tell) -> Iterator[dict[str, Any]]:
    """The object after each thing that was found; `tell` hears in a few words what is being done.

    Raises:
        CannotJudgeError: nothing can be found out here; the message says why.
    """
    found = blank() | {"device": plan.case.device}
    for event in _abilities(plan, channel, tell):
        if event["event"] == "env":
            found["env"] = event["env"]
        else:
            found["abilities"] = [*found["abilities"], _without_kind(event)]
        yield _advised(found)
    for noise in () if plan.quick else _noises(plan, channel, tell):
        found["noise"] = noise
        yield _advised(found)
    for dtype in () if plan.quick else plan.dtypes:
        tell(f"roof, {dtype}")
        found["roof"] = [*(found["roof"] or []), _peaks(plan, dtype, channel)]
        yield _advised(found)


def _advised(found: Mapping[str, Any]) -> dict[str, Any]:
    return dict(found) | {"advice": list(advice(found))}


def _without_kind(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event"}


def _abilities(plan: Plan, channel: Channel, tell: Tell) -> Iterator[Event]:
    """The environment and each ability; one whose trial ends or hangs the worker is there with what happened."""
    done: list[str] = []
    while True:
        trying = ""
        request = {"do": "abilities", "device": plan.case.device, "quick": plan.quick, "done": list(done)}
        try:
            for event in channel.ask(request, plan.timeout):
                match event["event"]:
                    case "trying":
                        trying = event["name"]
                        tell(trying)
                    case "ability":
                        done.append(trying)
                        yield event
                    case "env" if not done:
                        yield event
                    case "usage":
                        raise UsageError(event["text"])
                    case "done" if event["status"] != "ok":
                        raise CannotJudgeError(f"this machine cannot be examined: {event['reason']}")
            return
        except WorkerDied as death:
            if not trying or trying in done:
                raise CannotJudgeError(f"this machine cannot be examined: {death}") from death
            done.append(trying)
            yield {"event": "ability", "name": trying, "can": "no", "how": f"trying it fails: {death}", "advice": "",
                   "figures": {}}  # fmt: skip


def _noises(plan: Plan, channel: Channel, tell: Tell) -> Iterator[dict[str, Any]]:
    """What is known of the noise after each process of the A/A run."""
    records: list[Record] = []
    for number in range(1, plan.options.processes + 1):
        tell(f"A/A run, process {number} of {plan.options.processes}")
        channel.fresh()
        records.append(measured(plan.case, channel, latency_only(plan.options), plan.timeout))
        if sum(map(sampled, records)) > 1 or number == plan.options.processes:
            yield noise_of(records, plan.options.max_time)


def noise_of(records: Sequence[Record], max_time: float) -> dict[str, Any]:
    """The noise floor, from records of the same case in several processes, each sampled for `max_time` seconds.

    `median_ms`, `low_ms` and `high_ms` are over all processes, and `precision` is half that interval as a fraction of
    the median; `alone` is what single processes say of their own, in the middle. `largest` and `typical` (the median)
    are of the differences of any two processes, as fractions of the faster. `other_cores` is the most that others kept
    busy. Where less than two processes were sampled there are no figures, and `reason` says why.
    """
    heard = [record for record in records if sampled(record)]
    notes = list(dict.fromkeys(note for record in heard for note in record.notes))
    told = {
        "case": records[0].case.to_dict(),
        "max_time": max_time,
        "processes": len(heard),
        "reason": _reason(records),
        "notes": [{"kind": note.kind, "text": note.text} for note in notes],
        "other_cores": max((cores for each in heard if (cores := each.value("latency.other_cores")) is not None),
                           default=None),
    }  # fmt: skip
    return told | (_figures(heard) if len(heard) > 1 else dict.fromkeys(_FIGURES))


_FIGURES = ("median_ms", "low_ms", "high_ms", "precision", "alone", "largest", "typical", "medians_ms")


def _figures(heard: Sequence[Record]) -> dict[str, Any]:
    over = median_estimate([record.value(SAMPLES) for record in heard])
    medians = [float(record.value("latency.median_ms")) for record in heard]
    differences = [max(pair) / min(pair) - 1 for pair in combinations(medians, 2)]
    alone = statistics.median(_estimate(record).precision for record in heard)
    figures = (over.median, over.low, over.high, over.precision, alone, max(differences),
               statistics.median(differences), medians)  # fmt: skip
    return dict(zip(_FIGURES, figures, strict=True))


def _estimate(record: Record) -> Estimate:
    median, low, high = (record.value(f"latency.{name}") for name in ("median_ms", "ci_low_ms", "ci_high_ms"))
    return Estimate(median, low, high)


def _reason(records: Sequence[Record]) -> str:
    """Why not all processes were heard; empty when all were."""
    failed = dict.fromkeys(record.reason or "no samples" for record in records if not sampled(record))
    return "; ".join(failed)


def _peaks(plan: Plan, dtype: str, channel: Channel) -> dict[str, Any]:
    request = {"do": "peaks", "device": plan.case.device, "dtype": dtype, "fresh": plan.fresh}
    channel.fresh()  # nothing of what was tried or measured before is in its memory or on its cores
    try:
        for event in channel.ask(request, plan.timeout):
            if event["event"] == "peaks":
                return dict(event["peaks"])
            if event["event"] in ("done", "usage"):
                return {"dtype": dtype, "reason": event.get("reason") or event.get("text")}
    except WorkerDied as death:
        return {"dtype": dtype, "reason": str(death)}
    raise AssertionError("an answer ends with done or usage")


def advice(found: Mapping[str, Any]) -> Iterator[str]:
    """What would make figures on this machine steadier, one sentence each."""
    env, on_cpu = found["env"] or {}, found["device"] == "cpu"
    yield from _of_settings(env, on_cpu=on_cpu)
    if on_cpu:
        yield from _of_cores(env, _other_cores(found))
    elif _figure(found, "other load", "others"):
        yield "other processes are on this GPU: end them, or take another one with CUDA_VISIBLE_DEVICES"
    if any(peaks.get("disturbed") for peaks in found["roof"] or ()):
        yield ("the roof was measured while other processes used the same device, and may be too low: quiet it, then "
               "--fresh")  # fmt: skip


def _of_settings(env: Mapping[str, Any], *, on_cpu: bool) -> Iterator[str]:
    governor = env.get("governor")
    if governor not in (None, "performance"):
        yield (f"the CPU's governor is {governor}, so that its clock follows the load: sudo cpupower frequency-set -g "
               "performance")  # fmt: skip
    if on_cpu and env.get("malloc") == "default":
        yield "malloc hands large blocks back, and steps wait for fresh ones: unset MALLOC_MMAP_MAX_"
    if env.get("persistence") is False:
        yield "persistence mode is off, so that the driver unloads when nobody uses the GPU: sudo nvidia-smi -pm 1"
    if env.get("mig"):
        yield ("this GPU is cut into slices (MIG): clocks, power and heat are of all of it, and what runs in other "
               "slices changes them")  # fmt: skip


def _of_cores(env: Mapping[str, Any], others: float) -> Iterator[str]:
    threads, cpus = env.get("threads"), env.get("affinity") or env.get("cores")
    if threads is None or cpus is None:
        return
    if threads > cpus:
        yield f"torch uses {threads} threads, and this process may use {cpus} CPUs: --threads {cpus}"
    elif others + threads > cpus + _BUSY:
        left = max(1, cpus - math.ceil(others))
        fewer = f", or leave them CPUs with --threads {left}" if left < threads else ""
        yield (f"others keep {others:.1f} of {cpus} CPUs busy, and with {threads} threads there are not enough for "
               f"all: quiet the machine{fewer}")  # fmt: skip


def _other_cores(found: Mapping[str, Any]) -> float:
    """The most that others were seen to keep busy, while it was tried and while it was measured."""
    seen = (_figure(found, "other load", "other_cores"), (found["noise"] or {}).get("other_cores"))
    return max((cores for cores in seen if cores is not None), default=0.0)


def _figure(found: Mapping[str, Any], ability: str, name: str) -> Any:
    return next((each["figures"].get(name) for each in found["abilities"] if each["name"] == ability), None)
