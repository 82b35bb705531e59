"""`attnbench audit` on every module of the catalogue and on targets whose truth is known by hand."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from audit_targets import CATALOGUE, TRUTH

from attnbench.core.order import parse_order
from attnbench.targets.catalogue import catalogue, find

FILE = Path(__file__).parents[1] / "report" / "audit_targets.py"


def audits(cli, *words: str) -> list[dict]:
    code, out, err = cli("audit", "--no-isolate", "--device", "cpu", "--format", "json", *words)
    assert code == 0, err
    return json.loads(out)


# A side that was not counted, where the law holds.
SIDES = {None: 2000, "a power of two": 2048, "a multiple of 672": 2016}


def test_every_module_of_the_catalogue_is_judged_right(cli) -> None:
    found = {each["target"]: each for each in audits(cli)}
    assert list(found) == [spec.name for spec in catalogue() if spec.kind == "module"]
    assert {name: each["found"] for name, each in found.items()} == CATALOGUE
    assert [name for name, each in found.items() if each["verdict"] == "refuted"] == ["pseudo_linear_attn"]
    assert all(each["complete"] and each["exact"] for each in found.values())
    assert not any(each["doubts"] for each in found.values())
    for each in found.values():
        side = SIDES[macs_of(each)["where_s_is"]]
        assert macs_at(side, each) == formula_at(side, each["target"]), each["target"]


def macs_at(side: int, judged: dict) -> Fraction:
    """The fitted polynomial at a side that was not counted."""
    return sum((Fraction(c) * side**k for k, c in enumerate(macs_of(judged)["coefficients_in_s"])), Fraction(0))


def macs_of(judged: dict) -> dict:
    (macs,) = [growth for growth in judged["growths"] if growth["of"] == "MACs"]
    return macs


def formula_at(side: int, name: str) -> int:
    """What the spec's formula says, for the default 64 channels and one head."""
    spec = find(name)
    required = {parameter: 64 if parameter == "dim" else 1 for parameter in spec.required}
    return spec.macs(**spec.symbols(B=1, N=side**2, H=side, W=side, C=64, **required))


@pytest.mark.parametrize("name", TRUTH)
def test_targets_whose_truth_is_known_by_hand(cli, name: str) -> None:
    claim, order, verdict = TRUTH[name]
    (judged,) = audits(cli, f"{FILE}:{name}", "--claim", claim)
    assert judged["found"] == order, judged["evidence"]
    assert judged["verdict"] == verdict, judged["evidence"]
    assert judged["claim"] == parse_order(claim).plain


def test_the_network_names_the_blocks_that_make_it_quadratic(cli) -> None:
    plain, pseudo, true = audits(cli, "vgg16", "vgg16+pseudo_linear_attn", "-n", "vgg16+linear_attn")
    assert [each["verdict"] for each in (plain, pseudo, true)] == ["holds", "refuted", "holds"]
    # The attention stands behind the convolution of each of the five blocks.
    assert pseudo["blocks"] == [f"features.{layer}.inserted" for layer in (2, 7, 14, 21, 28)]
    (macs,) = [growth for growth in pseudo["growths"] if growth["of"] == "MACs"]
    # N^2 (C/8 + C) at C = 64, 128, 256, 512, 512 on maps of s, s/2, s/4, s/8, s/16.
    parts = ((72, 1), (144, 2), (288, 4), (576, 8), (576, 16))
    assert Fraction(macs["coefficients_in_s"][4]) == sum(Fraction(macs, down**4) for macs, down in parts)


def test_a_users_file_with_a_false_claim_fails_in_ci(cli) -> None:
    words = ("audit", "--no-isolate", f"{FILE}:EinsumQuadratic", "--claim", "O(N)")
    code, out, _ = cli(*words)
    assert code == 0
    assert "refuted" in out
    assert "128 s⁴ + 12288 s² MACs: N²; at 256x256 it is" in out
    assert "684 times what O(N) would be" in out
    assert cli(*words, "--strict").code == 1
    assert cli(*words[:3], "--claim", "N^2", "--strict").code == 0


