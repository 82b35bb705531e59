"""`attnbench list` and `attnbench show`: what there is to measure, and what was measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.commands.terminal import loaded, new_console

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["list_", "show"]


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
    console = new_console()
    console.print(table(specs, console.width))


def show(
    what: Annotated[str, typer.Argument(help="A module's or network's name, or a file of records.")],
    baseline: Annotated[str | None, typer.Option(help="Compare with this one.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="With a file: every note, also how rows were built.")] = False,
) -> None:
    """One module: formula, hyper-parameters, cost formulas, paper; or a results file as a table."""
    console = new_console()
    if what.endswith(".jsonl") or "/" in what or Path(what).is_file():
        _show_file(Path(what), baseline, notes, console)
        return
    from attnbench.report.catalogue import page
    from attnbench.targets.catalogue import find

    console.print(page(find(what), console.width))


def _show_file(path: Path, baseline: str | None, notes: bool, console: "Console") -> None:
    from attnbench.report.compare import require_baseline
    from attnbench.report.table import render

    records = loaded(path)
    if baseline is not None:
        require_baseline(records, baseline)
    console.print(render(records, console.width, baseline=baseline, verbose=notes))
