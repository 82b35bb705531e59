"""Ways to put a request to whoever answers it: in this process, or in a worker that a fault costs and not the sweep."""

import json
import queue
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from attnbench.core.errors import UsageError
from attnbench.engine.workers.obituary import Death, WorkerDied, kernel_kills, obituary, silence
from attnbench.engine.workers.overheard import Overheard
from attnbench.engine.workers.worker_process import WorkerProcess

__all__ = ["Channel", "Event", "InlineChannel", "WorkerChannel", "WorkerDied"]

Event = dict[str, Any]

_LAST = ("done", "usage")
# Of a line that is no event so much stands in the reason.
_QUOTED = 40


class Channel(Protocol):
    """Answers requests with events; see attnbench.engine.workers.answer."""

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        """The events of one answer, each as it comes. WorkerDied when there will be no more."""
        ...

    def fresh(self) -> None:
        """See that a process that has answered nothing yet answers next. UsageError where there is but one."""
        ...

    def close(self) -> None:
        """Let go of whatever answers."""
        ...


class InlineChannel:
    """Answers in this process, for debuggers: nothing protects the sweep from the module."""

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        from attnbench.engine.workers.answer import answer

        for event in answer(request, inline=True):
            event.pop("spent", None)  # there is no other
            yield event

    def fresh(self) -> None:
        raise UsageError("a fresh process needs a worker: leave --no-isolate away.")

    def close(self) -> None:
        return


class WorkerChannel:
    """Answers in a worker process that is started at once and kept warm, and in another one when that is dead or spent.

    Spent is a worker in which the next answer would not be what it is in a fresh one: it says so itself. Every fresh
    worker is greeted as the first one was, so that its threads and device are set. `env` is what its environment has
    besides this process's, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, *, quiet: bool = False, env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})
        self._heard = Overheard(quiet=quiet)
        self._greeting: Event | None = None
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._ready = self._given_up = False
        try:
            self._process = WorkerProcess(self._env, self._heard)
        except OSError as error:
            raise WorkerDied("error", f"a worker process cannot be started: {error.strerror}") from error

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        if self._given_up or self._process.over:
            self._replace()
        if request["do"] == "hello":
            self._greeting = request
        yield from self._answers(request, timeout)

    def _replace(self) -> None:
        self.close()
        self._start()
        if self._greeting is not None:
            try:
                for _ in self._answers(self._greeting, None):
                    pass
            except WorkerDied as death:
                raise WorkerDied(death.status, f"a fresh worker cannot be set up: {death}") from death

    def _answers(self, request: Event, timeout: float | None) -> Iterator[Event]:
        self._number += 1
        self._heard.begin()
        killed = kernel_kills(self._process.pid)
        last, spent = "", False
        try:
            if not self._ready:
                self._next(0, None, killed)  # once it has loaded torch: that is not the module's silence
                self._ready = True
            self._process.send(b"%d %s\n" % (self._number, json.dumps(request).encode()))
            while last not in _LAST:
                event = self._next(self._number, timeout, killed)
                last, spent = event["event"], event.pop("spent", False)
                yield event
        finally:
            if spent or last not in _LAST:  # what else it has to say would be taken for the next answer
                self._give_up()

    def _next(self, number: int, timeout: float | None, killed: Any) -> Event:
        try:
            line = self._process.lines.get(timeout=timeout)
        except queue.Empty:
            assert timeout is not None
            self._give_up(reporting=True)
            printed = self._heard.bytes if self._heard.endless else None
            raise silence(timeout, self._process.report(), printed) from None
        if line is None:
            self._process.settle()
            words = self._heard.words()
            raise obituary(Death(self._process.code, self._process.report(), words, killed()))
        event = _event(line, number)
        if event is None:
            self._give_up()
            raise WorkerDied("crashed", f"it wrote into the pipe that its worker answers through: {_quoted(line)}")
        return event

    def _give_up(self, *, reporting: bool = False) -> None:
        """End the worker, and ask it no more even if it does not die of that."""
        self._given_up = True
        self._process.end(reporting=reporting)

    def fresh(self) -> None:
        self._give_up()  # the next request starts another, and sets it up

    def close(self) -> None:
        self._process.close()


def _event(line: bytes, number: int) -> Event | None:
    """The event of the answer to the request of that number; None where the line is not from ours."""
    asked, _, text = line.partition(b" ")
    if asked != b"%d" % number:
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _quoted(line: bytes) -> str:
    text = line[: 2 * _QUOTED].decode(errors="replace")
    return ascii(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")
