"""The file of a stored baseline: as it is written, read back, refused where it is damaged or something else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Reading, Record
from attnbench.engine.gate.baseline import Baseline, Line, exact_figures, what_matters
from attnbench.report.gate.records import exact

ENV = {"fingerprint": "0123456789abcdef", "device_name": "Xeon", "cpu": "Xeon", "cores": 2, "threads": 1,
       "torch": "2.8.0", "python": "3.11.9", "flags": {"deterministic": False}}  # fmt: skip
SELF = Case("self_attn", layout="bchw", height=32, width=32, tokens=1024, dim=64)
LINEAR = SELF.with_(target="linear_attn", mode="fwd_bwd", params=(("eps", 0.1),))
FIGURES = {"static.params": 16384, "static.macs": 201326592}
RATIOS = {"yardstick:softmax-1": (-0.25001, -0.24, -0.26), "yardstick:linear-1": (0.55, 0.57, 0.56)}

GOLDEN = """\
{"attnbench_baseline": 1, "env": {"fingerprint": "0123456789abcdef", "device_name": "Xeon", "cpu": "Xeon", "cores": 2, \
"threads": 1, "torch": "2.8.0", "python": "3.11.9", "flags": {"deterministic": false}}, "yardsticks": \
["yardstick:softmax-1", "yardstick:linear-1"], "attnbench": "1.0", "git_commit": null, "written_at": "2026-01-01", \
"loop_us": 69.1}
{"case": {"target": "linear_attn", "params": {"eps": 0.1}, "layout": "bchw", "height": 32, "width": 32, "tokens": \
1024, "dim": 64, "mode": "fwd_bwd"}, "status": "oom", "reason": "it needs 9 GiB", "figures": {"static.params": 16384, \
"static.macs": 201326592}}
{"case": {"target": "self_attn", "layout": "bchw", "height": 32, "width": 32, "tokens": 1024, "dim": 64}, "status": \
"ok", "figures": {"static.params": 16384, "static.macs": 201326592}, "step_ms": 2.61, "spread": 0.0087, "clock": \
"cpu", "shape": [1, 1024, 64], "yardstick_ms": {"yardstick:softmax-1": 2.41, "yardstick:linear-1": 1.05}, \
"log_ratios": {"yardstick:softmax-1": [-0.25, -0.24, -0.26], "yardstick:linear-1": [0.55, 0.57, 0.56]}}
"""


@pytest.fixture
def baseline() -> Baseline:
    timed = Line(SELF, figures=FIGURES, shape=(1, 1024, 64), log_ratios=RATIOS, step_ms=2.6123,
                 yardstick_ms={"yardstick:softmax-1": 2.414, "yardstick:linear-1": 1.0499})  # fmt: skip
    return Baseline(ENV, (timed, Line(LINEAR, "oom", "it needs 9 GiB", FIGURES)), attnbench="1.0",
                    written_at="2026-01-01", loop_us=69.123)  # fmt: skip


def test_the_file_is_one_line_a_case_sorted_and_short(baseline: Baseline, tmp_path: Path) -> None:
    baseline.write(tmp_path / "folder" / "base.jsonl")
    assert (tmp_path / "folder" / "base.jsonl").read_text() == GOLDEN


def test_what_was_written_is_read_back_and_written_the_same(baseline: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    baseline.write(path)
    found = Baseline.load(path)
    assert [line.case for line in found.lines] == [LINEAR, SELF]
    assert found.line(SELF) is found.lines[1] and found.line(SELF.with_(dim=32)) is None
    assert found.lines[0].reason == "it needs 9 GiB" and not found.lines[0].is_timed
    assert found.env == ENV
    found.write(path)
    assert path.read_text() == GOLDEN


def test_launches_are_means_over_the_yardsticks(baseline: Baseline) -> None:
    line = baseline.lines[0]
    assert line.launches == pytest.approx([0.149995, 0.165, 0.15])
    assert line.spread == pytest.approx(0.00866, abs=1e-5)
    assert line.error == pytest.approx(0.005, abs=1e-5)
    assert line.middle("yardstick:linear-1") == pytest.approx(0.56)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text("old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        baseline.write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_rights_stay_as_they_were(baseline: Baseline, tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "real.jsonl").chmod(0o640)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    baseline.write(tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text() == GOLDEN
    assert (tmp_path / "real.jsonl").stat().st_mode & 0o777 == 0o640


def test_records_are_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(Record(SELF, "ok").to_dict()) + "\n")
    with pytest.raises(
        UsageError, match=r"holds records, and is no baseline: write one with attnbench baseline update"
    ):
        Baseline.load(path)


@pytest.mark.parametrize(
    "content, words",
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"\x00\xff", "line 1: it is no JSON"), (b"[1]", "line 1: a list"),
     (b"{}", "line 1: it does not begin"), (b'{"attnbench_baseline": 2}', "of format 2, and this attnbench reads 1"),
     (b'{"attnbench_baseline": true}', "of format True"), (b'{"attnbench_baseline": 1}', "line 1: its yardsticks"),
     (b"[" * 10**6, "line 1: it is no JSON")],
)  # fmt: skip
def test_what_is_no_baseline_is_refused_with_what_to_do(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        Baseline.load(path)
    assert words in str(error.value) and "attnbench baseline update" in str(error.value)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.jsonl", ".", "a\0b"])
def test_what_cannot_be_read_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="attnbench baseline update"):
        Baseline.load(tmp_path / name)


def _ratios(values: list[Any]) -> dict[str, Any]:
    return {"log_ratios": {"yardstick:softmax-1": values, "yardstick:linear-1": [0.5] * len(values)}}


@pytest.mark.parametrize(
    "change, words",
    [({"case": {"dim": 64}}, "target"), ({"case": {"target": "x", "dim": "64"}}, "its case has '64' for dim"),
     ({"case": []}, "its case a list is no object"), ({"status": "fine"}, "its status 'fine'"),
     ({"figures": {"static.params": 1.5}}, "its static.params is 1.5"),
     ({"figures": {"static.params": True}}, "its static.params is True"),
     ({"figures": None}, "its figures None is no object"), (_ratios([0.1, float("nan")]), "log_ratios is nan"),
     (_ratios([0.1, "0.2"]), "log_ratios is '0.2'"), (_ratios([0.1, 1e9]), "log_ratios is 1000000000.0"),
     (_ratios([0.1]), "of 1 launches"), (_ratios([]), "of 0 launches"), ({"log_ratios": {}}, "yardsticks"),
     ({"shape": [1, 2]}, "its shape"), ({"shape": [1, 0, 2]}, "its shape"), ({"shape": None}, "its shape"),
     ({"clock": "sun"}, "its clock 'sun' is none of cpu, wall"),
     ({"yardstick_ms": {"yardstick:linear-1": 0}}, "its yardstick:linear-1 is 0"),
     ({"step_ms": -1}, "its step_ms is -1"), ({"reason": 3}, "its reason 3 is no text")],
)  # fmt: skip
def test_a_damaged_line_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = _changed(tmp_path, lambda row: row.update(change))
    with pytest.raises(UsageError) as error:
        Baseline.load(path)
    assert f"{path}, line 3: " in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("names", ["[]", '["evil.py:Evil"]', "[1]", '"yardstick:softmax-1"', "null"])
def test_a_file_cannot_have_other_code_executed_as_a_yardstick(names: str, tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text(GOLDEN.replace('["yardstick:softmax-1", "yardstick:linear-1"]', names, 1))
    with pytest.raises(UsageError, match="line 1: its yardsticks"):
        Baseline.load(path)


def test_two_lines_of_one_case_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text(GOLDEN + GOLDEN.splitlines()[2])
    with pytest.raises(UsageError, match="line 4: self_attn 32x32 stands in an earlier line"):
        Baseline.load(path)


def _changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    lines = GOLDEN.splitlines()
    row = json.loads(lines[2])
    change(row)
    path = folder / "base.jsonl"
    path.write_text("\n".join([*lines[:2], json.dumps(row)]))
    return path


def _record(params: int, scratch: int, **more: Any) -> Record:
    readings = (Reading("static.params", params, "count", "same", "Params"),
                Reading("static.predicted_peak_bytes", 1000 + scratch, "bytes", "same", "Predicted peak"),
                Reading("static.predicted_scratch_bytes", scratch, "bytes"),
                Reading("memory.peak_bytes", 5, "bytes", "lower", "Peak"),
                Reading("latency.median_ms", 2.5, "ms", "lower", "Latency"))  # fmt: skip
    return Record(SELF.with_(**more), "ok", readings=readings, env=ENV)


def test_exact_figures_are_counted_ones_and_a_gpus_peak() -> None:
    counted = {"static.params": 7, "static.predicted_peak_bytes": 1010, "static.predicted_scratch_bytes": 10}
    assert exact_figures(_record(7, 10)) == counted
    assert exact_figures(_record(7, 10, device="cuda")) == counted | {"memory.peak_bytes": 5}


def test_stored_figures_are_held_against_a_record_by_the_rules_of_the_gate() -> None:
    stored = Line(SELF, figures=exact_figures(_record(7, 10)))

    def outcomes(now: Record, env: dict[str, Any]) -> dict[str, str]:
        return {found.title: found.outcome for found in exact(stored.record(env, now), now)}

    assert set(outcomes(_record(7, 10), ENV).values()) == {"same"}
    assert outcomes(_record(8, 10), ENV)["Params"] == "changed"
    assert outcomes(_record(7, 20), ENV)["Predicted peak"] == "changed"
    assert outcomes(_record(7, 20), ENV | {"fingerprint": "another"})["Predicted peak"] == "same"
    assert outcomes(Record(SELF, "ok", env=ENV), ENV)["static.params"] == "missing"


def test_of_an_environment_what_matters_is_kept() -> None:
    assert what_matters(ENV | {"load_average": 1.5, "driver": None, "started_at": "now"}) == ENV
