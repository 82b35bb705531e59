"""`attnbench run --dry-run` as people type it: a table and its totals, nothing run, nothing written, no traceback."""

import json
from pathlib import Path

import pytest

HERE = ["--quiet", "--no-isolate", "--device", "cpu"]
INLINE = ["run", "--dry-run", *HERE]
RUN = ["run", *HERE]

OWN = """
import os
from torch import nn


class Ran(nn.Module):
    '''Leaves a file behind where it runs on data, be it little.'''

    def __init__(self, dim):
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x):
        if type(x).__name__ == "Tensor" and x.device.type == "cpu":
            open("ran", "w").close()
        return self.mix(x)


class OfOneSize(nn.Module):
    '''Looks at values, and takes no size but one that is not small: only a step of that would tell.'''

    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        if x.sum().item() > 1e30 or x.shape[1] != 10000:
            raise ValueError("not this")
        open("ran", "w").close()
        return x @ (x.transpose(1, 2) @ x)


class Interrupts(nn.Module):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        if x.shape[1] == 36:
            raise KeyboardInterrupt
        return x + x


class Deadly(nn.Module):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        if x.shape[1] == 36:
            os._exit(3)
        return x + x
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)


def totals(out: str) -> str:
    return " ".join(out.strip().split("\n\n")[-1].split())


def test_the_cases_what_fits_and_about_how_long(cli) -> None:
    code, out, err = cli(*INLINE, "--module", "self_attn,linear_attn", "--res", "8,16,2048")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.split("\n") if "attn" in line]
    assert [row[:2] for row in rows] == [
        [name, f"{side}x{side}"] for side in (8, 16, 2048) for name in ("self_attn", "linear_attn")
    ]
    assert [row[3] for row in rows[:4]] == ["yes"] * 4
    assert rows[4][3] == "no"  # 64 TiB for each of its maps
    assert totals(out).startswith("6 cases, about ")
    assert "will not fit into" in totals(out)


def test_nothing_is_run_and_nothing_is_written(cli, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    words = ["--module", "own.py:Ran", "--layout", "bnc", "--res", "8"]
    assert cli(*INLINE, *words, "-o", "r.jsonl", "-o", "t.md").code == 0
    assert sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__") == before
    assert cli(*RUN, *words, "--max-time", "0.01").code == 0
    assert (tmp_path / "ran").exists()  # it would have told


def test_what_only_a_step_would_tell_is_not_told(cli, tmp_path: Path) -> None:
    words = ["--module", "own.py:OfOneSize", "--layout", "bnc", "--res", "100", "--dim", "8"]
    code, out, _ = cli(*INLINE, *words)
    assert code == 0
    assert "1 may fit or not, which cannot be told" in totals(out)
    assert "its MACs were not counted" in " ".join(out.split())
    assert not (tmp_path / "ran").exists()
    assert cli(*RUN, *words, "--metrics", "static").code == 0
    assert (tmp_path / "ran").exists()  # it would have told


def test_a_limit_is_kept_by_the_dry_run_as_by_the_run(cli) -> None:
    words = ["--module", "self_attn", "--res", "16", "--max-time", "0.01", "--mem-limit", "100KiB"]
    code, out, _ = cli(*INLINE, *words)
    assert code == 0
    assert "1 will not fit into 100.0 KiB (--mem-limit)" in totals(out)
    assert "not started" in cli(*RUN, *words).out


def test_what_is_stored_is_told_and_takes_no_time(cli) -> None:
    words = ["--module", "se", "--metrics", "static", "-o", "r.jsonl", "--resume"]
    assert cli(*RUN, *words, "--res", "8,16")[0] == 0
    stored = Path("r.jsonl").read_bytes()
    code, out, _ = cli(*INLINE, *words, "--res", "8,12,16")
    assert code == 0
    assert "2 are in r.jsonl already" in totals(out)
    cases = json.loads(cli(*INLINE, *words, "--res", "8,12,16", "--format", "json").out)["cases"]
    assert [each["verdict"] for each in cases] == ["stored", "runs_nothing", "stored"]
    assert "nothing left to measure" in totals(cli(*INLINE, *words, "--res", "8,16").out)
    assert Path("r.jsonl").read_bytes() == stored


def test_as_json(cli) -> None:
    code, out, err = cli(*INLINE, "--module", "se", "--res", "8", "--processes", "1", "--format", "json")
    assert (code, err) == (0, "")
    (case,) = json.loads(out)["cases"]
    assert case["verdict"] == "fits"
    assert case["least_ms"] > 0
    assert case["seconds"] > 2
    assert case["predicted_peak_bytes"] < case["limit_bytes"]


def test_another_format_is_refused_in_a_sentence(cli) -> None:
    code, out, err = cli(*INLINE, "--module", "se", "--format", "csv")
    assert (code, out) == (2, "")
    assert "--format json" in err


def test_a_suite(cli) -> None:
    Path("s.toml").write_text('[grid.a]\nmodule = ["se", "cbam"]\nres = [8, 12]\nmetrics = ["static"]\n')
    code, out, _ = cli(*INLINE, "--suite", "s.toml")
    assert code == 0
    assert totals(out).startswith("4 cases, about ")


def test_the_batch_of_best_throughput_is_a_guess_and_says_so(cli) -> None:
    code, out, _ = cli(*INLINE, "--module", "se", "--res", "8", "--batch-size", "auto")
    assert code == 0
    assert "the peak is that of batch 1" in " ".join(out.split())


def test_a_wrong_question_is_refused_as_by_the_run(cli) -> None:
    words = ["--module", "own.py:Missing", "--res", "8"]
    dry, run = cli(*INLINE, *words), cli(*RUN, *words)
    assert (dry.code, run.code) == (2, 2)
    assert dry.err == run.err


def test_ctrl_c_prints_what_there_is(cli) -> None:
    code, out, err = cli(*INLINE, "--module", "own.py:Interrupts", "--layout", "bnc", "--res", "5,6,7")
    assert code == 130
    assert "1 case" in totals(out)
    assert "2 are not looked at" in totals(out)
    assert "interrupted" in err


def test_a_case_that_kills_its_worker_is_a_row_and_not_the_end(cli) -> None:
    words = ["--module", "own.py:Deadly", "--layout", "bnc", "--res", "5,6", "--format", "json"]
    code, out, _ = cli("run", "--dry-run", "--quiet", "--device", "cpu", *words)
    assert code == 0
    assert [(each["verdict"], each["status"]) for each in json.loads(out)["cases"]] == [
        ("fits", "ok"), ("refused", "crashed")
    ]  # fmt: skip
