"""Convolutions in a form that torch's tracer can record on the meta device, with the same shapes and the same count."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["TraceableConvolutions"]


class TraceableConvolutions(TorchFunctionMode):
    """While tracing on the meta device: `aten::_convolution`, which the tracer cannot record there, is never called.

    A convolution with padding becomes a pad and one without, `aten::_convolution_mode`: zero-padded taps count anyway.
    A transposed one becomes the matrix product that it is at heart: every input element times all taps of its group.
    """

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.active = active

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.active and func in _PLAIN:
            return _padded(func, *args, **kwargs)
        if self.active and func in _TRANSPOSED:
            return _transposed(*args, **kwargs)
        return func(*args, **kwargs)


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
