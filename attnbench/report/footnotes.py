"""The doubts and failures of the rows as numbered footnotes: each said once, with the rows it is about."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.core.record import Record
from attnbench.report.compare import attention_speedup, speedup
from attnbench.report.facts import Fact, label, varying_facts, visible
from attnbench.report.frame import Row
from attnbench.report.machines import is_another_unit

__all__ = ["QUIET_KINDS", "Footnote", "footnotes", "marks", "other_units", "superscript"]

# How a subject was built and measured stands in its record; only doubt is worth a line under the table.
QUIET_KINDS = frozenset({"built", "not_measured", "method", "batch", "weights", "inserted", "swapped"})

_MOST_ROWS_NAMED = 6


@dataclass(frozen=True, slots=True)
class Footnote:
    """A sentence under a table, the places of the rows it is about, and their names in words.

    `mark` is what the rows bear; empty when it is about all rows, or about the table rather than a row.
    """

    text: str
    rows: tuple[int, ...]
    about: str
    mark: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.text} ({self.about})"


def footnotes(records: Sequence[Record], *, verbose: bool = False) -> list[Footnote]:
    """The reasons and notes of the records in the order of the rows; `verbose` keeps the quiet kinds too."""
    about: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        for text in dict.fromkeys(_texts(record, verbose)):
            about.setdefault(text, []).append(index)
    facts = varying_facts(records)
    notes, number = [], 0
    for text, rows in about.items():
        everywhere = len(rows) == len(records) > 1
        number += not everywhere
        names = "all rows" if everywhere else _names([records[index] for index in rows], facts)
        notes.append(Footnote(text, tuple(rows), names, "" if everywhere else superscript(number)))
    return notes


_OTHER_UNIT = ("set against a baseline that was measured on another {}, and {} differ by some per cent: a speed-up of "
               "less than that may be theirs")  # fmt: skip
_UNITS = {True: ("GPU of the same kind", "such GPUs"), False: ("host of the same kind", "such hosts")}


def other_units(rows: Sequence[Row]) -> list[Footnote]:
    """The doubt about the rows whose speed-up is one over another GPU, or over another host, of the same kind."""
    about: dict[bool, list[int]] = {}
    for index, row in enumerate(rows):
        base = row.base
        if base is None or row.is_base or not is_another_unit(row.record, base):
            continue
        if speedup(row.record, base) or attention_speedup(row.record, base):
            about.setdefault(row.record.case.device.startswith("cuda"), []).append(index)
    records = [row.record for row in rows]
    facts = varying_facts(records) if about else []
    return [Footnote(_OTHER_UNIT.format(*_UNITS[on_gpus]), tuple(found), _names([records[n] for n in found], facts))
            for on_gpus, found in about.items()]  # fmt: skip


def _texts(record: Record, verbose: bool) -> list[str]:
    reasons = [f"{record.status}: {_line(record.reason)}"] if record.reason and not record.ok else []
    return reasons + [_line(note.text) for note in record.notes if verbose or note.kind not in QUIET_KINDS]


def _line(text: str) -> str:
    return visible(" ".join(text.split()))


def _names(chosen: Sequence[Record], facts: Sequence[Fact]) -> str:
    shapes: dict[str, list[str]] = {}
    for record in chosen[:_MOST_ROWS_NAMED]:
        shapes.setdefault(visible(record.case.name), []).append(label(record, facts, name=False))
    more = len(chosen) - _MOST_ROWS_NAMED
    names = "; ".join(f"{name} {', '.join(dict.fromkeys(sizes))}" for name, sizes in shapes.items())
    return names + (f"; and {more:,} more" if more > 0 else "")


def superscript(number: int) -> str:
    """12 -> ¹²."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def marks(notes: Sequence[Footnote], rows: int) -> list[str]:
    """What each of so many rows bears: its marks with a space before each, or nothing."""
    borne = [""] * rows
    for note in notes:
        for row in note.rows if note.mark else ():
            borne[row] += f" {note.mark}"
    return borne
