"""Arranges a module so that torch's tracer records all of its forward, on the meta device too, and leaves no trace."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnbench.metrics.counters.handles import HANDLES
from attnbench.metrics.subject import tensors_in

__all__ = ["Rooted", "Traceable", "compiled_parts_as_written"]


class Traceable(TorchFunctionMode):
    """While it is active, what a module computes can be traced, and what it computes for nobody is kept.

    The tracer drops what no output depends on, though it costs what it costs: `kept` are the results of all products
    that were called by name, for an output to depend on them.

    On the meta device the tracer cannot record `aten::_convolution`. There a convolution with padding becomes a pad and
    one without, `aten::_convolution_mode`: zero-padded taps count anyway. A transposed one becomes the matrix product
    that it is at heart: every input element times all taps of its group.
    """

    def __init__(self, meta: bool) -> None:
        super().__init__()
        self.meta = meta
        self.kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self._called(func, args, kwargs or {})
        if getattr(func, "__name__", "") in _PRODUCTS and _traced():
            # An alias of its own: what is done to the result later, in place, is no use of this.
            self.kept += [tensor.detach() for tensor in tensors_in(result)]
        return result

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in _ASKING:
            with _untraced():
                return func(*args, **kwargs)
        if self.meta and func in _PLAIN:
            return _padded(func, *args, **kwargs)
        if self.meta and func in _TRANSPOSED:
            return _transposed(*args, **kwargs)
        return func(*args, **kwargs)


# Functions of torch whose work is counted: operators as they are called from Python, and functions that hold some.
_PRODUCTS = {name.removeprefix("aten::") for name in HANDLES} | {"__matmul__", "__rmatmul__", "__imatmul__", "conv1d"}
_PRODUCTS |= {"multi_head_attention_forward", "multi_dot", "vecdot"}


def _traced() -> bool:
    """Whether results are values of a trace: within vmap and the like they are not."""
    return torch._C._get_tracing_state() is not None and torch._C._functorch.maybe_current_level() is None


# What asks a tensor for its sizes: traced ones are no numbers, which code that computes with them may not expect.
_ASKING = (Tensor.size, Tensor.shape.__get__, Tensor.numel, Tensor.nelement, Tensor.__len__)  # type: ignore[attr-defined]


@contextmanager
def _untraced() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


class Rooted(nn.Module):
    """A module as fvcore can trace it: tensors come in, only tensors go out, and its parts are nobody's business.

    What else the module takes (numbers, strings) is bound, and of what it returns (a dataclass, a mapping, None)
    only the tensors are passed on, with those that were kept on the way. The parts are hidden, since fvcore would put
    hooks on each: they stay there when a forward raises, and an exception that a module survives upsets the tracer
    through them so that the whole process dies.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Any], kept: list[Tensor]) -> None:
        super().__init__()
        self._hidden = (module,)  # in a tuple, torch does not take it for a part
        self._given = tuple(inputs)
        self._kept = kept

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        output = self._hidden[0](*(next(left) if isinstance(each, Tensor) else each for each in self._given))
        return tuple(tensor.detach() for tensor in (*tensors_in(output), *self._kept))

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """All parameters and buffers of the hidden parts: the tracer asks for them, to make them inputs."""
        state = {} if destination is None else destination
        for name, tensor in chain(self._hidden[0].named_parameters(), self._hidden[0].named_buffers()):
            state[prefix + name] = tensor
        return state


@contextmanager
def compiled_parts_as_written(module: nn.Module) -> Iterator[None]:
    """The tracer refuses what torch.compile has wrapped: meanwhile such parts run as they were written."""
    with ExitStack() as stack:
        for each in module.modules():
            if getattr(each, "_compiled_call_impl", None) is not None:
                stack.enter_context(mock.patch.object(each, "_compiled_call_impl", None))
            written = getattr(each, "_orig_mod", None)
            if written is not None and "forward" in vars(each):
                # A wrapper passes on the attributes that are set on it: this one must not reach what it wraps.
                stack.enter_context(mock.patch.dict(vars(each), forward=written))
        yield


_PLAIN = (torch.conv1d, torch.conv2d, torch.conv3d)
_TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


def _padded(func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,  # noqa: A002
            padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    if not isinstance(padding, str):
        sides = _each(padding, weight.dim() - 2)
        # F.pad wants the last dimension first, and both its ends.
        input = F.pad(input, [side for each in reversed(sides) for side in (each, each)])  # noqa: A001
        padding = "valid"
    return func(input, weight, bias, stride, padding, dilation, groups)


def _transposed(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,  # noqa: A002
                padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:  # fmt: skip
    rank = weight.dim() - 2
    steps = zip(*(_each(given, rank) for given in (stride, padding, output_padding, dilation)), strict=True)
    sides = [
        (int(side) - 1) * step - 2 * pad + spread * (int(taps) - 1) + extra + 1
        for side, taps, (step, pad, extra, spread) in zip(input.shape[-rank:], weight.shape[2:], steps, strict=True)
    ]
    batch = [int(size) for size in input.shape[: -rank - 1]]
    # (B, C_in, ...) -> (B * positions, C_in) @ (C_in, C_out / groups * taps)
    channels = int(weight.shape[0])
    taps = math.prod(int(size) for size in weight.shape[1:])
    spread = input.reshape(-1, channels) @ weight.reshape(channels, taps)
    # The sum ties the product to the output, so that the tracer does not drop it as dead code.
    return input.new_zeros([*batch, int(weight.shape[1]) * groups, *sides]) + spread.sum()


def _each(given: int | Sequence[int], rank: int) -> list[int]:
    """One number for each axis, from one number for all or one for each."""
    numbers = [given] if isinstance(given, int) else [int(number) for number in given]
    return numbers * rank if len(numbers) == 1 else numbers
