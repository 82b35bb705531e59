"""`attnbench export` and `attnbench check`: what is done with records that are there."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands import options as opt
from attnbench.commands.terminal import loaded, new_console

__all__ = ["check", "export"]


def export(
    source: Annotated[Path, typer.Argument(help="A file of records (.jsonl).")],
    out: Annotated[list[Path], typer.Option("--out", "-o", help="FILE.md, .csv, .json, .jsonl; repeatable.")],
) -> None:
    """Records to other formats."""
    from attnbench.report.exporters import export as write

    records = loaded(source)
    for path in out:
        write(records, path)
        typer.echo(f"{len(records)} records in {path}", err=True)


def check(
    baseline: Annotated[Path, typer.Argument(help="Records to hold on to (.jsonl).")],
    candidate: Annotated[Path, typer.Argument(help="Records of the change (.jsonl).")],
    threshold: Annotated[str, typer.Option(help="Slower by less than this is no regression.")] = "5%",
) -> int:
    """The regression gate between two files of records.

    Exit code 0 as good, 1 worse, 3 cannot judge.
    """
    from attnbench.report.gate.records import judge
    from attnbench.report.gate.screen import render_verdicts
    from attnbench.report.gate.verdict import exit_code

    verdicts = judge(loaded(baseline), loaded(candidate), opt.fraction(threshold))
    console = new_console()
    console.print(render_verdicts(verdicts, console.width))
    return exit_code(verdicts)
