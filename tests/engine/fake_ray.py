"""Ray as the executor sees it, without a process: nodes, actors that answer at once, and ways to lose them."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from canned_lanes import Machine

from attnbench import __version__
from attnbench.engine.workers.channels import Event, WorkerDied


class RayError(Exception): ...


class RayTaskError(RayError): ...


class RayActorError(RayError): ...


class OutOfMemoryError(RayError): ...


def node(number: int, *, gpus: int = 0, cpus: int = 2, host: str = "", alive: bool = True) -> dict[str, Any]:
    """As one of `ray.nodes()`, which leave out what there is none of."""
    has = {"CPU": float(cpus), "GPU": float(gpus)}
    return {"NodeID": f"{number:06}{'f' * 20}", "NodeManagerHostname": host or f"host{number}", "Alive": alive,
            "Resources": {name: count for name, count in has.items() if count}}  # fmt: skip


@dataclass
class Ref:
    """What is not there yet; here it is, or it never will be."""

    result: Callable[[], Any] | None

    def future(self) -> "Future[Any]":
        future: Future[Any] = Future()
        if self.result is not None:
            try:
                future.set_result(self.result())
            except RayError as error:
                future.set_exception(error)
        return future


@dataclass
class Method:
    call: Callable[..., Any]
    starts: bool = True

    def remote(self, *words: Any) -> Ref:
        return Ref((lambda: self.call(*words)) if self.starts else None)


@dataclass
class Actor:
    """The far end over a canned machine. `fate` is what asking it comes to; `gpu` is what its node gives it."""

    ray: "FakeRay"
    node: str
    gpu: str | None
    machine: Machine

    def __post_init__(self) -> None:
        there = self.node not in self.ray.full
        self.ready = Method(self._ready, there)
        self.ask, self.fresh = Method(self._ask, there), Method(self.machine.fresh, there)

    def _see(self) -> None:
        if self.node in self.ray.dead:
            raise RayActorError("The actor died because its node has died.\n\tnode was terminated unexpectedly")

    def _ready(self) -> str | None:
        self._see()
        return self.gpu

    def _ask(self, request: Event, timeout: float | None) -> tuple[list[Event], tuple[str, str] | None]:
        self._see()
        events: list[Event] = []
        death = None
        try:
            events.extend(self.machine.ask(request, timeout))
        except WorkerDied as died:
            death = died.status, str(died)
        return events, death


@dataclass
class Remote:
    """A class or a function that was made remote, with options."""

    ray: "FakeRay"
    thing: Callable[..., Any]
    chosen: dict[str, Any] = field(default_factory=dict)

    def options(self, **chosen: Any) -> "Remote":
        return Remote(self.ray, self.thing, chosen)

    def remote(self, *words: Any, **named: Any) -> Any:
        where = self.chosen["scheduling_strategy"]
        if isinstance(self.thing, type):
            return self.ray.start(where, self.chosen)
        return Ref(lambda: self.ray.looks.get(where, (__version__, True)))


@dataclass
class FakeRay:
    """`found` are its nodes, `full` those of them where nothing more fits, `dead` those that die under whoever asks."""

    found: list[dict[str, Any]] = field(default_factory=lambda: [node(1)])
    measure: Callable[[Any], Any] | None = None
    looks: dict[str, tuple[str | None, bool]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    on_init: Callable[[], None] = lambda: None
    initialized: bool = False
    started: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    running: list[Actor] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    _private: SimpleNamespace = field(default_factory=SimpleNamespace)
    given: dict[str, Any] = field(default_factory=dict)

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, OutOfMemoryError=OutOfMemoryError)
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    )

    def is_initialized(self) -> bool:
        return self.initialized

    def init(self, **given: Any) -> None:
        self.given, self.initialized = given, True
        self.on_init()

    def shutdown(self) -> None:
        assert not self.running, "what was started is ended first"
        self.initialized = False
        self.log.append("shutdown")

    def nodes(self) -> list[dict[str, Any]]:
        assert self.initialized
        return self.found

    def available_resources(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for each in self.found:
            if each["NodeID"] not in self.full:
                for kind, count in each["Resources"].items():
                    total[kind] = total.get(kind, 0) + count
        return total

    def remote(self, thing: Any = None, **chosen: Any) -> Any:
        return Remote(self, thing) if thing is not None else lambda thing: Remote(self, thing, chosen)

    def put(self, value: Any) -> Any:
        return value

    def start(self, where: str, chosen: dict[str, Any]) -> Actor:
        assert self.initialized, "this would start a cluster of its own"
        self.started.append((where, chosen))
        here = sum(actor.node == where for actor in self.running)
        machine = Machine(self.measure) if self.measure else Machine()
        actor = Actor(self, where, str(here) if chosen.get("num_gpus") else None, machine)
        self.running.append(actor)
        return actor

    def kill(self, actor: Actor) -> None:
        self.running.remove(actor)

