"""A Subject: a Case come alive, which is all that an instrument gets to see."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.core.record import Note

__all__ = ["Expected", "Subject", "tensors_in"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the module's own formulas say: parameters, and multiply-accumulates of one forward of the batch."""

    params: int
    macs: int


@dataclass(slots=True)
class Subject:
    """The module, its inputs, and one callable that runs a step.

    `inputs` are the positional arguments of the forward: tensors, and for some modules plain integers (height,
    width). `where` is `meta`, `fake` or the case's device; only on the device does a step take real time and memory.
    """

    case: Case
    module: nn.Module
    inputs: tuple[Any, ...]
    where: str
    expected: Expected | None = None
    complexity: str | None = None
    notes: tuple[Note, ...] = field(default=())

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs that are tensors."""
        return [value for value in self.inputs if isinstance(value, Tensor)]

    @property
    def weights(self) -> list[Tensor]:
        """Parameters and buffers, each once."""
        return [*self.module.parameters(), *self.module.buffers()]

    def step(self) -> Any:
        """Run one step of the case's mode and return the forward's output."""
        return self.forward_backward() if self.case.mode == "fwd_bwd" else self.forward()

    def repeat(self, steps: int) -> None:
        """Run steps back to back with nothing between them: what surrounds a forward is done once, outside the loop."""
        module, inputs = self.module, self.inputs
        if self.case.mode == "fwd_bwd":
            wanted = self.differentiated
            for _ in range(steps):
                _gradients(module(*inputs), wanted)
            return
        with torch.no_grad():
            for _ in range(steps):
                module(*inputs)

    def forward(self) -> Any:
        """One forward without gradients."""
        with torch.no_grad(), self.constants():
            return self.module(*self.inputs)

    def forward_backward(self) -> Any:
        """One forward, and the gradients of all parameters and floating inputs for a gradient of ones."""
        with self.constants():
            output = self.module(*self.inputs)
            self.backward(output)
        return output

    def backward(self, output: Any) -> None:
        """The gradients of `output`'s first differentiable tensor; they are computed and dropped."""
        _gradients(output, self.differentiated)

    def constants(self) -> AbstractContextManager[Any]:
        """Without data, what a forward makes for itself without naming a device must be without data too."""
        return torch.device("meta") if self.where == "meta" else nullcontext()

    @property
    def differentiated(self) -> list[Tensor]:
        """What the backward computes gradients for."""
        return [tensor for tensor in [*self.module.parameters(), *self.tensors] if tensor.requires_grad]

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked; nothing to wait for on the CPU."""
        if self.case.device.startswith("cuda") and self.where not in ("meta", "fake"):
            torch.cuda.synchronize()


def _gradients(output: Any, wanted: list[Tensor]) -> None:
    root = next((tensor for tensor in tensors_in(output) if tensor.requires_grad), None)
    if root is None:
        raise UnsupportedError("the output does not depend on anything with a gradient; use --mode fwd")
    # And not autograd.grad, which a re-entrant checkpoint refuses.
    torch.autograd.backward(root, torch.ones_like(root))
    for tensor in wanted:
        tensor.grad = None


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an output in order: of tuples, lists, mappings and objects that hold them (ModelOutput)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for item in value.values() for tensor in tensors_in(item))
    elif isinstance(value, list | tuple):
        yield from (tensor for item in value for tensor in tensors_in(item))
    elif hasattr(value, "__dict__") and not isinstance(value, type | nn.Module):
        yield from (tensor for item in vars(value).values() for tensor in tensors_in(item))
