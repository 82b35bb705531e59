"""What an experiment answers: whether it can be measured, how, and what would help."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Answer", "Can", "Trial", "no", "partly", "yes"]

Can = Literal["yes", "partly", "no"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`how` it is measured, or why it is not; `advice` what to do about it; `figures` what the experiment read."""

    can: Can
    how: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


# Tries it on the torch device of that name; it may raise whatever torch raises.
Trial = Callable[[str], Answer]


def yes(how: str, **figures: Any) -> Answer:
    return Answer("yes", how, "", figures)


def partly(how: str, advice: str = "", **figures: Any) -> Answer:
    return Answer("partly", how, advice, figures)


def no(how: str, advice: str = "") -> Answer:
    return Answer("no", how, advice)
