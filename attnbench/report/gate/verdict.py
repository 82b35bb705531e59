"""A verdict on one reading of one case, which verdicts fail a check, and the exit code of them all."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.report.compare import Ratio
from attnbench.report.frame import MISSING

__all__ = ["FAIL_ON", "OUTCOMES", "Outcome", "Verdict", "exit_code", "parsed_fail_on"]

Outcome = Literal["worse", "changed", "missing", "undecided", "better", "new", "same"]

# In the order in which they are read.
OUTCOMES: tuple[Outcome, ...] = ("worse", "changed", "missing", "undecided", "better", "new", "same")
FAIL_ON: frozenset[Outcome] = frozenset({"worse", "changed", "missing"})
# What one may ask a check to fail on.
_FAILURES: tuple[Outcome, ...] = ("worse", "changed", "missing", "undecided")

_OK, _REGRESSION, _CANNOT_JUDGE = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one reading of one case. `ratio` is candidate / baseline; figures are None where they are not.

    `title` is the reading's heading, `Status` for how the case ended, and empty where the whole case is meant;
    `reading` is its dotted name (`latency.median_ms`), and empty for the last two. `before` and `after` are cells to
    print. `file` is where the target's code is, relative to the repository, from `line` on (0 is not known), and
    `repro` the command that measures the case again. `launches` are the ratios candidate / baseline of the fresh
    processes that were measured, in their order; `threshold` is the change that was looked for (0.05 is 5 %, 0 is any
    at all, None is not said), and `settled` says that a suspicion was measured again before it was put down here.
    """

    key: str
    case: str
    title: str
    outcome: Outcome
    baseline: Any = None
    candidate: Any = None
    ratio: Ratio | None = None
    reason: str = ""
    before: str = MISSING
    after: str = MISSING
    reading: str = ""
    file: str = ""
    line: int = 0
    repro: str = ""
    launches: tuple[float, ...] = ()
    threshold: float | None = None
    settled: bool = False


def exit_code(verdicts: Sequence[Verdict], fail_on: Collection[Outcome] = FAIL_ON) -> int:
    """1 when something is as `fail_on` says, else 3 when something is undecided or nothing was compared, else 0."""
    outcomes = {found.outcome for found in verdicts}
    if outcomes & set(fail_on):
        return _REGRESSION
    compared = outcomes - {"new", "missing"}
    return _CANNOT_JUDGE if "undecided" in outcomes or not compared else _OK


def parsed_fail_on(texts: Iterable[str]) -> frozenset[Outcome]:
    """The outcomes that fail, from lists such as `worse,missing`; without any, those that fail by default.

    `worse` takes `changed` with it: what `worse` is to a latency, another count is to an exact figure.

    Raises:
        UsageError: a word that is none of them, with the nearest, or no word at all.
    """
    lists = list(texts)
    if not lists:
        return FAIL_ON
    words = [word.strip() for text in lists for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("--fail-on names nothing to fail on; to let nothing fail, give --warn-only.")
    named = frozenset(map(_failure, words))
    return named | {"changed"} if "worse" in named else named


def _failure(word: str) -> Outcome:
    for outcome in _FAILURES:
        if word.lower() == outcome:
            return outcome
    known = ", ".join(_FAILURES)
    raise UsageError(f"--fail-on cannot name {word!r}.{did_you_mean(word, _FAILURES)} It takes any of: {known}.")
