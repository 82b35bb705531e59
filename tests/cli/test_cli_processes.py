"""Several processes, raw samples and the best batch, through the command line and the Python API, really measured."""

from pathlib import Path

import pytest

from attnbench.api import Options, Sweep, UsageError, benchmark
from attnbench.core.store import load
from attnbench.engine.workers.channels import WorkerChannel

QUICK = ["run", "-m", "se", "--res", "8", "--max-time", "0.1", "--threads", "1", "-o", "kept.jsonl"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process ids of the workers, in the order they were started."""
    pids: list[int] = []
    start = WorkerChannel._start

    def recorded(channel: WorkerChannel) -> None:
        start(channel)
        pids.append(channel._process.pid)

    monkeypatch.setattr(WorkerChannel, "_start", recorded)
    return pids


def test_two_processes_are_two(cli, started: list[int], tmp_path: Path) -> None:
    code, _, err = cli(*QUICK, "--metrics", "latency", "--processes", "2", "--keep-samples")
    assert code == 0, err
    assert len(set(started)) == 3  # one finds the layout, two are measured in
    (record,) = load(tmp_path / "kept.jsonl").records
    assert record.ok, record.reason
    assert record.value("latency.processes") == 2
    series = record.value("latency.samples_ms")
    assert [len(samples) > 0 for samples in series] == [True, True]
    assert record.value("latency.samples") == sum(map(len, series))
    assert record.value("latency.min_ms") == min(map(min, series))
    assert record.value("latency.ci_low_ms") <= record.value("latency.median_ms") <= record.value("latency.ci_high_ms")


def test_samples_are_dropped_unless_asked_for(cli, started: list[int], tmp_path: Path) -> None:
    for words in ([], ["--keep-samples"]):
        assert cli(*QUICK, "--no-isolate", "--metrics", "latency", *words).code == 0
    without, kept = load(tmp_path / "kept.jsonl").records
    assert without.value("latency.samples_ms") is None
    assert any("latency.samples_ms: not kept" in note.text for note in without.notes)
    (series,) = kept.value("latency.samples_ms")
    assert len(series) == kept.value("latency.samples")
    assert not started


def test_the_best_batch_stands_in_the_table_and_the_record(cli, tmp_path: Path) -> None:
    """Which one it is depends on the machine; that it is one of those tried, and the smallest good one, does not."""
    code, out, err = cli(*QUICK, "--no-isolate", "--batch-size", "auto", "--metrics", "throughput")
    assert code == 0, err
    (record,) = load(tmp_path / "kept.jsonl").records
    (note,) = [note.text for note in record.notes if note.kind == "batch"]
    tried = [int(each.split(":")[0]) for each in note.split("found: ")[1].split(", ") if "/s" in each]
    assert record.case.batch_size in tried
    assert {1, 2, 4} <= set(tried)
    assert f"batch {record.case.batch_size}" in out.splitlines()[0]
    assert f"--batch-size {record.case.batch_size} " in record.repro
    assert "found" not in out


def test_the_same_from_python(started: list[int]) -> None:
    sweep = Sweep(modules=["se"], res=["4"], batch_size=["auto"])
    (record,) = benchmark(sweep, Options(("throughput",), max_time=0.02, threads=1), isolate=False)
    assert any("found: 1: " in note.text for note in record.notes if note.kind == "batch")
    (case,) = Sweep(modules=["se"], res=["4"]).cases()
    (record,) = benchmark([case], Options(("latency",), max_time=0.02, threads=1, processes=2, keep_samples=True))
    assert len(record.value("latency.samples_ms")) == 2
    assert len(started) == 3


def test_what_python_cannot_have_either() -> None:
    (case,) = Sweep(modules=["se"], res=["4"]).cases()
    with pytest.raises(UsageError, match="needs worker processes"):
        next(benchmark([case], Options(processes=2), isolate=False))
    with pytest.raises(UsageError, match="auto stands alone"):
        next(benchmark(Sweep(modules=["se"], batch_size=["auto", "2"]), isolate=False))
