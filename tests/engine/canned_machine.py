"""A machine made by hand: how long each target's step takes on it is drawn from a seed, and others work on it if told
to."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from attnbench.engine.workers.channels import Event

__all__ = ["Machine"]


@dataclass
class Machine:
    """Answers `twins`. `ms` is what a step of a target takes, and a process differs from the next one by `spread`.

    `load` tells, for each process in turn, how many cores others keep busy in it; such a load slows each kind of step
    differently, by some `slowing` of it.
    """

    ms: dict[str, float]
    spread: float = 0.0
    seed: int = 0
    load: Callable[[int], float] = lambda number: 0.0
    slowing: float = 0.1
    error: float = 0.003
    loop_us: float = 70.0
    clock: str = "cpu"
    reasons: tuple[str, ...] = ()
    failing: str = ""
    processes: int = 0
    asked: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._kinds = {target: self._rng.gauss(1, 1) for target in sorted(self.ms)}
        self._process: dict[str, float] = {}

    def fresh(self) -> None:
        self.processes += 1
        self._process = {target: self._rng.gauss(0, self.spread) for target in sorted(self.ms)}

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.asked.append(request)
        targets = [side["case"]["target"] for side in request["sides"]]
        for which, target in enumerate(targets):
            yield {"event": "standing", "which": which}
            if target == self.failing:
                yield {"event": "done", "status": "oom", "reason": "too large"}
                return
        yield {"event": "standing", "which": None}
        busy = self.load(self.processes)
        first, second = (self.ms[target] * math.exp(self._slow(target, busy)) for target in targets)
        change = math.log(second / first)
        yield {"event": "around", "other_cores": busy, "loop_us": self.loop_us, "reasons": list(self.reasons)}
        yield {"event": "quads", "log_ratios": [change], "first_ms": first, "second_ms": second, "clock": self.clock,
               "median": change, "error": self.error}  # fmt: skip
        yield {"event": "done", "status": "ok", "reason": ""}

    def _slow(self, target: str, busy: float) -> float:
        return self._process.get(target, 0.0) + busy * self.slowing * self._kinds[target]

    def close(self) -> None:
        return
