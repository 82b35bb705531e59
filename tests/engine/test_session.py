"""Sessions over a canned channel and a real worker: what is measured is a row, and nothing read is lost."""

import re
from pathlib import Path

import pytest
from canned_lanes import Machine, lane

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import SECTIONS, Note, Record
from attnbench.core.spec import Spec
from attnbench.core.store import Store, load
from attnbench.engine.asking import measured, resolved
from attnbench.engine.crew import Crew
from attnbench.engine.question import Question
from attnbench.engine.session import prepared
from attnbench.engine.workers.channels import InlineChannel, WorkerChannel, WorkerDied
from attnbench.metrics.metric import Options
from attnbench.targets.catalogue import catalogue

QUICK = Options(max_time=0.02)
GOOD = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
def test_the_allocator_is_warm_within_a_case_and_clean_before_the_next() -> None:
    big = Case("self_attn", height=64, width=64, tokens=4096, dim=64, layout="bchw")
    channel = WorkerChannel(quiet=True)
    record = measured(big, channel, QUICK)
    assert record.env["malloc"] == "warm"
    assert "warm malloc" in record.value("latency.method")
    kept = _resident_bytes(channel)
    measured(GOOD, channel, QUICK)
    # Two maps of 64 MiB were kept for the steps of the first case; the second begins without them.
    assert _resident_bytes(channel) < kept - 100 * 2**20
    channel.close()


def _resident_bytes(channel: WorkerChannel) -> int:
    status = Path(f"/proc/{channel._process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def test_a_case_that_would_not_fit_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.engine.measure.free_bytes", lambda device: 1000)
    record = measured(GOOD.with_(height=64, width=64, tokens=4096), InlineChannel(), QUICK)
    assert record.status == "oom"
    assert record.reason.startswith("not started: it needs ")
    assert record.reason.endswith("1000 B are free")
    assert record.value("static.macs") is not None
    assert record.value("latency.median_ms") is None


# A product written as mul and sum, as it is published and runs fastest: torch's counter does not hear it.
SUMMED = {"aft_simple", "hydra"}


@pytest.mark.parametrize("spec", catalogue(), ids=lambda spec: spec.name)
def test_all_counters_agree_on_everything_built_in(spec: Spec) -> None:
    """fvcore with our handles, torch's own counter, and the formula: equal integers, nothing left uncounted."""
    sizes = ((48, 33), (32, 32)) if spec.kind == "network" else ((7, 5), (16, 16))
    for height, width in sizes:
        shape = {"tokens": height * width, "dim": 64} if spec.kind == "module" else {}
        case = Case(spec.name, kind=spec.kind, height=height, width=width, batch_size=2, **shape)
        (ready,) = resolved([case], InlineChannel())
        record = measured(ready, InlineChannel(), Options(metrics=("static",)))
        counters = dict(record.value("static.counters"))
        if spec.name in SUMMED:
            assert counters.pop("torch") < record.value("static.macs")
        assert len(set(counters.values())) == 1, counters
        assert None not in counters.values()
        assert record.value("static.verified") is True
        assert not record.value("static.uncounted_ops")


def test_every_field_is_measured_or_a_note_says_why_not() -> None:
    """A null without a word would be a silent one."""
    for mode in ("fwd", "fwd_bwd"):
        for metrics in (("all",), ("static",), ("latency",), ("params",)):
            record = measured(GOOD.with_(mode=mode), InlineChannel(), Options(metrics=metrics, max_time=0.02))
            data = record.to_dict()
            text = " ".join(note.text for note in record.notes if note.kind == "not_measured")
            said = set(re.findall(r"[a-z_]+\.[a-z0-9_]+|[a-z_]+", text))
            for section in SECTIONS:
                unsaid = {n for n, value in data[section].items() if value is None and section not in said}
                assert {f"{section}.{name}" for name in unsaid} <= said


