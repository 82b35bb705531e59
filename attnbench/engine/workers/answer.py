"""Answers requests about Cases with a stream of plain events: the same in a worker process and inline.

Requests are `hello` (which device, is it there), `free` (its memory), `resolve` (find the layout and the heads),
`measure`, `twins` (two sides against each other), `code` (what code a side is made of), `abilities` (what can be
measured) and `peaks` (the device's roof). Those about a Case may name a version of the user's code. Events are
dictionaries of JSON values, so that they can cross a pipe; the last is always `done` or `usage`.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict

import torch

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Note
from attnbench.core.surroundings import Surroundings
from attnbench.engine.measure import measure
from attnbench.engine.memory_cap import host_kept_free
from attnbench.engine.twins import Side, Standing, made_of, twins
from attnbench.engine.workers.channels import Event
from attnbench.engine.workers.ending import done, ended_by
from attnbench.engine.workers.spent import Before, is_broken
from attnbench.metrics.abilities import abilities
from attnbench.metrics.hardware import best_device, environment, free_bytes
from attnbench.metrics.metric import Finding, Options, chosen
from attnbench.metrics.roof.cache import measured_peaks
from attnbench.metrics.timing.paired import Pairing, Quads
from attnbench.targets.resolve import resolve
from attnbench.targets.sources import set_back_after_import
from attnbench.targets.state.kept import kept_state, seeded
from attnbench.targets.versions import Version

__all__ = ["answer"]

# As many as torch took by itself: what nobody asked for is as it was, whatever an earlier request set.
_THREADS = torch.get_num_threads()

_ABOUT_CASES = ("resolve", "measure", "twins", "code")

_Events = Generator[Event, None, None]


def answer(request: Event, *, inline: bool = False) -> Iterator[Event]:
    """The events that answer one request; nothing is raised but what ends the process anyway, `inline` Ctrl-C.

    The last one is marked `spent` when this process should answer no more about Cases.
    """
    if request["do"] not in _ABOUT_CASES:
        yield (yield from _told(request, inline))
        return
    case, before = Case.from_dict(request["case"]), Before.now()
    with kept_state() as kept:
        seeded(case.seed)
        last = yield from _told(request, inline)
    left = [*before.left_behind(case), *(f"{name}, which cannot be set back" for name in kept.left)]
    broken = last.get("status") != "ok" and is_broken(case)
    if request["do"] in ("measure", "twins"):
        yield from map(_event, _notes_on_state(case, kept.changed, left))
    yield last | ({"spent": True} if left or broken else {})


def _told(request: Event, inline: bool) -> Generator[Event, None, Event]:
    """All events but the last, which is returned."""
    answers = {"hello": _hello, "resolve": _resolve, "measure": _measure, "twins": _twins, "code": _code, "free": _free,
               "abilities": _abilities, "peaks": _peaks}  # fmt: skip
    with closing(answers[request["do"]](request)) as events:
        while True:
            try:
                event = next(events)
            except StopIteration:
                return done("ok", "")
            except BaseException as error:  # a module is foreign code and may raise anything
                if inline and isinstance(error, KeyboardInterrupt):
                    raise
                return ended_by(error)
            yield event


def _notes_on_state(case: Case, changed: Sequence[str], left: Sequence[str]) -> Iterator[Note]:
    """What a case did to the process that it shares with others, and what became of it."""
    imported = list(dict.fromkeys(name for file in case.targets for name in set_back_after_import(file)))
    if imported:
        yield Note("state", f"while it was imported it changed {_listed(imported)} for the whole process: that was set "
                            "back, and it was measured without")  # fmt: skip
    if changed:
        yield Note("state", f"it changed {_listed(changed)} for the whole process, and was measured with that: for the "
                            "next case it was set back")  # fmt: skip
    if left:
        yield Note("state", f"it left {_listed(left)} behind: where a worker process measures, the next case has a "
                            "fresh one")  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _hello(request: Event) -> _Events:
    device, dtypes = request["device"], request["dtypes"]
    if device == "auto":
        device = best_device()
    if device.startswith("cuda") and _needs_the_device(tuple(request["metrics"])):
        _require_cuda(device)
    if "tf32" in dtypes and not device.startswith("cuda"):
        raise UsageError("tf32 is a mode of CUDA's tensor cores: it needs --device cuda.")
    torch.set_num_threads(request["threads"] or _THREADS)
    yield {"event": "device", "device": device, "env": environment(device)}


def _needs_the_device(metrics: tuple[str, ...]) -> bool:
    """Whether an instrument runs on it; where there is no CUDA at all, the others count and predict for it."""
    return torch.cuda.is_available() or any(each.live for each in chosen(metrics))


def _require_cuda(device: str) -> None:
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise UsageError(f"--device {device} cannot be used: {why}. Use --device cpu, or --metrics static to predict "
                         "what it would take.")  # fmt: skip
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: there are only {torch.cuda.device_count()} CUDA devices, from cuda:0.")


def _free(request: Event) -> _Events:
    yield {"event": "free", "bytes": free_bytes(request["device"])}


def _resolve(request: Event) -> _Events:
    side = _side(request)
    yield {"event": "env", "env": environment(side.case.device)}
    with host_kept_free(side.case.device), side.version.active():
        case = resolve(side.case)
    yield {"event": "case", "case": case.to_dict()}


def _measure(request: Event) -> _Events:
    side = _side(request)
    options = Options(**{**request["options"], "metrics": tuple(request["options"]["metrics"])})
    yield {"event": "env", "env": environment(side.case.device)}
    with host_kept_free(side.case.device), side.version.active():
        for finding in measure(side.case, options):
            yield _event(finding)


def _twins(request: Event) -> _Events:
    sides = [_side(each) for each in request["sides"]]
    with host_kept_free(sides[0].case.device):
        for said in twins(sides, Pairing(**request["how"]), request["seed"]):
            if isinstance(said, Standing):
                yield {"event": "standing", "which": said.which}
            elif isinstance(said, Surroundings):
                yield {"event": "around", **asdict(said)}
            elif isinstance(said, Quads):
                yield {"event": "quads", **asdict(said), "median": said.median, "error": said.error}
            else:
                yield _event(said)


def _code(request: Event) -> _Events:
    side = _side(request)
    with host_kept_free(side.case.device):
        yield {"event": "code", "code": made_of(side)}


def _side(request: Event) -> Side:
    return Side(Case.from_dict(request["case"]), Version.from_dict(request.get("version")))


def _abilities(request: Event) -> _Events:
    yield {"event": "env", "env": environment(request["device"])}
    for name, found in abilities(request["device"], request["done"], quick=request["quick"]):
        yield {"event": "trying", "name": name} if found is None else {"event": "ability", "name": name} | asdict(found)


def _peaks(request: Event) -> _Events:
    peaks = measured_peaks(request["device"], request["dtype"], fresh=request["fresh"])
    more = {"bytes_per_s": peaks.memory_bandwidth, "beyond_caches": peaks.beyond_caches}
    yield {"event": "peaks", "peaks": peaks.to_dict() | more}


def _event(finding: Finding) -> Event:
    if isinstance(finding, Note):
        return {"event": "note", "kind": finding.kind, "text": finding.text}
    if isinstance(finding.value, float) and not math.isfinite(finding.value):
        # JSON has no infinity, and a figure that is none is not to be printed as one.
        return {"event": "note", "kind": "not_measured", "text": f"{finding.name}: the instrument gave {finding.value}"}
    return {"event": "reading", "value": finding.value, **finding.describe()}
