"""Records as one flat table of columns and rows; what a column is called and holds comes from the readings."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.core.record import Better, Reading, Record
from attnbench.core.stats import Estimate
from attnbench.core.units import UNITS, Unit, significant
from attnbench.report.compare import (
    ATTENTION_ALONE,
    LATENCY,
    PEAK_MEMORY,
    Ratio,
    attention_speedup,
    baselines,
    memory_ratio,
    speedup,
)
from attnbench.report.facts import Fact, facts_of, target_title, varying_facts, visible

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MISSING", "Column", "Row", "amount", "figure", "identity_columns", "measured_columns", "rows_of",
           "to_frame", "to_grid", "unit_of"]  # fmt: skip

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """A record and the baseline it is set against (None without one, itself where it is the baseline)."""

    record: Record
    base: Record | None = None

    @property
    def is_base(self) -> bool:
        return self.base is self.record


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, the stored value of each row (None where there is none), and its text in a cell."""

    name: str
    title: str
    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    unit: str = ""
    better: Better = ""
    measured: bool = False

    @property
    def heading(self) -> str:
        """`Peak memory (MiB)`."""
        return unit_of(self.unit).heading(self.title)

    @property
    def is_figure(self) -> bool:
        """Whether its cells are set flush right."""
        return self.name == "case.size" or not self.name.startswith("case.")

    def number(self, row: Row) -> Any:
        """The value in the heading's unit; words stay as they are."""
        value = self.value(row)
        divisor = unit_of(self.unit).divisor
        return value / divisor if divisor != 1 and isinstance(value, int | float) else value


def unit_of(name: str) -> Unit:
    """The printed unit; a unit that only another package knows is printed as it is."""
    return UNITS[name] if name in UNITS else Unit(visible(name), 1, significant)


def rows_of(records: Sequence[Record], baseline: str | None = None) -> list[Row]:
    """The records with their baselines."""
    return [Row(*pair) for pair in zip(records, baselines(records, baseline), strict=True)]


def identity_columns(records: Sequence[Record], facts: Sequence[Fact] | None = None) -> list[Column]:
    """Name, size, and the given facts (by default those that tell the rows apart)."""
    chosen = varying_facts(records) if facts is None else facts
    return [
        _fact_column("name", target_title(records), lambda record: record.case.name),
        _fact_column("size", "Size", lambda record: record.case.size),
        *(_fact_column(fact.title.lower(), fact.title, fact.of) for fact in chosen),
    ]


def _fact_column(name: str, title: str, of: Callable[[Record], Any]) -> Column:
    def text(row: Row) -> str:
        value = of(row.record)
        return MISSING if value in (None, "") else visible(str(value))

    return Column(f"case.{name}", title, lambda row: of(row.record), text)


def measured_columns(rows: Sequence[Row]) -> list[Column]:
    """One column for each reading with a title, in the order they first appear, ratios behind what they compare."""
    columns: list[Column] = []
    for reading in _titled(rows):
        columns.append(_reading_column(reading))
        columns += _ratio_columns(reading.name, rows)
    return columns


def _titled(rows: Sequence[Row]) -> list[Reading]:
    found: dict[str, Reading] = {}
    for row in rows:
        for reading in row.record.readings:
            if reading.title and reading.value is not None:
                found.setdefault(reading.name, reading)
    return list(found.values())


def _reading_column(reading: Reading) -> Column:
    name, unit = reading.name, reading.unit

    def text(row: Row) -> str:
        return amount(row.record, name)

    title = visible(reading.title)
    return Column(name, title, lambda row: row.record.value(name), text, unit, reading.better, measured=True)


def amount(record: Record, name: str) -> str:
    """The reading as a cell, with its interval: `35.21 ± 0.8 %`."""
    reading = record.reading(name)
    estimate = _estimate(record, reading)
    return _figure(reading, estimate) + (f" ± {_percent(estimate.precision)} %" if estimate else "")


def figure(record: Record, name: str) -> str:
    """The reading in its printed unit, with no more digits than its interval allows: 1021 ± 12 % is 1000."""
    reading = record.reading(name)
    return _figure(reading, _estimate(record, reading))


def _figure(reading: Reading | None, estimate: Estimate | None) -> str:
    if reading is None or reading.value is None:
        return MISSING
    value, unit = reading.value, unit_of(reading.unit)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float) or not math.isfinite(value):
        return visible(str(value))
    if estimate is None:
        return unit.cell(value)
    digits = _digits(estimate.precision)
    return significant(float(f"{unit.scale(value):.{digits}g}"), digits)


