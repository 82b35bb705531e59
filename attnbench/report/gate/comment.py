"""A check as a Markdown comment: found again by its hidden marker, and short enough for GitHub whatever was found."""

import re
from collections.abc import Iterable, Sequence

from attnbench.core.errors import UsageError
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.markdown import code_block, literal, paragraph, size
from attnbench.report.gate.verdict import Verdict
from attnbench.report.gate.wording import change, marked_reasons

__all__ = ["LIMIT", "MARKER", "comment", "marker"]

MARKER = "attnbench-check"
# GitHub refuses a comment of more than 65,536 characters; counted here in bytes, which are never fewer.
LIMIT = 65_000
# What the sentences around the tables, the rows outside the noise and the folded rest may take together.
_REMARKS, _NEWS = 8_000, 40_000

_HEAD = "| Verdict | Case | Reading | Baseline | Candidate | Change |\n|:--|:--|:--|--:|--:|--:|"
_REST_HEAD = "| Case | Reading | Baseline | Candidate | Change |\n|:--|:--|--:|--:|--:|"
_LONGEST_COMMAND = 4_000
_WIDEST_MARK = "⁴⁴⁴⁴"
# Line ends and sentences about what was left out.
_SLACK = 500


def marker(name: str = "") -> str:
    """The hidden first line by which a bot finds its comment again; `name` tells several checks apart.

    Raises:
        UsageError: a name that would end the marker.
    """
    if not re.fullmatch(r"(\w+([ ./:-]\w+)*)?", name):
        raise UsageError(f"{name!r} cannot name a check: take words of letters and digits with one of ' ./:-' between.")
    return f"<!-- {MARKER}: {name} -->" if name else f"<!-- {MARKER} -->"


def comment(judged: Judged, name: str = "") -> str:
    """The comment, never longer than `LIMIT`: rows are left out from the end, and it is said how many.

    Raises:
        UsageError: as `marker`.
    """
    head = [marker(name), f"**{paragraph(judged.headline)}**", paragraph(judged.compared, 800)]
    tail = [_listed(judged.circumstances), *_again(judged.command)]
    room = LIMIT - size("\n\n".join(head + tail)) - _SLACK
    table = _news(judged.news, min(room, _NEWS))
    rest = _rest(judged.same, room - size(table))
    return "\n\n".join(block for block in (*head, table, rest, *tail) if block) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    lines = (f"- {paragraph(sentence)}" for sentence in sentences)
    return "\n".join(_fitting(lines, len(sentences), _REMARKS, "- {} more remarks are left out."))


def _again(command: str) -> list[str]:
    block = code_block(command)
    # Half a command is none.
    return ["Again:", block] if command and size(block) <= _LONGEST_COMMAND else []


def _fitting(lines: Iterable[str], count: int, room: int, left_out: str) -> list[str]:
    """As many of the `count` lines as there is room for, and a sentence about the others."""
    kept: list[str] = []
    for line in lines:
        room -= size(line) + 1
        if room < 0:
            return [*kept, left_out.format(f"{count - len(kept):,}")]
        kept.append(line)
    return kept


def _news(rows: Sequence[Verdict], room: int) -> str:
    """The table of what is not the same, and its reasons; the worst rows stay when there is no room for all."""
    if not rows:
        return ""
    kept = _that_fit(rows, room - size(_HEAD) - 100)
    marks = marked_reasons(kept)
    lines = [_HEAD, *(_row(found, marks.get(found.reason, "")) for found in kept)]
    notes = [f"{mark} {literal(reason, 500)}" for reason, mark in marks.items()]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept):,} more such rows are left out.")
    return "\n".join(lines) + ("\n\n" + "<br>\n".join(notes) if notes else "")


def _that_fit(rows: Sequence[Verdict], room: int) -> list[Verdict]:
    kept: list[Verdict] = []
    reasons: set[str] = set()
    for found in rows:
        room -= size(_row(found, _WIDEST_MARK)) + 1
        if found.reason not in reasons:
            reasons.add(found.reason)
            room -= size(literal(found.reason, 500)) + 20
        if room < 0:
            break
        kept.append(found)
    return kept


def _row(found: Verdict, mark: str) -> str:
    return _cells([f"**{found.outcome}** {mark}".strip(), *_figures(found)])


def _figures(found: Verdict) -> list[str]:
    told = (found.case, found.title or "–", found.before, found.after)
    return [*(literal(text, 200) for text in told), literal(" ".join(change(found.ratio)))]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rest(rows: Sequence[Verdict], room: int) -> str:
    """What is the same, folded."""
    if not rows:
        return ""
    count = f"{len(rows):,} reading{'' if len(rows) == 1 else 's'} the same"
    opening = f"<details>\n<summary>{count}</summary>\n\n{_REST_HEAD}\n"
    room -= size(opening) + _SLACK
    if room < size(_cells(_figures(rows[0]))):
        return f"{count}."
    lines = (_cells(_figures(found)) for found in rows)
    return opening + "\n".join(_fitting(lines, len(rows), room, "\n{} more are left out.")) + "\n\n</details>"
