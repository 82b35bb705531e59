"""From what was typed to Cases, without torch."""

import pytest

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.engine.sweep import Sweep


def names(cases: list[Case]) -> list[str]:
    return [f"{case.name} {case.size} b{case.batch_size} {case.dtype} {case.mode}" for case in cases]


def test_every_combination_with_targets_innermost() -> None:
    sweep = Sweep(modules=["self_attn", "linear_attn"], res=["16", "8x4"], batch_size=["1", "2"])
    assert names(sweep.cases()) == [
        f"{name} {size} b{batch} fp32 fwd"
        for batch in (1, 2)
        for size in ("16x16", "8x4")
        for name in ("self_attn", "linear_attn")
    ]


def test_defaults() -> None:
    (case,) = Sweep(modules=["self_attn"]).cases()
    assert case == Case("self_attn", height=32, width=32, tokens=1024, dim=64, device="auto")
    (network,) = Sweep(networks=["vgg16"]).cases()
    assert network == Case("vgg16", kind="network", height=224, width=224, device="auto")


def test_aliases_and_repetitions_are_one_case() -> None:
    assert names(Sweep(modules=["sagan", "self_attn", "self_attn"]).cases()) == ["self_attn 32x32 b1 fp32 fwd"]


@pytest.mark.parametrize(
    ("module", "setting", "least"),
    [("linformer", "k=0", 1), ("retention", "chunk=0", 1), ("performer", "nb_features=-2", 1), ("mha", "d_k=0", 1),
     ("nystrom", "residual_conv_kernel=-1", 0), ("diff", "depth=-1", 0)],
)  # fmt: skip
def test_a_size_that_no_module_can_have_is_refused(module: str, setting: str, least: int) -> None:
    with pytest.raises(UsageError, match=f"^--set {setting}: {module} needs {least} or more there.$"):
        Sweep(modules=[module], settings=[setting]).cases()
    name, _, value = setting.partition("=")
    with pytest.raises(UsageError, match=f"^--set attn.{setting}: {module} needs {least} or more there.$"):
        Sweep(networks=["vgg16"], attn=[module], settings=[f"attn.{name}={value}"]).cases()


@pytest.mark.parametrize(
    ("module", "setting"),
    [("nystrom", "residual_conv_kernel=0"), ("gated_deltanet", "conv_size=0"), ("linear_attn", "eps=0"),
     ("eca", "b=0"), ("sdpa", "causal=false"), ("mha", "d_k=none")],
)  # fmt: skip
def test_a_zero_that_switches_something_off_is_taken(module: str, setting: str) -> None:
    assert Sweep(modules=[module], settings=[setting]).cases()


def test_none_is_the_network_as_it_is() -> None:
    cases = Sweep(networks=["vgg16"], swap=["none", "mhsa"]).cases()
    assert [case.name for case in cases] == ["vgg16", "vgg16~mhsa"]
    assert [case.name for case in Sweep(networks=["vgg16"], attn=["none", "se"]).cases()] == ["vgg16", "vgg16+se"]


def test_an_attention_in_a_network_both_ways() -> None:
    plus = Sweep(networks=["vgg16+se"]).cases()
    option = Sweep(networks=["vgg16"], attn=["se"]).cases()
    assert plus == option
    assert plus[0].name == "vgg16+se"
    both = Sweep(networks=["vgg16", "vgg16+cbam"], attn=["se", "cbam"]).cases()
    assert [case.name for case in both] == ["vgg16+se", "vgg16+cbam"]


def test_dtypes_have_long_spellings() -> None:
    cases = Sweep(modules=["se"], dtype=["float32", "bfloat16", "half", "FP16"]).cases()
    assert [case.dtype for case in cases] == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("False", False), ("None", None), ("gelu", "gelu"),
     ("'3'", "3"), ("a=b", "a=b"), ("__import__('os')", "__import__('os')"), ("", "")],
)  # fmt: skip
def test_settings_are_literals_and_nothing_is_evaluated(text: str, value: object) -> None:
    (case,) = Sweep(modules=["se"], settings=[f"key={text}"]).cases()
    found = dict(case.params)["key"]
    assert found == value
    assert type(found) is type(value)


def test_tokens_for_modules_that_read_no_map() -> None:
    (case,) = Sweep(modules=["sdpa"], seq_len=["4096"]).cases()
    assert (case.tokens, case.height, case.size) == (4096, None, "4096")
    with pytest.raises(UsageError, match="self_attn reads feature maps"):
        Sweep(modules=["self_attn"], seq_len=["4096"]).cases()


def test_the_command_of_a_case_is_its_case() -> None:
    """The `repro` line, taken apart as the command line does it, asks the same question."""
    sweep = Sweep(modules=["sdpa"], res=["8x4"], dim=["96"], heads=["3"], dtype=["bf16"], mode=["fwd_bwd"],
                  device="cpu", layout="bnc", settings=["causal=true"], batch_size=["2"], seed=7)  # fmt: skip
    (case,) = sweep.cases()
    assert case.command() == (
        "attnbench run --module sdpa --res 8x4 --dim 96 --heads 3 --batch-size 2 --dtype bf16 --device cpu "
        "--mode fwd_bwd --seed 7 --layout bnc --set causal=True"
    )