def _estimate(record: Record, reading: Reading | None) -> Estimate | None:
    """The reading with its interval, if it has one; an end of it may be zero or below, which forms no ratio."""
    if reading is None or not reading.low:
        return None
    value, *ends = reading.value, record.value(reading.low), record.value(reading.high)
    if not all(isinstance(each, int | float) for each in (value, *ends)) or not math.isfinite(value):
        return None
    if any(map(math.isnan, ends)):
        return Estimate(value, -math.inf, math.inf)  # nothing is known of it, which is not that it is narrow
    return Estimate(value, min(ends), max(ends))


def _digits(precision: float) -> int:
    return 2 if precision >= 0.1 else 3 if precision >= 0.01 else 4


def _percent(precision: float) -> str:
    # Never "± 0.0 %": no interval is that narrow. Three places wide, so that the signs stand under each other.
    percent = max(0.1, precision * 100)
    if percent > 999:
        return ">999"
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:3.0f}"


RATIOS: dict[str, tuple[str, str, Better, Callable[[Record, Record], Ratio | None]]] = {
    LATENCY: ("compare.speedup", "Speed-up", "higher", speedup),
    ATTENTION_ALONE: ("compare.attention_speedup", "Attn. gain", "higher", attention_speedup),
    PEAK_MEMORY: ("compare.memory_ratio", "Mem. ratio", "lower", memory_ratio),
}


def _ratio_columns(of: str, rows: Sequence[Row]) -> Iterator[Column]:
    if of not in RATIOS:
        return
    name, title, better, compare = RATIOS[of]

    def ratio(row: Row) -> Ratio | None:
        return None if row.base is None else compare(row.record, row.base)

    def value(row: Row) -> float | None:
        found = ratio(row)
        return None if found is None else found.value

    def text(row: Row) -> str:
        return _ratio_text(ratio(row), is_base=row.is_base)

    if any(not row.is_base and ratio(row) is not None for row in rows):
        yield Column(name, title, value, text, "x", better)


def _ratio_text(ratio: Ratio | None, *, is_base: bool) -> str:
    if is_base:
        return "1.00 (base)" if ratio else "(base)"
    return MISSING if ratio is None else significant(ratio.value, min(3, _digits(ratio.precision)))


def to_grid(records: Sequence[Record], baseline: str | None = None) -> tuple[list[str], list[list[Any]]]:
    """Headings with units, and a row of plain numbers and words for each record: everything a spreadsheet needs.

    None where nothing was measured. Intervals stand in columns of their own.
    """
    rows = rows_of(records, baseline)
    facts = [fact for fact in facts_of(records) if any(_is_set(fact, record) for record in records)]
    columns = [
        *identity_columns(records, facts),
        Column("status", "Status", lambda row: row.record.status, lambda row: row.record.status),
        Column("reason", "Reason", lambda row: row.record.reason, lambda row: row.record.reason),
        *_with_ends(measured_columns(rows), rows),
    ]
    return _headings(columns), [[column.number(row) for column in columns] for row in rows]


def _is_set(fact: Fact, record: Record) -> bool:
    return fact.of(record) not in (None, "")


def _with_ends(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Column]:
    ends = {reading.name: {"low": reading.low, "high": reading.high} for reading in _titled(rows)}
    for column in columns:
        yield column
        for end, name in ends.get(column.name, {}).items():
            if name:
                yield _end_column(column, end, name)


def _end_column(column: Column, end: str, name: str) -> Column:
    return Column(name, f"{column.title} {end}", lambda row: row.record.value(name), column.text, column.unit)


def _headings(columns: Sequence[Column]) -> list[str]:
    # Two packages may give their readings the same title; a column must still be found by its heading.
    titles = [column.heading for column in columns]
    return [
        f"{title} [{column.name}]" if titles.count(title) > 1 else title
        for column, title in zip(columns, titles, strict=True)
    ]


def to_frame(records: Sequence[Record], baseline: str | None = None) -> "pd.DataFrame":
    """A pandas frame with a row for each record: times in ms, memory in MiB, MACs in GMAC, as the headings say."""
    import pandas as pd

    headings, rows = to_grid(records, baseline)
    return pd.DataFrame(rows, columns=headings)
