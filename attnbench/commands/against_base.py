"""`attnbench check --base REF`: the working tree and another revision of it, measured side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.commands.judging import Asked
from attnbench.commands.terminal import telling
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.gate.contest import Contest, Course, Limits
    from attnbench.engine.gate.duel import Duel
    from attnbench.engine.gate.matching import Matched
    from attnbench.engine.gate.revisions import Revision
    from attnbench.engine.question import Question
    from attnbench.engine.workers.channels import Channel
    from attnbench.report.gate.judged import Judged
    from attnbench.report.gate.verdict import Verdict

__all__ = ["against_base"]

Tell = Callable[[str], None]
_Version = Mapping[str, Any]


def against_base(asked: Asked) -> "tuple[Judged, bool]":
    """What was found, and whether that is all: Ctrl-C leaves what is there.

    Raises:
        UsageError: there is no such revision, or a target is nowhere.
    """
    from attnbench.engine.gate.contest import Limits
    from attnbench.engine.gate.revisions import checked_out, repository
    from attnbench.engine.gate.twin_launcher import layout
    from attnbench.engine.workers.channels import WorkerChannel

    questions, limits, top = asked.questions, asked.limits(Limits()), repository(Path.cwd())
    assert asked.base is not None
    with (
        checked_out(top, asked.base) as revision,
        closing(WorkerChannel(quiet=asked.typed["quiet"], env=layout())) as channel,
        telling(quiet=asked.typed["quiet"]) as tell,
    ):
        sitting = _Sitting(asked, limits, top, revision, channel, tell)
        try:
            sitting.measure(questions)
        except KeyboardInterrupt:
            return sitting.judged, False
        return sitting.judged, True


@dataclass(slots=True)
class _Sitting:
    """One check: what it is to do, and what came of it so far."""

    asked: Asked
    limits: "Limits"
    top: Path
    revision: "Revision"
    channel: "Channel"
    tell: Tell
    begin: float = field(default_factory=time.monotonic)
    pairs: "list[Matched]" = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    contest: "Contest | None" = None
    # Of each pair its number among the duels, None where it is not timed; and those that are made of the same code.
    duels: list[int | None] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    machine: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def head(self) -> _Version:
        """The working tree."""
        return {"top": str(self.top), "root": str(self.top)}

    @property
    def base(self) -> _Version:
        """The revision, laid out elsewhere."""
        return {"top": str(self.top), "root": str(self.revision.root)}

    def measure(self, questions: "Sequence[Question]") -> None:
        """Look at both sides of each case, then time them against each other."""
        from attnbench.engine.gate.matching import on_one_device

        decided, env = on_one_device(questions, self.channel)
        self.machine = str(env.get("device_name") or env.get("cpu") or "")
        self._look(decided)
        self._time()

    def _look(self, questions: "Sequence[Question]") -> None:
        from attnbench.engine.gate.looked_at import look_at
        from attnbench.engine.gate.matching import matched, vanished
        from attnbench.engine.gate.revisions import changed_files
        from attnbench.report.facts import label, varying_facts
        from attnbench.targets.trees import Trees

        timeout = self.asked.typed["timeout"]
        after = look_at(questions, self.channel, self.head, timeout, self.tell)
        self.channel.fresh()  # the base finds nothing of the working tree's in its process
        before = look_at(questions, self.channel, self.base, timeout, self.tell)
        gone = vanished(questions, self._suite_of_base(), Trees(self.top, self.revision.root).put_back)
        self.pairs = matched(before, after, gone)
        records = [pair.records[0] for pair in self.pairs]
        facts = varying_facts([record for pair in self.pairs for record in pair.records])
        self.names = [label(record, facts) for record in records]
        self.asked.refuse_unused(self.names)
        written = {path.resolve() for path in self.asked.out}  # by the check itself, the last time
        changed = [path for path in changed_files(self.top, self.revision.commit) if self.top / path not in written]
        self.same = [not self.asked.typed["always_time"] and pair.same_code(changed) for pair in self.pairs]

    def _suite_of_base(self) -> "Sequence[Question]":
        """What the base's own suite asks; nothing where the suite is no file of the repository, or cannot be read."""
        suite = self.asked.suite
        path = None if suite is None else Path(suite).absolute()
        if path is None or path.suffix != ".toml" or not path.is_relative_to(self.top):
            return []
        there = self.revision.root / path.relative_to(self.top)
        if not there.exists():
            return []
        try:
            return self.asked.questions_of(str(there))
        except UsageError as error:
            self.remarks.append(f"The suite of the base cannot be read, so that cases it had are not missed: {error}")
            return []

    def _time(self) -> None:
        from attnbench.engine.gate.contest import Contest
        from attnbench.engine.gate.matching import control_of, failing
        from attnbench.engine.gate.twin_launcher import TwinLauncher

        duels: list[Duel] = []
        costs: list[int] = []
        for pair, name, same in zip(self.pairs, self.names, self.same, strict=True):
            duel = None if same else pair.duel(name, self.asked.thresholds.of(name), self.base)
            self.duels.append(None if duel is None else len(duels))
            if duel is not None:
                duels.append(duel)
                costs.append(pair.records[0].value("static.macs") or 0)
        launcher = TwinLauncher(self.channel, self.asked.typed["timeout"])
        self.contest = Contest(duels, control_of(duels, costs), launcher, self.limits, self.tell)
        try:
            self.contest.run()
        finally:
            self.remarks += [
                f"{name}: both versions cannot share a process ({why}); they took turns in processes of their own, "
                "which tells less." for name, why in launcher.apart.items()
            ]  # fmt: skip
        for number, (pair, duel_number) in enumerate(zip(self.pairs, self.duels, strict=True)):
            if duel_number is not None and (failed := self.contest.courses[duel_number].failed):
                self.pairs[number] = failing(pair, failed)

    @property
    def judged(self) -> "Judged":
        """What is known now."""
        from attnbench.engine.gate.revisions import head_in_words
        from attnbench.report.gate.judged import Judged
        from attnbench.report.gate.timed import noise_in_words

        noise = noise_in_words(self.contest.noise) if self.contest else ""
        return Judged(
            tuple(found for number in range(len(self.pairs)) for found in self._verdicts(number)),
            f"{self.revision.ref} ({self.revision.commit[:7]})", head_in_words(self.top), self.asked.threshold,
            self.asked.fail_on, self.asked.warn_only, self.machine, noise, time.monotonic() - self.begin,
            (*self.revision.remarks, *self.remarks), self.asked.command,
        )  # fmt: skip

    def _verdicts(self, number: int) -> "list[Verdict]":
        from attnbench.report.gate.records import exact
        from attnbench.report.gate.timed import not_timed, timed
        from attnbench.report.gate.verdict import Verdict

        pair, name = self.pairs[number], self.names[number]
        first = pair.records[0]
        if pair.candidate is None or pair.candidate.record is None:
            why = pair.candidate.absent if pair.candidate else "the suite of the working tree has no such case"
            return [Verdict(first.key, name, "", "missing", reason=why)]
        if pair.baseline is None or pair.baseline.record is None:
            broken = pair.baseline is not None and pair.baseline.broken
            why = pair.baseline.absent if pair.baseline else ""
            return [Verdict(first.key, name, "", "undecided" if broken else "new", repro=first.repro,
                            reason=f"the base cannot be loaded: {why}" if broken else why)]  # fmt: skip
        found = exact(pair.baseline.record, pair.candidate.record, self.asked.tolerance, name=name,
                      also=["memory.peak_bytes"])  # fmt: skip
        threshold = self.asked.thresholds.of(name).tolerance
        if self.same[number]:
            found.append(not_timed(first, name, threshold))
        elif (course := self._course(number)) is not None and self.contest is not None and not course.broken:
            found.append(timed(first, name, course.decision(self.contest.spread), course.times, threshold))
        place = self._place(first.case.target)
        return [replace(each, **place) for each in found]

    def _course(self, number: int) -> "Course | None":
        which = self.duels[number] if number < len(self.duels) else None
        return None if which is None or self.contest is None else self.contest.courses[which]

    def _place(self, target: str) -> dict[str, Any]:
        from attnbench.targets.names import split

        source, file, _ = split(target)
        path = Path(file).resolve()
        return {"file": str(path.relative_to(self.top))} if source == "file" and path.is_relative_to(self.top) else {}
