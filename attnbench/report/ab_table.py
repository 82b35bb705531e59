"""Two targets against each other: how long a step of each takes, size by size, and what that makes of the second."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnbench.core.record import Record
from attnbench.core.sequential import Decision
from attnbench.core.units import significant
from attnbench.report.facts import label, shared_phrases, varying_facts, visible
from attnbench.report.footnotes import superscript
from attnbench.report.frame import MISSING
from attnbench.report.gate.timed import as_ratio
from attnbench.report.ruled import Field, Line, Ruled

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["Compared", "as_json", "render_ab"]

_STYLES = {"better": "green", "worse": "red", "undecided": "yellow", "same": ""}


@dataclass(frozen=True, slots=True)
class Compared:
    """Both targets at one size: their records, and what was decided of their times (in ms, the first's first).

    Without a decision `reason` says why there is none.
    """

    first: Record
    second: Record
    decision: Decision | None
    times: tuple[float, float] | None = None
    reason: str = ""

    @property
    def why(self) -> str:
        """Why it is not known which is faster; empty where it is."""
        return self.reason if self.decision is None else self.decision.reason


def render_ab(names: tuple[str, str], rows: Sequence[Compared], threshold: float, noise: str = "") -> "Group":
    """What rich prints: a row for each size, the reasons behind, and last what the machine finds where both are one."""
    from rich.console import Group
    from rich.text import Text

    records = [row.first for row in rows]
    facts = varying_facts(records)
    reasons = dict.fromkeys(row.why for row in rows if row.why)
    marks = {why: superscript(number) for number, why in enumerate(reasons, start=1)}
    headings = ("Size", "A (ms)", "B (ms)", "B / A", "B is")
    grid = [_row(row, label(row.first, facts, name=False), threshold, marks) for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *grid, strict=True)]
    columns = zip(headings, widths, strict=True)
    fields = [Field((heading,), width, heading.endswith("(ms)")) for heading, width in columns]
    lines = [Line(cells, ((4, _STYLES[_answer(row)]),)) for cells, row in zip(grid, rows, strict=True)]
    above = f"A is {visible(names[0])}, B is {visible(names[1])}; {' · '.join(shared_phrases(records))}"
    below: list[RenderableType] = [Text(f"{mark} {visible(why)}") for why, mark in marks.items()]
    below += [Text(noise)] if noise else []
    return Group(Text(above), Text(), Ruled(fields, lines), *([Text(), *below] if below else []))


def _answer(row: Compared) -> str:
    return "undecided" if row.decision is None else row.decision.answer


def _row(row: Compared, size: str, threshold: float, marks: dict[str, str]) -> tuple[str, ...]:
    first, second = (MISSING, MISSING) if row.times is None else (significant(ms, 4) for ms in row.times)
    ratio, told = MISSING, ""
    if row.decision is not None and row.decision.evidence is not None:
        found = as_ratio(row.decision.evidence)
        ratio = f"{significant(found.value, 3)} ({significant(found.low, 3)} to {significant(found.high, 3)})"
        told = _in_words(row.decision, found.value, threshold)
    return size, first, second, ratio, f"{told or 'not known'} {marks.get(row.why, '')}".strip()


def _in_words(decision: Decision, ratio: float, threshold: float) -> str:
    """`3.1 times faster`, `12 % slower`, `the same within 5 %`."""
    if decision.answer == "same":
        return f"the same within {threshold * 100:g} %"
    if decision.answer == "undecided":
        return ""
    way, factor = ("faster", 1 / ratio) if decision.answer == "better" else ("slower", ratio)
    return f"{significant(factor, 2)} times {way}" if factor >= 1.5 else f"{significant((factor - 1) * 100, 2)} % {way}"


def as_json(names: tuple[str, str], rows: Sequence[Compared], threshold: float) -> str:
    """One object with everything that is known; null where there is nothing."""
    told = {"schema": 1, "a": names[0], "b": names[1], "threshold": threshold, "rows": list(map(_as_dict, rows))}
    return json.dumps(told, indent=2, allow_nan=False) + "\n"


def _as_dict(row: Compared) -> dict[str, Any]:
    decision = row.decision
    ratio = None if decision is None or decision.evidence is None else as_ratio(decision.evidence)
    times = row.times or (None, None)
    return {
        "size": row.first.case.size, "a": row.first.case.to_dict(), "b": row.second.case.to_dict(),
        "a_ms": times[0], "b_ms": times[1], "answer": _answer(row), "reason": row.why or None,
        "ratio": ratio and {"value": ratio.value, "low": ratio.low, "high": ratio.high},
        "processes": 0 if decision is None else len(decision.told) + len(decision.confirming),
    }  # fmt: skip
