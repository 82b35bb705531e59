"""How a module is compared with an independent form of itself: forward and input gradients, in float32 and float64."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
Oracle = Callable[..., Tensor]

# A right implementation lies near 1e-6 in float32, the smallest plausible wrong one above 1e-2.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every parameter drawn from N(0, 1) * 0.1: a gate that starts at zero would hide any error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max|actual - expected| / max|expected|; infinite when the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    ours, theirs = actual.detach().double(), expected.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def errors(module: nn.Module, oracle: Oracle, *inputs: Tensor, dtype: torch.dtype = torch.float32) -> list[float]:
    """The relative errors of the output and of each input's gradient.

    The oracle is called with the module's parameters by name and with the inputs, all in float64; the output is
    weighed by noise before it is differentiated, since a plain sum has gradients that hide errors.
    """
    weights = {name: parameter.detach().double() for name, parameter in module.named_parameters()}
    expected_inputs = [each.double().requires_grad_() for each in inputs]
    actual_inputs = [each.detach().to(dtype).requires_grad_() for each in inputs]
    expected = oracle(weights, *expected_inputs)
    actual = copy.deepcopy(module).to(dtype)(*actual_inputs)
    weight = noise(*expected.shape, seed=2)
    expected_gradients = torch.autograd.grad(expected, expected_inputs, weight.double())
    actual_gradients = torch.autograd.grad(actual, actual_inputs, weight.to(dtype))
    pairs = [(actual, expected), *zip(actual_gradients, expected_gradients, strict=True)]
    return [relative_error(ours, theirs) for ours, theirs in pairs]


def assert_agrees(module: nn.Module, oracle: Oracle, *inputs: Tensor) -> None:
    """Output and input gradients agree with the oracle in float32 and, far more closely, in float64."""
    for dtype, tolerance in TOLERANCE.items():
        found = errors(module, oracle, *inputs, dtype=dtype)
        assert max(found) < tolerance, f"{dtype}: output and input gradients are off by {found}"
