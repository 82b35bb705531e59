"""What the store costs: reading 10,000 records, appending one, four processes that append at once.

    python tests/bench/bench_store.py [--records N] [--folder DIR]

The records are those of `results/xeon-2-cores`, made different in target, batch, latency and time. Reading is done in a
process of its own, so that its peak of resident memory is nobody else's; appending goes to `--folder`, whose disk tells
what a sync costs.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from attnbench.core.record import Record
from attnbench.core.store import Store, dumps, load

SOURCE = Path(__file__).parents[2] / "results" / "xeon-2-cores" / "modules.jsonl"
APPENDED, WRITERS = 300, 4

READ = """
import json, re, sys, time
from pathlib import Path
from attnbench.core.store import load, scan

def peak():  # of this program alone, which getrusage does not tell
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\\s+([0-9]+)", status.read_text())[1]) / 1024 if status.exists() else float("nan")

path, before = Path(sys.argv[1]), peak()
start, own = time.perf_counter(), time.process_time()
if sys.argv[2] == "load":
    count = len(load(path).records)
elif sys.argv[2] == "scan":
    count = sum(1 for _ in scan(path, print))
else:
    count = sum(1 for line in path.open() if json.loads(line))
print(json.dumps([count, time.perf_counter() - start, time.process_time() - own, before, peak()]))
"""


def varied(count: int) -> list[str]:
    """Lines of records as a long sweep has them: a target for every hundred cases."""
    source = load(SOURCE).records
    return [dumps(_one(source[number % len(source)], number)) for number in range(count)]


def _one(record: Record, number: int) -> Record:
    readings = tuple(
        replace(each, value=each.value * (1 + number / 1e5)) if type(each.value) is float else each
        for each in record.readings
    )
    case = record.case.with_(target=f"my_attn.py:Attention{number // 100}", batch_size=1 + number % 100)
    env = {**record.env, "load_average": number / 1000, "started_at": f"2026-11-21T{number % 86400:05d}"}
    return replace(record, case=case, readings=readings, env=env, repro=case.command())


def reading(path: Path) -> None:
    size = path.stat().st_size / 2**20
    for how in ("json.loads alone", "scan", "load"):
        done = subprocess.run([sys.executable, "-c", READ, str(path), how], capture_output=True, text=True, check=True)
        count, wall, own, before, peak = json.loads(done.stdout)
        print(f"{how:17} {count:,} records of {size:.0f} MiB: {wall:.2f} s ({own:.2f} s of processor time), "
              f"peak {peak:.0f} MiB ({before:.0f} MiB before)")  # fmt: skip


def appending(folder: Path) -> None:
    records = load(SOURCE).records
    store, times = Store(folder / "appended.jsonl"), []
    for number in range(APPENDED):
        start = time.perf_counter()
        store.append(records[number % len(records)])
        times.append(1000 * (time.perf_counter() - start))
    cuts = statistics.quantiles(times, n=20)
    print(f"append, synced    median {statistics.median(times):.2f} ms, 95 % within {cuts[-1]:.2f} ms, "
          f"most {max(times):.2f} ms")  # fmt: skip


def _write(path: Path, writer: int) -> None:
    records, store = load(SOURCE).records, Store(path)
    for number in range(APPENDED):
        case = records[0].case.with_(target=f"writer_{writer}", seed=number)
        store.append(replace(records[number % len(records)], case=case, reason="x" * (number * 997 % 200_000)))


def appending_at_once(folder: Path) -> None:
    path = folder / "together.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, number)) for number in range(WRITERS)]
    start = time.perf_counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    taken, found = time.perf_counter() - start, load(path)
    different, size = {(record.case.target, record.case.seed) for record in found.records}, path.stat().st_size / 2**20
    print(f"{WRITERS} at once         {len(found.records):,} records of {WRITERS * APPENDED:,}, {len(different):,} "
          f"different, {len(found.set_aside)} lines torn, {size:.0f} MiB in {taken:.1f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        path = folder / "many.jsonl"
        path.write_text("".join(f"{line}\n" for line in varied(asked.records)))
        reading(path)
        appending(folder)
        appending_at_once(folder)


if __name__ == "__main__":
    main()
