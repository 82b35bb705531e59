"""The cases of a check as both sides have them: which are there on both, which are new, which are gone."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.engine.asking import greeted
from attnbench.engine.gate.duel import Duel, Failed, Side
from attnbench.engine.gate.looked_at import Seen
from attnbench.engine.gate.thresholds import Threshold
from attnbench.engine.question import Question
from attnbench.engine.workers.channels import Channel
from attnbench.targets.code import same_code
from attnbench.targets.names import split
from attnbench.targets.providers import PROVIDERS

__all__ = ["Matched", "control_of", "failing", "matched", "on_one_device", "vanished"]


@dataclass(frozen=True, slots=True)
class Matched:
    """A case on both sides; what is None on a side is not in its suite."""

    baseline: Seen | None
    candidate: Seen | None

    @property
    def records(self) -> list[Record]:
        """What there is of records, the candidate's first."""
        seen = (self.candidate, self.baseline)
        return [each.record for each in seen if each is not None and each.record is not None]

    def same_code(self, changed: Collection[str]) -> bool:
        """Whether both sides certainly run the same code, when these files of the repository differ.

        What comes with attnbench, or from a library, is installed once for both of them.
        """
        if self.baseline is None or self.candidate is None or self.candidate.case is None:
            return False
        before, after = self.baseline.code, self.candidate.code
        if before is None or after is None:
            return False
        installed = all(split(name)[0] in ("built-in", *PROVIDERS) for name in self.candidate.case.targets)
        return (installed and not before and not after) or same_code(before, after, changed)

    def duel(self, name: str, threshold: Threshold, version: Mapping[str, Any] | None) -> Duel | None:
        """Both sides against each other; None where one of them cannot be measured."""
        if self.baseline is None or self.candidate is None:
            return None
        before, after = self.baseline.case, self.candidate.case
        if before is None or after is None:
            return None
        return Duel(name, Side(before, version), Side(after), threshold)


def on_one_device(
    questions: Sequence[Question], channel: Channel, metrics: tuple[str, ...] = ("latency",)
) -> tuple[list[Question], dict[str, Any]]:
    """The Questions with `--device auto` decided, and the environment that they are answered in; where the `metrics`
    are only counted their device need not be there.

    Raises:
        UsageError: they are for several devices or numbers of threads, or their device is not there.
    """
    for what, option, found in (
        ("devices", "--device", {question.case.device for question in questions}),
        ("numbers of threads", "--threads", {question.options.threads for question in questions}),
    ):
        if len(found) > 1:
            told = ", ".join(sorted(map(str, found)))
            raise UsageError(f"these cases are for several {what} ({told}): check them one after the other, with "
                             f"{option}.")  # fmt: skip
    first = questions[0]
    dtypes = sorted({question.case.dtype for question in questions})
    device, env = greeted(channel, first.case.device, dtypes, replace(first.options, metrics=metrics))
    return [replace(each, case=each.case.with_(device=device)) for each in questions], env


def matched(before: Sequence[Seen], after: Sequence[Seen], gone: Sequence[Case]) -> list[Matched]:
    """Both looks at the same questions, side by side, and what only the suite of the base has.

    Raises:
        UsageError: a target is nowhere.
    """
    pairs = [Matched(old, new) for old, new in zip(before, after, strict=True)]
    for pair in pairs:
        if pair.baseline is not None and pair.baseline.absent and pair.candidate is not None and pair.candidate.absent:
            raise UsageError(f"{pair.candidate.absent}.")
    return pairs + [Matched(Seen(Record(case, "skipped")), None) for case in gone]


def vanished(questions: Sequence[Question], base: Sequence[Question], back: Callable[[str], str]) -> list[Case]:
    """The cases of the base's suite that these questions have not, named as they would be typed in the top; `back` is
    where that has a path of the base."""
    there = {_placed(question.case.with_(device=""), str) for question in questions}
    return [
        _placed(question.case, lambda path: os.path.relpath(back(path)))
        for question in base
        if _placed(question.case.with_(device=""), back) not in there
    ]


def _placed(case: Case, where: Callable[[str], str]) -> Case:
    """The same with the files of its targets elsewhere."""
    return case.with_(**{name: _moved(getattr(case, name), where) for name in ("target", "insert", "swap")})


def _moved(target: str | None, where: Callable[[str], str]) -> str | None:
    place, ending, name = (target or "").partition(".py")
    if not ending:
        return target
    return f"{where(os.path.abspath(place + ending))}{name}"  # noqa: PTH100 - which leaves symbolic links as they are


def control_of(duels: Sequence[Duel], costs: Sequence[int]) -> Duel | None:
    """The candidate of the duel of middle cost, against itself."""
    if not duels:
        return None
    _, duel = sorted(zip(costs, duels, strict=True), key=lambda pair: pair[0])[len(duels) // 2]
    return replace(duel, name="the same code twice", baseline=duel.candidate)


def failing(pair: Matched, failed: Failed) -> Matched:
    """The pair with the records of the sides that failed when they were run, where it is known which."""
    for each in (failed, failed.other):
        if each is not None and each.which is not None:
            name = ("baseline", "candidate")[each.which]
            seen: Seen = getattr(pair, name)
            assert seen.record is not None  # it was built
            record = replace(seen.record, status=each.status, reason=each.reason)
            pair = replace(pair, **{name: replace(seen, record=record)})
    return pair
