"""What a run would take, for the terminal: a row for each case, what will not fit in colour, the totals below."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.core.forecast import Forecast, Outlook
from attnbench.core.record import Record
from attnbench.core.units import UNITS, human_bytes, significant
from attnbench.report.columns import TextColumn, draw, fitting
from attnbench.report.facts import shared_phrases, target_title, varying_facts, visible
from attnbench.report.footnotes import footnotes, marks
from attnbench.report.frame import MISSING
from attnbench.report.table import footnote_grid

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["render_outlook", "totals"]

_LEAST, _PEAK = "At least\n(ms)", "Predicted peak\n(MiB)"
# What a narrow terminal does without, first to last.
_DROPPED = (_LEAST, _PEAK)
_WORDS = {"fits": "yes", "too_large": "no", "unknown": "cannot tell", "stored": "stored", "runs_nothing": MISSING}
_COLOURS = {"no": "yellow", "cannot tell": "yellow", "unsupported": "yellow", "stored": "dim", "oom": "yellow",
            "crashed": "red", "error": "red", "timeout": "red", "incorrect": "red"}  # fmt: skip
_NO_STEP = "At least: at this machine's measured peaks no step is faster. "
_A_GUESS = "Takes: a guess, latencies sampled for all of --max-time; a quiet machine is done sooner."
_COUNTED = "Takes: as long as counting took here. Nothing that was asked for is run, so that memory sets no limit."


def render_outlook(outlook: Outlook, width: int = 80, *, store: Path | None = None) -> "Group":
    """What rich prints on `width` columns; `store` is the file in which the stored cases are."""
    from rich.console import Group
    from rich.text import Text

    rows = outlook.forecasts
    parts: list[RenderableType] = []
    if rows:
        records = _stand_ins(rows)
        parts += [Text(_caption(rows, records), style="italic"), Text(), *_table(rows, records, width), Text()]
    return Group(*parts, Text(totals(outlook, store)))


def _stand_ins(rows: Sequence[Forecast]) -> list[Record]:
    """Records for the facts and the footnotes: a stored one's doubts are about what was measured, and what became of a
    case before it was known where, and in which layout, tells it from no other.
    """
    layouts: dict[str, str] = {}
    for each in rows:
        if each.record.case.layout != "auto":
            layouts.setdefault(each.record.case.name, each.record.case.layout)
    env = next((each.record.env for each in rows if "device_name" in each.record.env), {})
    return [_stand_in(each, layouts, env) for each in rows]


def _stand_in(forecast: Forecast, layouts: Mapping[str, str], env: Mapping[str, Any]) -> Record:
    record = forecast.record
    if forecast.stored:
        return replace(record, status="ok", notes=())
    if forecast.verdict != "refused":
        return record
    layout = layouts.get(record.case.name, "auto") if record.case.layout == "auto" else record.case.layout
    known = record.env if "device_name" in record.env else env
    return replace(record, case=record.case.with_(layout=layout), env=known)


def _caption(rows: Sequence[Forecast], records: Sequence[Record]) -> str:
    limits = _limits(rows)
    return " · ".join([*shared_phrases(records), *([f"memory {limits}"] if limits else [])]) + ". Nothing was run."


def _limits(rows: Sequence[Forecast]) -> str:
    """`18.2 GiB (free)`, where it is from included; several machines may have different ones."""
    found = sorted({(each.limit, each.limited_by) for each in rows if each.limit is not None and not each.stored})
    if not found:
        return ""
    (least, _), (most, _) = found[0], found[-1]
    assert least is not None
    assert most is not None
    size = human_bytes(least) if human_bytes(least) == human_bytes(most) else (
        f"{human_bytes(least)} to {human_bytes(most)}")  # fmt: skip
    return f"{size} ({', '.join(dict.fromkeys(origin for _, origin in found))})"


def _table(rows: Sequence[Forecast], records: Sequence[Record], width: int) -> "list[RenderableType]":
    from rich.text import Text

    notes = footnotes(records)
    shown, hidden = fitting(_columns(rows, records, marks(notes, len(rows))), width, _DROPPED)
    parts: list[RenderableType] = [draw(shown, width, lambda cell: _COLOURS.get(cell, ""))]
    if notes:
        parts += [Text(), footnote_grid(notes)]
    if hidden:
        names = ", ".join(column.heading.split("\n")[0] for column in hidden)
        parts += [Text(), Text(f"Not shown at {width} columns: {names}. --format json has all.", style="dim")]
    return [*parts, Text(), Text(_explained(rows, {column.heading for column in shown}), style="dim")]


def _columns(rows: Sequence[Forecast], records: Sequence[Record], marked: Sequence[str]) -> list[TextColumn]:
    names = tuple(visible(record.case.name) + mark for record, mark in zip(records, marked, strict=True))
    columns = [
        TextColumn(target_title(records), names, words=True),
        TextColumn("Size", tuple(visible(record.case.size) for record in records)),
    ]
    for fact in varying_facts(records):
        told = (fact.of(record) for record in records)
        cells = tuple(MISSING if value in (None, "") else visible(str(value)) for value in told)
        columns.append(TextColumn(fact.title, cells, words=True))
    return [
        *columns,
        TextColumn(_PEAK, tuple(MISSING if each.peak is None else UNITS["bytes"].cell(each.peak) for each in rows)),
        TextColumn("Fits", tuple(_fits(each) for each in rows), words=True),
        TextColumn(_LEAST, tuple(_figure(each.least_ms, 3) for each in rows)),
        TextColumn("Takes\n(s)", tuple(_figure(None if each.stored else each.seconds, 2) for each in rows)),
    ]


def _fits(forecast: Forecast) -> str:
    return forecast.record.status if forecast.verdict == "refused" else _WORDS[forecast.verdict]


def _figure(value: float | None, digits: int) -> str:
    return MISSING if value is None else significant(value, digits)


def _explained(rows: Sequence[Forecast], headings: Container[str]) -> str:
    """What the headings mean, where they are more than their words."""
    left = [each for each in rows if not each.stored]
    if left and not any(each.live for each in left):
        return _COUNTED
    return (_NO_STEP if _LEAST in headings else "") + _A_GUESS


def totals(outlook: Outlook, store: Path | None = None) -> str:
    """`6 cases, about 14 s; 1 will not fit into 18.2 GiB (free); 3 are in r.jsonl already.`"""
    found = len(outlook.forecasts)
    parts = [f"{_cases(found)}, {_time(outlook)}" if found else "No case was looked at"]
    for count, sentence in (
        (outlook.counted("too_large"), f"will not fit into {_limits(outlook.forecasts)}"),
        (outlook.counted("unknown"), "may fit or not, which cannot be told"),
        (outlook.counted("refused"), "will not run"),
        (outlook.counted("stored"), f"{{}} in {store or 'the file'} already"),
        (outlook.planned - found, "{} not looked at"),
    ):
        if count:
            parts.append(f"{count:,} {sentence.format('is' if count == 1 else 'are')}")
    return "; ".join(parts) + "."


def _cases(count: int) -> str:
    return f"{count:,} case{'' if count == 1 else 's'}"


def _time(outlook: Outlook) -> str:
    if not outlook.left:
        return "nothing left to measure"
    side_by_side = f" on {outlook.lanes} workers side by side" if outlook.lanes > 1 else ""
    return f"about {_long(outlook.seconds)}{side_by_side}"


def _long(seconds: float) -> str:
    """`14 s`, `3 min`, `2 h 10 min`, `1 d 4 h`: no finer than a guess deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    minutes = round(seconds / 600) * 10
    if minutes < 24 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(seconds / 3600)
    return f"{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")
