"""`attnbench run`: measure, keep each record as it comes, print a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from attnbench.commands import options as opt
from attnbench.commands.dry_run import dry_run as forecast
from attnbench.commands.planned import for_these, planned, typed_with, wanted
from attnbench.commands.sitting import Sitting, measure
from attnbench.commands.terminal import INTERRUPTED, interruptible, new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.question import Question

__all__ = ["RunCommand", "run"]


class RunCommand(TyperCommand):
    """`--isolate` may stand alone, as in `--isolate/--no-isolate`, and then means a worker."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        whole = [
            "--isolate=worker" if word == "--isolate" and follower.startswith("-") else word
            for word, follower in zip(args, [*args[1:], "-"], strict=False)  # none of none
        ]
        return super().parse_args(ctx, whole)


def run(
    context: typer.Context,
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    swap: opt.Swap = None,
    at: opt.At = None,
    res: opt.Res = None,
    img_size: opt.ImgSize = None,
    seq_len: opt.SeqLen = None,
    batch_size: opt.BatchSizeOrAuto = None,
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
    metrics: opt.Metrics = None,
    precision_target: opt.PrecisionTarget = "1%",
    max_time: opt.MaxTime = 2.0,
    processes: opt.Processes = 1,
    keep_samples: opt.KeepSamples = False,
    subtract_idle: opt.SubtractIdle = False,
    timeout: opt.Timeout = 600.0,
    threads: opt.Threads = None,
    mem_limit: opt.MemLimit = None,
    isolate: opt.Isolation = "worker",
    no_isolate: opt.NoIsolate = False,
    executor: opt.Executor = "local",
    devices: opt.Devices = None,
    address: opt.Address = None,
    baseline: opt.Baseline = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    resume: opt.Resume = False,
    retry: opt.Retry = None,
    dry_run: opt.DryRun = False,
    format_: opt.Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Measure modules and networks. Each record is kept as it comes; a table is printed at the end."""
    who = wanted(executor, opt.listed(devices), device, address, isolate, no_isolate, quiet)
    questions = planned(typed_with(context), who)
    _known_format(format_)
    _known_baseline(baseline, questions)
    records_to, exports = _outputs(out or [])
    again = _resumable(records_to, opt.listed(retry), resume=resume)
    sitting = Sitting(
        questions, executor, for_these(who, questions), timeout, records_to, exports, format_, baseline,
        resume=resume, retry=again, quiet=quiet,
    )  # fmt: skip
    if dry_run:
        return forecast(sitting)
    with interruptible():
        try:
            measure(sitting)
        finally:  # also where the disk is full, or nobody is left to measure
            try:
                _print(sitting)
            finally:  # also where nobody reads the table, as behind `| head`
                _write(sitting)
    return _farewell(sitting)


def _known_format(name: str) -> None:
    from attnbench.report.exporters import EXPORTERS

    if name != "table":
        EXPORTERS[name]


def _known_baseline(name: str | None, questions: "Sequence[Question]") -> None:
    from attnbench.core.registry import did_you_mean

    names = dict.fromkeys(question.case.name for question in questions)
    if name is not None and name not in names:
        raise UsageError(f"--baseline {name!r} is not among what is measured: {', '.join(names)}."
                         f"{did_you_mean(name, names)}")  # fmt: skip


def _outputs(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The file that records are appended to as they come, if one was named, and those that are written at the end."""
    from attnbench.report.exporters import check_writable

    for path in paths:
        check_writable(path)
    stores = [path for path in paths if path.suffix == ".jsonl"]
    exports = [path for path in paths if path.suffix != ".jsonl"]
    if len(stores) > 1:
        raise UsageError(f"records go to one .jsonl file, not to both {stores[0]} and {stores[1]}.")
    return stores[0] if stores else None, exports


def _resumable(records_to: Path | None, retry: Sequence[str], *, resume: bool) -> tuple[str, ...]:
    """The statuses that are tried again, once it is known what is gone on with."""
    from attnbench.core.record import STATUSES
    from attnbench.core.registry import did_you_mean

    if resume and records_to is None:
        raise UsageError("--resume goes on with a file of records: name it with --out FILE.jsonl.")
    if retry and not resume:
        raise UsageError(f"--retry {','.join(retry)} is about rows that a file has already: add --resume.")
    for status in retry:
        if status not in STATUSES:
            raise UsageError(f"--retry {status!r} is no status.{did_you_mean(status, STATUSES)} Known: "
                             f"{', '.join(STATUSES)}.")  # fmt: skip
    return tuple(retry)


def _print(sitting: Sitting) -> None:
    from attnbench.report.exporters import EXPORTERS
    from attnbench.report.table import render

    if not sitting.records:
        return
    if sitting.format != "table":
        typer.echo(EXPORTERS[sitting.format](sitting.records, sitting.baseline), nl=False)
        return
    console = new_console()
    console.print(render(sitting.records, console.width, baseline=sitting.baseline))


def _write(sitting: Sitting) -> None:
    from attnbench.report.exporters import export

    for path in sitting.exports if sitting.records else ():
        export(sitting.records, path, sitting.baseline)


def _farewell(sitting: Sitting) -> int:
    """Say where the records are; the exit code."""
    count = len(sitting.records)
    if count:
        stores = [sitting.store.path] if sitting.store else []
        where = ", ".join(map(str, [*stores, *sitting.exports]))
        before = f", {sitting.kept} of them from before" if sitting.kept else ""
        typer.echo(f"{count} record{'s' if count > 1 else ''} in {where}{before}", err=True)
    if sitting.finished:
        return 0
    typer.echo("attnbench: interrupted; what was measured is kept.", err=True)
    return INTERRUPTED
