"""`attnbench show --by`: a target counted, a file of records read, and how the rest is refused."""

import re
from pathlib import Path

import pytest


def figures(out: str) -> dict[str, int]:
    """The MACs of each line by its name."""
    found = {}
    for line in out.splitlines():
        match = re.match(r"[│├└─ ]*(.+?)  +([0-9,]+)(  |$)", line)
        if match:
            found[match[1].strip()] = int(match[2].replace(",", ""))
    return found


def test_a_network_by_module_adds_up(cli) -> None:
    """Each 3x3 convolution of VGG16 at 32x32 is 9 x in x out x H x W; each dense layer in x out."""
    code, out, err = cli("show", "vgg16", "--by", "module", "--img-size", "32")
    assert code == 0, err
    lines = figures(out)
    convolutions = {"0": 9 * 3 * 64 * 32**2, "2": 9 * 64 * 64 * 32**2, "5": 9 * 64 * 128 * 16**2,
                    "28": 9 * 512 * 512 * 2**2}  # fmt: skip
    features = out[: out.index("classifier")]
    for name, macs in convolutions.items():
        assert re.search(rf"─ {name} +{macs:,} ", features), (name, macs)
    assert lines["classifier"] == 512 * 7 * 7 * 4096 + 4096**2 + 4096 * 1000
    assert lines["vgg16 32x32"] == lines["features"] + lines["classifier"]
    assert "Verified: " in out


def test_an_attention_of_ones_own_by_operator(cli, tmp_path: Path) -> None:
    """A projection (16 x 8 x 8) and the product of 16 x 16 scores with values of 8, for 2 samples."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "class Own(nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n"
        "        self.project = nn.Linear(dim, dim)\n"
        "    def forward(self, x):\n"
        "        b, n, c = x.shape\n"
        "        v = self.project(x)\n"
        "        return (v @ v.transpose(1, 2)).softmax(-1) @ v\n"
    )
    shape = ["--seq-len", "16", "--dim", "8", "-b", "2"]
    out = cli("show", "own.py:Own", "--by", "op", *shape).out
    lines = figures(out)
    assert lines["linear"] == 2 * 16 * 8 * 8
    assert lines["matmul"] == 2 * 2 * 16 * 16 * 8
    assert lines["own.py:Own 16"] == lines["linear"] + lines["matmul"]
    assert "Backward MACs" not in lines
    by_module = figures(cli("show", "own.py:Own", "--by", "module", *shape).out)
    assert by_module["project"] == 2 * 16 * 8 * 8
    assert by_module["(own)"] == 2 * 2 * 16 * 16 * 8


def test_a_network_of_ones_own_is_one_because_it_has_images(cli, tmp_path: Path) -> None:
    """A convolution of 3 to 4 channels with 3x3 taps over 8x8 positions, and a dense layer of 4 to 10."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *pooled, nn.Linear(4, 10))\n"
    )
    lines = figures(cli("show", "own.py:net", "--by", "module", "--img-size", "8").out)
    assert lines == {"own.py:net 8x8": 6912 + 40, "0": 9 * 3 * 4 * 64, "3": 4 * 10}


def test_a_backward_is_told_beside_the_operators(cli) -> None:
    """Of y = W x a backward is two products of the same size: for the weights and for the input."""
    out = cli("show", "torch.nn:Linear", "--by", "op", "--seq-len", "16", "--dim", "8", "--mode", "fwd_bwd").out
    lines = figures(out)
    assert lines["linear"] == 16 * 8 * 8
    assert lines["Backward MACs"] == 2 * 16 * 8 * 8


def test_a_file_of_records(cli) -> None:
    cli("run", "--no-isolate", "-m", "self_attn,se", "--res", "8", "--metrics", "static", "-o", "kept.jsonl")
    code, out, err = cli("show", "kept.jsonl", "--by", "module")
    assert code == 0, err
    # queries and keys of 8 channels, values of 64, over 64 positions; the rest is the two products.
    lines = figures(out)
    assert lines["self_attn 8x8"] == 64 * 64 * (2 * 8 + 64) + 64**2 * (8 + 64)
    assert lines["(own)"] == 64**2 * (8 + 64)
    assert "se 8x8" in lines


def test_a_file_without_break_downs_says_how_to_get_them(cli) -> None:
    cli("run", "--no-isolate", "-m", "se", "--res", "8", "--metrics", "params", "-o", "kept.jsonl")
    code, out, err = cli("show", "kept.jsonl", "--by", "op")
    assert code == 3
    assert not out
    assert "no break-down by op is recorded for se" in err
    assert "--metrics static" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["se", "--by", "layer"], "--by 'layer' is unknown. Known: op, module"),
        (["se", "--by", "modul"], "Did you mean 'module'?"),
        (["se", "--depth", "2"], "--depth is for --by module"),
        (["se", "--by", "op", "--depth", "2"], "--depth is for --by module"),
        (["se", "--by", "module", "--depth", "0"], "--depth 0 is out of range"),
        (["se", "--res", "64"], "--res is for a target that is counted: it goes with --by"),
        (["se", "--set", "reduction=4"], "--set is for a target that is counted"),
        (["none.jsonl", "--by", "op", "--res", "64"], "records have their own"),
        (["none.jsonl", "--by", "op"], "cannot read none.jsonl"),
        (["self_atn", "--by", "op"], "Did you mean 'self_attn'?"),
        (["nowhere/own.py:Own", "--by", "op"], "the file nowhere/own.py does not exist"),
        (["nowhere/own.py:Own"], "has no page"),
        (["vgg16+se"], "has no page"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(cli, words: list[str], sentence: str) -> None:
    code, out, err = cli("show", *words)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not out
