"""What a test gets of a command line that it has run."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Cli", "Outcome"]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
