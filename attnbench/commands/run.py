"""`attnbench run`: measure, keep each record as it comes, print a table."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from attnbench.commands import options as opt
from attnbench.commands.dry_run import dry_run as forecast
from attnbench.commands.planned import for_these, planned, wanted
from attnbench.commands.terminal import INTERRUPTED, interruptible, new_console, say_set_aside
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.core.record import Record
    from attnbench.core.store import Store
    from attnbench.engine.executors.executor import Wanted
    from attnbench.engine.question import Question
    from attnbench.report.screen import Screen

__all__ = ["RunCommand", "run"]


class RunCommand(TyperCommand):
    """`--isolate` may stand alone, as in `--isolate/--no-isolate`, and then means a worker."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        whole = [
            "--isolate=worker" if word == "--isolate" and follower.startswith("-") else word
            for word, follower in zip(args, [*args[1:], "-"], strict=True)
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
    dry_run: opt.DryRun = False,
    format_: opt.Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Measure modules and networks. Each record is kept as it comes; a table is printed at the end."""
    who = wanted(executor, opt.listed(devices), device, address, isolate, no_isolate, quiet)
    questions = planned(_typed(context), who)
    _known_format(format_)
    _known_baseline(baseline, questions)
    records_to, exports = _outputs(out or [])
    _resumable(records_to, resume=resume)
    sitting = Sitting(questions, executor, for_these(who, questions), records_to, timeout, resume=resume, quiet=quiet)
    if dry_run:
        return forecast(sitting, format_)
    with interruptible():
        try:
            _measure(sitting)
        finally:  # also where the disk is full, or nobody is left to measure
            _print(sitting.records, format_, baseline)
            _write(sitting.records, exports, baseline)
    return _farewell(sitting, exports)


@dataclass(slots=True)
class Sitting:
    """What a run is to do, and what came of it so far."""

    questions: "Sequence[Question]"
    executor: str
    wanted: "Wanted"
    records_to: Path | None
    timeout: float
    resume: bool
    quiet: bool
    records: "list[Record]" = field(default_factory=list)
    kept: int = 0
    store: "Store | None" = None
    finished: bool = False


def _typed(context: typer.Context) -> dict[str, Any]:
    """All options, and under `given` the names of those that stood on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return {**context.params, "given": given}


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


def _resumable(records_to: Path | None, *, resume: bool) -> None:
    if resume and records_to is None:
        raise UsageError("--resume goes on with a file of records: name it with --out FILE.jsonl.")


def _fresh(folder: Path) -> Path:
    """A name in the folder that no earlier run has taken."""
    stem = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = (folder / f"{stem}{suffix}.jsonl" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in names if not path.exists())


def _measure(sitting: Sitting) -> None:
    """Take one record after the other; Ctrl-C drops only the cases under way."""
    from attnbench.core.store import Store
    from attnbench.core.writers import writing
    from attnbench.engine.executors.executor import EXECUTORS
    from attnbench.engine.session import prepared
    from attnbench.report.screen import watched

    with ExitStack() as stack:
        try:
            if sitting.records_to is not None:
                stack.enter_context(writing(sitting.records_to, alone=sitting.resume))
            screen = stack.enter_context(watched(new_console(), len(sitting.questions), quiet=sitting.quiet))
            lanes = stack.enter_context(EXECUTORS[sitting.executor](sitting.wanted))
            crew = stack.enter_context(_crew(lanes, sitting, screen))
            session = prepared(sitting.questions, crew, sitting.records_to if sitting.resume else None)
            say_set_aside(sitting.records_to, session.set_aside)
            sitting.store = Store(sitting.records_to or _fresh(Path("results")))
            sitting.records += session.kept
            sitting.kept = len(session.kept)
            screen.skipped(sitting.kept)
            for record in session.records(crew, sitting.store):
                sitting.records.append(record)
                screen.add(record)
            sitting.finished = True
        except KeyboardInterrupt:
            pass


def _crew(lanes: Sequence[Any], sitting: Sitting, screen: "Screen") -> Any:
    from contextlib import closing

    from attnbench.engine.crew import Crew

    several = len(lanes) > 1
    return closing(Crew(lanes, sitting.timeout, lambda lane, what: screen.starting(what, lane if several else ""),
                        each_fresh=sitting.wanted.isolation == "case"))  # fmt: skip


def _print(records: "Sequence[Record]", format_: str, baseline: str | None) -> None:
    from attnbench.report.exporters import EXPORTERS
    from attnbench.report.table import render

    if not records:
        return
    if format_ != "table":
        typer.echo(EXPORTERS[format_](records, baseline), nl=False)
        return
    console = new_console()
    console.print(render(records, console.width, baseline=baseline))


def _write(records: "Sequence[Record]", exports: Sequence[Path], baseline: str | None) -> None:
    from attnbench.report.exporters import export

    for path in exports if records else ():
        export(records, path, baseline)


def _farewell(sitting: Sitting, exports: Sequence[Path]) -> int:
    """Say where the records are; the exit code."""
    count = len(sitting.records)
    if count:
        stores = [sitting.store.path] if sitting.store else []
        where = ", ".join(map(str, [*stores, *exports]))
        before = f", {sitting.kept} of them from before" if sitting.kept else ""
        typer.echo(f"{count} record{'s' if count > 1 else ''} in {where}{before}", err=True)
    if sitting.finished:
        return 0
    typer.echo("attnbench: interrupted; what was measured is kept.", err=True)
    return INTERRUPTED
