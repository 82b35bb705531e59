"""Suites for people and scripts: the list of those there are, and what one of them asks, grid by grid."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.core.case import Case

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["AskedGrid", "AskedSuite", "as_json", "render_list", "render_suite"]


@dataclass(frozen=True, slots=True)
class AskedGrid:
    """A grid: its cases, and for each way of measuring how many cases are measured so."""

    name: str
    description: str
    cases: Sequence[Case]
    ways: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AskedSuite:
    name: str
    description: str
    grids: Sequence[AskedGrid]

    @property
    def count(self) -> int:
        return sum(len(grid.cases) for grid in self.grids)


def as_json(suites: Sequence[AskedSuite]) -> str:
    """Name, description, number of cases, and that of each grid."""
    return json.dumps(
        [
            {
                "name": suite.name,
                "description": suite.description,
                "cases": suite.count,
                "grids": {grid.name: len(grid.cases) for grid in suite.grids},
            }
            for suite in suites
        ],
        indent=2,
    )


def render_list(suites: Sequence[AskedSuite]) -> "RenderableType":
    """A line for each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    drawn.add_column("Suite", no_wrap=True)
    drawn.add_column("Cases", no_wrap=True, justify="right")
    drawn.add_column("What it is for")
    for suite in suites:
        drawn.add_row(Text(suite.name), Text(f"{suite.count:,}"), Text(suite.description))
    return drawn


def render_suite(suite: AskedSuite) -> "RenderableType":
    """What it asks: of each grid its lists, and how it is measured."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(suite.name, style="bold")]
    parts += [Text(suite.description)] if suite.description else []
    for grid in suite.grids:
        parts += [Text(), *_drawn(grid)]
    return Group(*parts, Text(), Text(f"{_cases(suite.count)} in {_counted(len(suite.grids), 'grid')}"))


def _drawn(grid: AskedGrid) -> "Iterator[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    yield Text.assemble((grid.name, "bold"), f": {_cases(len(grid.cases))}")
    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for heading, text in _lines(grid):
        lines.add_row(Text(heading), Text(text))
    yield lines


def _lines(grid: AskedGrid) -> Iterator[tuple[str, str]]:
    if grid.description:
        yield "About", grid.description
    for heading, usual, of in _FACTS:
        values = dict.fromkeys(value for case in grid.cases if (value := of(case)) is not None)
        if values and list(values) != [usual]:
            yield heading, ", ".join(values)
    for way, count in grid.ways.items():
        yield "Measured", way if len(grid.ways) == 1 else f"{way} ({_cases(count)})"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _size(kind: str, case: Case) -> str | None:
    return case.size if case.kind == kind and case.size != "None" else None


# What is told of the cases of a grid, and the value that goes without saying where all have it.
_FACTS: Sequence[tuple[str, str, Callable[[Case], str | None]]] = (
    ("Modules", "", lambda case: case.name if case.kind == "module" else None),
    ("Networks", "", lambda case: case.name if case.kind == "network" else None),
    ("Sizes", "", lambda case: _size("module", case)),
    ("Inputs", "", lambda case: _size("network", case)),
    ("Batches", "1", lambda case: str(case.batch_size)),
    ("Channels", "64", lambda case: _text(case.dim)),
    ("Heads", "", lambda case: _text(case.heads)),
    ("Dtypes", "fp32", lambda case: case.dtype),
    ("Modes", "fwd", lambda case: case.mode),
    ("Engines", "eager", lambda case: case.engine),
    ("Backends", "auto", lambda case: case.backend or "auto"),
    ("Arguments", "", lambda case: " ".join(f"{name}={value}" for name, value in case.params) or None),
    ("Device", "auto", lambda case: case.device),
    ("Seed", "0", lambda case: str(case.seed)),
)


def _cases(count: int) -> str:
    return _counted(count, "case")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
