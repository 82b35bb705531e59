"""The table for the terminal: shared facts above, rows grouped by shape, doubts below, nothing ever cut off."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnbench.core.record import Record
from attnbench.report.compare import cell
from attnbench.report.facts import shared_phrases
from attnbench.report.footnotes import Footnote, footnotes, marks, other_units
from attnbench.report.frame import MISSING, Column, Row, identity_columns, measured_columns, rows_of
from attnbench.report.ruled import GAP, Field, Line, Ruled, folded, line_width

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Sheet", "drawn", "fit", "folded", "footnote_grid", "render", "sheet", "sheet_of"]

# What stays longest when the terminal is narrow. Readings of other packages stand before "static.flops", since
# FLOPs and the prediction only repeat what the MACs and the measured peak say.
IMPORTANCE = ("latency.median_ms", "compare.speedup", "compare.attention_speedup", "attention.share", "static.macs",
              "memory.peak_bytes", "static.params", "compare.memory_ratio", "attention.alone_ms",
              "throughput.samples_per_s", "roofline.percent_of_roof", "latency.cold_ms", "",
              "energy.joules_per_step", "static.backward_macs", "static.flops",
              "static.predicted_peak_bytes", "static.recomputed_macs")  # fmt: skip

_NARROWEST_NAME = 8
# Long names are folded rather than let push out the figures: that of the target not below this part of the line, that
# of its machine and what is said of it not below that; where only one figure is left, all as far as it takes.
_NAME_PART, _MACHINE_PART = 2 / 5, 1 / 5
_MACHINE = ("case.machine", "case.environment")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table in words, ready to be drawn: `cells[row][column]` under `columns`, in `groups` of rows of one shape.

    `texts[column][row]` is what a column says by itself of each row, without marks and statuses.
    """

    caption: str
    columns: tuple[Column, ...]
    texts: tuple[tuple[str, ...], ...]
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
    return sheet_of(rows_of(records, baseline), verbose=verbose)


def sheet_of(rows: Sequence[Row], *, verbose: bool = False) -> Sheet:
    """As `sheet`, of rows that have their baselines, which need not be among them."""
    rows, groups = _grouped(rows)
    ordered = [row.record for row in rows]
    columns = (*identity_columns(ordered), *measured_columns(rows))
    notes = (*footnotes(ordered, verbose=verbose), *other_units(rows))
    texts = tuple(tuple(map(column.text, rows)) for column in columns)
    cells = _Placing(rows, notes).cells(columns, texts)
    return Sheet(_caption(ordered, columns), columns, texts, cells, groups, tuple(rows), notes)


def _grouped(rows: Sequence[Row]) -> tuple[list[Row], tuple[int, ...]]:
    """The rows with equal shapes side by side, and for each row the number of its group."""
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(cell(row.record), []).append(row)
    ordered = [row for group in groups.values() for row in group]
    return ordered, tuple(number for number, group in enumerate(groups.values()) for _ in group)


def _caption(records: Sequence[Record], columns: Sequence[Column]) -> str:
    facts = " · ".join(shared_phrases(records))
    counted = any(column.unit in ("MAC", "FLOP") for column in columns)
    return ", ".join([*([facts] if facts else []), *(["forward MACs; 1 MAC = 2 FLOPs"] if counted else [])])


class _Placing:
    """Where statuses and marks stand: a row that went wrong says how in the first cell that this left empty, or else
    beside its name, and its marks follow that."""

    def __init__(self, rows: Sequence[Row], notes: Sequence[Footnote]) -> None:
        self._statuses = {n: row.record.status for n, row in enumerate(rows) if not row.record.ok}
        self._marks = {n: mark for n, mark in enumerate(marks(notes, len(rows))) if mark}

    def cells(self, columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
        """What stands in each row under the columns."""
        lines = [list(line) for line in zip(*texts, strict=True)]
        for place, row, text in self.changed(columns, texts):
            lines[row][place] = text
        return tuple(map(tuple, lines))

    def changed(self, columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, str]]:
        """The column, the row and the text of each cell that is not what its column says."""
        measured = [place for place, column in enumerate(columns) if column.measured]
        for row, status in self._statuses.items():
            empty = next((place for place in measured if texts[place][row] == MISSING), None)
            words = f"{texts[0][row]} ({status})" if empty is None else status
            yield empty or 0, row, words + self._marks.get(row, "")
        for row in self._marks.keys() - self._statuses.keys():
            yield 0, row, texts[0][row] + self._marks[row]


