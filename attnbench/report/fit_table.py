"""What fits into a memory, for the terminal: the largest sizes, then the largest batches, and the doubts below."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnbench.core.fit import PEAK, Fit
from attnbench.core.record import Note, Record
from attnbench.core.units import UNITS, human_bytes
from attnbench.report.columns import TextColumn, draw, fitting
from attnbench.report.facts import Fact, shared_phrases, target_title, varying_facts, visible
from attnbench.report.footnotes import footnotes, marks
from attnbench.report.frame import MISSING
from attnbench.report.table import footnote_grid

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["render_fits", "shown_memory"]

_METHOD = "static.predicted_method"
# What a narrow terminal does without, first to last.
_DROPPED = ("Of memory", "Next larger", "Tokens", "Too much by", "Predicted peak\n(MiB)")


@dataclass(frozen=True, slots=True)
class _Row:
    """A Fit, and a record that stands for it: its question's batch, and its doubts as notes."""

    fit: Fit
    record: Record


def render_fits(fits: Sequence[Fit], width: int = 80, *, origin: str = "") -> "Group":
    """What rich prints on `width` columns; `origin` says where the limit comes from when nobody named it."""
    from rich.console import Group
    from rich.text import Text

    rows = [_Row(each, _stand_in(each)) for each in fits]
    records = [row.record for row in rows]
    memory = f"memory {shown_memory(fits[0].memory)}{f' ({origin})' if origin else ''}"
    batches = {row.record.case.batch_size for row in rows}
    shared = [fact for fact in shared_phrases(records) if len(batches) > 1 or fact != f"batch {batches.copy().pop()}"]
    parts: list[RenderableType] = [Text(" · ".join([*shared, memory]), style="italic")]
    parts.append(Text(f"Predicted, not run{_method(records)}.", style="italic"))
    for asked in ("size", "batch"):
        chosen = [row for row in rows if row.fit.asked == asked]
        if chosen:
            parts += [Text(), *_section(chosen, varying_facts(records), width)]
    return Group(*parts)


def _method(records: Sequence[Record]) -> str:
    """How it was predicted, where all rows agree on it."""
    methods = {record.value(_METHOD) for record in records if record.value(_METHOD)}
    return f": {visible(methods.pop())}" if len(methods) == 1 else ""


def shown_memory(memory: int) -> str:
    """`80 GiB`, `12.3 GiB`."""
    return human_bytes(memory).replace(".0 ", " ")


def _stand_in(fit: Fit) -> Record:
    evidence = fit.largest or fit.beyond
    assert evidence is not None  # the search begins with a trial
    case = evidence.case.with_(batch_size=fit.case.batch_size)
    doubts = tuple(Note("fit", text) for text in _doubts(fit))
    return replace(evidence, case=case, status="ok", notes=(*evidence.notes, *doubts))


def _doubts(fit: Fit) -> list[str]:
    """What the figures alone do not say."""
    texts = [_verdict(fit)] if fit.verdict != "found" else []
    if fit.step > 1 and fit.verdict not in ("only", "unknown"):
        what = "batch" if fit.asked == "batch" else "size"
        texts.append(f"not every {what} is accepted: tried in steps of {fit.step:,}")
    return texts


def _verdict(fit: Fit) -> str:
    beyond = fit.beyond
    larger = "" if beyond is None else f"{_size(fit, beyond)} {{}}: {beyond.reason.rstrip('.')}"
    match fit.verdict:
        case "all":
            return f"nothing that was tried is too large, and no larger {_what(fit)} was tried"
        case "only":
            return f"no other {_what(fit)} was found that it accepts"
        case "ceiling":
            return larger.format("is refused")
        case "at_least":
            return "the true answer may be larger: " + larger.format("cannot be predicted")
        case "unknown":
            return "cannot tell: " + larger.format("cannot be predicted")
    assert beyond is not None
    needed = human_bytes(int(beyond.value(PEAK)))
    return f"even {_size(fit, beyond)}, the smallest {_what(fit)} that was found, needs {needed}"


def _what(fit: Fit) -> str:
    return "batch" if fit.asked == "batch" else "size"


