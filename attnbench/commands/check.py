"""`attnbench check`: the regression gate, against a revision, a stored baseline, or between two files of records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.judging import Asked, MaxTime, Threshold, told
from attnbench.commands.terminal import INTERRUPTED, interruptible, loaded
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.report.gate.judged import Judged

__all__ = ["check"]

BaselineFile = Annotated[
    Path | None, typer.Argument(metavar="[BASELINE]", help="A stored baseline, or records to hold on to (.jsonl).")
]
Candidate = Annotated[Path | None, typer.Argument(metavar="[CANDIDATE]", help="Records of the change (.jsonl).")]
Base = Annotated[str | None, typer.Option(help="A git revision; main... is where HEAD left main.")]
Margin = Annotated[
    str | None, typer.Option(help="A change below it never fails.  [default: a fifth of the threshold, at least 0.8%]")
]
FailOn = Annotated[list[str] | None, typer.Option(help="worse, missing, undecided.  [default: worse,missing]")]
WarnOnly = Annotated[bool | None, typer.Option("--warn-only", help="Exit code 0 whatever is found.")]
Allow = Annotated[
    list[str] | None, typer.Option(help="What may differ from a stored baseline: torch, driver, threads ...")
]
AlwaysTime = Annotated[bool, typer.Option("--always-time", help="Time also what is made of the same code.")]
Out = Annotated[list[Path] | None, typer.Option("--out", "-o", help="FILE.md, .json, .xml (JUnit); repeatable.")]
Format = Annotated[str, typer.Option("--format", help="On standard output: table, markdown, json, junit.")]


def check(
    context: typer.Context,
    baseline: BaselineFile = None,
    candidate: Candidate = None,
    base: Base = None,
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    swap: opt.Swap = None,
    at: opt.At = None,
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
    suite: opt.Suite = None,
    threads: opt.GateThreads = None,
    threshold: Threshold = None,
    margin: Margin = None,
    max_time: MaxTime = None,
    fail_on: FailOn = None,
    warn_only: WarnOnly = None,
    allow: Allow = None,
    always_time: AlwaysTime = False,
    timeout: opt.Timeout = 600.0,
    seed: opt.Seed = 0,
    out: Out = None,
    format_: Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """The regression gate: fails where something got slower, and only then.

    Against another revision of your repository (--base), against a stored baseline, or between two files of records.
    Exit code 0 as good, 1 worse, 3 cannot judge. What is not given is read from [tool.attnbench.check].
    """
    asked = Asked.of(context)
    if candidate is not None:
        assert baseline is not None
        asked.refuse_measuring()
        return told(_of_files(baseline, candidate, asked), asked)
    with interruptible():
        judged, finished = _measured(asked)
    code = told(judged, asked)
    return code if finished else INTERRUPTED


def _of_files(baseline: Path, candidate: Path, asked: Asked) -> "Judged":
    from attnbench.report.gate.judged import Judged
    from attnbench.report.gate.records import judge

    verdicts = judge(loaded(baseline), loaded(candidate), asked.threshold, asked.tolerance)
    return Judged(tuple(verdicts), str(baseline), str(candidate), asked.threshold, asked.fail_on, asked.warn_only,
                  command=asked.command)  # fmt: skip


def _measured(asked: Asked) -> "tuple[Judged, bool]":
    """What was found, and whether that is all: Ctrl-C leaves what is there."""
    if asked.base is not None:
        from attnbench.commands.against_base import against_base

        return against_base(asked)
    if (path := asked.baseline) is not None:
        from attnbench.commands.against_stored import against_stored

        return against_stored(asked, path)
    raise UsageError("check needs something to compare with: --base REF for another revision of this repository, or a "
                     "stored baseline; [tool.attnbench.check] of a pyproject.toml can name either.")  # fmt: skip
