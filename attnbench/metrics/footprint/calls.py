"""Calls of operators, described without their tensors: to tell distinct ones apart, to repeat one, to shrink one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["Call", "TensorSpec", "described"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's shape, strides and type; `identity` tells which operands of one call are the same tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    identity: int

    @property
    def bytes(self) -> int:
        """What its elements take, each element of the storage once."""
        span = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)) + 1
        return self.dtype.itemsize * min(prod(self.shape), span) if prod(self.shape) else 0

    def zeros(self, device: str) -> Tensor:
        """A tensor like it, filled with zeros, so that indices in it are valid."""
        span = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)) + 1
        flat = torch.zeros(span if prod(self.shape) else 0, dtype=self.dtype, device=device)
        return flat.as_strided(self.shape, self.stride)

    def resized(self, old: int, new: int) -> "TensorSpec":
        """Each size `old` made `new`; steps over several elements keep their ratio to what they step over."""
        shape = tuple(new if size == old else size for size in self.shape)
        stride = list(self.stride)
        order = sorted((d for d in range(len(shape)) if stride[d]), key=lambda d: (stride[d], self.shape[d]))
        was = now = 1  # elements that the dimensions inside the next one step over, before and after
        for d in order:
            stride[d] = self.stride[d] * now // was
            was, now = self.stride[d] * self.shape[d], stride[d] * shape[d]
        return replace(self, shape=shape, stride=tuple(stride))


@dataclass(frozen=True, slots=True)
class Call:
    """An operator and its arguments, the tensors among them as TensorSpecs and lists as tuples; hashable."""

    operator: Any
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """`aten.convolution`."""
        return str(self.operator.overloadpacket)

    @property
    def tensors(self) -> list[TensorSpec]:
        """The distinct tensors among the arguments."""
        found = {each.identity: each for each in _specs((self.arguments, self.options))}
        return list(found.values())

    @property
    def bytes(self) -> int:
        """What its operands take."""
        return sum(each.bytes for each in self.tensors)

    def sizes(self) -> list[int]:
        """The distinct sizes of its operands' dimensions, the largest first."""
        return sorted({size for each in self.tensors for size in each.shape}, reverse=True)

    def resized(self, old: int, new: int) -> "Call":
        """The same call with `new` wherever a dimension, or a number among the arguments, is `old`."""
        return replace(self, arguments=_resized(self.arguments, old, new), options=_resized(self.options, old, new))

    def ready(self, device: str = "cpu") -> Callable[[], Any]:
        """The call itself, to be made on zeros that are there already."""
        made: dict[int, Tensor] = {}
        arguments, options = _made((self.arguments, self.options), device, made)
        return lambda: self.operator(*arguments, **dict(options))


def described(operator: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call:
    """The Call of an operator on tensors of any kind, fake ones too."""
    seen: dict[int, int] = {}
    return Call(operator, _described(arguments, seen), _described(tuple(options.items()), seen))


def _described(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, Tensor):
        identity = seen.setdefault(id(value), len(seen))
        return TensorSpec(tuple(value.shape), value.stride(), value.dtype, identity)
    if isinstance(value, list | tuple):
        return tuple(_described(each, seen) for each in value)
    return value


def _specs(value: Any) -> Iterator[TensorSpec]:
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _specs(each)


def _resized(value: Any, old: int, new: int) -> Any:
    if isinstance(value, TensorSpec):
        return value.resized(old, new)
    if isinstance(value, tuple):
        return tuple(_resized(each, old, new) for each in value)
    return new if type(value) is int and value == old else value


def _made(value: Any, device: str, made: dict[int, Tensor]) -> Any:
    if isinstance(value, TensorSpec):
        if value.identity not in made:
            made[value.identity] = value.zeros(device)
        return made[value.identity]
    if isinstance(value, tuple):
        return tuple(_made(each, device, made) for each in value)
    return value
