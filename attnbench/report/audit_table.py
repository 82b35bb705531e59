"""The verdicts of the audit for people and scripts: a table for the terminal, Markdown, JSON."""

import json
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from attnbench.core.record import Record
from attnbench.report.audit import VERDICTS, Audit
from attnbench.report.exporters import escaped
from attnbench.report.facts import shared_phrases, target_title
from attnbench.report.frame import MISSING
from attnbench.report.growth import Growth
from attnbench.report.table import folded

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["as_json", "as_markdown", "render_audits"]

_STYLES = {"refuted": "red", "cannot tell": "yellow", "not polynomial": "yellow", "no claim": "", "holds": "green"}
_GAP = 2
_INDENT = 2
# Below this width the evidence stands under its row rather than beside it.
_WIDE = 100
_NARROWEST_EVIDENCE = 40


def render_audits(audits: Sequence[Audit], records: Sequence[Record], width: int = 80) -> "Group":
    """What rich prints on `width` columns: a line for each target, and its evidence in words, never cut off."""
    from rich.console import Group
    from rich.text import Text

    headings = (target_title(records), "Claims", "Found", "Verdict")
    grid = [_cells(each) for each in audits]
    widths = _widths(headings, grid, width)
    left = width - sum(widths) - _GAP * len(widths)
    beside = width >= _WIDE and left >= _NARROWEST_EVIDENCE
    parts: list[RenderableType] = [Text(_caption(records), style="italic"), Text()]
    parts.append(Text(_joined([*headings, *(["Evidence"] if beside else [])], [*widths, left]), style="bold"))
    parts.append(Text("─" * (width if beside else sum(widths) + _GAP * (len(widths) - 1))))
    for each, cells in zip(audits, grid, strict=True):
        parts += _drawn(each, cells, widths, width, beside=beside)
    return Group(*parts, Text(), Text(_summary(audits)))


def _cells(each: Audit) -> tuple[str, str, str, str]:
    found = MISSING if each.found is None else each.found.big_o
    if each.found is not None and not (each.complete and each.exact):
        # What could not be counted can only add to what was.
        found = f"{'~' if each.complete else '≥'} {found}"
    return each.target, MISSING if each.claim is None else each.claim.big_o, found, each.verdict


def _widths(headings: Sequence[str], grid: Sequence[Sequence[str]], width: int) -> list[int]:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(headings, *grid, strict=True)]
    # A long name is folded, and the short words beside it never.
    widths[0] = max(8, min(widths[0], width * 2 // 5, width - sum(widths[1:]) - _GAP * 3))
    return widths


def _drawn(each: Audit, cells: Sequence[str], widths: Sequence[int], width: int, *, beside: bool) -> "list[Any]":
    """The lines of one target: its name folded into the first column, the evidence beside it or below it."""
    from rich.text import Text

    name = folded(cells[0], widths[0])
    taken = sum(widths) + _GAP * len(widths)
    evidence = wrap(each.evidence, width - (taken if beside else _INDENT), break_on_hyphens=False)
    texts = []
    for number in range(max(len(name), len(evidence) if beside else 1)):
        words = [name[number] if number < len(name) else "", *(cells[1:] if number == 0 else [""] * 3)]
        words += [evidence[number] if beside and number < len(evidence) else ""]
        texts.append(Text(_joined(words, [*widths, 0]).rstrip()))
    start = sum(widths[:3]) + _GAP * 3
    texts[0].stylize(_STYLES[each.verdict], start, start + len(each.verdict))
    return [*texts, *([] if beside else [Text(" " * _INDENT + line, style="dim") for line in evidence])]


def _joined(words: Sequence[str], widths: Sequence[int]) -> str:
    from rich.cells import cell_len

    padded = (word + " " * max(0, width - cell_len(word)) for word, width in zip(words, widths, strict=False))
    return (" " * _GAP).join(padded).rstrip()


def _caption(records: Sequence[Record]) -> str:
    return ", ".join([" · ".join(shared_phrases(records)), "s = √N is the side of the map"])


def _summary(audits: Sequence[Audit]) -> str:
    """`1 refuted, 1 no claim, 11 hold.`"""
    counts = {verdict: sum(each.verdict == verdict for each in audits) for verdict in VERDICTS}
    words = {"holds": "hold" if counts["holds"] > 1 else "holds"}
    return ", ".join(f"{count} {words.get(verdict, verdict)}" for verdict, count in counts.items() if count) + "."


def as_markdown(audits: Sequence[Audit], records: Sequence[Record]) -> str:
    """A GitHub table with the polynomial of the MACs in a column of its own."""
    from tabulate import tabulate

    headings = (target_title(records), "Claims", "Found", "Verdict", "MACs", "Evidence")
    rows = [(*_cells(each), _macs(each), each.evidence) for each in audits]
    table = tabulate(
        [[escaped(cell) for cell in row] for row in rows], headers=headings, tablefmt="pipe", disable_numparse=True
    )
    return f"{escaped(_caption(records))}\n\n{table}\n\n{_summary(audits)}\n"


def _macs(each: Audit) -> str:
    return MISSING if each.macs is None else each.macs.text


def as_json(audits: Sequence[Audit]) -> str:
    """A JSON list, for scripts: coefficients are exact, as text where they are no integers."""
    return json.dumps([_facts(each) for each in audits], indent=2, ensure_ascii=False) + "\n"


def _facts(each: Audit) -> dict[str, Any]:
    slope = each.measured.slope if each.measured else None
    return {
        "target": each.target,
        "kind": each.kind,
        "claim": None if each.claim is None else each.claim.plain,
        "found": None if each.found is None else each.found.plain,
        "complete": each.complete,
        "exact": each.exact,
        "verdict": each.verdict,
        "evidence": each.evidence,
        "growths": [_growth(growth) for growth in each.growths],
        "blocks": list(each.blocks),
        "doubts": list(each.doubts),
        "latency_exponent": None if slope is None else [slope.value, slope.low, slope.high],
        "latency_sides": None if slope is None or each.measured is None else [each.measured.smallest,
                                                                              each.measured.largest],
    }  # fmt: skip


def _growth(growth: Growth) -> dict[str, Any]:
    coefficients = None if growth.polynomial is None else [
        int(c) if c.denominator == 1 else str(c) for c in growth.polynomial.coefficients
    ]  # fmt: skip
    return {
        "of": growth.name,
        "order": None if growth.order is None else growth.order.plain,
        "exact": growth.exact,
        "text": growth.text,
        "coefficients_in_s": coefficients,
        "spare": growth.polynomial.spare if growth.polynomial is not None else None,
        "exponent_in_n": growth.exponent,
        "from_s": growth.since,
        "where_s_is": growth.lattice or None,
        "sides": list(growth.sides),
    }
