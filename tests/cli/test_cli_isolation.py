"""Who measures, and what is measured again: `--isolate`, `--mem-limit` and `--retry`, as they are typed."""

from pathlib import Path

import pytest

from attnbench.core.store import load

# Leaves the number of each process that imports it.
WITNESS = """
import os
from pathlib import Path
from torch import nn

with (Path(__file__).parent / "processes.txt").open("a") as file:
    file.write(f"{os.getpid()}\\n")

class Same(nn.Module):
    def forward(self, x):
        return x
"""


@pytest.mark.parametrize(
    ("words", "processes"),
    # With a fresh one for each case another has seen before that there is such a target.
    [(["--isolate"], 1), (["--isolate", "case"], 3), (["--isolate", "none"], 1), (["--no-isolate"], 1)],
)
def test_each_way_of_isolating_has_its_own_processes(cli, tmp_path: Path, words: list[str], processes: int) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    code, _, err = cli("run", *words, "-m", "witness.py:Same", "--res", "4,8", "--metrics", "params", "-o", "r.jsonl")
    assert code == 0, err
    assert [record.status for record in load(tmp_path / "r.jsonl").records] == ["ok", "ok"]
    seen = (tmp_path / "processes.txt").read_text().split()
    assert len(set(seen)) == processes


def test_what_a_limit_refused_is_measured_again_without_it(cli, tmp_path: Path) -> None:
    run = ["run", "--no-isolate", "-m", "se", "--res", "4,64", "--metrics", "memory", "-o", "r.jsonl"]
    code, _, err = cli(*run, "--mem-limit", "64KiB")
    assert code == 0, err
    small, large = load(tmp_path / "r.jsonl").records
    assert (small.status, large.status) == ("ok", "oom")
    assert "--mem-limit allows 64.0 KiB" in large.reason
    assert "2 of them from before" in cli(*run, "--resume").err
    assert "1 of them from before" in cli(*run, "--resume", "--retry", "oom").err
    again = load(tmp_path / "r.jsonl").records
    assert [record.status for record in again] == ["ok", "oom", "ok"]
    assert again[2].case == large.case


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--retry", "oom", "-o", "r.jsonl"], "add --resume"), (["--resume"], "name it with --out FILE.jsonl"),
     (["--resume", "-o", "r.jsonl", "--retry", "omm"], "Did you mean 'oom'?")],
)  # fmt: skip
def test_what_is_missing_is_said(cli, words: list[str], complaint: str) -> None:
    code, _, err = cli("run", "-m", "se", *words)
    assert code == 2
    assert complaint in err
