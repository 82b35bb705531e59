"""A Question: a Case as it is asked, and how it is to be measured; what a sweep, a suite or a script plans."""

from dataclasses import dataclass

from attnbench.core.case import Case
from attnbench.metrics.metric import Options

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """`case` may leave open what is found by trying (`--device auto`, the layout, the heads)."""

    case: Case
    options: Options
