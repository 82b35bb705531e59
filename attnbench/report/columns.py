"""Plain columns of text for the terminal: as many as fit, a long first one folded, nothing ever cut off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from attnbench.report.frame import MISSING
from attnbench.report.ruled import GAP, Field, Line, Ruled, line_width

__all__ = ["TextColumn", "draw", "fitting"]

_NARROWEST_NAME = 8


@dataclass(frozen=True)  # slots would leave no place for what is computed once
class TextColumn:
    """A heading and its cells; `words` stand on the left, figures on the right."""

    heading: str
    cells: tuple[str, ...]
    words: bool = False

    @cached_property
    def width(self) -> int:
        return max(line_width(line) for text in (self.heading, *self.cells) for line in text.split("\n"))


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
    return min(first, max(_NARROWEST_NAME, width * 2 // 5)) + sum(others) + GAP * len(others)


def draw(columns: Sequence[TextColumn], width: int, style: Callable[[str], str]) -> Ruled:
    """The columns as a table; `style` gives the colour of a cell."""
    left = width - _total(columns, width) + min(columns[0].width, max(_NARROWEST_NAME, width * 2 // 5))
    name = min(columns[0].width, max(_NARROWEST_NAME, left))
    fields = [
        Field(tuple(column.heading.split("\n")), name if column is columns[0] else column.width, not column.words)
        for column in columns
    ]
    rows = zip(*(column.cells for column in columns), strict=True)
    return Ruled(fields, [Line(cells, _styles(cells, style)) for cells in rows])


def _styles(cells: Sequence[str], style: Callable[[str], str]) -> tuple[tuple[int, str], ...]:
    named = ((place, style(cell)) for place, cell in enumerate(cells[1:], start=1))
    return tuple((place, name) for place, name in named if name)
