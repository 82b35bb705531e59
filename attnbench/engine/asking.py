"""What is asked of one channel: which device is there, what a Case leaves open, and its Record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import AbsentError, UsageError
from attnbench.core.record import Note, Reading, Record
from attnbench.engine.processes import latency_only, merged, sampled, without_others
from attnbench.engine.workers.channels import Channel, Event, WorkerDied
from attnbench.metrics.metric import Options

__all__ = ["Tell", "greeted", "measured", "on_device", "replicated", "resolution", "resolved"]

# Hears in a few words what is being done.
Tell = Callable[[str], None]

_STATE = "env."


def on_device(cases: Sequence[Case], channel: Channel, options: Options) -> list[Case]:
    """The Cases with `--device auto` decided, once the device is known to be there.

    Raises:
        UsageError: it is not.
    """
    devices = {case.device for case in cases}
    found = {}
    for device in sorted(devices):
        dtypes = sorted({case.dtype for case in cases if case.device == device})
        found[device], _ = greeted(channel, device, dtypes, options)
    return [case.with_(device=found[case.device]) for case in cases]


def greeted(channel: Channel, device: str, dtypes: Sequence[str], options: Options) -> tuple[str, dict[str, Any]]:
    """The device that is meant, which is there, and the environment of what is measured on it as `options` say.

    Raises:
        UsageError: it is not there, or has not those dtypes.
    """
    request = {"do": "hello", "device": device, "dtypes": list(dtypes), "threads": options.threads,
               "metrics": list(options.metrics)}  # fmt: skip
    try:
        named = _by_name(channel.ask(request))
    except WorkerDied as death:
        raise UsageError(f"torch cannot be loaded: {death}. Try: python -c 'import torch'.") from death
    if "device" not in named:
        raise UsageError(f"the device cannot be used: {named['done']['reason']}.")
    return str(named["device"]["device"]), dict(named["device"].get("env", {}))


def resolved(cases: Sequence[Case], channel: Channel, timeout: float | None = None) -> list[Case | Record]:
    """Each Case with its layout and heads said, or the record that says why it cannot be built.

    Raises:
        UsageError: a target is not there, or none of its Cases can be built: then the question itself is wrong.
    """
    answers = [resolution(case, channel, timeout) for case in cases]
    for name in dict.fromkeys(case.name for case in cases):
        mine = [answer for case, answer in zip(cases, answers, strict=True) if case.name == name]
        refusals = [answer for answer in mine if isinstance(answer, Record)]
        if len(refusals) == len(mine):
            raise UsageError(f"{refusals[0].reason}.")
    return answers


def resolution(
    case: Case, channel: Channel, timeout: float | None = None, version: Mapping[str, Any] | None = None
) -> Case | Record:
    """The Case with its layout and heads said, or the record that says why it cannot be built.

    `version` is the one of the user's code that is meant, as `Version.to_dict` gives it; None the one that is there.

    Raises:
        UsageError: its target is not there, or takes no such argument.
    """
    try:
        events = _by_name(channel.ask({"do": "resolve", "case": case.to_dict(), "version": version}, timeout))
    except WorkerDied as death:
        return _record(case, death.status, f"{case.name}: {death}", [], {})
    if "case" in events:
        return Case.from_dict(events["case"]["case"])
    return _record(case, events["done"]["status"], events["done"]["reason"], [], events["env"]["env"])


def _by_name(events: Iterable[Event]) -> dict[str, Event]:
    """The events of a short answer by their names. UsageError is raised here."""
    named = {event["event"]: event for event in events}
    if "usage" in named:
        raise (AbsentError if named["usage"].get("absent") else UsageError)(named["usage"]["text"])
    return named


def _unseen(what: str) -> None:
    """Nobody watches."""


def replicated(
    case: Case, channel: Channel, options: Options, timeout: float | None = None, tell: Tell = _unseen
) -> Record:
    """The record of one resolved Case over as many fresh processes as `options` ask for; `tell` hears which is on.

    The first measures everything, and one that it could not finish is the record; the others add their latencies.
    The processes of a case follow each other. To take turns with those of other cases would even out a slow drift of
    the machine between them; but a record is stored once it is complete, and Ctrl-C would lose them all.
    """
    if options.processes == 1:
        return measured(case, channel, options, timeout)
    asked = [options] + [latency_only(options)] * (options.processes - 1)
    records: list[Record] = []
    for number, each in enumerate(asked, 1):
        tell(f"process {number} of {options.processes}")
        channel.fresh()
        records.append(measured(case, channel, each, timeout))
        if not sampled(records[0]):
            return without_others(records[0])
    return merged(records[0], records[1:], options.precision_target)


def measured(
    case: Case,
    channel: Channel,
    options: Options,
    timeout: float | None = None,
    version: Mapping[str, Any] | None = None,
) -> Record:
    """What one process gives of a resolved Case, raw samples and all; `version` as for `resolution`.

    A fault of the module is the record's status, and what was read before is kept.
    """
    findings: list[Reading | Note] = []
    env: dict[str, Any] = {}
    # While it samples, a case is silent because it was told to be.
    patience = None if timeout is None else timeout + 2 * options.max_time
    try:
        request = {"do": "measure", "case": case.to_dict(), "options": asdict(options), "version": version}
        for event in channel.ask(request, patience):
            content = {name: value for name, value in event.items() if name != "event"}
            match event["event"]:
                case "env":
                    env = event["env"]
                case "note":
                    findings.append(Note(**content))
                case "reading":
                    findings.append(Reading(**content))
                case "usage":
                    raise UsageError(event["text"])
                case "done":
                    return _record(case, event["status"], event["reason"], findings, env)
    except WorkerDied as death:
        return _record(case, death.status, str(death), findings, env)
    raise AssertionError("an answer ends with done or usage")


def _record(case: Case, status: str, reason: str, findings: Sequence[Reading | Note], env: dict[str, Any]) -> Record:
    readings = [finding for finding in findings if isinstance(finding, Reading)]
    # Of the machine's state, and of the kernels, one knows only after measuring; they have places of their own.
    state = {each.name.removeprefix(_STATE): each.value for each in readings if each.name.startswith(_STATE)}
    kernels = next((tuple(each.value) for each in readings if each.name == "kernels"), None)
    return Record(
        case=case,
        status=status,
        reason=reason,
        readings=tuple(each for each in readings if not each.name.startswith(_STATE) and each.name != "kernels"),
        notes=tuple(finding for finding in findings if isinstance(finding, Note)),
        env=env | state,
        kernels=kernels,
        repro=case.command(),
    )
