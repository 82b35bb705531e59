"""A worker process as its parent sees it: started, written to, listened to, and ended with all that it has started."""

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attnbench.engine.workers.overheard import Overheard

__all__ = ["WorkerProcess"]

# glibc gives large blocks back to the system at every free, and each step then waits for the same pages to be zeroed
# anew: half the time of a self-attention at 64x64. A warm allocator keeps them; what the user has set stays.
_WARM_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
# torch's profiler says on standard error when it starts and stops; only what fails is news.
_QUIET_PROFILER = {"KINETO_LOG_LEVEL": "5"}

_WORKER: Sequence[str] = ("-m", "attnbench.engine.workers.worker")

_CHUNK: Final = 64 * 1024
# A line that is longer is no event of ours.
_LONGEST_LINE: Final = 256 * 1024**2
# What is in the pipes when a worker dies is read to the end, unless somebody goes on writing.
_LAST_CHUNKS: Final = 256
# Seconds: to write down where it hangs; to die; and to be dead once it has closed its pipe.
_TO_REPORT: Final = 2.0
_TO_DIE: Final = 30.0
_TO_BE_DEAD: Final = 1.0


class WorkerProcess:
    """`lines` are what it answers, without line ends, and None when there will be no more.

    Two threads belong to it: one waits for its death, the other reads whatever comes. Neither ever waits for a process
    that the worker started: such a one may hold the pipes open for ever.
    """

    def __init__(self, env: Mapping[str, str], heard: Overheard) -> None:
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.code: int | None = None
        self._heard = heard
        self._reaping = threading.Lock()
        self._over = threading.Event()
        (life, end), (beginning, report) = os.pipe(), os.pipe()
        self._life, self._report = os.fdopen(end, "wb", 0), os.fdopen(beginning, "rb", 0)
        try:
            self._process = _started(env, life, report)
        except OSError:
            self._let_go()
            raise
        finally:
            os.close(life)
            os.close(report)
        death, self._alive = os.pipe()
        threading.Thread(target=self._wait, daemon=True).start()
        threading.Thread(target=self._listen, args=(death,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether it is dead, and all that it had written is read."""
        return self._over.is_set()

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a worker that is gone is found by reading
            while line:
                line = line[os.write(self._process.stdin.fileno(), line) :]

    def report(self) -> str:
        """What faulthandler wrote of its threads when it died."""
        text = b""
        with contextlib.suppress(OSError, ValueError):  # it was closed meanwhile
            os.set_blocking(self._report.fileno(), False)
            while chunk := self._report.read(_CHUNK):
                text += chunk
        return text.decode(errors="replace")

    def settle(self) -> None:
        """Let it be over: it is dying, or else it will not answer any more and is ended."""
        if not self._over.wait(_TO_BE_DEAD):
            self.end()

    def end(self, *, reporting: bool = False) -> None:
        """End it, and whatever it has started; when `reporting` it is first told to write down where it is."""
        if reporting:
            self._signal(signal.SIGTERM)
            self._over.wait(_TO_REPORT)
        self._signal(signal.SIGKILL)
        self._over.wait(_TO_DIE)

    def _signal(self, number: int) -> None:
        with self._reaping:  # a number that is free again may be that of another process
            if self.code is None:
                os.kill(self._process.pid, number)

    def _wait(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it started, and left behind
            self.code = self._process.wait()
        os.close(self._alive)

    def _listen(self, death: int) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        events, printed = self._process.stdout, self._process.stderr
        try:
            _Ear(events.fileno(), printed.fileno(), death, self.lines, self._heard).listen()
        finally:
            os.close(death)
            events.close()
            printed.close()
            self._over.set()
            self.lines.put(None)

    def close(self) -> None:
        """End it and let go of its pipes."""
        self.end()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._let_go()

    def _let_go(self) -> None:
        self._life.close()
        self._report.close()


def _started(env: Mapping[str, str], life: int, report: int) -> "subprocess.Popen[bytes]":
    """In a process group of its own, so that it can be ended with all that it starts."""
    return subprocess.Popen(
        # -P: a file of the user's that is called queue.py must not stand in for the standard library's.
        [sys.executable, "-P", *_WORKER, str(life), str(report)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        pass_fds=(life, report), process_group=0, env={**_environment(), **env},
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """The worker finds this package wherever the parent found it, also where it is not installed."""
    import attnbench

    root = str(Path(attnbench.__file__).parent.parent)
    paths = [os.environ.get("PYTHONPATH", ""), root]
    return {**_WARM_MALLOC, **_QUIET_PROFILER, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class _Ear:
    """Reads events and what is printed until the worker is dead, or has closed its end of the events."""

    def __init__(
        self, events: int, printed: int, death: int, lines: "queue.SimpleQueue[bytes | None]", heard: Overheard
    ) -> None:
        self._events, self._printed, self._death = events, printed, death
        self._lines, self._heard = lines, heard
        self._line = bytearray()
        self._poll = select.poll()
        for each in (events, printed, death):
            self._poll.register(each, select.POLLIN)
        self._left = _LAST_CHUNKS
        self._until: float | None = None

    def listen(self) -> None:
        while self._left > 0 and (ready := self._poll.poll(self._patience())):
            self._left -= self._until == 0
            # What was printed before an event was said is heard before it.
            for each, _ in sorted(ready, key=lambda pair: pair[0] != self._printed):
                if each == self._death:
                    self._until = 0  # no more will come than is there
                    self._poll.unregister(each)
                else:
                    self._read(each)

    def _patience(self) -> float | None:
        """Milliseconds to wait for more; None is for ever."""
        return None if self._until is None else max(0.0, 1000 * (self._until - time.monotonic()))

    def _read(self, pipe: int) -> None:
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            self._poll.unregister(pipe)
            if pipe == self._events and self._until is None:
                self._until = time.monotonic() + _TO_BE_DEAD
        elif pipe == self._printed:
            self._heard.hear(chunk)
        else:
            self._split(chunk)

    def _split(self, chunk: bytes) -> None:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._lines.put(bytes(self._line + end))
            self._line.clear()
        self._line += rest
        if len(self._line) > _LONGEST_LINE:
            self._lines.put(bytes(self._line[:_CHUNK]))
            self._line.clear()
