"""What every module of the catalogue promises, tested because the module exists."""

import inspect
from typing import Any

import pytest
import torch
from families import gathered
from module_cases import (
    SHAPES,
    WITHOUT_BACKWARD,
    Shape,
    build,
    build_on_meta,
    class_of,
    every_case,
    every_module,
    every_shape,
    forward,
    inputs,
    symbols,
)
from module_numerics import filled
from torch import nn

from attnbench.modules.spec import Spec
from attnbench.targets.catalogue import by_name, catalogue, find


@pytest.mark.parametrize("spec", catalogue(), ids=lambda spec: spec.name)
def test_the_spec_read_from_the_source_is_the_class(spec: Spec) -> None:
    found = class_of(spec)
    signature = inspect.signature(found).parameters.values() if "__init__" in vars(found) else ()
    assert issubclass(found, nn.Module)
    assert inspect.getdoc(found) == spec.doc
    assert {p.name: p.default for p in signature if p.default is not p.empty} == spec.hyper_parameters
    assert tuple(p.name for p in signature if p.default is p.empty) == spec.required


@pytest.mark.parametrize("spec", catalogue(), ids=lambda spec: spec.name)
def test_the_spec_says_what_it_is_in_one_sentence(spec: Spec) -> None:
    assert spec.summary.endswith(".")
    assert "(B, " in spec.doc
    assert spec.paper
    assert {spec.complexity, spec.memory} <= {"1", "N", "N log N", "N^1.5", "N^2"}
    assert spec.computes in ("softmax", "approximation", "other")
    assert spec.causal in ("no", "flag", "always")
    assert (spec.causal == "flag") == ("causal" in spec.hyper_parameters)
    assert set(spec.may_be_zero) <= set(spec.hyper_parameters)


@pytest.mark.parametrize("spec", catalogue(), ids=lambda spec: spec.name)
def test_every_name_and_alias_finds_the_spec(spec: Spec) -> None:
    assert all(find(name) is spec for name in (spec.name, *spec.aliases))


def test_the_names_that_scripts_hold_on_to() -> None:
    names = {"self_attn", "sagan", "sdpa", "mha", "scaled_dot_product", "dot", "additive_attn", "additive", "bahdanau"}
    names |= {"pseudo_linear_attn", "proj_softmax", "linear_attn", "linear", "efficient_attn", "efficient", "shen"}
    names |= {"se", "cbam_channel", "cbam_spatial", "cbam", "vgg16"}
    assert names <= set(by_name())


@every_module
def test_only_widths_heads_and_sizes_are_required(spec: Spec) -> None:
    assert set(spec.required) <= {"dim", "heads", "n_head", "seq_len", "height", "width"}


@every_case
@every_shape
def test_the_parameter_formula_counts_the_parameters(spec: Spec, hyper: dict[str, Any], shape: Shape) -> None:
    module = build_on_meta(spec, shape, hyper)
    assert spec.params(**symbols(spec, shape, hyper)) == sum(p.numel() for p in module.parameters())


@every_module
@every_shape
def test_a_forward_keeps_the_shape(spec: Spec, shape: Shape) -> None:
    x, narrowed = inputs(spec, shape), spec.name in dict(gathered("NARROWED"))
    kept = slice(-1 if narrowed else None)  # batch and tokens stay in any case
    assert forward(spec, build(spec, shape, {}), x).shape[kept] == x[0].shape[kept]


@every_case
def test_a_forward_works_on_the_meta_device(spec: Spec, hyper: dict[str, Any]) -> None:
    y = build_on_meta(spec, SHAPES[0], hyper)(*(x.to("meta") for x in inputs(spec, SHAPES[0])))
    assert y.device.type == "meta"


@every_module
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_stays_finite_and_in_its_dtype(spec: Spec, dtype: torch.dtype) -> None:
    module = filled(build(spec, SHAPES[1], {})).to(dtype)
    y = forward(spec, module, [x.to(dtype) for x in inputs(spec, SHAPES[1])])
    assert y.dtype == dtype
    assert y.isfinite().all()


@every_case
def test_gradients_reach_every_parameter_and_input(spec: Spec, hyper: dict[str, Any]) -> None:
    module = filled(build(spec, SHAPES[1], hyper))
    x = [each.requires_grad_() for each in inputs(spec, SHAPES[1])]
    if spec.name in WITHOUT_BACKWARD:
        with pytest.raises(NotImplementedError, match=WITHOUT_BACKWARD[spec.name]):
            module(*x)
        return
    module(*x).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    gradients |= {f"input {i}": each.grad for i, each in enumerate(x)}
    # A softmax over the keys does not see what is added to all of them: that gradient is zero in truth.
    seen = {name: g for name, g in gradients.items() if not name.endswith("key.bias")}
    assert [name for name, gradient in seen.items() if gradient is None or not gradient.any()] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)


@every_module
def test_the_seed_decides_the_parameters_and_the_output(spec: Spec) -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(forward(spec, build(spec, SHAPES[0], {}), inputs(spec, SHAPES[0])))
    assert torch.equal(*outputs)


@every_module
def test_batches_do_not_mix(spec: Spec) -> None:
    if (reason := dict(gathered("COUPLED")).get(spec.name)) is not None:
        pytest.skip(reason)
    module, x = filled(build(spec, SHAPES[1], {})).eval(), inputs(spec, SHAPES[1])  # BatchNorm mixes while it trains
    both, first = forward(spec, module, x), forward(spec, module, [each[:1] for each in x])
    torch.testing.assert_close(both[:1], first, rtol=1e-4, atol=1e-5)
