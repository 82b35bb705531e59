"""A channel to the far end of a lane, over the actor that it is: what dies there is told from what is lost with it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from attnbench.core.errors import first_line
from attnbench.engine.executors.executor import LaneLost
from attnbench.engine.executors.nodes import Node
from attnbench.engine.workers.channels import Event, WorkerDied

__all__ = ["FarChannel"]

# Seconds in which another actor is there, unless somebody else has taken its place.
_TO_RESTART = 60.0
# Of a long message, what is said of it.
_REASONS = (
    ("its node has died", "its node died"),
    ("node was terminated", "its node died"),
    ("worker process has died", "Ray's process on it died"),
    ("is unavailable", "it does not answer any more"),
    ("died unexpectedly", "Ray's process on it died"),
)


class FarChannel:
    """Asks an actor, which `start` starts and `end` ends; it is there once `ready` answers.

    A Case that made Ray end the actor, for want of memory on its node, has its record; the next request starts another.
    """

    def __init__(self, ray: Any, node: Node, start: Callable[[Node], Any], end: Callable[[Any], None]) -> None:
        self.node = node
        self._errors = ray.exceptions
        self._start, self._end = start, end
        self._greeting: Event | None = None
        self._begin()

    def _begin(self) -> None:
        self._actor = self._start(self.node)
        self.readiness: Future[str | None] = self._actor.ready.remote().future()

    def ready(self, patience: float | None = None) -> str | None:
        """The GPU that it has been given, as its node numbers it, once it is there. LaneLost when it will not be."""
        try:
            return self.readiness.result(patience)
        except Exception as error:  # whatever its node cannot do
            raise self._lost(error) from error

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        if self._actor is None:
            self._begin()
            self.ready(_TO_RESTART)
            if self._greeting is not None:
                list(self._answer(self._greeting, None))
        if request["do"] == "hello":
            self._greeting = request
        yield from self._answer(request, timeout)

    def _answer(self, request: Event, timeout: float | None) -> Iterator[Event]:
        try:
            events, death = self._wait(self._actor.ask.remote(request, timeout))
        except self._errors.OutOfMemoryError as error:
            self._forget()
            raise WorkerDied("oom", f"{self.node} ran out of memory, and Ray ended what was running there") from error
        yield from events
        if death is not None:
            raise WorkerDied(*death)

    def fresh(self) -> None:
        if self._actor is not None:
            self._wait(self._actor.fresh.remote())

    def _wait(self, answer: Any) -> Any:
        """What it answers. LaneLost where the actor is gone; what it raised itself is a fault of ours."""
        try:
            return answer.future().result()
        except (self._errors.RayTaskError, self._errors.OutOfMemoryError):
            raise
        except self._errors.RayError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> LaneLost:
        self._forget()
        what = f"no {self.node.kind} of it is free" if isinstance(error, TimeoutError) else _said(error)
        return LaneLost(f"{self.node}: {what}")

    def _forget(self) -> None:
        if self._actor is not None:
            self._end(self._actor)
        self._actor = None

    def close(self) -> None:
        self._forget()


def _said(error: Exception) -> str:
    text = str(error).strip()
    if "creation task" in text:  # a traceback, which ends with what was raised
        return text.rpartition("\n")[2]
    return next((what for part, what in _REASONS if part in text), first_line(error))
