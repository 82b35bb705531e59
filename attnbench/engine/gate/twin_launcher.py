"""Launches of twins: both sides of a duel in one worker process, so that whatever disturbs it meets both."""

import math
import os
from dataclasses import replace
from typing import Final

from attnbench.core.sequential import Told
from attnbench.engine.gate.duel import Duel, Failed, Launch, Side
from attnbench.engine.gate.pair import pair
from attnbench.engine.gate.yardsticks import YARDSTICKS, shape_for, yardstick_for
from attnbench.engine.workers.channels import Channel
from attnbench.engine.workers.ending import CLASH
from attnbench.metrics.timing.paired import Pairing

__all__ = ["TwinLauncher", "layout"]

_TUNABLES: Final = "GLIBC_TUNABLES"

# What two processes differ by, each held against a yardstick, as a standard deviation: 1 to 1.5 % were measured.
_BETWEEN_PROCESSES = 0.015

# A suspicion is measured again with so many times the samples; more is better spent on other processes, since what
# two of them differ by does not go away.
_HARDER = 1.5


def layout() -> dict[str, str]:
    """What the environment of a worker has besides: pages of 2 MiB leave less to chance in where a tensor lies.

    Older C libraries pass over it; what the user has set stays.
    """
    own = os.environ.get(_TUNABLES)
    return {_TUNABLES: f"glibc.malloc.hugetlb=1{f':{own}' if own else ''}"}


class TwinLauncher:
    """Asks a channel of workers; `timeout` is the silence in seconds that is borne.

    Two versions that cannot share a process take turns in processes of their own, each beside the same yardstick; why
    stands in `apart`, by the name of the duel.
    """

    def __init__(self, channel: Channel, timeout: float | None = None, how: Pairing | None = None) -> None:
        self._channel, self._timeout, self._how = channel, timeout, how or Pairing()
        self.apart: dict[str, str] = {}

    def fresh(self) -> None:
        self._channel.fresh()

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        how = _harder(self._how) if harder else self._how
        if duel.name not in self.apart:
            found = pair(self._channel, duel.sides, how, seed, self._timeout)
            if not isinstance(found, Failed):
                return found
            if found.status != CLASH:
                return self._with_the_other(found, duel, how, seed)
            self.apart[duel.name] = found.reason
        return self._apart(duel, how, seed)

    def _with_the_other(self, failed: Failed, duel: Duel, how: Pairing, seed: int) -> Failed:
        """Which side was built first is chance: what neither can is no difference between them."""
        if failed.which is None:
            return failed
        side = duel.sides[1 - failed.which]
        found = pair(self._channel, (side, side), how, seed, self._timeout)
        return replace(failed, other=replace(found, which=1 - failed.which) if isinstance(found, Failed) else None)

    def _apart(self, duel: Duel, how: Pairing, seed: int) -> Launch | Failed:
        """Each side in a process of its own; the order is by chance."""
        found: dict[int, Launch] = {}
        for which in (0, 1) if seed % 2 else (1, 0):
            side = duel.sides[which]
            yardstick = Side(yardstick_for(YARDSTICKS[0], shape_for(side.case), side.case))
            self._channel.fresh()
            launch = pair(self._channel, (yardstick, side), how, seed, self._timeout)
            if isinstance(launch, Failed):
                return replace(launch, which=which if launch.which == 1 else None)
            found[which] = launch
        self._channel.fresh()  # the duels that follow in this round begin as if this one had not been
        return _between(found[0], found[1])


def _harder(how: Pairing) -> Pairing:
    return replace(
        how, error=how.error / _HARDER**0.5, fewest=round(_HARDER * how.fewest), most=round(_HARDER * how.most),
        seconds=_HARDER * how.seconds, longest=_HARDER * how.longest)  # fmt: skip


def _between(baseline: Launch, candidate: Launch) -> Launch:
    """What two launches beside the same yardstick say of each other."""
    told = Told(candidate.told.log_ratio - baseline.told.log_ratio,
                math.hypot(candidate.told.error, baseline.told.error, _BETWEEN_PROCESSES))  # fmt: skip
    return Launch(told, baseline.candidate_ms, candidate.candidate_ms, candidate.clock)
