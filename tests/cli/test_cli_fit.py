"""`attnbench fit` as people type it: what fits, in a table and as JSON, and how questions that are none are refused."""

import json
from pathlib import Path

import pytest
import torch

FIT = ["fit", "--no-isolate", "--device", "cpu"]

OWN = """
from torch import nn


class Doubled(nn.Module):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        b, c, h, w = x.shape
        return x + x


class Looks(Doubled):
    def forward(self, x):
        return x + x if x.sum().item() > 0 else x
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)


def answers(out: str) -> list[tuple[str, object]]:
    return [
        (each["asked"], each["largest"]["case"]["batch_size" if each["asked"] == "batch" else "height"])
        for each in json.loads(out)
    ]


def test_without_a_size_both_are_asked(cli) -> None:
    """512 bytes a position: isqrt(204,800) = 452 a side in 100 MiB, and 200 times 32x32."""
    code, out, err = cli(*FIT, "own.py:Doubled", "--memory", "100MiB", "--json")
    assert (code, err) == (0, "")
    assert answers(out) == [("size", 452), ("batch", 200)]


def test_what_is_given_is_not_searched_for(cli) -> None:
    """4 x 512 bytes a position: isqrt(51,200) = 226; at 64x64 2 MiB each: 50 of them."""
    size = cli(*FIT, "own.py:Doubled", "--memory", "100MiB", "-b", "1,4", "--json").out
    assert answers(size) == [("size", 452), ("size", 226)]
    batch = cli(*FIT, "own.py:Doubled", "--memory", "100MiB", "--res", "32,64", "--json").out
    assert answers(batch) == [("batch", 200), ("batch", 50)]
    both = cli(*FIT, "own.py:Doubled", "--memory", "100MiB", "--res", "64", "-b", "4", "--json").out
    assert answers(both) == [("size", 226), ("batch", 50)]


def test_modules_and_networks_side_by_side(cli) -> None:
    code, out, err = cli(*FIT, "self_attn,own.py:Doubled", "vgg16", "--memory", "512MiB", "-b", "1")
    assert code == 0, err
    rows = {line.split()[0]: line for line in out.splitlines() if line[:1].isalpha()}
    assert "1024x1024" in rows["own.py:Doubled"]  # 512 bytes x 1024^2 = 512 MiB to the last byte
    assert "100.0 %" in rows["own.py:Doubled"]
    # The N x N map twice alone: 8 s^4 <= 2^29 gives s <= 90.
    size = next(word for word in rows["self_attn"].split() if "x" in word)
    assert int(size.split("x")[0]) in range(84, 91)
    # 138,357,544 parameters alone are 527.8 MiB.
    assert " none " in rows["vgg16"]
    assert "even 32x32, the smallest size that was found, needs 5" in out


def test_tokens_are_asked_for_with_seq_len(cli) -> None:
    """scores and their softmax, N x N each, beside queries, keys and values: 8 N^2 is the most of it."""
    out = cli(*FIT, "scaled_dot_product", "--memory", "1GiB", "--seq-len", "1024", "-b", "1", "--json").out
    answer, batch = json.loads(out)
    assert batch["asked"] == "batch"
    assert answer["largest"]["case"]["height"] is None
    assert 10_000 < answer["largest"]["case"]["tokens"] < 11_586  # isqrt(2^30 / 8)
    assert answer["beyond"]["case"]["tokens"] == answer["largest"]["case"]["tokens"] + 1
    assert answer["largest"]["predicted_peak_bytes"] <= 2**30 < answer["beyond"]["predicted_peak_bytes"]
    assert answer["trials"] <= 25


def test_without_a_memory_it_is_what_is_free(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.engine.workers.answer.free_bytes", lambda device: 1024**3)
    code, out, _ = cli(*FIT, "own.py:Doubled")
    assert code == 0
    assert "memory 972.8 MiB (95 % of what is free)" in out


def test_what_cannot_be_predicted_is_exit_code_3(cli) -> None:
    code, out, err = cli(*FIT, "own.py:Looks", "--memory", "1GiB")
    assert code == 3
    assert "cannot tell" in out
    assert "nothing could be predicted" in err
    assert cli(*FIT, "own.py:Looks,own.py:Doubled", "--memory", "1GiB").code == 0


def test_the_first_line_of_the_records_own_command_runs_the_answer(cli) -> None:
    (answer,) = json.loads(cli(*FIT, "own.py:Doubled", "--memory", "1MiB", "-b", "1", "--json").out)
    assert answer["largest"]["repro"].startswith("attnbench run --module own.py:Doubled --res 45x45 ")  # isqrt(2048)


def test_a_gpu_is_predicted_for_wherever_it_is(cli) -> None:
    """Blocks of 512 bytes and no product: the same sums as on the CPU."""
    words = ["fit", "--no-isolate", "--device", "cuda", "own.py:Doubled"]
    assert answers(cli(*words, "--memory", "100MiB", "--json").out) == [("size", 452), ("batch", 200)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="its memory is known where it is")
def test_the_free_memory_of_a_gpu_that_is_not_here_cannot_be_told(cli) -> None:
    code, out, err = cli("fit", "--no-isolate", "--device", "cuda", "own.py:Doubled")
    assert (code, out) == (3, "")
    assert "say it with --memory" in err


def test_ctrl_c_shows_what_was_found(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from attnbench.engine import fit as engine

    def interrupted(case, asked, *rest):
        if asked == "batch":
            raise KeyboardInterrupt
        return found(case, asked, *rest)

    found = engine.fit
    monkeypatch.setattr(engine, "fit", interrupted)
    code, out, _ = cli(*FIT, "own.py:Doubled", "--memory", "100MiB")
    assert code == 130
    assert "452x452" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to run"),
        (["self_atn", "--memory", "1GiB"], "Did you mean 'self_attn'?"),
        (["vgg61+se", "--memory", "1GiB"], "Did you mean 'vgg16'?"),
        (["self_attn", "--memory", "lots"], "'lots' is not a size in memory"),
        (["self_attn", "--memory", "0"], "--memory is out of range"),
        (["self_attn", "--memory", "9999999TiB"], "--memory is out of range"),
        (["self_attn", "--memory", "1GiB", "--res", "0"], "--res 0 is out of range"),
        (["self_attn", "--memory", "1GiB", "--timeout", "0"], "--timeout 0 is out of range"),
        (["self_attn", "--memory", "1GiB", "--img-size", "64"], "--img-size is for networks"),
        (["nowhere.py:M", "--memory", "1GiB"], "the file nowhere.py does not exist"),
        (["self_attn", "--memory", "1GiB", "--dtype", "fp23"], "unknown dtype"),
        (["vgg16", "--memory", "1GiB", "--img-size", "8"], "vgg16"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, words: list[str], sentence: str) -> None:
    code, out, err = cli(*FIT, *words)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not out
