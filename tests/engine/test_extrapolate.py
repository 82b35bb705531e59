"""Modules that look at values: their figures at sizes nobody could run, against costs worked out by hand."""

import time
from pathlib import Path

import pytest

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading, Record
from attnbench.engine.asking import measured
from attnbench.engine.extrapolate import extrapolated
from attnbench.engine.workers.channels import InlineChannel
from attnbench.metrics.metric import Options

FILE = Path(__file__).with_name("needs_values.py")
C = 16


def count(name: str, layout: str, *metrics: str, height: int | None = None, width: int | None = None,
          tokens: int | None = None) -> Record:  # fmt: skip
    tokens = tokens or (height or 0) * (width or 0)
    case = Case(f"{FILE}:{name}", layout=layout, height=height, width=width, tokens=tokens, dim=C)
    return measured(case, InlineChannel(), Options(metrics or ("params", "macs")))


def note(record: Record, kind: str) -> str:
    return next((note.text for note in record.notes if note.kind == kind), "")


@pytest.mark.parametrize(
    ("name", "tokens", "macs"),
    [
        ("Quadratic", 2**20, 2 * 2**40 * C),
        ("Quadratic", 1_000_003, 2 * 1_000_003**2 * C),
        ("Orthogonal", 2**20, 4 * 2**20 * C**2),
        ("TokenLoop", 2**20, 2**20 * C**2),
    ],
)
def test_a_million_tokens_are_counted_exactly_and_at_once(name: str, tokens: int, macs: int) -> None:
    start = time.perf_counter()
    record = count(name, "bnc", tokens=tokens)
    assert time.perf_counter() - start < 60  # at full size it would be days
    assert record.ok
    assert record.value("static.macs") == macs
    assert record.value("static.flops") == 2 * macs
    assert record.value("static.counted_on") == "polynomial"
    said = note(record, "extrapolated")
    assert "counted at 7 sizes on real tensors, N = " in said
    assert "spare sizes confirm" in said


def test_the_note_gives_the_polynomial() -> None:
    record = count("Quadratic", "bnc", tokens=2**20)
    assert f"its MACs are {2 * C} N² exactly, which 4 spare sizes confirm" in note(record, "extrapolated")


def test_the_parts_are_carried_on_too() -> None:
    record = count("TokenLoop", "bnc", tokens=50_000)
    assert record.value("static.params") == C * C + C
    assert record.value("static.macs_by_op") == {"linear": 50_000 * C * C}
    assert record.value("static.uncounted_ops") == {}
    # A multiply-accumulate saved or made by a causal flag there is none: all of them are useful.
    assert record.value("static.useful_macs") == 50_000 * C * C


@pytest.mark.parametrize(
    ("name", "height", "width", "macs"),
    [
        ("Windows", 1024, 1024, 128 * 128 * 2 * 64**2 * C),
        ("Windows", 1001, 1001, 126 * 126 * 2 * 64**2 * C),  # 125.1 windows each way, padded
        ("Halves", 512, 1024, 512 * 2 * 1024**2 * C),
        ("Halves", 768, 512, 768 * 2 * 512**2 * C),
        ("Halves", 1009, 1009, 1009 * 2 * 1009**2 * C),  # a prime number
    ],
)
def test_maps_keep_their_ratio_and_the_remainder_by_a_window(name: str, height: int, width: int, macs: int) -> None:
    record = count(name, "bchw", height=height, width=width)
    assert record.value("static.macs") == macs
    assert record.value("static.counted_on") == "polynomial"


def test_tokens_that_are_taken_for_a_square_map(tmp_path: Path) -> None:
    # The side is found by a root, and a token number that is no square is refused: 2 s^3 C for the rows.
    (tmp_path / "square.py").write_text(
        "import math, torch\n"
        "class Rows(torch.nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n"
        "    def forward(self, x):\n"
        "        side = math.isqrt(x.shape[1])\n"
        "        rows = x.view(x.shape[0], side, side, -1)\n"
        "        scores = rows @ rows.transpose(2, 3)\n"
        "        assert scores.amax().item() < 1e30\n"
        "        return (scores @ rows).flatten(1, 2)\n"
    )
    case = Case(f"{tmp_path}/square.py:Rows", layout="bnc", tokens=1000**2, dim=C)
    record = measured(case, InlineChannel(), Options(("macs",)))
    assert record.value("static.macs") == 2 * 1000**3 * C


