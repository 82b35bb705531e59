"""`attnbench export`: records to other formats."""

from pathlib import Path
from typing import Annotated

import typer

from attnbench.commands.terminal import loaded

__all__ = ["export"]


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