def _size(fit: Fit, record: Record) -> str:
    """`64x64`, `4,096 tokens`, `batch 12`."""
    case = record.case
    if fit.asked == "batch":
        return f"batch {case.batch_size:,}"
    return case.size if case.height is not None else f"{case.tokens:,} tokens"


def _section(rows: Sequence[_Row], facts: Sequence[Fact], width: int) -> "list[RenderableType]":
    from rich.text import Text

    notes = footnotes([row.record for row in rows])
    columns = _columns(rows, facts, marks(notes, len(rows)))
    shown, hidden = fitting(columns, width, _DROPPED)
    parts: list[RenderableType] = [draw(shown, width, _style)]
    if notes:
        parts += [Text(), footnote_grid(notes)]
    if hidden:
        names = ", ".join(column.heading.split("\n")[0] for column in hidden)
        parts += [Text(), Text(f"Not shown at {width} columns: {names}. --json has all.", style="dim")]
    return parts


def _columns(rows: Sequence[_Row], facts: Sequence[Fact], marked: Sequence[str]) -> list[TextColumn]:
    records = [row.record for row in rows]
    names = tuple(visible(row.record.case.name) + mark for row, mark in zip(rows, marked, strict=True))
    columns = [TextColumn(target_title(records), names, words=True)]
    by_batch = rows[0].fit.asked == "batch"
    told = [fact for fact in facts if not (by_batch and fact.title == "Batch")]
    columns += [TextColumn(fact.title, tuple(_told(fact, record) for record in records), words=True) for fact in told]
    if by_batch:
        columns.append(TextColumn("Size", tuple(_place(record) for record in records)))
    heading = "Largest batch" if by_batch else _heading(rows)
    columns.append(TextColumn(heading, tuple(_largest(row.fit) for row in rows)))
    if any(record.case.height is not None for record in records) and not by_batch:
        columns.append(TextColumn("Tokens", tuple(_tokens(row.fit) for row in rows)))
    columns += [
        TextColumn("Predicted peak\n(MiB)", tuple(_peak(row.fit) for row in rows)),
        TextColumn("Of memory", tuple(_share(row.fit) for row in rows)),
        TextColumn("Next larger", tuple(_next(row.fit) for row in rows)),
        TextColumn("Too much by", tuple(_excess(row.fit) for row in rows)),
    ]
    return columns


def _heading(rows: Sequence[_Row]) -> str:
    batches = {row.fit.case.batch_size for row in rows}
    return "Largest size" + (f"\n(batch {batches.pop():,})" if len(batches) == 1 else "")


def _told(fact: Fact, record: Record) -> str:
    value = fact.of(record)
    return MISSING if value is None else visible(str(value))


def _place(record: Record) -> str:
    return record.case.size if record.case.height is not None else f"{record.case.tokens:,}"


def _largest(fit: Fit) -> str:
    if fit.largest is None:
        return "none" if fit.verdict == "none" else "cannot tell"
    at_least = "≥ " if fit.verdict in ("all", "at_least") else ""
    return at_least + _size(fit, fit.largest).removeprefix("batch ")


def _tokens(fit: Fit) -> str:
    return MISSING if fit.largest is None or fit.largest.case.tokens is None else f"{fit.largest.case.tokens:,}"


def _peak(fit: Fit) -> str:
    return MISSING if fit.peak is None else UNITS["bytes"].cell(fit.peak)


def _share(fit: Fit) -> str:
    if fit.peak is None:
        return MISSING
    percent = 100 * fit.peak / fit.memory
    # 100.0 % would look as if not a byte were left.
    return f"{percent:.1f} %" if percent < 99.95 or fit.peak == fit.memory else "99.9 %"


def _next(fit: Fit) -> str:
    return MISSING if fit.excess is None or fit.beyond is None else _size(fit, fit.beyond).removeprefix("batch ")


def _excess(fit: Fit) -> str:
    return MISSING if fit.excess is None else human_bytes(fit.excess)


def _style(cell: str) -> str:
    return "yellow" if cell in ("none", "cannot tell") else ""
