"""A Subject: a Case come alive, which is all that an instrument gets to see."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from attnbench.core.case import Case
from attnbench.core.errors import UnsupportedError
from attnbench.core.record import Note

__all__ = ["Expected", "Replay", "Step", "Subject", "tensors_in"]

# `forward_kept` is a forward that keeps what its backward would need: the part of a step that mode `bwd` takes off.
Step = Literal["forward", "forward_kept", "forward_backward", "train"]

# What is run in each mode; a backward alone cannot be run, so that its step is the whole that it is part of.
_STEPS: Mapping[str, Step] = {
    "fwd": "forward", "fwd_bwd": "forward_backward", "bwd": "forward_backward", "train": "train",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expected:
    """What the module's own formulas say: parameters, and multiply-accumulates of one forward of the batch."""

    params: int
    macs: int


class Replay(Protocol):
    """A step that was recorded: replayed, it writes its results where it did the first time, into `output`."""

    @property
    def output(self) -> Any: ...

    def replay(self) -> None: ...


@dataclass(slots=True)
class Subject:
    """The module, its inputs, and one callable that runs a step.

    `inputs` are the positional arguments of the forward: tensors, and for some modules plain integers (height,
    width). `where` is `meta`, `fake` or the case's device; only on the device does a step take real time and memory.
    `readings` are what earlier instruments read of this Case, by dotted name. `swapped` and `inserted` say at which
    modules of a network an attention was put: dotted name to the class that stood there, or in front of it.
    `attentions` finds the attentions of a network: those that were put into it, or else its own.
    `compiled` stands for the module once an engine has compiled it, `replays` for whole steps that it recorded.
    """

    case: Case
    module: nn.Module
    inputs: tuple[Any, ...]
    where: str
    expected: Expected | None = None
    complexity: str | None = None
    notes: tuple[Note, ...] = field(default=())
    optimizer: torch.optim.Optimizer | None = None
    readings: Mapping[str, Any] = field(default_factory=dict)
    compiled: Callable[..., Any] | None = None
    replays: dict[Step, Replay] = field(default_factory=dict)
    attentions: Callable[[], Sequence[nn.Module]] = tuple
    swapped: Mapping[str, str] = field(default_factory=dict)
    inserted: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs that are tensors."""
        return [value for value in self.inputs if isinstance(value, Tensor)]

    @property
    def weights(self) -> list[Tensor]:
        """Parameters and buffers, each once."""
        return [*self.module.parameters(), *self.module.buffers()]

    @property
    def optimizer_state(self) -> list[Tensor]:
        """What the optimizer keeps from step to step; nothing before its first."""
        return [] if self.optimizer is None else [
            value for state in self.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
        ]  # fmt: skip

    @property
    def whole(self) -> Step:
        """What a step of the case's mode runs."""
        return _STEPS[self.case.mode]

    @property
    def parts(self) -> tuple[Step, ...]:
        """What is run to measure the mode: the whole, and in mode `bwd` the forward that is taken off it."""
        return (self.whole, "forward_kept") if self.case.mode == "bwd" else (self.whole,)

    def step(self) -> Any:
        """Run one step of the case's mode and return the forward's output."""
        if self.whole in self.replays:
            self.repeat(1)
            return self.replays[self.whole].output
        if self.whole == "forward":
            return self.forward()
        with self.constants():
            output = self._call(*self.inputs)
            self.finish(output)
        return output

    def repeat(self, steps: int, what: Step | None = None) -> None:
        """Run steps back to back with nothing between them: what surrounds a forward is done once, outside the loop."""
        what = what or self.whole
        if what in self.replays:
            replay = self.replays[what].replay
            for _ in range(steps):
                replay()
        elif what == "forward":
            call, inputs = self._call, self.inputs
            with torch.no_grad():
                for _ in range(steps):
                    call(*inputs)
        else:
            self._repeat_with_gradients(steps, what)

    def _repeat_with_gradients(self, steps: int, what: Step) -> None:
        call, inputs, wanted = self._call, self.inputs, self.differentiated
        if what == "forward_kept":
            for _ in range(steps):
                call(*inputs)
            return
        for _ in range(steps):
            _gradients(call(*inputs), wanted, self.optimizer)

    def forward(self) -> Any:
        """One forward without gradients."""
        with torch.no_grad(), self.constants():
            return self._call(*self.inputs)

    def backward(self, output: Any) -> None:
        """The gradients of `output`'s first differentiable tensor; they are computed and dropped."""
        _gradients(output, self.differentiated, None)

    def finish(self, output: Any) -> None:
        """What follows a forward in a step: the backward, and in mode `train` the optimizer's step."""
        _gradients(output, self.differentiated, self.optimizer)

    def constants(self) -> AbstractContextManager[Any]:
        """Without data, what a forward makes for itself without naming a device must be without data too."""
        return torch.device("meta") if self.where == "meta" else nullcontext()

    @property
    def _call(self) -> Callable[..., Any]:
        return self.module if self.compiled is None else self.compiled

    @property
    def differentiated(self) -> list[Tensor]:
        """What the backward computes gradients for."""
        return [tensor for tensor in [*self.module.parameters(), *self.tensors] if tensor.requires_grad]

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked; nothing to wait for on the CPU."""
        if self.case.device.startswith("cuda") and self.where not in ("meta", "fake"):
            torch.cuda.synchronize()


def _gradients(output: Any, wanted: list[Tensor], optimizer: torch.optim.Optimizer | None) -> None:
    root = next((tensor for tensor in tensors_in(output) if tensor.requires_grad), None)
    if root is None:
        raise UnsupportedError("the output does not depend on anything with a gradient; use --mode fwd")
    # And not autograd.grad, which a re-entrant checkpoint refuses.
    torch.autograd.backward(root, torch.ones_like(root))
    if optimizer is not None:
        optimizer.step()
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
