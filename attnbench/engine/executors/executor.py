"""What an executor is: it opens lanes, in each of which Cases are measured one after the other."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from attnbench.core.errors import AttnbenchError
from attnbench.core.plugins import LeftOutWarning
from attnbench.core.registry import Registry
from attnbench.engine.workers.channels import Channel

__all__ = ["EXECUTORS", "Executor", "Isolation", "Lane", "LaneLost", "LaneWarning", "Wanted"]

# A worker process for each lane, a fresh one for each case, or none.
Isolation = Literal["worker", "case", "none"]


class LaneLost(AttnbenchError):  # noqa: N818 - it is news, not a mistake
    """What answered is gone with its machine, through no fault of the Case: another lane has to measure it."""


class LaneWarning(LeftOutWarning):
    """A lane that could have been is not."""


@dataclass(slots=True)
class Lane:
    """A place where Cases are measured one after the other, alone on their device.

    `open` starts what answers, or raises LaneLost where nothing can be started any more; `device` is what Cases are
    asked for there, and "" leaves them as they are. Lanes of one `host` share its memory and its cores. `facts` go into
    the `env` of each record. Where `open` finds another machine, it changes `name`, `host` and `facts` to that.
    """

    name: str
    open: Callable[[], Channel]
    device: str = ""
    host: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asked of an executor.

    `devices` are those that lanes are wanted on, none leaves it to the executor; `device` is the one of the Cases
    (`auto`, `cpu`, `cuda`, `cuda:1`, or several: `cpu and cuda`). `targets` are the names of all that is measured,
    since lanes elsewhere need the user's files behind them. `quiet` silences what modules print.
    """

    devices: tuple[str, ...] = ()
    device: str = "auto"
    address: str | None = None
    isolation: Isolation = "worker"
    targets: tuple[str, ...] = ()
    quiet: bool = False


# Opens what it takes, gives the lanes, and lets go of everything in the end.
Executor = Callable[[Wanted], AbstractContextManager[Sequence[Lane]]]

EXECUTORS: Registry[Executor] = Registry("executor", group="attnbench.executors")


def _of(module: str) -> Executor:
    """The executor of that file, which alone loads what it needs."""

    def opened(wanted: Wanted) -> AbstractContextManager[Sequence[Lane]]:
        lanes: Executor = import_module(f"{__package__}.{module}").lanes
        return lanes(wanted)

    return opened


for _name in ("local", "ray"):
    EXECUTORS.register(_name)(_of(_name))
