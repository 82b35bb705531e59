"""Whether a step that an engine changed still gives what the module gives as written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

from attnbench.metrics.subject import Subject, tensors_in

__all__ = [
    "TOLERANCES",
    "AsWritten",
    "Errors",
    "Outcome",
    "as_written",
    "changed",
    "difference",
    "errors",
    "finite",
    "numbers",
    "outcome",
    "rounding",
]

# The largest error of an output, as a fraction of its largest value, that is not looked into.
TOLERANCES: Mapping[str, float] = {"fp32": 1e-4, "tf32": 2e-3, "bf16": 2e-2, "fp16": 2e-2}
# Gradients pass the same sums twice, and jump where a maximum or a ReLU is decided by the last bit.
_GRADIENTS = 10
# From one number to the next, relative to it: 2^-(bits of the fraction).
_UNITS: Mapping[str, float] = {"fp32": 2**-23, "tf32": 2**-10, "bf16": 2**-7, "fp16": 2**-10}
# An error up to so many times what one rounding of each weight and input does is rounding.
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step gives: the outputs that are floating, and the gradients where the mode has a backward."""

    outputs: list[Tensor]
    gradients: list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Errors:
    """How far an outcome is from another: the worst output's largest error, and the gradients' error in their norm."""

    outputs: float
    gradients: float


@dataclass(frozen=True, slots=True)
class AsWritten:
    """What the module gives before an engine has touched it.

    It is `repeatable` when two steps in a row give the same; what draws random numbers is not. An output was
    `computed` when it lies in another place each time: one that is handed on, or kept by the module, is not.
    """

    outcome: Outcome
    repeatable: bool
    computed: list[bool]


def as_written(subject: Subject) -> AsWritten:
    """Two steps as written, compared with each other."""
    first, second = outcome(subject, subject.module), outcome(subject, subject.module)
    computed = [
        one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr()
        for one, other in zip(first.outputs, second.outputs, strict=False)
    ]
    return AsWritten(first, _beyond(errors(second, first), _tolerated(subject.case.dtype)) is None, computed)


def outcome(subject: Subject, run: Callable[..., Any]) -> Outcome:
    """Run what a step of the case's mode computes, by the module or what stands for it, and keep what it gives."""
    with torch.set_grad_enabled(subject.case.differentiates):
        output = run(*subject.inputs)
    return Outcome(numbers(output), _gradients(subject, output) if subject.case.differentiates else [])


def numbers(output: Any) -> list[Tensor]:
    """The tensors of an output that hold real or complex numbers, in order."""
    return [
        tensor.detach()
        for tensor in tensors_in(output)
        if (tensor.is_floating_point() or tensor.is_complex()) and _is_plain(tensor) and tensor.numel()
    ]


def finite(outputs: Sequence[Tensor]) -> bool:
    """Whether they hold numbers only."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in outputs)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested


def _gradients(subject: Subject, output: Any) -> list[Tensor | None]:
    """Gradients along one random direction: along that of a step, ones, softmax and normalisation have none."""
    root = next((tensor for tensor in tensors_in(output) if tensor.requires_grad), None)
    if root is None:
        return []
    direction = torch.empty_like(root).normal_(generator=_generator(subject, root))
    torch.autograd.backward(root, direction)
    gradients = [tensor.grad for tensor in subject.differentiated]
    for tensor in subject.differentiated:
        tensor.grad = None
    return [gradient if gradient is not None and _is_plain(gradient) else None for gradient in gradients]


def _generator(subject: Subject, like: Tensor) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(subject.case.seed)


def difference(subject: Subject, found: Outcome, reference: Outcome) -> str | None:
    """In what two outcomes of a subject differ beyond rounding, in words; None when in nothing.

    Where they are further apart than is tolerated at their dtype, rounding is given a second chance: a deep network
    in bf16 multiplies it, and how much is measured on the module as written.
    """
    apart, limits = errors(found, reference), _tolerated(subject.case.dtype)
    if _beyond(apart, limits) is None:
        return None
    noise = rounding(subject, reference)
    limits = Errors(max(limits.outputs, _MARGIN * noise.outputs), max(limits.gradients, _MARGIN * noise.gradients))
    return _beyond(apart, limits)


def _tolerated(dtype: str) -> Errors:
    return Errors(TOLERANCES[dtype], _GRADIENTS * TOLERANCES[dtype])


def _beyond(apart: Errors, limits: Errors) -> str | None:
    if apart.outputs == inf:
        return "its outputs are of other shapes"
    if not apart.outputs <= limits.outputs:  # an error that is no number is one too
        return f"its output is off by {apart.outputs:.2g} of its largest value; rounding explains {limits.outputs:.2g}"
    if not isfinite(apart.gradients):
        return "its gradients hold NaN or infinity"
    if apart.gradients > limits.gradients:
        return f"its gradients are off by {apart.gradients:.2g} of their norm; rounding explains {limits.gradients:.2g}"
    return None


def errors(found: Outcome, reference: Outcome) -> Errors:
    """Infinite where their shapes differ."""
    return Errors(_largest(found.outputs, reference.outputs), _distance(found.gradients, reference.gradients))


def _largest(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """The worst over the outputs of max |found - reference| / max |reference|."""
    if [tensor.shape for tensor in found] != [tensor.shape for tensor in reference]:
        return inf
    return max((_relative(one, other) for one, other in zip(found, reference, strict=True)), default=0.0)


def _relative(found: Tensor, reference: Tensor) -> float:
    error = float((_wide(found) - _wide(reference)).abs().max())
    return error / (float(reference.abs().max()) or 1.0)


def _distance(found: Sequence[Tensor | None], reference: Sequence[Tensor | None]) -> float:
    """|found - reference| / |reference| over all gradients together, so that one that is but rounding counts little."""
    if len(found) != len(reference):
        return inf
    pairs = [(_wide(one), _wide(other)) for one, other in zip(found, reference, strict=True)]
    error = sum(float((one - other).abs().square().sum()) for one, other in pairs)
    size = sum(float(other.abs().square().sum()) for _, other in pairs)
    return sqrt(error) / (sqrt(size) or 1.0)


def _wide(tensor: Tensor | None) -> Tensor:
    """In single precision at least; a gradient that is not there is zero."""
    return torch.zeros(()) if tensor is None else tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def rounding(subject: Subject, reference: Outcome) -> Errors:
    """How far one rounding of each weight and each input, up or down by chance, takes the module as written."""
    unit = _UNITS[subject.case.dtype]

    def rounded(values: Tensor) -> Tensor:
        up = torch.empty_like(values).uniform_(-1, 1, generator=_generator(subject, values)).sign()
        return (_wide(values) * (1 + unit * _wide(up))).to(values.dtype)

    with changed([*subject.module.parameters(), *subject.tensors], rounded):
        return errors(outcome(subject, subject.module), reference)


@contextmanager
def changed(tensors: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it the floating ones hold other values, in the same memory; afterwards all is as before."""
    floating = {id(tensor): tensor.detach() for tensor in tensors if tensor.is_floating_point()}.values()
    kept = [(tensor, tensor.clone()) for tensor in floating]
    try:
        for tensor, values in kept:
            tensor.copy_(change(values))
        yield
    finally:
        for tensor, values in kept:
            tensor.copy_(values)
