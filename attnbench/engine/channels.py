"""Ways to put a request to whoever answers it: in this process, or in a worker that a fault costs and not the sweep."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from attnbench.core.errors import AttnbenchError, UsageError

__all__ = ["Channel", "Event", "InlineChannel", "WorkerChannel", "WorkerDied"]

Event = dict[str, Any]

# glibc gives large blocks back to the system at every free, and each step then waits for the same pages to be zeroed
# anew: half the time of a self-attention at 64x64. A warm allocator keeps them; what the user has set stays.
_WARM_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
# torch's profiler says on standard error when it starts and stops; only what fails is news.
_QUIET_PROFILER = {"KINETO_LOG_LEVEL": "5"}


class WorkerDied(AttnbenchError):  # noqa: N818 - it is news, not a mistake
    """The worker ended in the middle of an answer: `status` is that of the row, the message its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Channel(Protocol):
    """Answers requests with events; see attnbench.engine.answer."""

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
        from attnbench.engine.answer import answer

        return answer(request)

    def fresh(self) -> None:
        raise UsageError("a fresh process needs a worker: leave --no-isolate away.")

    def close(self) -> None:
        return


class WorkerChannel:
    """Answers in a worker process that is started at once, kept warm, and started anew when it dies.

    Every fresh worker is greeted as the first one was, so that its threads and device are set. `env` is what its
    environment has besides this process's, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, *, quiet: bool = False, env: Mapping[str, str] | None = None) -> None:
        self._quiet = quiet
        self._env = dict(env or {})
        self._greeting: Event | None = None
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            # -P: a file of the user's that is called queue.py must not stand in for the standard library's.
            [sys.executable, "-P", "-m", "attnbench.engine.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if self._quiet else None,
            env=_environment() | self._env, text=True, encoding="utf-8",
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=_forward_lines, args=(self._process, self._lines), daemon=True)
        self._reader.start()

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        if self._process.poll() is not None:
            self.close()
            self._start()
            if self._greeting is not None:
                yield from self._answers(self._greeting, None, silent=True)
        if request["do"] == "hello":
            self._greeting = request
        yield from self._answers(request, timeout)

    def _answers(self, request: Event, timeout: float | None, *, silent: bool = False) -> Iterator[Event]:
        with contextlib.suppress(BrokenPipeError):  # a worker that is gone is found by reading
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        kills = _kernel_kills()
        while True:
            event = self._next(timeout, kills)
            if not silent:
                yield event
            if event["event"] in ("done", "usage"):
                return

    def _next(self, timeout: float | None, kills: int | None) -> Event:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self._kill()
            raise WorkerDied("timeout", f"nothing came from it for {timeout:g} s (--timeout)") from None
        if line is None or not line.endswith("\n"):  # the last words of a worker that was cut short
            raise self._obituary(kills)
        event: Event = json.loads(line)
        return event

    def _obituary(self, kills: int | None) -> WorkerDied:
        code = self._process.wait()
        if code >= 0:
            return WorkerDied("crashed", f"it ended the worker process with exit code {code}")
        name = signal.Signals(-code).name
        if name == "SIGKILL" and kills is not None and kills != _kernel_kills():
            return WorkerDied("oom", "the system's out-of-memory killer ended the worker process")
        return WorkerDied("crashed", f"it crashed the worker process ({name})")

    def fresh(self) -> None:
        self._kill()  # the next request starts another, and sets it up

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._kill()
        self._reader.join()
        with contextlib.suppress(BrokenPipeError):  # what was not sent will not be missed
            assert self._process.stdin is not None
            self._process.stdin.close()


def _environment() -> dict[str, str]:
    """The worker finds this package wherever the parent found it, also where it is not installed."""
    import attnbench

    root = str(Path(attnbench.__file__).parent.parent)
    paths = [os.environ.get("PYTHONPATH", ""), root]
    return {**_WARM_MALLOC, **_QUIET_PROFILER, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _forward_lines(process: subprocess.Popen[str], lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _kernel_kills() -> int | None:
    """How often this system's out-of-memory killer has struck, where it tells."""
    try:
        rows = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return next(int(count) for name, count in rows if name == "oom_kill")
    except (OSError, StopIteration, ValueError):
        return None
