"""The command line: parse, call, print, exit code."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from attnbench import __version__
from attnbench import cli_options as opt
from attnbench.core.errors import AttnbenchError, CannotJudgeError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from attnbench.core.case import Case
    from attnbench.core.record import Record
    from attnbench.core.store import Store
    from attnbench.engine.channels import Channel
    from attnbench.metrics.metric import Options

__all__ = ["app", "main"]

USAGE, CANNOT_JUDGE, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    help="What an attention really costs: parameters, MACs, latency, memory and throughput.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

def main() -> NoReturn:
    """Run the command line; every error that is the user's becomes one sentence and exit code 2, never a traceback."""
    sys.exit(_code())


def _code() -> int:
    try:
        result = app(standalone_mode=False)
    except AttnbenchError as error:
        _say(str(error))
        return CANNOT_JUDGE if isinstance(error, CannotJudgeError) else USAGE
    except (KeyboardInterrupt, EOFError):
        return INTERRUPTED
    except BrokenPipeError:  # `attnbench list | head` is not a mistake
        sys.stderr.close()
        return 0
    except Exception as error:
        # Typer brings its own copy of click's errors in some versions and click itself in others.
        if type(error).__name__ == "Abort":
            return INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        _say(error.format_message())
        return USAGE
    return result if isinstance(result, int) else 0


