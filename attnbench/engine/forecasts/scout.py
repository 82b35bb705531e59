"""A scout goes into a lane before anything is measured: it times the answers there, and looks what memory is free."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from attnbench.core.case import Case
from attnbench.core.record import Reading
from attnbench.engine.executors.executor import Lane
from attnbench.engine.workers.channels import Channel, Event, WorkerDied

__all__ = ["FREE", "NO_PEAKS", "PEAKS", "SECONDS", "START", "scouted"]

# What it adds to the readings of an answer: the seconds that it took, and those until a fresh worker is as far; the
# bytes that are free; the peaks of the device, or why there are none.
SECONDS, START, FREE, PEAKS, NO_PEAKS = (
    f"forecast.{name}" for name in ("seconds", "start_seconds", "free_bytes", "peaks", "no_peaks")
)


def scouted(lanes: Sequence[Lane], *, live: bool) -> list[Lane]:
    """The lanes, each with a scout in it; a roof is looked for where something is to run (`live`)."""
    return [replace(lane, open=partial(_Scout, lane.open, live=live)) for lane in lanes]


class _Scout:
    """A channel that adds readings of its own to the answer to `measure`."""

    def __init__(self, opened: Callable[[], Channel], *, live: bool) -> None:
        self._began = time.perf_counter()
        self._channel, self._live = opened(), live
        self._start: float | None = None
        self._resolving: float | None = None
        self._warm = False
        self._known: dict[tuple[str, str, int | None], list[Reading]] = {}

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        if request["do"] == "measure":
            yield from self._measured(request, timeout)
            return
        began = self._began if self._start is None else time.perf_counter()
        yield from self._channel.ask(request, timeout)
        seconds = time.perf_counter() - began
        if self._start is None:  # it has loaded torch, and was greeted
            self._start = seconds
        elif request["do"] == "resolve" and self._resolving is None:  # the first of a process loads what it needs
            self._start, self._resolving = self._start + seconds, 0.0
        elif request["do"] == "resolve":
            self._resolving = seconds

    def _measured(self, request: Event, timeout: float | None) -> Iterator[Event]:
        machine = self._machine(request, timeout)
        began = time.perf_counter()
        try:
            if not self._warm:
                began = self._warm_up(request, timeout)
            for event in self._channel.ask(request, timeout):
                if event["event"] == "done":
                    yield from self._told(began, machine)
                yield event
        except WorkerDied:
            yield from self._told(began, machine)
            raise

    def _warm_up(self, request: Event, timeout: float | None) -> float:
        """Ask once unheard, so that what is then timed has everything loaded; the time at which that was done."""
        self._warm = True
        began = time.perf_counter()
        for _ in self._channel.ask(request, timeout):
            pass
        now = time.perf_counter()
        self._start = (self._start or 0.0) + now - began
        return now

    def _told(self, began: float, machine: Sequence[Reading]) -> Iterator[Event]:
        seconds = time.perf_counter() - began + (self._resolving or 0.0)
        for each in (Reading(SECONDS, seconds), Reading(START, self._start), *machine):
            yield {"event": "reading", "value": each.value, **each.describe()}

    def _machine(self, request: Event, timeout: float | None) -> list[Reading]:
        """What is free there before anything was done, and the roof; asked once for each device, dtype and threads."""
        case = Case.from_dict(request["case"])
        kind = (case.device, case.dtype, request["options"]["threads"])
        if kind not in self._known:
            self._known[kind] = list(self._asked(case, timeout))
        return self._known[kind]

    def _asked(self, case: Case, timeout: float | None) -> Iterator[Reading]:
        free = self._short({"do": "free", "device": case.device}, timeout)
        if "free" in free:
            yield Reading(FREE, free["free"]["bytes"])
        if self._live:
            peaks = self._short({"do": "peaks", "device": case.device, "dtype": case.dtype, "fresh": False}, timeout)
            if "peaks" in peaks:
                yield Reading(PEAKS, peaks["peaks"]["peaks"])
            else:
                yield Reading(NO_PEAKS, peaks["done"]["reason"])

    def _short(self, request: Event, timeout: float | None) -> dict[str, Event]:
        """The events of a short answer by their names."""
        try:
            return {event["event"]: event for event in self._channel.ask(request, timeout)}
        except WorkerDied as death:
            return {"done": {"reason": str(death)}}

    def fresh(self) -> None:
        self._channel.fresh()

    def close(self) -> None:
        self._channel.close()
