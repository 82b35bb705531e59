"""A Case: its key, its way through JSON, and the command line that asks it again."""

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest
from core_samples import cases
from hypothesis import given
from hypothesis import strategies as st

from attnbench.core.case import MODES, Case, taken_apart
from attnbench.engine.sweep import Sweep

GOLDEN = Case(
    "self_attn", params=(("bias", True), ("name", "é\u2028"), ("reduction", 8)), layout="bchw", batch_size=2,
    height=48, width=64, tokens=3072, dim=64, heads=4, dtype="bf16", device="cuda", mode="fwd_bwd", seed=3,
)  # fmt: skip
GOLDEN_KEY = "139411888183826e"

# `option: attribute of Sweep`; what is not here is no option that a Case asks for.
OPTIONS = {
    "--module": "modules", "--network": "networks", "--attn": "attn", "--res": "res", "--img-size": "img_size",
    "--swap": "swap", "--at": "at", "--seq-len": "seq_len",
    "--batch-size": "batch_size", "--dim": "dim", "--heads": "heads", "--dtype": "dtype",
    "--mode": "mode", "--layout": "layout", "--device": "device", "--set": "settings", "--seed": "seed",
}  # fmt: skip


def asked_by(command: str) -> list[Case]:
    """The Cases that the command line asks for."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("attnbench", "run")
    typed: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        typed.setdefault(OPTIONS[option], []).append(value)
    for single in ("layout", "device", "seed"):
        if single in typed:
            (typed[single],) = typed[single]
    return Sweep(**{**typed, "seed": int(typed["seed"])}).cases()


@given(cases)
def test_a_case_goes_through_json_unchanged(case: Case) -> None:
    again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
    assert again == case
    assert again.key == case.key


def test_the_key_is_the_same_on_every_machine_and_for_ever() -> None:
    """Stored files are resumed by key: when this fails, every stored result is measured again."""
    assert GOLDEN.key == GOLDEN_KEY


def test_the_key_is_the_same_in_another_process() -> None:
    code = f"from attnbench.core.case import Case; print(Case.from_dict({GOLDEN.to_dict()!r}).key)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == GOLDEN_KEY


def test_the_key_does_not_depend_on_the_order_of_the_parameters() -> None:
    assert GOLDEN.with_(params=GOLDEN.params[::-1]).key == GOLDEN.key
    data = GOLDEN.to_dict()
    data = {name: data[name] for name in reversed(data)} | {"params": dict(reversed(data["params"].items()))}
    assert Case.from_dict(data) == GOLDEN


@pytest.mark.parametrize("field", [name for name in GOLDEN.to_dict() if name != "params"])
def test_every_field_is_in_the_key(field: str) -> None:
    changed = 77 if isinstance(getattr(GOLDEN, field), int) else "other"
    assert GOLDEN.with_(**{field: changed}).key != GOLDEN.key


@pytest.mark.parametrize("params", [(), (("reduction", 4),), (("reduction", "8"),), (("reduction", 8.0),)])
def test_the_parameters_and_their_types_are_in_the_key(params: tuple[tuple[str, Any], ...]) -> None:
    assert GOLDEN.with_(params=params).key != GOLDEN.with_(params=(("reduction", 8),)).key


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    assert Case.from_dict({**GOLDEN.to_dict(), "colour": "red"}) == GOLDEN


def test_a_case_without_a_target_is_refused() -> None:
    with pytest.raises(TypeError):
        Case.from_dict({"dim": 64})


def test_the_name_and_the_size_as_they_are_typed() -> None:
    assert (Case("vgg16", insert="se").name, Case("vgg16").name) == ("vgg16+se", "vgg16")
    assert Case("timm:vit", swap="se", at="blocks.0").name == "timm:vit~se@blocks.0"
    assert (Case("a", height=4, width=8, tokens=32).size, Case("a", tokens=9).size) == ("4x8", "9")


def test_the_shape_key_leaves_out_the_target_and_its_arguments_and_nothing_else() -> None:
    assert GOLDEN.with_(target="b", params=(), heads=1, layout="bnc").shape_key == GOLDEN.shape_key
    for field, value in {"dim": 65, "dtype": "fp16", "batch_size": 9, "device": "cpu", "mode": "fwd"}.items():
        assert GOLDEN.with_(**{field: value}).shape_key != GOLDEN.shape_key


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vgg16", ("vgg16", None, None)),
        ("vgg16+se", ("vgg16", "se", None)),
        ("timm:vit~linear_attn", ("timm:vit", None, "linear_attn")),
        ("net~sdpa+se", ("net", "se", "sdpa")),
        ("net+se~sdpa", ("net", "se", "sdpa")),
        ("~/net.py:Net~/tmp/my.py:Mine", ("~/net.py:Net", None, "/tmp/my.py:Mine")),
        ("net~", ("net", None, "")),
    ],
)
def test_a_name_is_taken_apart(name: str, parts: tuple[str, str | None, str | None]) -> None:
    assert taken_apart(name) == parts


settings = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=8),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))
sides = st.integers(1, 4096)


@given(settings, sides, sides, st.integers(1, 64), st.sampled_from([None, 1, 2, 4]), st.sampled_from(MODES))
def test_the_command_of_a_module_asks_the_same_case_again(
    params: Any, height: int, width: int, batch: int, heads: int | None, mode: str
) -> None:
    case = Case("sdpa", params=params, layout="bchw", batch_size=batch, height=height, width=width, dim=64,
                tokens=height * width, heads=heads, dtype="bf16", device="cuda:1", mode=mode, seed=5)  # fmt: skip
    assert asked_by(case.command()) == [case]


@pytest.mark.parametrize(
    "case",
    [
        Case("vgg16", kind="network", height=224, width=224),
        Case("vgg16", kind="network", height=64, width=96, insert="linear_attn", heads=4, batch_size=8),
        Case("vgg16", kind="network", height=64, width=64, insert="se", params=(("attn.reduction", 4), ("bn", True))),
        Case("a.b:vit", kind="network", height=64, width=64, swap="linear_attn", params=(("swap.eps", 0.1),)),
        Case("vgg16", kind="network", height=64, width=64, swap="se", insert="se"),
        Case("vgg16", kind="network", height=64, width=64, insert="se", at="features.2,features.*"),
        Case("scaled_dot_product", tokens=77, dim=32),
        Case("scaled_dot_product", tokens=77, dim=32, layout="qkv"),
    ],
    ids=Case.command,
)
def test_the_command_of_other_kinds_asks_the_same_case_again(case: Case) -> None:
    assert asked_by(case.command()) == [case]


LOOKS_LIKE_ANOTHER = [
    "1",
    "1e3",
    "nan",
    "True",
    "none",
    "1_0",
    " 1",
    "'",
    "''",
    "'x'",
    '"x"',
    "a b",
    "$HOME",
    "a=b",
    "",
]


@pytest.mark.parametrize("text", LOOKS_LIKE_ANOTHER)
def test_a_setting_that_is_a_text_stays_a_text(text: str) -> None:
    case = Case("se", params=(("act", text),), height=8, width=8, tokens=64, dim=64)
    assert asked_by(case.command()) == [case]


def test_a_plain_text_is_typed_without_quotes() -> None:
    case = Case("se", params=(("act", "gelu"), ("bias", False)), height=8, width=8, tokens=64, dim=64)
    assert "--set act=gelu --set bias=False" in case.command()
