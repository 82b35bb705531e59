"""Kills a real sweep at random moments, resumes it each time, and counts: writes `results/survival.md`.

    python tests/bench/bench_survival.py [--kills 200] [--seed 1] [--out FILE]

The sweep measures in a worker process with torch; what a kill leaves behind is looked for in /proc, so that it needs
Linux. Two hundred kills take about a quarter of an hour on two cores.
"""

import argparse
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "survival"), str(ROOT)]

from survivor import Command, Moments, Toll, toll  # noqa: E402

MODULES, SIDES = ("se", "eca"), range(4, 16)
WORDS = ("-m", ",".join(MODULES), "--res", ",".join(map(str, SIDES)), "--metrics", "params,latency", "--max-time",
         "0.02")  # fmt: skip
_MARK = "ATTNBENCH_BENCH_SURVIVAL"
_PATIENCE = 10.0
_WHERE = {
    "start": "before it had written anything (torch was being loaded, or the first case measured)",
    "between": "between two records",
    "inside": "inside a record, which left a torn line",
    "end": "after the last record",
}


@dataclass(slots=True)
class Orphans:
    """What is still there of a sweep that was killed: processes that have its mark, and how long they stayed."""

    mark: str
    longest: float = 0.0
    left: int = 0
    stays: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Wait until there are none; count and end those that will not go."""
        begin = time.monotonic()
        while (pids := self._marked()) and time.monotonic() - begin < _PATIENCE:
            time.sleep(0.005)
        self.stays.append(time.monotonic() - begin)
        self.left += len(pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def _marked(self) -> list[int]:
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._has_mark(path)]

    def _has_mark(self, process: Path) -> bool:
        with suppress(OSError):  # it is gone, or somebody else's
            return f"{_MARK}={self.mark}".encode() in (process / "environ").read_bytes().split(b"\0")
        return False


def killed(kills: int, seed: int, folder: Path) -> tuple[Toll, Orphans]:
    """So many kills, each of them followed by a look for what they left."""
    orphans = Orphans(f"{os.getpid()}-{seed}")
    env = {"PYTHONPATH": str(ROOT), _MARK: orphans.mark}
    cases = len(MODULES) * len(SIDES)

    def fresh(number: int) -> Command:
        return Command([*WORDS, "--quiet"], folder / f"{number}.jsonl", cases, env)

    return toll(fresh, kills, Moments(random.Random(seed), start=3.0, late=1.5), orphans.look), orphans


def page(found: Toll, orphans: Orphans, seconds: float, cases: int) -> str:
    """What was done, what came of it, and where the kills fell."""
    stays = sorted(orphans.stays)
    intro = (
        f"`attnbench run ... --resume`, with its worker process and torch, killed with SIGKILL {found.kills.total()} "
        f"times at random moments and started again each time ({found.starts} processes, {seconds / 60:.0f} minutes, "
        f"{platform.machine()}, {os.cpu_count()} cores). Each sweep has {cases} cases; one that came to its end was "
        "followed by a fresh one."
    )
    rows = [
        ("kills", found.kills.total()), ("sweeps that came to their end", found.sweeps),
        ("cases asked for", found.sweeps * cases), ("records of them", found.records),
        ("records lost, changed, or never measured", found.lost), ("records there twice", found.twice),
        ("torn lines, set aside and named", found.torn), ("torn lines that nobody named", found.unsaid),
        ("sweeps that ended with an error", len(found.failures)),
        ("processes still there after a kill", orphans.left),
        ("longest that a worker stayed", f"{stays[-1] * 1000:.0f} ms (median {stays[len(stays) // 2] * 1000:.0f} ms)"),
    ]  # fmt: skip
    table = ["| what | count |", "|---|---|", *(f"| {what} | {count} |" for what, count in rows)]
    where = ["| the kill fell | kills |", "|---|---|"]
    where += [f"| {_WHERE[phase]} | {found.kills[phase]} |" for phase in _WHERE]  # type: ignore[index]
    how = (
        "By `python tests/bench/bench_survival.py`. A record of this size is written in microseconds, so that few "
        "kills fall into one; the test in `tests/survival` has two hundred more with records that take the disk as "
        "long as their case took, a quarter of which fall inside."
    )
    parts = ["# What survives a kill", fill(intro, 120), "\n".join(table), "\n".join(where), fill(how, 120)]
    return "\n\n".join(parts) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "survival.md")
    given = parser.parse_args(words)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found, orphans = killed(given.kills, given.seed, Path(folder))
    text = page(found, orphans, time.monotonic() - begin, len(MODULES) * len(SIDES))
    given.out.write_text(text)
    print(text)
    print("\n".join(found.failures))


if __name__ == "__main__":
    main()
