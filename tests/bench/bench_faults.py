"""Provokes every fault that the tests know in a real worker, and writes what became of each row: `results/statuses.md`.

    python tests/bench/bench_faults.py [--out FILE]

Each fault is met by a case of one small module, behind which the same sound case is measured in the same channel: its
figures must be those that it has when nothing went before. What only a GPU can do wrong needs a GPU, and is tested with
stand-ins. The system's out-of-memory killer is woken in a control group of its own, where this may be made (root).
"""

import argparse
import contextlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from attnbench.core.case import Case
from attnbench.core.record import Record
from attnbench.engine.asking import measured
from attnbench.engine.workers.channels import WorkerChannel
from attnbench.metrics.metric import Options

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "targets" / "user_modules.py"
OPTIONS = Options(metrics=("params", "macs", "predicted_memory", "latency"), max_time=0.05)
SOUND = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw")
STATIC = ("static.params", "static.macs", "static.predicted_peak_bytes")
FIGURES = {"parameters, MACs, predicted memory": STATIC, "latency": ("latency.median_ms",)}
GROUP = Path("/sys/fs/cgroup/memory/attnbench_faults")
MIB = 2**20

# Each fault of the tests' modules, and what it does in words.
FAULTS = {
    "at_once": "asks torch for more memory than there is",
    "bit_by_bit": "asks torch for memory again and again, which was not foreseen",
    "arrays": "the same in numpy",
    "thrown_bad_alloc": "a C++ thread finds no memory (`std::bad_alloc` that nobody catches)",
    "no_thread": "a thread library says that it finds no memory for another thread, and ends the process",
    "shared": "fills memory that is shared, until the system's out-of-memory killer comes",
    "nan": "gives NaN",
    "raises": "raises an exception",
    "raises_unspeakable": "raises an exception whose text cannot be asked for",
    "raises_at_length": "raises an exception with a text of 10 MB",
    "raises_interrupt": "raises KeyboardInterrupt",
    "raises_stop_iteration": "raises StopIteration",
    "recursion": "calls itself for ever, in Python",
    "overflow": "calls itself for ever through C, with the recursion limit raised",
    "sys_exit_4": "calls `sys.exit(4)`",
    "exit_3": "calls `os._exit(3)`",
    "exit_with_words": "a library prints why and ends the process",
    "exit_beside_a_daemon": "ends the process, and a daemon it started holds on to its pipes",
    "segfault": "reads address 0",
    "segfault_in_a_thread": "the same in a thread of its own",
    "fpe": "divides integers by zero in C",
    "bus": "reads a page of a file that has become shorter",
    "ill": "runs an instruction that this CPU has not",
    "assertion": "an assertion in C fails",
    "thrown": "throws a C++ exception that nobody catches",
    "sigkill": "is killed, not by the out-of-memory killer",
    "sigterm": "is told to end",
    "hang": "sleeps",
    "hang_with_the_lock": "sleeps in C with Python's lock held",
    "swallow": "works for ever and swallows every exception",
    "print_for_ever": "prints for ever",
    "print_much": "prints 200 KB each time",
    "print_bytes": "prints bytes that are no text",
    "read_input": "reads standard input",
    "close_standard_streams": "closes descriptors 0, 1 and 2",
    "close_everything": "closes all others",
    "take_its_place": "closes all others, and opens files in their place",
    "write_to_all_pipes": "writes to every pipe it finds",
    "forge_an_answer": "writes an answer to every pipe it finds",
    "fork_and_go_on": "forks, and both go on",
    "fork_a_child": "forks a child that lives on",
    "start_a_thread": "starts a thread that lives on",
    "keep": "keeps 1.1 GiB for itself",
    "switch": "changes torch's switches",
    "change_the_process": "changes the environment, the folder, signal handlers and more",
}
SILENT = ("hang", "hang_with_the_lock", "swallow", "print_for_ever")


def faulty(fault: str) -> Case:
    return Case(f"{FILE}:Faulty", params=(("fault", fault),), tokens=16, dim=8, layout="bnc")


@contextmanager
def starving(channel: WorkerChannel) -> Iterator[None]:
    """The worker in a control group of 1.5 GiB, so that nobody else meets the killer. OSError where there is none."""
    GROUP.mkdir()
    try:
        (GROUP / "memory.limit_in_bytes").write_text(str(1536 * MIB))
        list(channel.ask({"do": "free", "device": "cpu"}))  # it is there
        (GROUP / "cgroup.procs").write_text(str(channel._process.pid))
        yield
    finally:
        channel.fresh()
        GROUP.rmdir()


def provoked(channel: WorkerChannel, fault: str) -> Record | None:
    timeout = 3.0 if fault in SILENT else 60.0
    try:
        with starving(channel) if fault == "shared" else contextlib.nullcontext():
            return measured(faulty(fault), channel, OPTIONS, timeout)
    except OSError:
        return None


def figures(record: Record) -> dict[str, object]:
    return {name: record.value(name) for name in STATIC}


def row(fault: str, record: Record, after: Record, before: Record) -> str:
    """One line of the table. What is wrong with the neighbour ends the page."""
    assert after.ok and figures(after) == figures(before), f"{fault}: {after.reason or figures(after)}"
    said = [record.reason, *(note.text for note in record.notes if note.kind == "state")]
    kept = [what for what, names in FIGURES.items() if all(record.value(name) is not None for name in names)]
    text = "; ".join(filter(None, said)).replace(str(ROOT), "FOLDER").replace("|", "\\|")
    text = text if len(text) < 400 else f"{text[:200]}…"
    return f"| {FAULTS[fault]} | {record.status} | {text} | {', '.join(kept)} |"


HEAD = """# How a case can end

    python tests/bench/bench_faults.py

{machine}, torch {torch}. Each line is a fault that a module committed on purpose in a worker process, in the middle of
being measured, and what its record says. After each of them the same sound case was measured in the same channel: all
{count} times it was ok, with the figures that it has when nothing went before.

| the module | status | reason, and what is noted | figures kept |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "statuses.md")
    out = parser.parse_args().out
    channel = WorkerChannel(quiet=True)
    before, rows = measured(SOUND, channel, OPTIONS), []
    for fault in FAULTS:
        record = provoked(channel, fault)
        if record is None:
            print(f"{fault} cannot be provoked here", flush=True)
            continue
        rows.append(row(fault, record, measured(SOUND, channel, OPTIONS, 120), before))
        print(rows[-1], flush=True)
    channel.close()
    head = HEAD.format(machine=_processor(), torch=torch.__version__, count=len(rows))
    out.write_text(head + "\n".join(rows) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((each.partition(": ")[2] for each in lines if each.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
