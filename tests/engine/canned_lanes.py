"""Lanes whose answers are made by hand: no process, no torch, no time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from canned_channels import Answer, Canned

from attnbench.core.case import Case
from attnbench.engine.executors.executor import Lane
from attnbench.engine.workers.channels import Event

Measured = Callable[[Case], Answer]


def nothing(case: Case) -> Answer:
    """Measured, and found nothing."""
    return []


@dataclass
class Machine:
    """Answers what a worker is asked; `measure` says what a Case gives, or raises."""

    measure: Measured = nothing
    fingerprint: str = "f"
    resolve: Callable[[Case], Answer | Case] = field(default=lambda case: case)
    asked: list[Event] = field(default_factory=list)
    measured: list[Case] = field(default_factory=list)
    fresh_calls: int = 0
    closed: bool = False

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.asked.append(request)
        env = {"fingerprint": self.fingerprint, "threads": request.get("threads")}
        match request["do"]:
            case "hello":
                device = {"auto": "cpu"}.get(request["device"], request["device"])
                yield {"event": "device", "device": device, "env": env}
                yield {"event": "done", "status": "ok", "reason": ""}
            case "resolve":
                found = self.resolve(Case.from_dict(request["case"]))
                yield {"event": "env", "env": env}
                if isinstance(found, Case):
                    yield {"event": "case", "case": found.to_dict()}
                    found = ("ok", "")
                yield {"event": "done", "status": found[0], "reason": found[1]}
            case "measure":
                case = Case.from_dict(request["case"])
                self.measured.append(case)
                for event in Canned(lambda _: self.measure(case)).ask(request):
                    yield event | ({"env": env} if event["event"] == "env" else {})

    def fresh(self) -> None:
        self.fresh_calls += 1

    def close(self) -> None:
        self.closed = True


def lane(machine: Machine, name: str = "", host: str = "", device: str = "", **facts: object) -> Lane:
    return Lane(name, lambda: machine, device, host, facts)
