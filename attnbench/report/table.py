"""The table for the terminal: shared facts above, rows grouped by shape, doubts below, nothing ever cut off."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from attnbench.core.record import Record
from attnbench.report.facts import shared_phrases
from attnbench.report.footnotes import Footnote, footnotes, marks
from attnbench.report.frame import MISSING, Column, Row, identity_columns, measured_columns, rows_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Sheet", "fit", "folded", "footnote_grid", "render", "sheet"]

# What stays longest when the terminal is narrow. Readings of other packages stand before "static.flops", since
# FLOPs and the prediction only repeat what the MACs and the measured peak say.
IMPORTANCE = ("latency.median_ms", "compare.speedup", "compare.attention_speedup", "attention.share", "static.macs",
              "memory.peak_bytes", "static.params", "compare.memory_ratio", "attention.alone_ms",
              "throughput.samples_per_s", "roofline.percent_of_roof", "latency.cold_ms", "",
              "energy.joules_per_step", "static.backward_macs", "static.flops",
              "static.predicted_peak_bytes", "static.recomputed_macs")  # fmt: skip

_GAP = 2
_NARROWEST_NAME = 8


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table in words, ready to be drawn: `cells[row][column]` under `columns`, in `groups` of rows of one shape."""

    caption: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[str, ...], ...]
    groups: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[Footnote, ...]
    hidden: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        return [column.heading for column in self.columns]


def sheet(records: Sequence[Record], baseline: str | None = None, *, verbose: bool = False) -> Sheet:
    """All columns of the records, with those that are to be compared standing together."""
    rows, groups = _grouped(rows_of(records, baseline))
    ordered = [row.record for row in rows]
    columns = (*identity_columns(ordered), *measured_columns(rows))
    notes = tuple(footnotes(ordered, verbose=verbose))
    return Sheet(_caption(ordered, columns), columns, _cells(columns, rows, notes), groups, tuple(rows), notes)