def fit(full: Sheet, width: int) -> Sheet:
    """The sheet without as many of its least important columns as it takes to be `width` characters wide."""
    placing = _Placing(full.rows, full.notes)
    plain = {id(column): _widest(column, texts) for column, texts in zip(full.columns, full.texts, strict=True)}
    kept = list(range(len(full.columns)))
    while True:
        columns = tuple(full.columns[place] for place in kept)
        texts = tuple(full.texts[place] for place in kept)
        widths = [plain[id(column)] for column in columns]
        for place, _, text in placing.changed(columns, texts):
            widths[place] = max(widths[place], line_width(text))
        least = _least_important(full.columns, kept)
        if least is None or sum(_least_widths(columns, widths, width)) + GAP * (len(widths) - 1) <= width:
            break
        kept.remove(least)
    hidden = tuple(column.title for place, column in enumerate(full.columns) if place not in kept)
    return replace(full, columns=columns, texts=texts, cells=placing.cells(columns, texts), hidden=hidden)


def _least_important(columns: Sequence[Column], kept: Sequence[int]) -> int | None:
    droppable = [place for place in kept if _droppable(columns[place])]
    return max(droppable, key=lambda place: _rank(columns[place].name), default=None)


def _droppable(column: Column) -> bool:
    return not column.name.startswith("case.")


def _rank(name: str) -> int:
    return IMPORTANCE.index(name if name in IMPORTANCE else "")


def _widest(column: Column, texts: Sequence[str]) -> int:
    return max(map(line_width, (*_heading_lines(column), *texts)))


def _heading_lines(column: Column) -> tuple[str, ...]:
    # The unit stands under the title: figures are narrower than "Peak memory (MiB)".
    unit = column.heading.removeprefix(column.title).strip()
    return (column.title, unit) if unit else (column.title,)


def _least_widths(columns: Sequence[Column], widths: Sequence[int], available: int) -> list[int]:
    """What the columns take once names are folded: to their parts of the line, or further for the last figure."""
    last = sum(_droppable(column) for column in columns) <= 1
    parts = {0: _NAME_PART} | {place: _MACHINE_PART for place, column in enumerate(columns) if column.name in _MACHINE}
    least = list(widths)
    for place, part in parts.items():
        least[place] = min(widths[place], max(_NARROWEST_NAME, line_width(columns[place].title),
                                              0 if last else int(available * part)))  # fmt: skip
    return least


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
    return Group(*parts, drawn(chosen, width), *_below(chosen, width))


def drawn(chosen: Sheet, width: int) -> Ruled:
    """The rows under their headings, on `width` columns."""
    widths = _folded_widths(chosen, width)
    fields = [Field(_heading_lines(column), fitting, column.is_figure)
              for column, fitting in zip(chosen.columns, widths, strict=True)]  # fmt: skip
    rows = zip(chosen.rows, chosen.cells, _group_ends(chosen), strict=True)
    return Ruled(fields, [Line(cells, _styles(cells, row), last) for row, cells, last in rows])


def _folded_widths(chosen: Sheet, width: int) -> list[int]:
    """The columns' widths: what they need at least, and then names as much as is left."""
    bodies = zip(*chosen.cells, strict=True)
    widest = [_widest(column, body) for column, body in zip(chosen.columns, bodies, strict=True)]
    widths = _least_widths(chosen.columns, widest, width)
    left = max(0, width - sum(widths) - GAP * (len(widths) - 1))
    for place, full in enumerate(widest):
        more = min(left, full - widths[place])
        left, widths[place] = left - more, widths[place] + more
    return widths


def _group_ends(chosen: Sheet) -> list[bool]:
    # Air between shapes helps only where a shape has several rows.
    several = len(set(chosen.groups)) < len(chosen.groups)
    following = (*chosen.groups[1:], chosen.groups[-1])
    return [several and group != after for group, after in zip(chosen.groups, following, strict=True)]


def _styles(cells: Sequence[str], row: Row) -> tuple[tuple[int, str], ...]:
    if row.record.ok:
        return ()
    status = row.record.status
    style = "yellow" if status in ("oom", "unsupported", "skipped") else "red"
    return tuple((place, style) for place, text in enumerate(cells) if status in text)


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
