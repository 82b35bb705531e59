"""A check as JSON (schema 1): everything that is known, floats to the last digit, null where there is nothing."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attnbench.report.compare import Ratio
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.verdict import OUTCOMES, Verdict

__all__ = ["SCHEMA", "as_json"]

SCHEMA = 1


def as_json(judged: Judged) -> str:
    """One object; each of its fields, and each verdict, is on a line of its own, so that two can be compared."""
    # In ASCII: a log or a pipe of whatever encoding carries it whole.
    fields = [f'  "{name}": {_dumped(value)}' for name, value in _fields(judged).items()]
    rows = ",\n".join(f"    {_dumped(_verdict(judged, found))}" for found in judged.verdicts)
    verdicts = f'  "verdicts": [\n{rows}\n  ]' if rows else '  "verdicts": []'
    return "{\n" + ",\n".join([*fields, verdicts]) + "\n}\n"


def _dumped(value: Any) -> str:
    return json.dumps(_plain(value), allow_nan=False)


def _fields(judged: Judged) -> dict[str, Any]:
    counts = Counter(found.outcome for found in judged.verdicts)
    return {
        "schema": SCHEMA,
        "code": judged.code,
        "headline": judged.headline,
        "baseline": judged.baseline,
        "candidate": judged.candidate,
        "threshold": judged.threshold,
        "fail_on": judged.failing,
        "warn_only": judged.warn_only,
        "machine": judged.machine or None,
        "noise": judged.noise or None,
        "seconds": judged.seconds or None,
        "remarks": judged.remarks,
        "command": judged.command or None,
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
    }


def _verdict(judged: Judged, found: Verdict) -> dict[str, Any]:
    return {
        "key": found.key,
        "case": found.case,
        "reading": found.reading or None,
        "title": found.title or None,
        "outcome": found.outcome,
        "fails": judged.fails(found),
        "baseline": found.baseline,
        "candidate": found.candidate,
        "ratio": _ratio(found.ratio),
        "threshold": found.threshold,
        "launches": found.launches,
        "settled": found.settled,
        "reason": found.reason or None,
        "before": found.before,
        "after": found.after,
        "file": found.file or None,
        "line": found.line or None,
        "repro": found.repro or None,
    }


def _ratio(ratio: Ratio | None) -> dict[str, float] | None:
    return None if ratio is None else {"value": ratio.value, "low": ratio.low, "high": ratio.high}


def _plain(value: Any) -> Any:
    """The value as JSON knows it; what is no finite number is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int) else str(value)
