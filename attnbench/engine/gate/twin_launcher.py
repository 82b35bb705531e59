"""Launches of twins: both sides of a duel in one worker process, so that whatever disturbs it meets both."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from attnbench.core.errors import UsageError
from attnbench.core.sequential import Told
from attnbench.core.surroundings import Surroundings
from attnbench.engine.gate.duel import Duel, Failed, Launch, Side
from attnbench.engine.workers.channels import Channel, WorkerDied
from attnbench.metrics.timing.paired import Pairing

__all__ = ["LAYOUT", "TwinLauncher", "pair"]

# Pages of 2 MiB leave less to chance in where a tensor lies; older C libraries pass over it.
LAYOUT: Final[Mapping[str, str]] = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

# A suspicion is measured again with so many times the samples.
_HARDER = 2


class TwinLauncher:
    """Asks a channel of workers; `timeout` is the silence in seconds that is borne."""

    def __init__(self, channel: Channel, timeout: float | None = None, how: Pairing | None = None) -> None:
        self._channel, self._timeout, self._how = channel, timeout, how or Pairing()

    def fresh(self) -> None:
        self._channel.fresh()

    def launch(self, duel: Duel, seed: int, *, harder: bool) -> Launch | Failed:
        how = self._how if not harder else replace(
            self._how, fewest=_HARDER * self._how.fewest, most=_HARDER * self._how.most,
            seconds=_HARDER * self._how.seconds, error=self._how.error / _HARDER**0.5)  # fmt: skip
        return pair(self._channel, duel.sides, how, seed, self._timeout)


def pair(channel: Channel, sides: tuple[Side, Side], how: Pairing, seed: int, timeout: float | None) -> Launch | Failed:
    """What the process behind the channel says of two sides.

    Raises:
        UsageError: a target is not there.
    """
    request = {"do": "twins", "case": sides[1].case.to_dict(), "sides": [side.to_dict() for side in sides],
               "how": asdict(how), "seed": seed}  # fmt: skip
    which: int | None = None
    around = Surroundings()
    found: Launch | None = None
    try:
        for event in channel.ask(request, None if timeout is None else timeout + how.seconds):
            match event["event"]:
                case "standing":
                    which = event["which"]
                case "around":
                    around = Surroundings.from_dict(event)
                case "quads":
                    found = _launch(event, around)
                case "usage":
                    raise UsageError(event["text"])
                case "done" if found is None:
                    return Failed(which, event["status"], event["reason"])
    except WorkerDied as death:
        return Failed(which, death.status, str(death))
    assert found is not None  # an answer that is done well has them
    return found


def _launch(event: Mapping[str, Any], around: Surroundings) -> Launch:
    told = Told(event["median"], event["error"])
    return Launch(told, event["first_ms"], event["second_ms"], event["clock"], tuple(event["log_ratios"]),
                  around=around)  # fmt: skip
