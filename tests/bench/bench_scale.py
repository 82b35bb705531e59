"""How long 10,000 cases take where nothing is measured: planned, kept, read, shown while they run, and written.

    python tests/bench/bench_scale.py [--records N] [--only WORD]

The records are made here, as a sweep over 100 targets leaves them, from those in `results/`. Each step runs in a
process of its own and prints its seconds of the processor and the most memory that this process ever held, records
included. "one shape" has all rows in one group, which is the worst case for baselines; "machines" has them from four
machines.
"""

import argparse
import io
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from attnbench.core.record import Note, Reading, Record
from attnbench.core.store import load
from attnbench.engine.sweep import Sweep
from attnbench.report.compare import mean_speedups
from attnbench.report.exporters import export
from attnbench.report.gate.records import judge
from attnbench.report.gate.screen import render_verdicts
from attnbench.report.screen import Screen
from attnbench.report.table import render

SOURCE = Path(__file__).parents[2] / "results" / "xeon-2-cores" / "modules.jsonl"
TARGETS, DOUBTS = 100, 200
Made = Callable[[int], list[Record]]


def many_shapes(count: int) -> list[Record]:
    """100 targets at each shape, as a sweep leaves them; of ten rows one ran out of memory, each has some doubt."""
    return list(map(_varied(shapes=100, machines=1), range(count)))


def one_shape(count: int) -> list[Record]:
    """As many targets as rows."""
    return list(map(_varied(shapes=1, machines=1), range(count)))


def four_machines(count: int) -> list[Record]:
    """25 shapes on each of four machines, which differ in their torch."""
    return list(map(_varied(shapes=25, machines=4), range(count)))


def _varied(shapes: int, machines: int) -> Callable[[int], Record]:
    source, dice = load(SOURCE).records, random.Random(0)

    def made(number: int) -> Record:
        record, (round_, target) = source[number % len(source)], divmod(number, TARGETS)
        shape, machine = round_ % shapes, round_ // shapes % machines
        name = f"my_attentions.py:Attention{target if shapes > 1 else number}"
        side = 16 * (1 + shape // 4)
        case = record.case.with_(
            target=record.case.name if target < 9 else name, height=side, width=side, tokens=side**2,
            dtype=("fp32", "bf16")[shape % 2], batch_size=(1, 8)[shape // 2 % 2],
        )  # fmt: skip
        failed = dice.random() < 0.1
        reason = f"one map of {side**2:,} x {side**2:,} needs {dice.randrange(100)}.0 GiB; 12.4 GiB are free"
        readings = tuple(_shaken(each, dice) for each in record.readings[: 20 if failed else None])
        env = {**record.env, "fingerprint": f"{machine:016x}", "torch": f"2.{machine}.0"}
        notes = (*record.notes, Note("odd", f"a doubt that some rows share: {dice.randrange(DOUBTS)}"))
        return replace(record, case=case, status="oom" if failed else "ok", reason=reason if failed else "",
                       readings=readings, notes=notes, env=env, repro=case.command())  # fmt: skip

    return made


def _shaken(reading: Reading, dice: random.Random) -> Reading:
    return replace(reading, value=reading.value * dice.uniform(0.9, 1.1)) if type(reading.value) is float else reading


def drawn(records: list[Record]) -> str:
    """The final table, to a terminal of 120 columns."""
    file = io.StringIO()
    Console(width=120, file=file, force_terminal=True).print(render(records, 120))
    return f"{file.getvalue().count(chr(10)):,} lines"


def gated(records: list[Record]) -> str:
    file = io.StringIO()
    verdicts = judge(records, [replace(record, env=records[0].env) for record in records])
    Console(width=120, file=file).print(render_verdicts(verdicts, 120))
    return f"{len(verdicts):,} verdicts"


def exported(ending: str) -> Callable[[list[Record]], str]:
    def write(records: list[Record]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"table.{ending}"
            export(records, path)
            return f"{path.stat().st_size / 2**20:.1f} MiB"

    return write


def averaged(records: list[Record]) -> str:
    return f"{len(mean_speedups(records))} means"


def running(records: list[Record]) -> str:
    """The running table: every record added, without the refreshes, and then one refresh."""
    file = io.StringIO()
    console = Console(width=120, height=40, file=file, force_terminal=True)
    screen = Screen(console, len(records))
    start = time.process_time()
    for record in records:
        screen.starting(record.case.name)
        screen.add(record)
    middle = time.process_time()
    console.print(screen.live.get_renderable())
    return f"adding {middle - start:.2f} s, a refresh {1000 * (time.process_time() - middle):.0f} ms"


def read(records: list[Record]) -> str:
    """Written as lines, then read: the time is of both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.jsonl"
        export(records, path)
        start = time.process_time()
        load(path)
        return f"reading alone {time.process_time() - start:.2f} s"


def planned(records: list[Record]) -> str:
    """100 modules and files at 25 sizes, two batches and two dtypes."""
    sizes = [str(16 * side) for side in range(1, 26)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "my_attentions.py"
        file.touch()
        names = [f"{file}:Attention{number}" for number in range(9, TARGETS)]
        names += sorted({record.case.target for record in records[:9]})
        start = time.process_time()
        cases = Sweep(modules=names, res=sizes, batch_size=["1", "8"], dtype=["fp32", "bf16"]).cases()
        middle = time.process_time()
    keys = {case.key for case in cases}
    return f"{len(keys):,} cases {middle - start:.2f} s, their keys {time.process_time() - middle:.2f} s"


STEPS: tuple[tuple[str, Made, Callable[[list[Record]], str]], ...] = (
    ("nothing but the records", many_shapes, lambda records: f"{len(records):,} records"),
    ("plan", many_shapes, planned),
    ("write and read", many_shapes, read),
    ("running table", many_shapes, running),
    ("table", many_shapes, drawn),
    ("table, one shape", one_shape, drawn),
    ("table, machines", four_machines, drawn),
    *((f"export {ending}", many_shapes, exported(ending)) for ending in ("md", "csv", "json", "jsonl")),
    ("export md, one shape", one_shape, exported("md")),
    ("export csv, one shape", one_shape, exported("csv")),
    ("means of speed-ups", many_shapes, averaged),
    ("gate", many_shapes, gated),
)  # fmt: skip


def step(number: int, count: int) -> tuple[float, float, str]:
    """Seconds, MiB at the peak, and what the step says."""
    _, made, act = STEPS[number]
    records = made(count)
    start = time.process_time()
    said = act(records)
    taken = time.process_time() - start
    return taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, said


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    print(f"{'':26}{'seconds':>9}{'peak MiB':>10}")
    for number, (name, _, _) in enumerate(STEPS):
        if asked.only in name:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                taken, peak, said = alone.submit(step, number, asked.records).result()
            print(f"{name:26}{taken:>9.2f}{peak:>10.0f}  {said}", flush=True)


if __name__ == "__main__":
    main()