def _grouped(rows: Sequence[Row]) -> tuple[list[Row], tuple[int, ...]]:
    """The rows with equal shapes side by side, and for each row the number of its group."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.record.case.shape_key, row.record.env.get("fingerprint")), []).append(row)
    ordered = [row for group in groups.values() for row in group]
    return ordered, tuple(number for number, group in enumerate(groups.values()) for _ in group)


def _caption(records: Sequence[Record], columns: Sequence[Column]) -> str:
    facts = " · ".join(shared_phrases(records))
    counted = any(column.unit in ("MAC", "FLOP") for column in columns)
    return ", ".join([*([facts] if facts else []), *(["forward MACs; 1 MAC = 2 FLOPs"] if counted else [])])


def _cells(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[Footnote]) -> tuple[tuple[str, ...], ...]:
    return tuple(_row_cells(columns, row, mark) for row, mark in zip(rows, marks(notes, len(rows)), strict=True))


def _row_cells(columns: Sequence[Column], row: Row, mark: str) -> tuple[str, ...]:
    """A row that went wrong says how in the first cell that this left empty, or else beside its name."""
    cells = [column.text(row) for column in columns]
    place = 0
    if not row.record.ok:
        empty = [n for n, column in enumerate(columns) if column.measured and cells[n] == MISSING]
        place = empty[0] if empty else 0
        cells[place] = row.record.status if empty else f"{cells[0]} ({row.record.status})"
    cells[place] += mark
    return tuple(cells)


def fit(full: Sheet, width: int) -> Sheet:
    """The sheet without as many of its least important columns as it takes to be `width` characters wide."""
    fitted = full
    while _width(fitted, width) > width and (least := _least_important(fitted)) is not None:
        kept = tuple(column for column in fitted.columns if column is not least)
        cells = _cells(kept, full.rows, full.notes)
        hidden = tuple(column.title for column in full.columns if column not in kept)
        fitted = replace(fitted, columns=kept, cells=cells, hidden=hidden)
    return fitted


def _least_important(chosen: Sheet) -> Column | None:
    droppable = [column for column in chosen.columns if not column.name.startswith("case.")]
    return max(droppable, key=lambda column: _rank(column.name), default=None)


def _rank(name: str) -> int:
    return IMPORTANCE.index(name if name in IMPORTANCE else "")


def _width(chosen: Sheet, available: int) -> int:
    widths = _column_widths(chosen)
    # A long name is folded rather than let push out the figures, but not below two fifths of the line.
    return sum(widths[1:]) + min(widths[0], available * 2 // 5) + _GAP * (len(widths) - 1)


def _column_widths(chosen: Sheet) -> list[int]:
    from rich.cells import cell_len

    bodies = zip(*chosen.cells, strict=True)
    return [
        max(cell_len(text) for text in (*_heading_lines(column), *body))
        for column, body in zip(chosen.columns, bodies, strict=True)
    ]


def _heading_lines(column: Column) -> list[str]:
    # The unit stands under the title: figures are narrower than "Peak memory (MiB)".
    unit = column.heading.removeprefix(column.title).strip()
    return [column.title, unit] if unit else [column.title]


def render(
    records: Sequence[Record], width: int = 80, *, baseline: str | None = None, verbose: bool = False
) -> "RenderableType":
    """What rich prints for these records on `width` columns; `verbose` shows also how each row was measured."""
    from rich.console import Group
    from rich.text import Text

    if not records:
        return Text("No records.")
    chosen = fit(sheet(records, baseline, verbose=verbose), width)
    parts: list[RenderableType] = [Text(chosen.caption, style="italic"), Text()] if chosen.caption else []
    return Group(*parts, _draw(chosen, width), *_below(chosen, width))


def _draw(chosen: Sheet, width: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, _GAP - 1))
    widths = _column_widths(chosen)
    left = width - sum(widths[1:]) - _GAP * (len(widths) - 1)
    widths[0] = min(widths[0], max(_NARROWEST_NAME, left))
    for column, fitting in zip(chosen.columns, widths, strict=True):
        lines = Text("\n".join(_heading_lines(column)))
        justify: Literal["left", "right"] = "right" if column.is_figure else "left"
        table.add_column(lines, width=fitting, justify=justify, overflow="fold")
    for row, cells, last in zip(chosen.rows, chosen.cells, _group_ends(chosen), strict=True):
        words = ("\n".join(folded(cells[0], widths[0])), *cells[1:])
        table.add_row(*(Text(word, style=_style(word, row)) for word in words), end_section=last)
    return table


def _group_ends(chosen: Sheet) -> list[bool]:
    # Air between shapes helps only where a shape has several rows.
    several = len(set(chosen.groups)) < len(chosen.groups)
    following = (*chosen.groups[1:], chosen.groups[-1])
    return [several and group != after for group, after in zip(chosen.groups, following, strict=True)]


def _style(word: str, row: Row) -> str:
    status = row.record.status
    if row.record.ok or status not in word:
        return ""
    return "yellow" if status in ("oom", "unsupported", "skipped") else "red"


def folded(text: str, width: int) -> list[str]:
    """The text on lines of at most `width` cells, broken behind a separator where there is one."""
    from rich.cells import cell_len

    lines = [""]
    for word in re.split(r"(?<=[/.:+_\- ])", text):
        for piece in _chopped(word, width):
            if cell_len(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _chopped(word: str, width: int) -> list[str]:
    """The word in pieces of at most `width` cells; rich's own way of chopping loses signs that have no width."""
    from rich.cells import cell_len

    pieces = [""]
    for sign in word:
        if pieces[-1] and cell_len(pieces[-1] + sign) > width:
            pieces.append("")
        pieces[-1] += sign
    return pieces


def _below(chosen: Sheet, width: int) -> "list[RenderableType]":
    from rich.text import Text

    parts: list[RenderableType] = [Text(), footnote_grid(chosen.notes)] if chosen.notes else []
    if chosen.hidden:
        names, them = ", ".join(chosen.hidden), "it" if len(chosen.hidden) == 1 else "them"
        hint = f"Not shown at {width} columns: {names}. A wider terminal or `-o table.csv` shows {them}."
        parts += [Text(), Text(hint, style="dim")]
    return parts


def footnote_grid(notes: Sequence[Footnote]) -> "Table":
    """The footnotes with their marks hanging before them."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for note in notes:
        grid.add_row(Text(note.mark or "·"), Text.assemble(note.text, (f" ({note.about})", "dim")))
    return grid
