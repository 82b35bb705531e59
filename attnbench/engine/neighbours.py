"""Who else is measured on the same host at the same time, and the doubt that this casts on a record."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from attnbench.core.record import Note, Record
from attnbench.engine.executors.executor import Lane

__all__ = ["Neighbours", "placed"]


@dataclass(slots=True)
class _Running:
    host: str
    most: int = 0


class Neighbours:
    """How many other Cases are measured on the same host, at most, while one is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[_Running] = []

    def begin(self, host: str) -> _Running:
        with self._lock:
            mine = _Running(host)
            self._running.append(mine)
            here = [each for each in self._running if each.host == host]
            for each in here:
                each.most = max(each.most, len(here) - 1)
            return mine

    def end(self, mine: _Running) -> int:
        with self._lock:
            self._running = [each for each in self._running if each is not mine]
            return mine.most


def placed(record: Record, lane: Lane, neighbours: int) -> Record:
    """The record with where it was measured, and the doubt that neighbours there cast on it."""
    host = {"host": lane.host} if lane.host else {}
    env = {**record.env, **host, **lane.facts, "neighbours": neighbours}
    return replace(record, env=env, notes=(*record.notes, *_disturbed(record, neighbours)))


def _disturbed(record: Record, neighbours: int) -> Iterator[Note]:
    """On a GPU only what the host does is shared with neighbours; where that is too slow the device waits for it."""
    on_host = not record.case.device.startswith("cuda") or record.value("latency.launch_bound")
    if neighbours and on_host and record.value("latency.median_ms") is not None:
        yield Note("neighbours", "other cases were measured on the same host at the same time, with which it shared "
                                 "cores, caches and memory: for its latency alone, measure it alone")  # fmt: skip
