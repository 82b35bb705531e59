"""Smaller calls of the same operator: along which axes a call can shrink, and the call at another length of one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from attnbench.metrics.footprint.calls import Call, TensorSpec

__all__ = ["Axis", "axes", "one_head"]

# Lengths shrink by steps of this, so that what a kernel rounds up to 8 or 16 elements is rounded up by as many; short
# ones, which are batches and heads more often than channels, by less.
_STEP, _LONG = 16, 128

_CONVOLUTIONS = ("aten.convolution", "aten.convolution_backward")
_ROWS, _BATCH = 2, 0

# From 768 queries on, flash attention on the CPU works in blocks of 256 queries and 512 keys, however many there are.
_FLASH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Axis:
    """A length of a call's operands that can be changed: `at(length)` is the call with another one."""

    length: int
    at: Callable[[int], Call]
    step: int = _STEP
    grows: bool = False  # what does not grow with it will be overtaken by what does
    fickle: bool = False  # another length may be served by another kernel

    def lengths(self, points: int, fits: Callable[[Call], bool]) -> list[int]:
        """Smaller lengths, alike in what is left over from whole steps: the longest that fit, and down from there.

        Kernels choose their algorithm by size, so that the longest tell most; empty when there are too few.
        """
        top = (self.length - 1) // self.step
        if self.step == 1 and top > points:
            top = 1 << top.bit_length() - 1  # the same smaller batches for all large ones: each is looked at once
        while top >= points and not fits(self.at(top * self.step)):
            top = top // 2 if self.step == 1 else top * 7 // 8
        apart = max(1, top // (2 * points))
        lengths = [(top - index * apart - 1) * self.step + self.length % self.step for index in range(points)]
        return lengths if lengths[-1] > 1 else []


def axes(call: Call) -> Iterator[Axis]:
    """The axes along which the call can shrink, the longest first; a convolution's rows and then its batch."""
    if call.name in _CONVOLUTIONS:
        data = call.arguments[call.name.endswith("backward")]
        stride = call.arguments[3 + call.name.endswith("backward")][0]
        yield Axis(data.shape[_ROWS], lambda length: _convolution(call, _ROWS, length), stride, grows=True)
        yield Axis(
            data.shape[_BATCH], lambda length: _convolution(call, _BATCH, length), step=1, grows=True, fickle=True
        )
        return
    for size in call.sizes():
        resize = partial(call.resized, size)
        yield Axis(size, resize, _STEP if size >= _LONG else max(1, size // 16))


def _convolution(call: Call, dim: int, length: int) -> Call:
    """The convolution, or its backward, of data with another length; the gradient's follows from it."""
    if not call.name.endswith("backward"):
        return replace(call, arguments=(_along(call.arguments[0], dim, length), *call.arguments[1:]))
    grad, data, weight, biases, *settings = call.arguments
    data = _along(data, dim, length)
    output = torch.ops.aten.convolution(data.zeros("meta"), weight.zeros("meta"), None, *settings[:6])
    return replace(call, arguments=(_along(grad, dim, output.shape[dim]), data, weight, biases, *settings))


def _along(spec: TensorSpec, dim: int, length: int) -> TensorSpec:
    """The spec with another length of that dimension; dense strides in the same order."""
    shape = (*spec.shape[:dim], length, *spec.shape[dim + 1 :])
    order = sorted(range(len(shape)), key=lambda d: (-spec.stride[d], d))
    stride, step = [0] * len(shape), 1
    for d in reversed(order):
        stride[d], step = step, step * shape[d]
    return replace(spec, shape=shape, stride=tuple(stride))


def one_head(value: Any) -> Any:
    """The arguments of a flash attention for one head of one sample, at no more tokens than its blocks hold.

    They are (B, H, N, D), (B, H, N) or a mask (N, N).
    """
    if isinstance(value, TensorSpec):
        lead, rest = (value.shape[:2], value.shape[2:]) if len(value.shape) > 2 else ((), value.shape)
        return _dense(value, (*(1 for _ in lead), *(min(size, _FLASH_TOKENS) for size in rest)))
    return tuple(map(one_head, value)) if isinstance(value, tuple) else value


def _dense(spec: TensorSpec, shape: Sequence[int]) -> TensorSpec:
    return replace(spec, shape=tuple(shape), stride=torch.empty(shape, device="meta").stride())
