"""`attnbench run`: measure, keep each record as it comes, print a table."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import INTERRUPTED, new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.core.case import Case
    from attnbench.core.record import Record
    from attnbench.core.store import Store
    from attnbench.engine.channels import Channel
    from attnbench.engine.session import Tell
    from attnbench.metrics.metric import Options
    from attnbench.report.screen import Screen

__all__ = ["run"]


def run(
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
    metrics: opt.Metrics = None,
    precision_target: opt.PrecisionTarget = "1%",
    max_time: opt.MaxTime = 2.0,
    processes: opt.Processes = 1,
    keep_samples: opt.KeepSamples = False,
    subtract_idle: opt.SubtractIdle = False,
    timeout: opt.Timeout = 600.0,
    threads: opt.Threads = None,
    isolate: opt.Isolate = True,
    baseline: opt.Baseline = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    format_: opt.Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Measure modules and networks. Each record is kept as it comes; a table is printed at the end."""
    from attnbench.engine.channels import InlineChannel, WorkerChannel
    from attnbench.engine.processes import check
    from attnbench.engine.sweep import Sweep

    sweep = Sweep(
        modules=opt.listed(module), networks=opt.listed(network), attn=opt.listed(attn),
        swap=opt.listed(swap), at=opt.listed(at), res=opt.listed(res),
        img_size=opt.listed(img_size), seq_len=opt.listed(seq_len), batch_size=opt.listed(batch_size) or ["1"],
        dim=opt.listed(dim), heads=opt.listed(heads), dtype=opt.listed(dtype) or ["fp32"],
        mode=opt.listed(mode) or ["fwd"], engine=opt.listed(engine) or ["eager"], backend=opt.listed(backend),
        layout=layout, device=device, settings=set_ or [], seed=seed,
    )  # fmt: skip
    cases = sweep.at_first_batch().cases()
    options = opt.measuring(opt.listed(metrics), precision_target, max_time, timeout, threads)
    options = replace(options, processes=processes, keep_samples=keep_samples, subtract_idle=subtract_idle)
    check(options, isolate=isolate)
    _known_format(format_)
    _known_baseline(baseline, cases)
    records_to, exports = _outputs(out or [])
    channel = WorkerChannel(quiet=quiet) if isolate else InlineChannel()
    try:
        store, records, finished = _measure(cases, sweep.seeks_batch, channel, options, records_to, timeout, quiet)
    finally:
        channel.close()
    _write(records, exports, baseline)
    _print(records, format_, baseline)
    return _farewell(records, [store.path] if store else [], exports, finished)


def _known_format(name: str) -> None:
    from attnbench.report.exporters import EXPORTERS

    if name != "table":
        EXPORTERS[name]


def _known_baseline(name: str | None, cases: "Sequence[Case]") -> None:
    from attnbench.core.registry import did_you_mean

    names = dict.fromkeys(case.name for case in cases)
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


def _fresh(folder: Path) -> Path:
    """A name in the folder that no earlier run has taken."""
    stem = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = (folder / f"{stem}{suffix}.jsonl" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in names if not path.exists())


def _measure(
    cases: "Sequence[Case]",
    seeks_batch: bool,
    channel: "Channel",
    options: "Options",
    records_to: Path | None,
    timeout: float,
    quiet: bool,
) -> "tuple[Store | None, list[Record], bool]":
    """Where the records are, the records, and whether all are there: Ctrl-C drops only the case under way."""
    from attnbench.core.store import Store
    from attnbench.engine.batch import at_best_batch
    from attnbench.engine.session import on_device, replicated, resolved
    from attnbench.engine.session import run as measured
    from attnbench.report.screen import watched

    store = None
    records: list[Record] = []
    try:
        with watched(new_console(), len(cases), quiet=quiet) as screen:
            ready = resolved(on_device(cases, channel, options), channel, timeout)
            store = Store(records_to or _fresh(Path("results")))
            for name, case in zip([case.name for case in cases], ready, strict=True):
                screen.starting(name)
                measure = partial(at_best_batch if seeks_batch else replicated, tell=_steps_of(name, screen))
                for record in measured([case], channel, options, store, timeout, measure):
                    records.append(record)
                    screen.add(record)
    except KeyboardInterrupt:
        return store, records, False
    return store, records, True


def _steps_of(name: str, screen: "Screen") -> "Tell":
    """Say which step of which case is on: `self_attn, process 2 of 5`."""
    return lambda what: screen.starting(f"{name}, {what}")


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


def _farewell(records: "Sequence[Record]", stores: Sequence[Path], exports: Sequence[Path], finished: bool) -> int:
    """Say where the records are; the exit code."""
    if records:
        where = ", ".join(map(str, [*stores, *exports]))
        typer.echo(f"{len(records)} record{'s' if len(records) > 1 else ''} in {where}", err=True)
    if finished:
        return 0
    typer.echo("attnbench: interrupted; what was measured is kept.", err=True)
    return INTERRUPTED
