"""One process's word on two sides: asked of a worker, and read."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from attnbench.core.sequential import Told
from attnbench.core.surroundings import Surroundings
from attnbench.engine.gate.duel import Failed, Launch, Side
from attnbench.engine.workers.channels import Channel, WorkerDied
from attnbench.metrics.timing.paired import Pairing

__all__ = ["pair"]


def pair(channel: Channel, sides: tuple[Side, Side], how: Pairing, seed: int, timeout: float | None) -> Launch | Failed:
    """What the process behind the channel says of two sides."""
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
                case "usage":  # it was there when it was counted: somebody is editing it
                    return Failed(which, "error", str(event["text"]).rstrip("."))
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