def test_a_question_of_which_nothing_can_be_built_is_refused() -> None:
    wrong = Case("mha", tokens=16, dim=64, heads=5)
    with pytest.raises(UsageError, match="refuses"):
        resolved([wrong], InlineChannel())


def test_one_impossible_cell_of_many_is_a_row() -> None:
    cells = [Case("self_attn", height=4, width=4, tokens=16, dim=dim) for dim in (4, 64)]
    narrow, wide = resolved(cells, InlineChannel())
    assert isinstance(narrow, Record)
    assert narrow.status == "unsupported"
    assert isinstance(wide, Case)
    assert wide.layout == "bchw"


@pytest.mark.parametrize(
    ("mode", "batch", "status"), [("fwd", 1, "ok"), ("fwd_bwd", 1, "unsupported"), ("fwd_bwd", 2, "ok")]
)
@pytest.mark.parametrize("metrics", ["params", "static", "latency"])
def test_a_batch_norm_that_sees_one_value_is_a_row(mode: str, batch: int, status: str, metrics: str) -> None:
    """Alone as well: the question is a right one, and in eval mode, or with more samples, it has an answer."""
    case = Case("bam", height=1, width=1, tokens=1, dim=32, mode=mode, batch_size=batch)
    (ready,) = resolved([case], InlineChannel())
    record = measured(ready, InlineChannel(), Options(metrics=(metrics,), max_time=0.02))
    assert record.status == status
    assert ("a larger --batch-size" in record.reason) == (status == "unsupported")
    assert "counted_live" not in {note.kind for note in record.notes}


def test_records_are_on_the_disk_before_they_are_seen(tmp_path: Path) -> None:
    path, endings = tmp_path / "records.jsonl", iter([[], WorkerDied("crashed", "it died"), []])
    asked = [Question(GOOD.with_(seed=seed), QUICK) for seed in range(3)]
    crew = Crew([lane(Machine(lambda case: next(endings)))])
    seen = []
    for record in prepared(asked, crew).records(crew, Store(path)):
        assert load(path).records[-1] == record
        seen.append(record.status)
    assert seen == ["ok", "crashed", "ok"]


def test_ctrl_c_keeps_what_is_there(tmp_path: Path) -> None:
    def interrupted(case: Case) -> list[Note]:
        if case.seed:
            raise KeyboardInterrupt
        return []

    path, crew = tmp_path / "records.jsonl", Crew([lane(Machine(interrupted))])
    with pytest.raises(KeyboardInterrupt):
        list(prepared([Question(GOOD.with_(seed=n), QUICK) for n in (0, 1)], crew).records(crew, Store(path)))
    assert [record.status for record in load(path).records] == ["ok"]


def test_a_figure_that_is_none_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnbench.core.record import Reading
    from attnbench.engine.workers import answer

    nothing = Reading("latency.median_ms", float("nan"), "ms")
    monkeypatch.setattr(answer, "measure", lambda case, options: iter([nothing]))
    record = measured(GOOD, InlineChannel(), QUICK)
    assert record.value("latency.median_ms") is None
    assert "latency.median_ms" in record.notes[0].text


@pytest.mark.gpu
def test_the_main_job_on_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for mode in ("fwd", "fwd_bwd"):
        case = Case("self_attn", height=64, width=64, tokens=4096, dim=64, layout="bchw", device="cuda", mode=mode)
        record = measured(case, InlineChannel(), Options(max_time=0.5))
        assert record.ok, record.reason
        assert record.value("latency.host_ms") > 0
        assert record.value("memory.peak_bytes") >= 4096 * 4096 * 4
        assert record.value("memory.peak_bytes") == pytest.approx(record.value("static.predicted_peak_bytes"), rel=0.2)


@pytest.mark.gpu
def test_out_of_memory_on_a_gpu_is_a_row() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    huge = Case("self_attn", height=1024, width=1024, tokens=1024**2, dim=64, layout="bchw", device="cuda")
    assert measured(huge, InlineChannel(), QUICK).status == "oom"
