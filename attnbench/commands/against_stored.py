"""`attnbench check FILE`: what is there now against a stored baseline."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.commands.judging import Asked
from attnbench.commands.terminal import telling

if TYPE_CHECKING:
    from attnbench.core.record import Record
    from attnbench.core.sequential import Decision
    from attnbench.engine.gate.baseline import Baseline, Line
    from attnbench.engine.gate.contest import Contest, Limits
    from attnbench.engine.gate.duel import Duel
    from attnbench.engine.gate.looked_at import Seen
    from attnbench.engine.question import Question
    from attnbench.engine.workers.channels import Channel
    from attnbench.report.gate.judged import Judged
    from attnbench.report.gate.verdict import Verdict

__all__ = ["against_stored", "looked_at"]

Tell = Callable[[str], None]


def against_stored(asked: Asked, path: Path) -> "tuple[Judged, bool]":
    """What was found, and whether that is all: Ctrl-C leaves what is there.

    Raises:
        UsageError: the file is no baseline, or nothing of what is asked is there.
    """
    from attnbench.engine.gate.baseline import Baseline
    from attnbench.engine.gate.same_kind import parsed_allow
    from attnbench.engine.gate.stored import LIMITS
    from attnbench.engine.gate.twin_launcher import layout
    from attnbench.engine.workers.channels import WorkerChannel

    baseline, allow = Baseline.load(path), parsed_allow(asked.typed["allow"] or ())
    limits, questions = asked.limits(LIMITS), _questions(asked, baseline)
    with (
        closing(WorkerChannel(quiet=asked.typed["quiet"], env=layout())) as channel,
        telling(quiet=asked.typed["quiet"]) as tell,
    ):
        sitting = _Sitting(asked, path, baseline, allow, limits, channel, tell)
        try:
            sitting.measure(questions)
        except KeyboardInterrupt:
            return sitting.judged, False
        return sitting.judged, True


def _questions(asked: Asked, baseline: "Baseline") -> "list[Question]":
    """What is typed, or what the suite asks; where nobody says, what the baseline has."""
    from attnbench.engine.question import Question
    from attnbench.metrics.metric import Options

    if asked.asks:
        return asked.questions
    return [Question(line.case, Options(threads=asked.threads)) for line in baseline.lines]


def looked_at(
    questions: "Sequence[Question]", channel: "Channel", timeout: float, tell: Tell
) -> "tuple[list[Seen], dict[str, Any]]":
    """Each case with its exact figures, and the environment; a GPU that is not here is counted for all the same."""
    from attnbench.engine.gate.looked_at import look_at
    from attnbench.engine.gate.matching import on_one_device

    decided, env = on_one_device(questions, channel, metrics=("static",))
    here = not str(env.get("device_name")).endswith("(not here)")
    return look_at(decided, channel, None, timeout, tell, live=here), env


@dataclass(slots=True)
class _Sitting:
    """One check: what it is to do, and what came of it so far."""

    asked: Asked
    path: Path
    baseline: "Baseline"
    allow: frozenset[str]
    limits: "Limits"
    channel: "Channel"
    tell: Tell
    begin: float = field(default_factory=time.monotonic)
    seen: "list[Seen]" = field(default_factory=list)
    # Of each case, and after them of each line that nobody asked for, how it is called.
    names: list[str] = field(default_factory=list)
    gone: "list[Line]" = field(default_factory=list)
    another: str = ""
    machine: str = ""
    contest: "Contest | None" = None
    timed: dict[str, int] = field(default_factory=dict)

    def measure(self, questions: "Sequence[Question]") -> None:
        """Count each case, then time it beside the yardsticks."""
        from attnbench.engine.gate.same_kind import same_kind

        self.seen, env = looked_at(questions, self.channel, self.asked.typed["timeout"], self.tell)
        self.machine = str(env.get("device_name") or env.get("cpu") or "")
        self.another = same_kind(self.baseline.env, env, self.allow)
        self._name()
        if not self.another:
            self._time()

    def _name(self) -> None:
        from attnbench.report.facts import label, varying_facts

        keys = {each.record.key for each in self.seen if each.record is not None}
        self.gone = [line for line in self.baseline.lines if line.case.key not in keys]
        self.seen = [each for each in self.seen if each.record is not None]  # the others are lines that are gone
        records = [*(each.record for each in self.seen if each.record), *map(self._stored, self.gone)]
        facts = varying_facts(records)
        self.names = [label(record, facts) for record in records]
        self.asked.refuse_unused(self.names)

    def _stored(self, line: "Line", like: "Record | None" = None) -> "Record":
        return line.record(self.baseline.env, like)

    def _time(self) -> None:
        from attnbench.engine.gate.contest import Contest
        from attnbench.engine.gate.stored import StoredLauncher, stored_duel

        duels: list[Duel] = []
        for each, name in zip(self.seen, self.names, strict=False):
            line = None if each.case is None else self.baseline.line(each.case)
            if line is not None and line.is_timed:
                self.timed[line.case.key] = len(duels)
                duels.append(stored_duel(name, line, self.asked.thresholds.of(name)))
        launcher = StoredLauncher(self.channel, self.baseline, self.asked.typed["timeout"])
        self.contest = Contest(duels, None, launcher, self.limits, self.tell)
        self.contest.run()

    @property
    def judged(self) -> "Judged":
        """What is known now."""
        from attnbench.report.gate.judged import Judged
        from attnbench.report.gate.verdict import Verdict

        found = [verdict for each, name in zip(self.seen, self.names, strict=False) for verdict in self._of(each, name)]
        gone = [Verdict(line.case.key, name, "", "missing", reason="it is in the baseline, and nobody asked for it")
                for line, name in zip(self.gone, self.names[len(self.seen) :], strict=True)]  # fmt: skip
        made = f"{self.path} ({(self.baseline.git_commit or '')[:7] or self.baseline.written_at})"
        return Judged(
            (*found, *gone), made, "what is there now", self.asked.threshold, self.asked.fail_on,
            self.asked.warn_only, self.machine, "", time.monotonic() - self.begin, (), self.asked.command,
        )  # fmt: skip

    def _of(self, seen: "Seen", name: str) -> "list[Verdict]":
        from attnbench.report.gate.records import exact
        from attnbench.report.gate.timed import timed
        from attnbench.report.gate.verdict import Verdict

        now = seen.record
        assert now is not None
        line = self.baseline.line(now.case)
        if line is None:
            return [Verdict(now.key, name, "", "new", reason="the baseline has no such case", repro=now.repro)]
        threshold, course = self.asked.thresholds.of(name).tolerance, self._course(line)
        if course is not None and course.failed and course.failed.which == 1:
            now = replace(now, status=course.failed.status, reason=course.failed.reason)
        found = exact(self._stored(line, now), now, self.asked.tolerance, name=name, also=["memory.peak_bytes"])
        if line.is_timed and seen.case is not None:
            times = None if course is None else course.times
            found.append(timed(now, name, self._decision(line), times, threshold))
        return found

    def _course(self, line: "Line") -> "Any":
        number = self.timed.get(line.case.key)
        return None if number is None or self.contest is None else self.contest.courses[number]

    def _decision(self, line: "Line") -> "Decision":
        from attnbench.core.sequential import Decision

        course = self._course(line)
        if course is None or self.contest is None:
            return Decision("undecided", None, reason=self.another or "it was interrupted before this was timed")
        return course.decision(self.contest.spread)  # type: ignore[no-any-return]
