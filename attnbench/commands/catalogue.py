"""`attnbench list` and `attnbench show`: what there is to measure, what was measured, and where the MACs are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import loaded, new_console
from attnbench.core.errors import UsageError
from attnbench.core.record import Record

if TYPE_CHECKING:
    from rich.console import Console

    from attnbench.report.breakdown import Way

__all__ = ["list_", "show"]

_COUNTERS = ("params", "macs", "backward_macs")
# Seconds of silence after which a module that is counted is given up.
_PATIENCE = 600.0


def list_(
    family: Annotated[opt.Many, typer.Option(help="Only these: softmax,linear,low_rank ...")] = None,
    linear: Annotated[bool, typer.Option("--linear", help="Only what claims a cost below N^2.")] = False,
    causal: Annotated[bool, typer.Option("--causal", help="Only what is causal, or can be.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Modules and networks, what they claim, and their papers."""
    from attnbench.report.catalogue import as_json, chosen, table
    from attnbench.targets.catalogue import offered

    specs = chosen(offered(), opt.listed(family), below_quadratic=linear, causal=causal)
    if json_:
        typer.echo(as_json(specs))
        return
    console = new_console()
    console.print(table(specs, console.width))


def show(
    what: Annotated[str, typer.Argument(help="A module or network, your own too with --by; or a file of records.")],
    by: Annotated[str | None, typer.Option(help="Where the MACs are, as a tree: op or module.")] = None,
    depth: Annotated[int | None, typer.Option(help="With --by module: no deeper than this.")] = None,
    baseline: Annotated[str | None, typer.Option(help="With a file: compare with this one.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="With a file: every note, also how rows were built.")] = False,
    res: opt.Res = None,
    img_size: Annotated[opt.Many, typer.Option(help="Of a network; an own target is taken for one.")] = None,
    seq_len: opt.SeqLen = None,
    batch_size: opt.BatchSize = None,
    dim: opt.Dim = None,
    heads: opt.Heads = None,
    mode: opt.Mode = None,
    layout: opt.Layout = "auto",
    set_: opt.Set = None,
    device: opt.Device = "auto",
) -> None:
    """One module, or a file of records; with --by, where the MACs are.

    A module: formula, arguments, cost formulas, paper, figures. A file: its table.
    """
    console = new_console()
    way = _way(by, depth)
    from_file = _is_records(what)
    fields = {"res": opt.listed(res), "img_size": opt.listed(img_size), "seq_len": opt.listed(seq_len),
              "batch_size": opt.listed(batch_size), "dim": opt.listed(dim), "heads": opt.listed(heads),
              "mode": opt.listed(mode), "settings": set_, "layout": layout, "device": device}  # fmt: skip
    given = {name: value for name, value in fields.items() if value and value != "auto"}
    _only_with_a_count(list(given), way, from_file)
    if from_file:
        _show_file(Path(what), way, depth, baseline, notes, console)
    elif way is None:
        _show_page(what, console)
    else:
        _print_breakdowns(_counted(what, given), way, depth, console)


def _way(by: str | None, depth: int | None) -> "Way | None":
    from attnbench.core.registry import did_you_mean
    from attnbench.report.breakdown import WAYS

    if depth is not None and by != "module":
        raise UsageError("--depth is for --by module: operators have no depth.")
    if depth is not None and depth < 1:
        raise UsageError(f"--depth {depth} is out of range: give 1 or more.")
    found = next((way for way in WAYS if way == by), None)
    if by is not None and found is None:
        raise UsageError(f"--by {by!r} is unknown.{did_you_mean(by, WAYS)} Known: {', '.join(WAYS)}.")
    return found


def _is_records(what: str) -> bool:
    """Whether the text names a file of records, and not a module in a Python file."""
    if what.endswith(".py") or ".py:" in what or set("+~") & set(Path(what).name[1:]):
        return False
    return what.endswith(".jsonl") or "/" in what or Path(what).is_file()


def _only_with_a_count(given: Sequence[str], way: "Way | None", from_file: bool) -> None:
    if given and (way is None or from_file):
        where = "records have their own" if from_file else "it goes with --by op or --by module"
        option = {"settings": "--set"}.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UsageError(f"{option} is for a target that is counted: {where}.")


def _show_page(what: str, console: "Console") -> None:
    from attnbench.report.catalogue import page
    from attnbench.targets.catalogue import find

    if ":" in what or what.endswith(".py") or set("+~") & set(what):
        raise UsageError(f"{what} has no page, only what is built in has: count it with --by op or --by module.")
    console.print(page(find(what), console.width))


def _show_file(
    path: Path, way: "Way | None", depth: int | None, baseline: str | None, notes: bool, console: "Console"
) -> None:
    from attnbench.report.compare import require_baseline
    from attnbench.report.table import render

    records = loaded(path)
    if way is not None:
        _print_breakdowns(records, way, depth, console)
        return
    if baseline is not None:
        require_baseline(records, baseline)
    console.print(render(records, console.width, baseline=baseline, verbose=notes))


def _print_breakdowns(records: "Sequence[Record]", way: "Way", depth: int | None, console: "Console") -> None:
    from attnbench.report.breakdown import render_breakdowns

    console.print(render_breakdowns(records, way, console.width, depth))


def _counted(target: str, given: Mapping[str, Any]) -> "list[Record]":
    """The target counted at each size asked for, as `run` would count it."""
    from attnbench.engine.asking import measured, on_device, resolved
    from attnbench.engine.sweep import Sweep
    from attnbench.engine.workers.channels import WorkerChannel
    from attnbench.metrics.metric import Options

    modules, networks = opt.by_kind(opt.listed([target]))
    if "img_size" in given:  # nothing else tells a network of one's own from a module
        modules, networks = [], [*networks, *modules]
    cases = Sweep(modules=modules, networks=networks, **given).cases()
    options = Options(metrics=_COUNTERS)
    channel = WorkerChannel(quiet=True)
    try:
        ready = resolved(on_device(cases, channel, options), channel, _PATIENCE)
        return [case if isinstance(case, Record) else measured(case, channel, options, _PATIENCE) for case in ready]
    finally:
        channel.close()
