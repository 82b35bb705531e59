"""`attnbench ab A B` as it is typed: what it prints of two targets, when it cannot tell, and what it refuses."""

import json
from pathlib import Path

import pytest
from check_repository import Here, Says

from attnbench.engine.gate import twin_launcher
from attnbench.engine.gate.contest import Contest
from attnbench.engine.gate.duel import Failed
from attnbench.engine.workers import channels

EVEN = """
from torch import nn

class Even(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        if x.shape[-1] % 2:
            raise ValueError("only even sides")
        return self.proj(x)
"""
SMALL = ("self_attn", "linear_attn", "--res", "4,8", "--dim", "8", "-q")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> type[Says]:
    """How much longer the second takes, by words of the case's name."""
    monkeypatch.setattr(channels, "WorkerChannel", Here)
    monkeypatch.setattr(twin_launcher, "TwinLauncher", Says)
    monkeypatch.setattr(Says, "slower", {})
    monkeypatch.setattr(Says, "asked", [])
    return Says


def rows(out: str) -> dict[str, str]:
    """The last words of each row, by its size."""
    lines = [line.split() for line in out.splitlines()]
    return {words[0]: " ".join(words[words.index("to") + 2 :]) for words in lines if words and "to" in words[:7]}


def test_it_says_which_is_faster_and_by_how_much(cli, says: type[Says], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(says, "slower", {"4x4": 2.0, "8x8": -0.2})
    code, out, err = cli("ab", *SMALL)
    assert (code, err) == (0, "")
    assert rows(out) == {"4x4": "3.0 times slower", "8x8": "25 % faster"}
    assert out.startswith("A is self_attn, B is linear_attn; cpu")
    assert "3.00 (2." in out and "0.800 (0.79" in out  # B / A with its interval
    assert "The same code against itself: +0.0 %" in out


def test_what_is_the_same_is_said_with_the_threshold(cli, says: type[Says], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(says, "slower", {"4x4": 0.001})
    assert rows(cli("ab", *SMALL, "--threshold", "4%").out)["4x4"] == "the same within 4 %"


def test_as_json(cli, says: type[Says], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(says, "slower", {"4x4": 2.0})
    found = json.loads(cli("ab", *SMALL, "--format", "json").out)
    assert (found["a"], found["b"], [row["answer"] for row in found["rows"]]) == (
        "self_attn", "linear_attn", ["worse", "same"])  # fmt: skip
    row = found["rows"][0]
    assert row["ratio"]["value"] == pytest.approx(3.0) and row["ratio"]["low"] < 3 < row["ratio"]["high"]
    assert (row["a_ms"], row["b_ms"], row["processes"]) == (2.0, 6.0, 5)  # three, and two that confirm


def test_what_cannot_be_told_has_its_reason_and_code_3(cli, says: type[Says], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(says, "slower", {"4x4": Failed(1, "crashed", "it crashed the worker process")})
    code, out, _ = cli("ab", *SMALL)
    assert code == 3
    assert "¹ crashed: it crashed the worker process" in out
    assert "the same within 5 %" in out  # the other size is told all the same


def test_a_target_that_does_not_run_there_is_a_row_with_its_reason(cli, says: type[Says]) -> None:
    Path("even.py").write_text(EVEN)
    code, out, _ = cli("ab", "self_attn", "even.py:Even", "--res", "4,5", "--dim", "8", "-q")
    assert code == 3
    assert "¹ even.py:Even is unsupported: " in out and "only even sides" in out
    assert "the same within 5 %" in out  # of the other size


def test_ctrl_c_leaves_what_is_known(cli, says: type[Says], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(contest: Contest) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Contest, "run", interrupted)
    code, out, _ = cli("ab", *SMALL)
    assert code == 130
    assert "interrupted before this was decided" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("self_attn", "linear_atn"), "unknown module 'linear_atn'. Did you mean 'linear_attn'?"),
        (("self_attn", "no.py:Attn"), "the file no.py does not exist"),
        (("self_attn", "se", "--format", "xml"), "--format 'xml' is unknown: ab prints table or json."),
        (("self_attn", "se", "--threshold", "0.5%"), "is not smaller than --threshold"),
        (("self_attn", "se", "--max-time", "-1"), "--max-time"),
        (("self_attn",), "Missing argument 'B'"),
    ],
)
def test_bad_input_is_one_sentence(cli, says: type[Says], words: tuple[str, ...], sentence: str) -> None:
    code, out, err = cli("ab", *words, *(() if len(words) == 1 else ("--res", "4", "-q")))
    assert (code, out) == (2, "")
    assert sentence in err and err.count("\n") == 1 and "Traceback" not in err