def test_a_worker_gives_the_same_answer(cli) -> None:
    code, out, _ = cli("audit", "pseudo_linear_attn", "--device", "cpu", "--strict", "--quiet")
    assert code == 1
    assert "1 refuted." in out


OPAQUE = """
import torch

torch.library.define("audited::mystery", "(Tensor x) -> Tensor")

@torch.library.impl("audited::mystery", "CompositeExplicitAutograd")
def mystery(x):
    return torch.empty_like(x)

@torch.library.register_fake("audited::mystery")
def _(x):
    return torch.empty_like(x)

class Opaque(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = torch.nn.Linear(dim, dim)

    def forward(self, x):
        return torch.ops.audited.mystery(self.proj(x))
"""


def test_an_operator_that_nobody_knows_is_never_called_linear(cli, tmp_path: Path) -> None:
    (tmp_path / "opaque.py").write_text(OPAQUE)
    words = ("opaque.py:Opaque", "--claim", "O(N)", "--layout", "bnc")
    (judged,) = audits(cli, *words)
    assert judged["verdict"] == "cannot tell"
    assert "mystery" in judged["evidence"]
    assert not judged["complete"]
    code, _, _ = cli("audit", "--no-isolate", *words, "--strict")
    assert code == 3


def test_training_counts_the_backward(cli) -> None:
    forward, training = (audits(cli, "sdpa", "--mode", mode)[0]["growths"][0] for mode in ("fwd", "fwd_bwd"))
    assert forward["coefficients_in_s"] == [0, 0, 4 * 64**2, 0, 2 * 64]
    # A product costs two of its size in the backward, one for each factor.
    assert training["coefficients_in_s"] == [0, 0, 3 * 4 * 64**2, 0, 3 * 2 * 64]


def test_rows_of_one_name_are_told_apart(cli) -> None:
    found = audits(cli, "se", "--dim", "32,64")
    assert [each["target"] for each in found] == ["se dim 32", "se dim 64"]


def test_the_measured_exponent_has_an_interval_and_its_range(cli) -> None:
    (judged,) = audits(cli, "self_attn", "--measure", "--max-time", "0.05", "--threads", "1")
    exponent, low, high = judged["latency_exponent"]
    smallest, largest = judged["latency_sides"]
    assert low < exponent < high
    assert 4 < smallest < largest == 96
    # Between the linear projections and the N x N map; a machine that others use bends it.
    assert 1 < exponent < 3
    assert (
        f"latency N^{exponent:.2f} ({low:.2f} to {high:.2f}) from {smallest}x{smallest} to 96x96" in judged["evidence"]
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["se", "--claim", "O(d)"], "'O(d)' is no claim in the number of tokens N"),
        (["self_atn"], "unknown module 'self_atn'. Did you mean 'self_attn'?"),
        (["nowhere.py:M"], "the file nowhere.py does not exist"),
        (["se", "--format", "html"], "unknown format 'html'. Known: table, md, json."),
        (["se", "--max-time", "0"], "--max-time 0 is out of range"),
        (["se", "--dim", "x"], "--dim 'x' is not a whole number"),
        ([f"{FILE}:Nowhere"], "takes none of the layouts"),
        (["se", "--set", "reduction=1000"], "reduction=1000"),
        (["--attn", "se"], "--attn puts an attention into a network"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, words: list[str], sentence: str) -> None:
    code, out, err = cli("audit", "--no-isolate", "--device", "cpu", *words)
    assert code == 2
    assert sentence in err
    assert err.startswith("attnbench: ")
    assert err.count("\n") == 1
    assert not out


@pytest.mark.parametrize("width", ["80", "120"])
def test_the_terminal_shows_everything(cli, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    code, out, _ = cli("audit", "--no-isolate", "--device", "cpu", "vgg16+pseudo_linear_attn", "se")
    assert code == 0
    assert max(map(len, out.split("\n"))) <= int(width)
    assert "84249/1024 s⁴ + 345024 s² + 123633664 MACs: N²" in " ".join(out.split())
    assert "s = √N is the side of the map" in " ".join(out.split())
    assert "1 refuted, 1 holds." in out
