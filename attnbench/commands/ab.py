"""`attnbench ab A B`: two targets timed against each other, in turns, in the same processes."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.judging import Asked, MaxTime, Threshold
from attnbench.commands.terminal import CANNOT_JUDGE, INTERRUPTED, interruptible, new_console, telling
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.gate.contest import Contest, Limits
    from attnbench.engine.gate.looked_at import Seen
    from attnbench.engine.question import Question
    from attnbench.engine.workers.channels import Channel
    from attnbench.report.ab_table import Compared

__all__ = ["ab"]

First = Annotated[str, typer.Argument(metavar="A", help="self_attn, my_attn.py:MyAttn, vgg16+se, hf:gpt2 ...")]
Second = Annotated[str, typer.Argument(metavar="B", help="Another one, that reads the same.")]
Format = Annotated[str, typer.Option("--format", help="On standard output: table, json.")]


def ab(
    context: typer.Context,
    first: First,
    second: Second,
    res: opt.Res = None,
    img_size: opt.ImgSize = None,
    seq_len: opt.SeqLen = None,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    dtype: opt.Dtype = None,
    device: opt.Device = "auto",
    mode: opt.Mode = None,
    engine: opt.Engine = None,
    backend: opt.Backend = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    threads: opt.GateThreads = None,
    threshold: Threshold = None,
    max_time: MaxTime = None,
    timeout: opt.Timeout = 600.0,
    seed: opt.Seed = 0,
    format_: Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Which of two targets is faster, and by how much: timed in turns, in the same processes.

    Exit code 3 where that cannot be told of all sizes.
    """
    from attnbench.engine.gate.contest import Limits

    if format_ not in ("table", "json"):
        raise UsageError(f"--format {format_!r} is unknown: ab prints table or json.")
    asked = Asked.of(context)
    sitting = _Sitting(asked, (first, second), asked.limits(Limits()))
    with interruptible():
        finished = sitting.measure()
    sitting.tell(format_)
    if not finished:
        return INTERRUPTED
    return CANNOT_JUDGE if any(row.why for row in sitting.rows) else 0


@dataclass(slots=True)
class _Sitting:
    """Two targets, what was seen of them, and how they stand so far."""

    asked: Asked
    names: tuple[str, str]
    limits: "Limits"
    seen: "list[tuple[Seen, Seen]]" = field(default_factory=list)
    contest: "Contest | None" = None
    # Of each pair its number among the duels, None where it is not timed.
    duels: list[int | None] = field(default_factory=list)

    def measure(self) -> bool:
        """Whether that is all; Ctrl-C leaves what is there."""
        from attnbench.engine.gate.twin_launcher import layout
        from attnbench.engine.workers.channels import WorkerChannel

        questions = [self.asked.questions_about(name) for name in self.names]
        quiet = self.asked.typed["quiet"]
        with (
            closing(WorkerChannel(quiet=quiet, env=layout())) as channel,
            telling(quiet=quiet) as say,
        ):
            try:
                self._measure(questions[0], questions[1], channel, say)
            except KeyboardInterrupt:
                return False
        return True

    def _measure(
        self,
        first: "Sequence[Question]",
        second: "Sequence[Question]",
        channel: "Channel",
        say: Callable[[str], None],
    ) -> None:
        from attnbench.engine.gate.contest import Contest
        from attnbench.engine.gate.duel import Duel, Side
        from attnbench.engine.gate.looked_at import look_at
        from attnbench.engine.gate.matching import control_of, on_one_device
        from attnbench.engine.gate.twin_launcher import TwinLauncher
        from attnbench.report.facts import label

        decided, _ = on_one_device([*first, *second], channel)
        timeout = self.asked.typed["timeout"]
        seen = look_at(decided, channel, None, timeout, say)
        for each in seen:
            if each.absent:
                raise UsageError(f"{each.absent}.")
        self.seen = list(zip(seen[: len(first)], seen[len(first) :], strict=True))
        duels: list[Duel] = []
        costs: list[int] = []
        for one, other in self.seen:
            ready = one.case is not None and other.case is not None
            self.duels.append(len(duels) if ready else None)
            if one.case is not None and other.case is not None and one.record is not None:
                duels.append(Duel(label(one.record, ()), Side(one.case), Side(other.case),
                                  self.asked.thresholds.latency, both_ways=True))  # fmt: skip
                costs.append(one.record.value("static.macs") or 0)
        self.contest = Contest(duels, control_of(duels, costs), TwinLauncher(channel, timeout), self.limits, say)
        self.contest.run()

    @property
    def rows(self) -> "list[Compared]":
        """What is known of each size."""
        from attnbench.report.ab_table import Compared

        rows = []
        for (one, other), number in zip(self.seen, self.duels, strict=False):
            assert one.record is not None and other.record is not None  # what is absent was refused
            if number is None or self.contest is None:
                failed = other.record if one.record.ok else one.record
                reason = f"{failed.case.name} is {failed.status}: {failed.reason}"
                rows.append(Compared(one.record, other.record, None, reason=reason))
            else:
                course = self.contest.courses[number]
                decision = course.decision(self.contest.spread)
                rows.append(Compared(one.record, other.record, decision, course.times))
        return rows

    def tell(self, format_: str) -> None:
        from attnbench.report.ab_table import as_json, render_ab

        threshold = self.asked.threshold
        if format_ == "json":
            typer.echo(as_json(self.names, self.rows, threshold), nl=False)
        elif self.rows:
            new_console().print(render_ab(self.names, self.rows, threshold, self._noise()))

    def _noise(self) -> str:
        from attnbench.report.gate.timed import noise_in_words

        return noise_in_words(self.contest.noise) if self.contest else ""
