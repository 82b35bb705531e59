"""Verdicts on latencies that were timed against each other, and the noise of a runner, in words."""

import math

from attnbench.core.record import Record
from attnbench.core.sequential import Decision, Evidence
from attnbench.core.units import significant
from attnbench.report.compare import LATENCY, Ratio
from attnbench.report.frame import MISSING
from attnbench.report.gate.verdict import Verdict

__all__ = ["TITLE", "as_ratio", "noise_in_words", "not_timed", "timed"]

TITLE = "Latency"
_SAME_CODE = "the code is the same: it was not timed"


def timed(
    record: Record, name: str, decision: Decision, times: tuple[float, float] | None, threshold: float
) -> Verdict:
    """What was decided of the candidate's latency, its `record` beside; `times` are of a step in ms, baseline first."""
    before, after = times or (None, None)
    told = (*decision.told, *decision.confirming)
    return Verdict(
        record.key, name, TITLE, decision.answer, before, after,
        None if decision.evidence is None else as_ratio(decision.evidence), decision.reason,
        _cell(before), _cell(after), LATENCY, repro=record.repro,
        launches=tuple(math.exp(each.log_ratio) for each in told), threshold=threshold,
        settled=bool(decision.confirming),
    )  # fmt: skip


def not_timed(record: Record, name: str, threshold: float) -> Verdict:
    """The verdict on the latency of a case whose code is the same."""
    return Verdict(record.key, name, TITLE, "same", reason=_SAME_CODE, reading=LATENCY, repro=record.repro,
                   threshold=threshold)  # fmt: skip


def as_ratio(evidence: Evidence) -> Ratio:
    """Candidate / baseline with its 95 % interval."""
    return Ratio(math.exp(evidence.log_ratio), *evidence.interval)


def noise_in_words(control: Decision) -> str:
    """What the runner finds where nothing changed; empty where that is not known."""
    if control.evidence is None:
        return ""
    change, count = as_ratio(control.evidence), len(control.told) + len(control.confirming)
    value, low, high = (f"{(each - 1) * 100:+.1f}" for each in (change.value, change.low, change.high))
    return f"The same code against itself: {value} % ({low} to {high}) in {count} process{'' if count == 1 else 'es'}."


def _cell(ms: float | None) -> str:
    return MISSING if ms is None else f"{significant(ms, 4)} ms"
