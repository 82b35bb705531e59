"""The verdicts of the gate for the terminal: what is not the same, worst first, and the rest folded into one line."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.report.compare import Ratio
from attnbench.report.footnotes import superscript
from attnbench.report.frame import MISSING
from attnbench.report.gate.verdict import OUTCOMES, Verdict
from attnbench.report.ruled import GAP, Field, Line, Ruled, line_width

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["render_verdicts"]

_STYLES = {"worse": "red", "changed": "red", "missing": "red", "undecided": "yellow", "better": "green", "new": "cyan"}
_WIDE = ("Verdict", "Case", "Reading", "Baseline", "Candidate", "Change")
_NARROW = ("Verdict", "Case and reading", "Baseline", "Candidate", "Change")
_WORDS = ("Verdict", "Case", "Reading", "Case and reading")
_NARROWEST_CASE = 8


def render_verdicts(verdicts: Sequence[Verdict], width: int = 80) -> "Group":
    """What rich prints on `width` columns; where a row does not fit on one line, it takes two."""
    from rich.console import Group
    from rich.text import Text

    if not verdicts:
        return Group(Text("Nothing was compared."))
    news = [found for outcome in OUTCOMES if outcome != "same" for found in verdicts if found.outcome == outcome]
    reasons = dict.fromkeys(found.reason for found in news if found.reason)
    marks = {reason: superscript(number) for number, reason in enumerate(reasons, start=1)}
    parts: list[RenderableType] = [_table(news, marks, width), Text()] if news else []
    if marks:
        parts += [*(Text(f"{mark} {reason}") for reason, mark in marks.items()), Text()]
    return Group(*parts, Text(_summary(verdicts)))


def _table(news: Sequence[Verdict], marks: dict[str, str], width: int) -> Ruled:
    headings: tuple[str, ...] = _WIDE
    grid = [_on_one_line(found, marks) for found in news]
    if _total(widths := _widths(headings, grid)) > width:
        headings, grid = _NARROW, [_on_two_lines(found, marks) for found in news]
        widths = _widths(headings, grid)
        # Only names are folded: a figure on two lines would be two figures.
        widths[1] = max(_NARROWEST_CASE, min(widths[1], width - _total(widths) + widths[1]))
    fields = [Field((heading,), fitting, heading not in _WORDS)
              for heading, fitting in zip(headings, widths, strict=True)]  # fmt: skip
    styles = (_STYLES[found.outcome] for found in news)
    return Ruled(fields, [Line(cells, ((0, style),)) for cells, style in zip(grid, styles, strict=True)])


def _widths(headings: Sequence[str], grid: Sequence[tuple[str, ...]]) -> list[int]:
    columns = zip(headings, *grid, strict=True)
    return [max(line_width(line) for cell in column for line in cell.split("\n")) for column in columns]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _on_one_line(found: Verdict, marks: dict[str, str]) -> tuple[str, ...]:
    outcome = f"{found.outcome} {marks.get(found.reason, '')}".strip()
    change = " ".join(_change(found.ratio))
    return outcome, found.case, found.title or MISSING, found.before, found.after, change


def _on_two_lines(found: Verdict, marks: dict[str, str]) -> tuple[str, ...]:
    outcome, case, _, before, after, _ = _on_one_line(found, marks)
    return outcome, f"{case}\n{found.title}".rstrip("\n"), before, after, "\n".join(_change(found.ratio))


def _change(change: Ratio | None) -> list[str]:
    """`+12 %` and `(+9.1 to +15)`: the change, and the ends of its interval where it has one."""
    if change is None:
        return [MISSING]
    value = f"{_signed(change.value)} %"
    return [value] if change.low == change.high else [value, f"({_signed(change.low)} to {_signed(change.high)})"]


def _signed(ratio: float) -> str:
    percent = (ratio - 1) * 100
    return f"{percent:+.1f}" if abs(percent) < 9.95 else f"{percent:+,.0f}"


def _summary(verdicts: Sequence[Verdict]) -> str:
    """`1 worse, 2 undecided; 37 readings the same.`"""
    found = Counter(each.outcome for each in verdicts)
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    news = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count and outcome != "same")
    same = f"{counts['same']} reading{'' if counts['same'] == 1 else 's'} the same" if counts["same"] else ""
    return "; ".join(part for part in (news, same) if part) + "."
