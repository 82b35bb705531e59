"""A runner made by hand: how much slower each candidate is there, and what a process, by chance, says of it."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attnbench.core.case import Case
from attnbench.core.sequential import Told
from attnbench.engine.gate.duel import Duel, Failed, Launch, Side
from attnbench.engine.gate.thresholds import Threshold

__all__ = ["CONTROL", "Asked", "Draw", "Simulated", "duel", "heavy", "normal"]

# A number of a standard deviation of 1, or of the noise that has one.
Draw = Callable[[random.Random], float]

_SIDE = Side(Case("self_attn"))


def normal(rng: random.Random) -> float:
    return rng.gauss(0, 1)


def heavy(rng: random.Random) -> float:
    """Student's t of three degrees of freedom, whose standard deviation is the square root of 3."""
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2) / 3) / math.sqrt(3)


def duel(name: str, margin: float = 0.01, tolerance: float = 0.05, *, both_ways: bool = False) -> Duel:
    return Duel(name, _SIDE, _SIDE, Threshold(tolerance, margin), both_ways)


CONTROL = duel("the same code twice")


@dataclass(frozen=True)
class Asked:
    """What was asked, and in the how manieth process."""

    name: str
    process: int
    seed: int
    harder: bool


@dataclass
class Simulated:
    """Tells of each duel the logarithm of its `slower` (0.03 is 3 %), give or take `spread`, and keeps what was asked.

    `instead` gives what a process says in the place of that, or None; each launch takes `seconds` of the clock.
    """

    slower: dict[str, float] = field(default_factory=dict)
    spread: float = 0.005
    draw: Draw = normal
    seed: int = 0
    seconds: float = 0.0
    instead: Callable[[Asked], Launch | Failed | float | None] = lambda asked: None
    processes: int = 0
    now: float = 0.0
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def clock(self) -> float:
        return self.now

    def fresh(self) -> None:
        self.processes += 1

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        self.now += self.seconds
        self.asked.append(Asked(duel.name, self.processes, seed, harder))
        found = self.instead(self.asked[-1])
        if isinstance(found, Launch | Failed):
            return found
        slower = self.slower.get(duel.name, 0.0) if found is None else found
        log_ratio = math.log1p(slower) + self.spread * self.draw(self._rng)
        return Launch(Told(log_ratio, 0.001), 2.0, 2.0 * math.exp(log_ratio), "cpu")

    def asked_of(self, name: str, *, harder: bool | None = None) -> Sequence[Asked]:
        return [each for each in self.asked if each.name == name and harder in (None, each.harder)]
