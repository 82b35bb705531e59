"""How verdicts are said wherever they are printed: in which order, by how much in per cent, and all in one line."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from attnbench.report.compare import Ratio
from attnbench.report.footnotes import superscript
from attnbench.report.frame import MISSING
from attnbench.report.gate.verdict import OUTCOMES, Verdict

__all__ = ["change", "marked_reasons", "news", "sentence", "summary"]


def news(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What is not the same, worst first: by outcome, then what has no ratio (a crash), then the largest change."""
    found = [each for each in verdicts if each.outcome != "same"]
    return sorted(found, key=lambda each: (OUTCOMES.index(each.outcome), -_size(each.ratio)))


def _size(ratio: Ratio | None) -> float:
    # To three digits, so that MACs and FLOPs, which say the same, keep their order.
    return math.inf if ratio is None or not ratio.value > 0 else round(abs(math.log(ratio.value)), 3)


def marked_reasons(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Each reason once, and the mark that its rows bear: `¹`."""
    reasons = dict.fromkeys(found.reason for found in verdicts if found.reason)
    return {reason: superscript(number) for number, reason in enumerate(reasons, start=1)}


def change(ratio: Ratio | None) -> list[str]:
    """`+12 %` and `(+9.1 to +15)`: the change, and the ends of its interval where it has one."""
    if ratio is None:
        return [MISSING]
    value = f"{_signed(ratio.value)} %"
    return [value] if ratio.low == ratio.high else [value, f"({_signed(ratio.low)} to {_signed(ratio.high)})"]


def _signed(ratio: float) -> str:
    percent = (ratio - 1) * 100
    return f"{percent:+.1f}" if abs(percent) < 9.95 else f"{percent:+,.0f}"


def sentence(found: Verdict) -> str:
    """`Latency worse: 2.600 ms, was 2.149 ms, +21 % (+20 to +22)`, and behind a semicolon the reason."""
    subject = f"{found.title or 'Case'} {found.outcome}"
    return f"{subject}: {'; '.join(_details(found))}" if any(_details(found)) else subject


def _details(found: Verdict) -> Iterator[str]:
    if (found.before, found.after) != (MISSING, MISSING):
        ratio = "" if found.ratio is None else f", {' '.join(change(found.ratio))}"
        yield f"{found.after}, was {found.before}{ratio}"
    if found.reason:
        yield found.reason


def summary(verdicts: Sequence[Verdict]) -> str:
    """`1 worse, 2 undecided; 37 readings the same`"""
    found = Counter(each.outcome for each in verdicts)
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count and outcome != "same")
    same = f"{counts['same']:,} reading{'' if counts['same'] == 1 else 's'} the same" if counts["same"] else ""
    return "; ".join(part for part in (told, same) if part) or "Nothing was compared"