def _say(message: str) -> None:
    print(f"attnbench: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201


def _listed(values: Sequence[str] | None) -> list[str]:
    """Lists are comma-separated, repeated, or both."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"attnbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def run(
    module: opt.Module = None,
    network: opt.Network = None,
    attn: opt.Attn = None,
    res: opt.Res = None,
    img_size: opt.ImgSize = None,
    seq_len: opt.SeqLen = None,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    dtype: opt.Dtype = None,
    device: opt.Device = "auto",
    mode: opt.Mode = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    metrics: opt.Metrics = None,
    precision_target: opt.PrecisionTarget = "1%",
    max_time: opt.MaxTime = 2.0,
    timeout: opt.Timeout = 600.0,
    threads: opt.Threads = None,
    isolate: opt.Isolate = True,
    baseline: opt.Baseline = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    format_: opt.Format = "table",
    quiet: opt.Quiet = False,
) -> int:
    """Measure modules and networks; keep each record as it comes, and print a table."""
    from attnbench.engine.channels import InlineChannel, WorkerChannel
    from attnbench.engine.sweep import Sweep

    sweep = Sweep(
        modules=_listed(module), networks=_listed(network), attn=_listed(attn), res=_listed(res),
        img_size=_listed(img_size), seq_len=_listed(seq_len), batch_size=_listed(batch_size) or ["1"],
        dim=_listed(dim), heads=_listed(heads), dtype=_listed(dtype) or ["fp32"], mode=_listed(mode) or ["fwd"],
        layout=layout, device=device, settings=set_ or [], seed=seed,
    )  # fmt: skip
    cases = sweep.cases()
    options = _measuring(metrics, precision_target, max_time, timeout, threads)
    _known_format(format_)
    _known_baseline(baseline, cases)
    records_to, exports = _outputs(out or [])
    channel = WorkerChannel(quiet=quiet) if isolate else InlineChannel()
    try:
        store, records, finished = _measure(cases, channel, options, records_to, timeout, quiet)
    finally:
        channel.close()
    _write(records, exports, baseline)
    _print(records, format_, baseline)
    return _farewell(records, [store.path] if store else [], exports, finished)


def _measuring(
    metrics: Sequence[str] | None, precision: str, max_time: float, timeout: float, threads: int | None
) -> "Options":
    from attnbench.metrics.metric import Options, chosen

    names = tuple(_listed(metrics)) or ("all",)
    chosen(names)
    for option, value in (("--max-time", max_time), ("--timeout", timeout)):
        if not 0 < value < 10**7:
            raise UsageError(f"{option} {value:g} is out of range: give seconds above 0.")
    if threads is not None and not 0 < threads <= 4096:
        raise UsageError(f"--threads {threads} is out of range: give 1 or more.")
    return Options(names, _fraction(precision), max_time, threads)


def _fraction(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{text!r} is no fraction: write 1% or 0.01.") from None
    if not 0 < value < 1:
        raise UsageError(f"{text} is out of range: write 1% or 0.01.")
    return value


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
    channel: "Channel",
    options: "Options",
    records_to: Path | None,
    timeout: float,
    quiet: bool,
) -> "tuple[Store | None, list[Record], bool]":
    """Where the records are, the records, and whether all are there: Ctrl-C drops only the case under way."""
    from attnbench.core.store import Store
    from attnbench.engine.session import on_device, resolved
    from attnbench.engine.session import run as measured
    from attnbench.report.screen import watched

    store = None
    records: list[Record] = []
    try:
        with watched(_console(), len(cases), quiet=quiet) as screen:
            ready = resolved(on_device(cases, channel, options), channel, timeout)
            store = Store(records_to or _fresh(Path("results")))
            for name, case in zip([case.name for case in cases], ready, strict=True):
                screen.starting(name)
                for record in measured([case], channel, options, store, timeout):
                    records.append(record)
                    screen.add(record)
    except KeyboardInterrupt:
        return store, records, False
    return store, records, True


def _print(records: "Sequence[Record]", format_: str, baseline: str | None) -> None:
    from attnbench.report.exporters import EXPORTERS
    from attnbench.report.table import render

    if not records:
        return
    if format_ != "table":
        typer.echo(EXPORTERS[format_](records, baseline), nl=False)
        return
    console = _console()
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


@app.command(name="list")
def list_(
    family: Annotated[str | None, typer.Option(help="Only this family: softmax, linear, channel ...")] = None,
    linear: Annotated[bool, typer.Option("--linear", help="Only what claims a cost below N^2.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Modules and networks: name, family, layout, claimed complexity, paper."""
    from attnbench.report.catalogue import as_json, chosen, table
    from attnbench.targets.catalogue import catalogue

    specs = chosen(catalogue(), family, below_quadratic=linear)
    if json_:
        typer.echo(as_json(specs))
        return
    console = _console()
    console.print(table(specs, console.width))


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A module's or network's name, or a file of records.")],
    baseline: Annotated[str | None, typer.Option(help="Compare with this one.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="With a file: every note, also how rows were built.")] = False,
) -> None:
    """One module: formula, hyper-parameters, cost formulas, paper; or a results file as a table."""
    console = _console()
    if what.endswith(".jsonl") or "/" in what or Path(what).is_file():
        _show_file(Path(what), baseline, notes, console)
        return
    from attnbench.report.catalogue import page
    from attnbench.targets.catalogue import find

    console.print(page(find(what), console.width))


def _show_file(path: Path, baseline: str | None, notes: bool, console: "Console") -> None:
    from attnbench.report.compare import require_baseline
    from attnbench.report.table import render

    records = _loaded(path)
    if baseline is not None:
        require_baseline(records, baseline)
    console.print(render(records, console.width, baseline=baseline, verbose=notes))


def _loaded(path: Path) -> "tuple[Record, ...]":
    """The records of a file; lines that are none are named on standard error."""
    from attnbench.core.store import load

    loaded = load(path)
    for sentence in loaded.set_aside:
        typer.echo(f"{path}: {sentence}", err=True)
    return loaded.records


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A file of records (.jsonl).")],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="FILE.md, .csv, .json, .jsonl; repeatable.")],
) -> None:
    """Records to other formats."""
    from attnbench.report.exporters import export as write

    records = _loaded(source)
    for path in out:
        write(records, path)
        typer.echo(f"{len(records)} records in {path}", err=True)


@app.command()
def check(
    baseline: Annotated[Path, typer.Argument(help="Records to hold on to (.jsonl).")],
    candidate: Annotated[Path, typer.Argument(help="Records of the change (.jsonl).")],
    threshold: Annotated[str, typer.Option(help="Slower by less than this is no regression.")] = "5%",
) -> int:
    """The regression gate between two files: 0 as good, 1 worse, 3 cannot judge."""
    from attnbench.report.gate import exit_code, judge
    from attnbench.report.gate_table import render_verdicts

    verdicts = judge(_loaded(baseline), _loaded(candidate), _fraction(threshold))
    console = _console()
    console.print(render_verdicts(verdicts, console.width))
    return exit_code(verdicts)
