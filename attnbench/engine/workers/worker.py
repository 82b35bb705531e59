"""The worker process: reads requests from its standard input and writes events to its standard output, as lines.

Both are a number and JSON: an event bears that of the request it answers, 0 when the worker is ready. The streams are
taken away from everything else first, so that a module that prints, reads, closes or forks cannot disturb them. Two
more pipes come with it: one that nobody writes to, which ends when the parent does, and one for the report of a crash.
"""

import contextlib
import faulthandler
import fcntl
import json
import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

from attnbench.core.plugins import PluginWarning

__all__ = ["main"]


def main() -> None:
    """Serve until the parent goes away, however that happens."""
    life, report = map(int, sys.argv[1:3])
    # Ctrl-C is the parent's affair: it decides what becomes of the case.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(life)
    os.set_blocking(report, False)  # a report is cut rather than waited with
    warnings.simplefilter("ignore", PluginWarning)  # the parent has said it
    streams = _Streams(report)
    _armed(report)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(streams.requests, requests), daemon=True).start()
    from attnbench.engine.workers.answer import answer  # torch is loaded only once the streams are safe

    streams.write("0", {"event": "ready"})
    while True:
        number, _, request = requests.get().partition(" ")
        for event in answer(json.loads(request)):
            streams.write(number, event)
        streams.set_back()
        _armed(report)


def _end_with(life: int) -> None:
    """Have the kernel kill this process and what it started when the other end of the pipe is closed.

    It asks nobody: a module may hold the interpreter's lock, in which no thread of ours would get on.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpid())  # the group of that number, which is our own
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


def _read(lines: TextIO, requests: "queue.SimpleQueue[str]") -> None:
    """Wait for requests beside whatever is running, asleep in the kernel: the end of them is the parent's death."""
    try:
        for line in lines:
            requests.put(line)
    except OSError:  # a module has closed it: the parent sees that, or hears nothing
        return
    os._exit(0)


def _armed(report: int) -> None:
    """A crash, and SIGTERM, leave a report of what each thread was doing; a module may have switched that off."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        faulthandler.enable(report)
        faulthandler.unregister(signal.SIGTERM)
        faulthandler.register(signal.SIGTERM, report, chain=True)


class _Streams:
    """Requests and events on descriptors of their own; 0 reads nothing, and 1 goes where 2 does."""

    def __init__(self, report: int) -> None:
        self._report = report
        self.requests = os.fdopen(os.dup(0), encoding="utf-8")
        self._owner = os.getpid()
        self._events = os.dup(1)
        self._same = _identity(self._events)
        null = os.open(os.devnull, os.O_RDONLY)
        self._standard = {0: null, 1: os.dup(2), 2: os.dup(2)}
        for number, kept in self._standard.items():
            os.dup2(kept, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # what it says is said before it crashes
        self._files = (sys.stdin, sys.stdout, sys.stderr)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A child has no part in the answer nor in the report, and must not hold their pipes open."""
        with contextlib.suppress(OSError):
            for pipe in (self._events, self._report):
                os.dup2(self._standard[0], pipe)

    def write(self, number: str, event: Mapping[str, Any]) -> None:
        if os.getpid() != self._owner:
            os._exit(0)  # a module forked, and both of them went on
        line = f"{number} {_json(event)}\n".encode()
        while line:
            try:
                if _identity(self._events) != self._same:  # closed, and given to a file of the module's
                    raise OSError
                line = line[os.write(self._events, line) :]
            except OSError:
                time.sleep(3600)  # the parent sees that its pipe is closed, and ends us

    def set_back(self) -> None:
        """Undo what a module did to the standard streams."""
        for number, kept in self._standard.items():
            if _identity(number) != _identity(kept):
                os.dup2(kept, number)
        sys.stdin, sys.stdout, sys.stderr = self._files
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name).closed:
                number = ("stdin", "stdout", "stderr").index(name)
                setattr(sys, name, open(number, mode, encoding="utf-8", buffering=1, closefd=False))  # noqa: SIM115
        self._files = (sys.stdin, sys.stdout, sys.stderr)


def _identity(number: int) -> tuple[int, int] | None:
    """What a descriptor leads to; None where it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _json(event: Mapping[str, Any]) -> str:
    try:
        return json.dumps(event)
    except (TypeError, ValueError):  # of another package's instrument
        text = f"{event.get('name', event['event'])}: what its instrument gave is no JSON"
        return json.dumps({"event": "note", "kind": "not_measured", "text": text})


if __name__ == "__main__":
    main()
