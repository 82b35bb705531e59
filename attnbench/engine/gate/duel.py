"""A duel: two sides of one question, timed against each other in one fresh process after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from attnbench.core.case import Case
from attnbench.core.sequential import Told
from attnbench.core.surroundings import Surroundings
from attnbench.engine.gate.thresholds import Threshold

__all__ = ["Duel", "Failed", "Launch", "Launcher", "Side"]


@dataclass(frozen=True, slots=True)
class Side:
    """A resolved Case, and the version of the user's code that is meant, as `Version.to_dict` gives it; None is the
    one that is there."""

    case: Case
    version: Mapping[str, Any] | None = field(default=None, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """As a request has it."""
        return {"case": self.case.to_dict(), "version": self.version}


@dataclass(frozen=True, slots=True)
class Duel:
    """What is asked: how much longer the candidate takes than the baseline, held against a threshold.

    With `both_ways` a candidate that is faster is news as well, and not merely no regression.
    """

    name: str
    baseline: Side
    candidate: Side
    threshold: Threshold
    both_ways: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.baseline, self.candidate


@dataclass(frozen=True, slots=True)
class Launch:
    """What one fresh process says of a duel.

    `baseline_ms` and `candidate_ms` are of a step, by the `clock` that it was judged by; `quads` are the logarithms of
    the ratios that it took one after the other. `disturbed` says what makes it worth nothing; "" is nothing. `around`
    is what went on meanwhile.
    """

    told: Told
    baseline_ms: float
    candidate_ms: float
    clock: str
    quads: tuple[float, ...] = ()
    disturbed: str = ""
    around: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True)
class Failed:
    """A process that gave no answer: `which` side it failed on (0 is the baseline), None where both were there.

    `other` is how the other side fails, where it does so too.
    """

    which: int | None
    status: str
    reason: str
    other: "Failed | None" = None


class Launcher(Protocol):
    """Has duels fought in fresh processes."""

    def fresh(self) -> None:
        """What follows is answered by a process that has answered nothing yet."""
        ...

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        """One process's word on a duel; `harder` takes more time over it."""
        ...
