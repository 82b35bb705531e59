"""Launches against a stored baseline: a case beside each yardstick, held against how it stood to them when it was
stored."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attnbench.core.case import Case
from attnbench.core.sequential import Told
from attnbench.engine.gate.baseline import Baseline, Line
from attnbench.engine.gate.calm import best_loop, best_of, slowed, unrest
from attnbench.engine.gate.contest import Limits
from attnbench.engine.gate.duel import Duel, Failed, Launch, Side
from attnbench.engine.gate.pair import pair
from attnbench.engine.gate.thresholds import Threshold
from attnbench.engine.gate.yardsticks import yardstick_for
from attnbench.engine.workers.channels import Channel
from attnbench.metrics.timing.paired import Pairing

__all__ = ["HOW", "LIMITS", "Against", "StoredLauncher", "against", "stored_duel"]

# A launch takes five seconds a case. Of real launches, drawn again and again (Efron 1979) through all that `Contest`
# does, at a threshold of 5 %: twelve that are stored let others find 5 % in 96 cases of a hundred where one
# spreads by 0.9 %, in 60 where it spreads by 2 %, and 10 % always; of 400 cases without a change none failed.
HOW: Final = Pairing(seconds=2.0, block_ms=1.5)
LIMITS: Final = Limits(max_time=120.0)

# By so much may the yardsticks have moved against each other, at least, and in deviations of what was stored.
_APART, _APART_DEVIATIONS = 0.03, 4.0


def stored_duel(name: str, line: Line, threshold: Threshold) -> Duel:
    """What is asked of a line whose case is timed; both sides are the code that is there."""
    return Duel(name, Side(line.case), Side(line.case), threshold)


@dataclass(frozen=True, slots=True)
class Against:
    """One process's word on a case beside each yardstick."""

    launches: Mapping[str, Launch]

    @property
    def clock(self) -> str:
        """`wall` where one of them was not judged by CPU time."""
        clocks = {launch.clock for launch in self.launches.values()}
        return clocks.pop() if len(clocks) == 1 else "wall"

    @property
    def step_ms(self) -> float:
        return statistics.fmean(launch.candidate_ms for launch in self.launches.values())

    @property
    def yardstick_ms(self) -> dict[str, float]:
        """What the yardsticks themselves took."""
        return {name: launch.baseline_ms for name, launch in self.launches.items()}

    @property
    def error(self) -> float:
        """The standard error of the mean over the yardsticks."""
        return math.hypot(*(launch.told.error for launch in self.launches.values())) / len(self.launches)

    @property
    def log_ratios(self) -> dict[str, float]:
        return {name: launch.told.log_ratio for name, launch in self.launches.items()}

    def moved(self, line: Line) -> dict[str, float]:
        """By yardstick, how much longer the case takes against it than when the line was stored, as a logarithm."""
        return {name: ratio - line.middle(name) for name, ratio in self.log_ratios.items()}

    def unrest(self, device: str, loop_us: float | None) -> str:
        """What disturbed it, as far as the machine itself tells."""
        return unrest((launch.around for launch in self.launches.values()), device, loop_us)


def against(channel: Channel, case: Case, shape: tuple[int, int, int], yardsticks: tuple[str, ...], how: Pairing,
            seed: int, timeout: float | None) -> Against | Failed:  # fmt: skip
    """The case beside each yardstick of that shape, one after the other in the process behind the channel.

    Raises:
        UsageError: the case's target is not there.
    """
    launches: dict[str, Launch] = {}
    for number, name in enumerate(yardsticks):
        found = pair(channel, (Side(yardstick_for(name, shape, case)), Side(case)), how, seed + number, timeout)
        if isinstance(found, Failed):
            return found if found.which == 1 else Failed(None, found.status, f"beside {name}: {found.reason}")
        launches[name] = found
    return Against(launches)


class StoredLauncher:
    """Has the cases of a baseline launched against it.

    What both yardsticks say together is the change; that they do not say the same is a doubt which more processes do
    not take away, as is the error of what was stored. A launch is disturbed where the machine says so, and where the
    yardsticks have moved against each other: then it is another machine than the one that the baseline knows.
    """

    def __init__(self, channel: Channel, baseline: Baseline, timeout: float | None = None, how: Pairing = HOW) -> None:
        self._channel, self._baseline, self._timeout, self._how = channel, baseline, timeout, how
        self._loop_us = baseline.loop_us
        self._apart: dict[str, list[float]] = {}
        self._best: dict[str, dict[str, float]] = {}

    def fresh(self) -> None:
        self._channel.fresh()

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        """One process's word. What it says differs from the next one's by more than longer timing would take away, so
        that `harder` is the same."""
        line = self._line(duel.candidate.case)
        assert line.shape is not None  # a line that is timed has one
        found = against(self._channel, line.case, line.shape, self._baseline.yardsticks, self._how, seed, self._timeout)
        return found if isinstance(found, Failed) else self._launch(found, line)

    def _line(self, case: Case) -> Line:
        line = self._baseline.line(case)
        assert line is not None and line.is_timed, f"{case.name} is not timed in the baseline"
        return line

    def _launch(self, found: Against, line: Line) -> Launch:
        moved = found.moved(line)
        change = statistics.fmean(moved.values())
        disturbed = self._disturbed(found, line, moved)
        apart = [] if disturbed else self._apart.setdefault(line.case.key, [])
        apart.append(_apart(moved))
        # The yardsticks differ by chance, too: it is what they differ by on average that does not go away.
        doubt = math.hypot(statistics.fmean(apart) / 2, line.error)
        told = Told(change, max(found.error, line.spread), doubt)
        quads = [
            value - line.middle(name) for name, launch in found.launches.items() for value in launch.quads
        ]  # fmt: skip
        return Launch(told, found.step_ms / math.exp(change), found.step_ms, found.clock, tuple(quads), disturbed)

    def _disturbed(self, found: Against, line: Line, moved: Mapping[str, float]) -> str:
        around = [launch.around for launch in found.launches.values()]
        self._loop_us = best_loop(around, self._loop_us)
        best = self._best[line.case.key] = best_of(found.yardstick_ms, self._best.get(line.case.key, {}))
        if words := found.unrest(line.case.device, self._loop_us) or slowed(
            found.yardstick_ms, best, line.yardstick_ms
        ):
            return words
        if found.clock != line.clock:
            return f"only the {found.clock} time was to be had, and the {line.clock} time is stored"
        apart = abs(_apart(moved))
        if apart > max(_APART, _APART_DEVIATIONS * line.spread_apart):
            return "the yardsticks moved against each other"
        return ""


def _apart(moved: Mapping[str, float]) -> float:
    """How much more the case moved against the first yardstick than against the last."""
    values = list(moved.values())
    return values[0] - values[-1]
