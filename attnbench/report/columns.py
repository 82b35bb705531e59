"""Plain columns of text for the terminal: as many as fit, a long first one folded, nothing ever cut off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from attnbench.report.frame import MISSING
from attnbench.report.table import folded

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["TextColumn", "draw", "fitting"]

_GAP = 2
_NARROWEST_NAME = 8


@dataclass(frozen=True)  # slots would leave no place for what is computed once
class TextColumn:
    """A heading and its cells; `words` stand on the left, figures on the right."""

    heading: str
    cells: tuple[str, ...]
    words: bool = False

    @cached_property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(line) for text in (self.heading, *self.cells) for line in text.split("\n"))


def fitting(
    columns: Sequence[TextColumn], width: int, dropped: Sequence[str]
) -> tuple[list[TextColumn], list[TextColumn]]:
    """The columns that fit and have something to say, and those that were left out, in the order of `dropped`."""
    shown = [column for column in columns if any(cell != MISSING for cell in column.cells)]
    hidden = []
    for heading in dropped:
        least = next((column for column in shown if column.heading == heading), None)
        if _total(shown, width) > width and least is not None:
            shown.remove(least)
            hidden.append(least)
    return shown, hidden


def _total(columns: Sequence[TextColumn], width: int) -> int:
    # A long name is folded rather than let push out the figures, but not below two fifths of the line.
    first, *others = (column.width for column in columns)
    return min(first, max(_NARROWEST_NAME, width * 2 // 5)) + sum(others) + _GAP * len(others)


def draw(columns: Sequence[TextColumn], width: int, style: Callable[[str], str]) -> "Table":
    """The columns as a table; `style` gives the colour of a cell."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, _GAP - 1))
    left = width - _total(columns, width) + min(columns[0].width, max(_NARROWEST_NAME, width * 2 // 5))
    name = min(columns[0].width, max(_NARROWEST_NAME, left))
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.words else "right"
        chosen = name if column is columns[0] else column.width
        table.add_column(Text(column.heading), width=chosen, justify=justify, overflow="fold")
    for first, *others in zip(*(column.cells for column in columns), strict=True):
        table.add_row(Text("\n".join(folded(first, name))), *(Text(cell, style=style(cell)) for cell in others))
    return table
