"""How a module is compared with an independent form of itself: forward and input gradients, in float32 and float64."""

import copy
from collections.abc import Callable, Mapping, Sequence

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


def errors(
    module: nn.Module, oracle: Oracle, *inputs: Tensor, dtype: torch.dtype = torch.float32, backward: bool = True
) -> list[float]:
    """The relative errors of the output, of each input's gradient, and of all parameters' gradients.

    The oracle is called with the module's parameters by name and with the inputs, all in float64; the output is
    weighed by noise before it is differentiated, since a plain sum has gradients that hide errors. The gradient of a
    parameter that the oracle has copied, so that none comes back, is not compared. Without `backward` the output alone
    is compared.
    """
    ours = copy.deepcopy(module).to(dtype)
    weights = {name: each.detach().double().requires_grad_() for name, each in module.named_parameters()}
    theirs_of = [*(each.double().requires_grad_() for each in inputs), *weights.values()]
    ours_of = [*(each.detach().to(dtype).requires_grad_() for each in inputs), *ours.parameters()]
    with torch.set_grad_enabled(backward):
        expected, actual = oracle(weights, *theirs_of[: len(inputs)]), ours(*ours_of[: len(inputs)])
    if not backward:
        return [relative_error(actual, expected)]
    weight = noise(*expected.shape, seed=2)
    wanted = torch.autograd.grad(expected, theirs_of, weight.double(), allow_unused=True)
    found = torch.autograd.grad(actual, ours_of, weight.to(dtype), allow_unused=True)
    first = [relative_error(a, e) for a, e in [(actual, expected), *zip(found, wanted, strict=True)][: len(inputs) + 1]]
    return [*first, *_of_weights(found[len(inputs) :], wanted[len(inputs) :])]


def _of_weights(actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> list[float]:
    """The relative error of each parameter's gradient; one that is next to nothing is measured by the others' size."""
    pairs = [(torch.zeros_like(e) if a is None else a, e) for a, e in zip(actual, expected, strict=True)
             if e is not None]  # fmt: skip
    scales = [float(e.abs().max()) for _, e in pairs]
    off = [float((a.double() - e).abs().max()) for a, e in pairs]
    return [each / max(scale, 1e-2 * max(scales)) for each, scale in zip(off, scales, strict=True)]


def assert_agrees(module: nn.Module, oracle: Oracle, *inputs: Tensor) -> None:
    """Output and gradients agree with the oracle in float32 and, far more closely, in float64."""
    for dtype, tolerance in TOLERANCE.items():
        found = errors(module, oracle, *inputs, dtype=dtype)
        assert max(found) < tolerance, f"{dtype}: output, input and weight gradients are off by {found}"
