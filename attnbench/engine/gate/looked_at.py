"""What is seen of each case in one version of the code before anything is timed: its exact figures, and its code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from attnbench.core.case import Case
from attnbench.core.errors import AbsentError, UsageError
from attnbench.core.record import Record
from attnbench.engine.asking import measured, resolution
from attnbench.engine.question import Question, command
from attnbench.engine.workers.channels import Channel, WorkerDied
from attnbench.metrics.metric import Options

__all__ = ["Seen", "look_at"]

Tell = Callable[[str], None]

# What is the same twice; the allocator's peak on a GPU is counted, too.
_EXACT: Final = ("static",)
_EXACT_ON_CUDA: Final = ("static", "memory")


@dataclass(frozen=True, slots=True)
class Seen:
    """A case as one version has it.

    `record` has its exact figures, or says why there are none; None where its target is not there, or cannot be loaded
    (`broken`), for the reason `absent`. `code` tells what code it is made of (see attnbench.targets.code), None where
    that is not known.
    """

    record: Record | None
    absent: str = ""
    broken: bool = False
    code: Mapping[str, Any] | None = None

    @property
    def case(self) -> Case | None:
        """As it was resolved, if it can be measured."""
        return self.record.case if self.record is not None and self.record.ok else None


def look_at(
    questions: Sequence[Question],
    channel: Channel,
    version: Mapping[str, Any] | None,
    timeout: float | None,
    tell: Tell,
    *,
    live: bool = True,
) -> list[Seen]:
    """Each case as that version has it; None is the one that is there, whose code is not looked at. Unless `live`
    nothing runs on the cases' device."""
    seen = []
    for question in questions:
        tell(f"counting {question.case.name}")
        seen.append(_seen(question, channel, version, timeout, live=live))
    return seen


def _seen(
    question: Question, channel: Channel, version: Mapping[str, Any] | None, timeout: float | None, *, live: bool
) -> Seen:
    try:
        answer = resolution(question.case, channel, timeout, version)
        if isinstance(answer, Record):
            return Seen(answer)
        metrics = _EXACT_ON_CUDA if live and answer.device.startswith("cuda") else _EXACT
        options = Options(metrics=metrics, threads=question.options.threads)
        record = measured(answer, channel, options, timeout, version)
        record = replace(record, repro=command(question.case, question.options))
    except UsageError as error:
        return Seen(None, str(error).rstrip("."), broken=not isinstance(error, AbsentError))
    return Seen(record, code=None if version is None else _code(record, channel, version, timeout))


def _code(
    record: Record, channel: Channel, version: Mapping[str, Any] | None, timeout: float | None
) -> Mapping[str, Any] | None:
    if not record.ok:
        return None
    try:
        events = list(channel.ask({"do": "code", "case": record.case.to_dict(), "version": version}, timeout))
    except WorkerDied:  # the measuring says what it dies of
        return None
    return next((event["code"] for event in events if event["event"] == "code"), None)
