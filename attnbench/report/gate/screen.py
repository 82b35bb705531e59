"""What a check found for the terminal: what is not the same, worst first, and the rest folded into one line."""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attnbench.report.facts import visible
from attnbench.report.frame import MISSING
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.verdict import Verdict
from attnbench.report.gate.wording import change, marked_reasons, news, summary
from attnbench.report.ruled import GAP, Field, Line, Ruled, line_width

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["as_table", "render_judged", "render_verdicts"]

_STYLES = {"worse": "red", "changed": "red", "missing": "red", "undecided": "yellow", "better": "green", "new": "cyan"}
_WIDE = ("Verdict", "Case", "Reading", "Baseline", "Candidate", "Change")
_NARROW = ("Verdict", "Case and reading", "Baseline", "Candidate", "Change")
_WORDS = ("Verdict", "Case", "Reading", "Case and reading")
_NARROWEST_CASE = 8


def render_judged(judged: Judged, width: int = 80) -> "Group":
    """What was compared, the rows outside the noise, how noisy it was, how to repeat it, and last what it means."""
    from rich.console import Group
    from rich.text import Text

    again = [f"Again: {judged.command}"] if judged.command else []
    sentences = [visible(sentence) for sentence in (*judged.circumstances, *again)]
    below: list[RenderableType] = [*map(Text, sentences), Text()] if sentences else []
    style = "red" if judged.code == 1 else "yellow" if any(map(judged.warns, judged.verdicts)) else "green"
    return Group(Text(visible(judged.compared)), Text(), *_rows(judged.verdicts, width), *below,
                 Text(judged.headline, style))  # fmt: skip


def as_table(judged: Judged, width: int = 120) -> str:
    """The same as plain text, for a log or a file."""
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(render_judged(judged, width))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def render_verdicts(verdicts: Sequence[Verdict], width: int = 80) -> "Group":
    """What rich prints on `width` columns; where a row does not fit on one line, it takes two."""
    from rich.console import Group
    from rich.text import Text

    return Group(*_rows(verdicts, width), Text(f"{summary(verdicts)}."))


def _rows(verdicts: Sequence[Verdict], width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    found = news(verdicts)
    marks = marked_reasons(found)
    if found:
        yield from (_table(found, marks, width), Text())
    if marks:
        yield from (*(Text(f"{mark} {visible(reason)}") for reason, mark in marks.items()), Text())


def _table(rows: Sequence[Verdict], marks: dict[str, str], width: int) -> Ruled:
    headings: tuple[str, ...] = _WIDE
    grid = [_on_one_line(found, marks) for found in rows]
    if _total(widths := _widths(headings, grid)) > width:
        headings, grid = _NARROW, [_on_two_lines(found, marks) for found in rows]
        widths = _widths(headings, grid)
        # Only names are folded: a figure on two lines would be two figures.
        widths[1] = max(_NARROWEST_CASE, min(widths[1], width - _total(widths) + widths[1]))
    fields = [Field((heading,), fitting, heading not in _WORDS)
              for heading, fitting in zip(headings, widths, strict=True)]  # fmt: skip
    styles = (_STYLES[found.outcome] for found in rows)
    return Ruled(fields, [Line(cells, ((0, style),)) for cells, style in zip(grid, styles, strict=True)])


def _widths(headings: Sequence[str], grid: Sequence[tuple[str, ...]]) -> list[int]:
    columns = zip(headings, *grid, strict=True)
    return [max(line_width(line) for cell in column for line in cell.split("\n")) for column in columns]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _on_one_line(found: Verdict, marks: dict[str, str]) -> tuple[str, ...]:
    outcome = f"{found.outcome} {marks.get(found.reason, '')}".strip()
    percent = " ".join(change(found.ratio))
    case, title, before, after = map(visible, (found.case, found.title or MISSING, found.before, found.after))
    return outcome, case, title, before, after, percent


def _on_two_lines(found: Verdict, marks: dict[str, str]) -> tuple[str, ...]:
    outcome, case, title, before, after, _ = _on_one_line(found, marks)
    return outcome, f"{case}\n{title}" if found.title else case, before, after, "\n".join(change(found.ratio))
