"""A sweep in a process of its own that is struck by signals at random moments, resumed, and counted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Command", "Moments", "Phase", "Strike", "Toll", "instant_site", "struck", "toll", "torn_lines"]

_HERE = Path(__file__).parent
_POLL = 0.0005
# Where a signal fell: before the process wrote anything, between two records, inside one, or after the last.
Phase = Literal["start", "between", "inside", "end"]


def instant_site(folder: Path) -> Path:
    """A folder for PYTHONPATH, as pip would leave it, with the plug-in that measures at once."""
    info = folder / "instant-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: instant\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[attnbench.executors]\ninstant = instant_lanes:lanes\n")
    shutil.copy(_HERE / "instant_lanes.py", folder)
    return folder


@dataclass(frozen=True, slots=True)
class Command:
    """`attnbench run` with these words, which measures `cases` cases into `store` and goes on where it ended."""

    words: Sequence[str]
    store: Path
    cases: int
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[bytes]:
        """The process. Its output goes to files: what it may leave running must not keep a pipe open."""
        paths = os.pathsep.join(filter(None, (self.env.get("PYTHONPATH"), os.environ.get("PYTHONPATH"))))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "attnbench", "run", *self.words, "-o", self.store, "--resume"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env={**os.environ, "COLUMNS": "120", **self.env, "PYTHONPATH": paths},
                # A shell's job in the background ignores Ctrl-C, and so would its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    @property
    def _out(self) -> Path:
        return self.store.with_suffix(".out")

    @property
    def _err(self) -> Path:
        return self.store.with_suffix(".err")

    def said(self) -> tuple[str, str]:
        """What the last process wrote to standard output and standard error."""
        return self._out.read_text(), self._err.read_text()

    def stored(self) -> bytes:
        return self.store.read_bytes() if self.store.exists() else b""


@dataclass(frozen=True, slots=True)
class Moments:
    """When signals fall: one in `early` within the first seconds, the others within `late` seconds of the first record
    that is being written.
    """

    rng: random.Random
    start: float
    late: float
    early: int = 5

    def wait(self, process: subprocess.Popen[bytes], command: Command, size: int) -> None:
        """Until the next of them, or the end of the process."""
        late = self.rng.randrange(self.early) > 0
        seconds = self.rng.uniform(0, self.late if late else self.start)
        while late and process.poll() is None and len_of(command.store) == size:
            time.sleep(_POLL)
        time.sleep(seconds)


def len_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@dataclass(frozen=True, slots=True)
class Strike:
    """What a signal did: the exit status, and the file of records before the process and after it."""

    code: int
    before: bytes
    after: bytes
    cases: int

    @property
    def phase(self) -> Phase:
        if self.after == self.before:
            return "start"
        if not self.after.endswith(b"\n"):
            return "inside"
        return "end" if len(keys(self.after)) == self.cases else "between"

    @property
    def lost(self) -> int:
        """Lines that were whole before and are no more what they were."""
        pairs = zip(self.before.split(b"\n")[:-1], [*self.after.split(b"\n")], strict=False)
        missing = max(0, self.before.count(b"\n") - self.after.count(b"\n"))
        return missing + sum(was != now for was, now in pairs)


def struck(command: Command, number: signal.Signals, moments: Moments) -> Strike:
    """Start the command and send that signal at the next moment."""
    before = command.stored()
    process = command.start()
    moments.wait(process, command, len(before))
    process.send_signal(number)
    code = process.wait()
    return Strike(code, before, command.stored(), command.cases)


def keys(data: bytes) -> list[str]:
    """The keys of the records in a file, in order."""
    return [found["key"] for line in data.split(b"\n") if (found := _record(line)) is not None]


def torn_lines(data: bytes) -> list[int]:
    """The numbers of the lines that a crash cut short."""
    lines = data.split(b"\n")
    return [number for number, line in enumerate(lines, 1) if line and _record(line) is None]


def _record(line: bytes) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(line)
    except ValueError:
        return None
    return found


@dataclass(slots=True)
class Toll:
    """What came of many kills: `lost`, `twice` and `unsaid` (torn lines that nobody named) have to stay at nothing."""

    kills: Counter[Phase] = field(default_factory=Counter)
    sweeps: int = 0
    starts: int = 0
    records: int = 0
    torn: int = 0
    lost: int = 0
    twice: int = 0
    unsaid: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, strike: Strike) -> bool:
        """Count one process; whether it was killed."""
        self.starts += 1
        self.lost += strike.lost
        if strike.code == -signal.SIGKILL:
            self.kills[strike.phase] += 1
        return strike.code == -signal.SIGKILL

    def close(self, command: Command, code: int) -> None:
        """Count a sweep that came to its end."""
        data, (_, err) = command.stored(), command.said()
        found = Counter(keys(data))
        torn = torn_lines(data)
        self.sweeps += 1
        self.records += len(found)
        self.torn += len(torn)
        self.lost += command.cases - len(found)
        self.twice += found.total() - len(found)
        self.unsaid += sum(f"line {number} is set aside" not in err for number in torn)
        if code != 0 or "Traceback" in err:
            self.failures.append(f"exit code {code}: {err}")


def _nothing() -> None:
    """Nobody looks."""


def toll(
    fresh: Callable[[int], Command], kills: int, moments: Moments, after_kill: Callable[[], object] = _nothing
) -> Toll:
    """Kill sweeps so many times and resume them each time; one that comes to its end is followed by a fresh one."""
    found = Toll()
    while found.kills.total() < kills:
        command = fresh(found.sweeps)
        while found.kills.total() < kills and found.add(strike := struck(command, signal.SIGKILL, moments)):
            after_kill()
        found.close(command, strike.code if strike.code != -signal.SIGKILL else command.start().wait())
    return found
