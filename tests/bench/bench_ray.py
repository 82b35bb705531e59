"""Sweeps over a Ray cluster on this machine: nodes that die, the speed-up from 1 to 4 workers, what Ray adds to a case.

    python tests/bench/bench_ray.py [--rounds 2] [--out FILE]

Writes `results/ray.md`. Its cases sleep, so that four workers have enough of two cores. Six minutes.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "engine"), str(ROOT)]

import ray  # noqa: E402
import torch  # noqa: E402
from ray_sweep import MODULES, NODES, nodes_up  # noqa: E402

from attnbench.api import Case, Options  # noqa: E402
from attnbench.core.store import load  # noqa: E402
from attnbench.engine.crew import Crew  # noqa: E402
from attnbench.engine.executors.executor import EXECUTORS, Wanted  # noqa: E402
from attnbench.engine.question import Question  # noqa: E402
from attnbench.engine.session import prepared  # noqa: E402

WORKERS = (1, 2, 4)
# A module is built twice for its record, and sleeps each time.
ASLEEP, BUILDS, SLEEPERS, QUICK = 0.25, 2, 24, 200
OPTIONS = Options(metrics=("params",))


def survived(count: int) -> dict[str, Any]:
    """What a sweep of so many cases came to that lost three of four nodes, in the records and in the file."""
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "tests" / "engine" / "ray_sweep.py"
        words = [sys.executable, str(script), folder, str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        kept = Counter(record.case.seed for record in load(Path(folder) / "mine" / "kept.jsonl").records)
    records = found["records"]
    by_node = sorted(Counter(record["node"] for record in records if record["node"]).values(), reverse=True)
    status = Counter(record["status"] for record in records)
    first = records[0]["at"]
    return {
        "cases asked for": count,
        "records in the file": kept.total(),
        "cases without one": count - len(kept),
        "cases with two": sum(times > 1 for times in kept.values()),
        "nodes that died of 4": 3,
        "cases measured again, since their node died under them": sum(record["lost"] for record in records),
        "cases given up, since two nodes died under them": status["crashed"],
        "records by node": ", ".join(map(str, by_node)),
        "seconds until the first record": f"{first:.1f}",
        "seconds from the first to the last": f"{found['seconds'] - first:.1f}",
    }


@contextmanager
def clusters(counts: Sequence[int]) -> Iterator[Mapping[int, str]]:
    """For each count the address of a cluster of so many nodes, which wait beside each other."""
    started = {count: nodes_up(count)[0] for count in counts}
    try:
        yield {count: cluster.address for count, cluster in started.items()}
    finally:
        for cluster in started.values():
            cluster.shutdown()


def seconds(executor: str, wanted: Wanted, cases: Sequence[Case]) -> float:
    """What the measuring takes, once every worker has loaded torch and measured something."""
    with EXECUTORS[executor](wanted) as lanes, closing(Crew(lanes)) as crew:
        before = naps(4 * len(lanes), 0.2)  # they are shared out, since each takes a while
        list(prepared([Question(case, OPTIONS) for case in before], crew).records(crew, None))
        session = prepared([Question(case, OPTIONS) for case in cases], crew)
        begun = time.perf_counter()
        records = list(session.records(crew, None))
        taken = time.perf_counter() - begun
    assert sorted(record.case.seed for record in records) == list(range(len(cases)))
    assert all(record.ok for record in records), records[0].reason
    return taken


def naps(count: int, each: float) -> list[Case]:
    nap = Case("naps.py:Nap", height=4, width=4, tokens=16, dim=8, layout="bnc", device="cpu")
    return [nap.with_(seed=seed, params=(("seconds", each),)) for seed in range(count)]


Taken = dict[tuple[str, int], list[float]]


def timed(addresses: Mapping[int, str], cases: Sequence[Case], workers: Sequence[int], rounds: int) -> Taken:
    """Each executor with each number of workers in turn, as often as there are rounds."""
    taken: Taken = {}
    targets = tuple({case.target for case in cases})
    for _ in range(rounds):
        for count in workers:
            wanted = {
                "local": Wanted(("cpu",) * count, quiet=True, targets=targets),
                "ray": Wanted((), "cpu", addresses[count], quiet=True, targets=targets),
            }
            for executor in wanted:
                taken.setdefault((executor, count), []).append(seconds(executor, wanted[executor], cases))
                print(executor, count, f"{taken[executor, count][-1]:.2f} s", flush=True)
    return taken


def survival_table(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [f"| {what} | {' | '.join(str(each[what]) for each in found)} |" for what in found[0]]
    return "\n".join(["| |" + " sweep |" * len(found), "|---|" + "---|" * len(found), *rows])


def speed_table(taken: Taken) -> str:
    rows = ["| workers | `local`: seconds | speed-up | `ray`: seconds | speed-up |", "|---|---|---|---|---|"]
    for count in WORKERS:
        cells = [str(count)]
        for executor in ("local", "ray"):
            mine, alone = (statistics.median(taken[executor, number]) for number in (count, 1))
            cells += [f"{mine:.2f}", f"{alone / mine:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page(found: Sequence[Mapping[str, Any]], slow: Taken, quick: Taken) -> str:
    where = f"{platform.machine()}, {os.cpu_count()} cores, Ray {ray.__version__}, torch {torch.__version__}"
    first = (
        f"A cluster of {NODES} nodes with a CPU each, all of them on one machine ({where}). The user's file lies in "
        "another folder than the command is called in, and is deleted when the first record comes. One node is killed "
        "after a quarter of the records; in the middle stands a case that kills the node it is measured on."
    )
    second = (
        f"{SLEEPERS} cases, each of which sleeps {ASLEEP * BUILDS:g} s, once all workers have loaded torch and "
        f"measured something; the two executors in turn, the median of {len(next(iter(slow.values())))} rounds. That "
        f"is {SLEEPERS * ASLEEP * BUILDS:g} s of sleep for one worker."
    )
    local, far = (1000 * statistics.median(quick[name, 1]) / QUICK for name in ("local", "ray"))
    third = (
        f"{QUICK} cases that do not sleep, one worker: {local:.1f} ms a case with `local`, {far:.1f} ms with `ray`, "
        f"so that Ray adds {far - local:.1f} ms to the two requests of a case."
    )
    return "\n\n".join([
        "# Sweeps over a Ray cluster", "## Nodes that die", fill(first, 120), survival_table(found),
        "## From one worker to four", fill(second, 120), speed_table(slow), fill(third, 120),
        "By `python tests/bench/bench_ray.py`.",
    ]) + "\n"  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ray.md")
    given = parser.parse_args(words)
    found = [survived(count) for count in (200, 1000)]
    print(survival_table(found), flush=True)
    with tempfile.TemporaryDirectory() as folder, clusters(WORKERS) as addresses:
        for name, text in MODULES.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        os.chdir(folder)
        slow = timed(addresses, naps(SLEEPERS, ASLEEP), WORKERS, given.rounds)
        quick = timed(addresses, naps(QUICK, 0.0), (1,), 2 * given.rounds + 1)
        os.chdir(ROOT)
    text = page(found, slow, quick)
    given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
