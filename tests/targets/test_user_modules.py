"""Any module of the user's: found, filled in from the shape, its layout found by trying, and said."""

import os
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError, UsageError
from attnbench.engine.sweep import LAYOUT_NAMES
from attnbench.targets.build import build
from attnbench.targets.construct import default_heads
from attnbench.targets.fake import fake_tensors
from attnbench.targets.layouts import LAYOUTS
from attnbench.targets.resolve import resolve

FILE = str(Path(__file__).with_name("user_modules.py"))


def case(name: str, **fields: object) -> Case:
    shape = {"height": 6, "width": 10, "tokens": 60, "dim": 32}
    return Case(f"{FILE}:{name}", **(shape | fields))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("PlainTokens", "bnc"),
        ("BakedResolution", "bnc"),
        ("ChannelsLast", "bhwc"),
        ("TokensAndSides", "bnc"),
        ("QueryKeyValue", "qkv"),
        ("LooksAtValues", "bnc"),
        ("ConstantOfItsOwn", "bnc"),
        ("build_tokens", "bnc"),
    ],
)
def test_the_layout_is_found(name: str, layout: str) -> None:
    resolved = resolve(case(name))
    assert resolved.layout == layout
    output = build(resolved, "cpu").forward()
    assert torch.is_tensor(output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_constructor_that_reads_values_can_be_built_without_data(dtype: str) -> None:
    """What it makes is fake afterwards: the shared weight is one, integers stay integers, and a forward runs."""
    resolved = resolve(case("ReadsARate", dtype=dtype))
    with fake_tensors():
        subject = build(resolved, "fake")
        assert subject.forward().shape == (1, 60, 32)
    module = subject.module
    assert [parameter.shape for parameter in module.parameters()] == [(32, 32)]
    assert module.inwards.weight is module.outwards.weight
    assert isinstance(module.inwards.weight.data, FakeTensor)
    assert (module.scale.dtype, module.order.dtype) == (module.inwards.weight.dtype, torch.int64)
    assert build(resolved, "cpu").module.rate == module.rate == pytest.approx(0.1)


@pytest.mark.parametrize("sides", [(32, 32), (32, 8), (8, 32), (4, 8)])
def test_sizes_that_look_alike_do_not_mislead(sides: tuple[int, int]) -> None:
    """Channels equal to a side, or to the number of tokens, must not turn channels-last into channels-first."""
    height, width = sides
    shape = {"height": height, "width": width, "tokens": height * width}
    assert resolve(case("ChannelsLast", **shape)).layout == "bhwc"
    assert resolve(case("PlainTokens", **shape)).layout == "bnc"


def test_one_integer_for_a_square_map() -> None:
    resolved = resolve(case("OneSide", height=8, width=8, tokens=64))
    assert resolved.layout == "bchw"
    assert build(resolved, "meta").module.bias.shape == (1, 32, 8, 8)
    with pytest.raises(UnsupportedError, match="OneSide"):
        resolve(case("OneSide"))


def test_torchs_own_module_wants_tokens_first_unless_told() -> None:
    shape = {"tokens": 12, "dim": 32, "heads": 4}
    assert resolve(Case("torch.nn:MultiheadAttention", **shape)).layout == "qkv_nbc"
    batch_first = (("batch_first", True),)
    assert resolve(Case("torch.nn:MultiheadAttention", params=batch_first, **shape)).layout == "qkv"
    assert resolve(Case("torch.nn:TransformerEncoderLayer", params=batch_first, **shape)).layout == "bnc"
    assert resolve(Case("torch.nn:TransformerEncoderLayer", **shape)).layout == "nbc"


def test_heads_are_filled_in_when_asked_for() -> None:
    assert resolve(case("QueryKeyValue", dim=128)).heads == 2
    assert resolve(case("QueryKeyValue", heads=8)).heads == 8
    assert resolve(case("PlainTokens")).heads is None  # its own default stays
    assert resolve(case("PlainTokens", heads=8)).heads == 8
    assert build(resolve(case("PlainTokens", heads=8)), "meta").module.num_heads == 8


@pytest.mark.parametrize(("dim", "heads"), [(16, 1), (64, 1), (128, 2), (200, 2), (512, 8), (1, 1), (193, 1)])
def test_default_heads_leave_64_channels_or_more(dim: int, heads: int) -> None:
    assert default_heads(dim) == heads
    assert dim % heads == 0


def test_settings_are_typed_and_reach_the_constructor() -> None:
    settings = (("flag", True), ("landmarks", 8), ("name", "b"), ("scale", None))
    assert build(resolve(case("NeedsMore", params=settings)), "meta").module.settings == (8, True, "b", None)


def test_what_was_built_is_said() -> None:
    notes = build(resolve(case("BakedResolution")), "meta").notes
    assert [note.kind for note in notes] == ["built_own"]
    assert "input_resolution=(6, 10)" in notes[0].text
    assert notes[0].text.endswith("layout bnc")


def test_the_only_class_of_a_file_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text("from torch import nn\nclass Only(nn.Module):\n    def forward(self, x):\n        return x\n")
    assert resolve(Case(str(path), tokens=8, dim=4)).layout == "bnc"


def test_a_file_is_run_once_for_each_version_of_it(tmp_path: Path) -> None:
    """It may register operators, which torch allows once, or take a minute to load."""
    path, log = tmp_path / "loud.py", tmp_path / "log"
    said = f"with open({str(log)!r}, 'a') as f:\n    f.write('x')\n"
    text = said + "from torch import nn\nclass M(nn.Identity):\n    pass\n"
    path.write_text(text)
    for _ in range(3):
        build(resolve(Case(f"{path}:M", tokens=8, dim=4)), "cpu")
    assert log.read_text() == "x"
    path.write_text(text + "class Other(M):\n    pass\n")
    os.utime(path, ns=(0, 10**18))
    resolve(Case(f"{path}:Other", tokens=8, dim=4))
    assert log.read_text() == "xx"


def test_a_files_neighbours_import(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("from torch.nn import Identity as Mine\n")
    (tmp_path / "user.py").write_text("from neighbour_of_mine import Mine\nclass M(Mine):\n    pass\n")
    assert resolve(Case(f"{tmp_path}/user.py:M", tokens=8, dim=4)).target.endswith("user.py:M")


BAD = {
    "MyAtn": "has no 'MyAtn'",
    "PlainToken": "Did you mean 'PlainTokens'",
    "NeedsMore": "needs 'landmarks', which the shape does not tell: add --set landmarks=VALUE",
    "not_a_class": "neither a class nor a function",
    "an_instance": "neither a class nor a function",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(case(name))
    assert BAD[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_that_is_no_parameter_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no parameter 'landmark'.*Did you mean 'landmarks'"):
        resolve(case("NeedsMore", params=(("landmark", 3), ("landmarks", 3))))


def test_a_module_that_fits_no_layout_says_what_it_answered() -> None:
    with pytest.raises(UnsupportedError, match=r"takes none of the layouts at 6x10: bchw: I take nothing"):
        resolve(case("RefusesEverything"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' (line 1)"),
        ("class M(\n", "SyntaxError"),
        ("raise RuntimeError('not today')\n", "RuntimeError: not today (line 1)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (line 1)"),
    ],
)
def test_a_file_that_does_not_import_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve(Case(f"{path}:M", tokens=8, dim=4))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"{path} does not import: ")


def test_the_command_line_knows_every_layout_without_torch() -> None:
    assert ("auto", *LAYOUTS) == LAYOUT_NAMES


def test_backward_reaches_parameters_and_input() -> None:
    subject = build(resolve(case("PlainTokens", mode="fwd_bwd")), "cpu")
    assert subject.module.training
    assert len(subject.differentiated) == len(list(subject.module.parameters())) + 1
    subject.step()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("where", ["meta", "cpu"])
def test_weights_and_inputs_have_the_dtype_asked_for(dtype: str, where: str) -> None:
    subject = build(resolve(case("PlainTokens", dtype=dtype)), where)
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert {tensor.dtype for tensor in [*subject.weights, *subject.tensors]} == {names[dtype]}


def test_the_same_seed_gives_the_same_weights_and_inputs() -> None:
    first, again, other = (build(resolve(case("PlainTokens", seed=seed)), "cpu") for seed in (0, 0, 1))
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert all(map(torch.equal, first.weights, again.weights))
    assert not torch.equal(first.inputs[0], other.inputs[0])


@pytest.mark.parametrize("batch", [1, 5000])
def test_a_refusal_is_found_at_any_batch(batch: int) -> None:
    with pytest.raises(UnsupportedError, match="RefusesEverything"):
        resolve(case("RefusesEverything", layout="bnc", batch_size=batch))
