"""A table drawn line by line: headings over a rule, rows of cells below, each as wide as it needs or folded.

Rich's own table lays out every cell by itself, which takes ten seconds for ten thousand rows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment
    from rich.style import Style

__all__ = ["GAP", "Field", "Line", "Ruled", "folded", "line_width"]

GAP = 2
# Letters of one cell each, those of most tables; what others take is asked one by one.
_PLAIN = re.compile(r"[ -~¡-¬®-˿–…⁰-⁹]*").fullmatch


@dataclass(frozen=True, slots=True)
class Field:
    """A column: the lines of its heading, how wide it is, and whether its cells are set flush right."""

    heading: tuple[str, ...]
    width: int
    right: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row: the text of each cell, lines within it told apart by line ends, and the style of those that have one.

    `ends` leaves air below it.
    """

    cells: tuple[str, ...]
    styles: tuple[tuple[int, str], ...] = ()
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Ruled:
    """What rich prints: on a line that is too short for all fields, cells are folded and never cut."""

    fields: Sequence[Field]
    rows: Sequence[Line]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        from rich.segment import Segment

        gap, fields = _squeezed(self.fields, options.max_width)
        depth = max(len(field.heading) for field in fields)
        headings = tuple("\n" * (depth - len(field.heading)) + "\n".join(field.heading) for field in fields)
        head = Line(headings, tuple((number, "table.header") for number in range(len(fields))))
        styles: dict[str, Style] = {}
        yield from _drawn(head, fields, gap, console, styles)
        yield from (Segment("─" * (sum(field.width for field in fields) + gap * (len(fields) - 1))), Segment.line())
        for number, row in enumerate(self.rows, start=1):
            yield from _drawn(row, fields, gap, console, styles)
            if row.ends and number < len(self.rows):
                yield Segment.line()


def _squeezed(fields: Sequence[Field], width: int) -> tuple[int, list[Field]]:
    """The fields in so many cells, the widest made narrower first, and the gap between them."""
    widths = [field.width for field in fields]
    gap = GAP if len(fields) * (GAP + 1) <= width else 1
    excess = sum(widths) + gap * (len(widths) - 1) - width
    while excess > 0 and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
        excess -= 1
    return gap, [Field(_refolded(field.heading, room), room, field.right)
                 for field, room in zip(fields, widths, strict=True)]  # fmt: skip


def _refolded(lines: Iterable[str], width: int) -> tuple[str, ...]:
    return tuple(piece for line in lines for piece in folded(line, width))


def _drawn(
    row: Line, fields: Sequence[Field], gap: int, console: "Console", styles: "dict[str, Style]"
) -> "Iterator[Segment]":
    from rich.segment import Segment

    cells = [_refolded(cell.split("\n"), field.width) for cell, field in zip(row.cells, fields, strict=True)]
    for _, name in row.styles:
        styles.setdefault(name, console.get_style(name))
    styled = {place: styles[name] for place, name in row.styles}
    for depth in range(max(map(len, cells))):
        words = [_padded(cell[depth] if depth < len(cell) else "", field)
                 for cell, field in zip(cells, fields, strict=True)]  # fmt: skip
        if styled:
            yield from (Segment(word + " " * gap, styled.get(place)) for place, word in enumerate(words))
        else:
            yield Segment((" " * gap).join(words).rstrip())
        yield Segment.line()


def _padded(text: str, field: Field) -> str:
    blank = " " * (field.width - line_width(text))
    return blank + text if field.right else text + blank


def line_width(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if _PLAIN(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def folded(text: str, width: int) -> list[str]:
    """The text on lines of at most `width` cells, broken behind a separator where there is one."""
    if line_width(text) <= width:
        return [text.rstrip()]
    lines = [""]
    for word in re.split(r"(?<=[/.:+_\- ])", text):
        for piece in _chopped(word, width):
            if line_width(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _chopped(word: str, width: int) -> list[str]:
    """The word in pieces of at most `width` cells; rich's own way of chopping loses signs that have no width."""
    pieces = [""]
    for sign in word:
        if pieces[-1] and line_width(pieces[-1] + sign) > width:
            pieces.append("")
        pieces[-1] += sign
    return pieces