def test_a_small_case_is_counted_as_it_is() -> None:
    record = count("Quadratic", "bnc", tokens=1000)
    assert record.value("static.macs") == 2 * 1000**2 * C
    assert record.value("static.counted_on") == "device"
    assert not note(record, "extrapolated")


def test_what_runs_without_data_is_counted_without() -> None:
    case = Case("self_attn", layout="bchw", height=64, width=64, tokens=4096, dim=64)
    record = measured(case, InlineChannel(), Options(("macs",)))
    assert record.value("static.counted_on") == "meta"
    assert record.value("static.macs") == 5120 * 64**2 + 72 * 64**4


def test_what_is_no_polynomial_gets_no_figure_and_says_why() -> None:
    record = count("Pyramid", "bnc", tokens=2**20)
    assert record.ok
    assert record.value("static.macs") is None
    said = note(record, "not_extrapolated")
    assert "at 1048576 are not known without running it" in said
    assert "follow no polynomial" in said


def test_what_takes_one_size_alone_is_counted_at_it_on_the_device() -> None:
    record = count("OnlyAt64", "bchw", height=64, width=64)
    assert record.ok
    assert record.value("static.macs") == 2 * 64**2 * C
    assert record.value("static.counted_on") == "device"


@pytest.mark.parametrize("side", [16, 64])
def test_what_is_broken_is_an_error_as_ever(side: int) -> None:
    record = count("Broken", "bchw", height=side, width=side)
    assert record.status == "error"
    assert "I am broken" in record.reason


def fake_count(**figures: object):
    """A count whose figures are functions of the tokens."""

    def counted(case: Case) -> list[Reading | Note]:
        return [Reading(f"static.{name}", of(case.tokens)) for name, of in figures.items()]

    return counted


CASE = Case("x", tokens=10**6)


def test_one_figure_without_proof_is_left_out_and_the_others_stand() -> None:
    counted = fake_count(macs=lambda n: 3 * n * n, fft_flops=lambda n: 5 * n * n.bit_length(), params=lambda n: 7)
    found = list(extrapolated(CASE, counted))
    values = {each.name: each.value for each in found if isinstance(each, Reading)}
    assert values == {"static.macs": 3 * 10**12, "static.params": 7, "static.counted_on": "polynomial"}
    (left_out,) = [each.text for each in found if isinstance(each, Note) and each.kind == "not_extrapolated"]
    assert left_out.startswith("static.fft_flops: follows no polynomial")


def test_words_truths_and_mappings() -> None:
    counted = fake_count(
        macs=lambda n: n, claimed_complexity=lambda n: "N", verified=lambda n: n != 48,
        macs_by_op=lambda n: {"mm": n} | ({"rare": n - 16} if n > 16 else {}), counters=lambda n: {"a": n, "b": None},
    )  # fmt: skip
    values = {each.name: each.value for each in extrapolated(CASE, counted) if isinstance(each, Reading)}
    assert values["static.claimed_complexity"] == "N"
    assert values["static.verified"] is False  # at one size they were not
    assert values["static.macs_by_op"] == {"mm": 10**6, "rare": 10**6 - 16}
    assert values["static.counters"] == {"a": 10**6, "b": None}


def test_a_value_that_would_be_no_integer_is_none() -> None:
    odd = Case("x", tokens=10**6 + 1)
    # On even lengths n / 2 is an integer, but the lengths tried are odd like the case's own.
    found = list(extrapolated(odd, fake_count(macs=lambda n: n // 2)))
    assert next(each.value for each in found if isinstance(each, Reading)) == 500_000
