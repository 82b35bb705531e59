"""Contractions that are written as an explicit product and a sum: followed from the `mul` to what sums it up.

A sum over some axes is a contraction when two factors of the product vary along one of them: a map times a gate of one
value a channel, pooled over the positions, is none, since the gate could stand outside the sum. Nor is a product that
is also used for itself (a gated map that goes on, and is pooled besides), nor a square (it belongs to a norm).
"""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Products"]

# Along which axes of a product a factor varies.
Factor = tuple[bool, ...]

_PRODUCTS = ("mul", "multiply")
_SUMS = ("sum", "mean", "cumsum")
# A copy of a product, or one with another factor of one value, is the product still.
_COPIES = ("clone", "_to_copy", "contiguous", "_reshape_copy")
_SCALINGS = ("mul", "div")


@dataclass(slots=True)
class Product:
    """A tensor that is a product: its sizes and strides, its factors, and how often it has been used."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    factors: tuple[Factor, ...]
    complexes: int  # how many of the two numbers multiplied last are complex
    parents: tuple["Product", ...] = ()
    uses: int = 0

    @property
    def used_once(self) -> bool:
        """Whether it, and every product that it was made from, went into one operator alone."""
        return self.uses == 1 and all(parent.used_once for parent in self.parents)

    @property
    def macs(self) -> int:
        return math.prod(self.sizes) * (1, 2, 4)[self.complexes]

    def seen_as(self, view: Tensor) -> tuple[Factor, ...]:
        """Its factors along the axes of a view of it."""
        return tuple(
            tuple(self._varies(factor, size, stride) for size, stride in zip(view.shape, view.stride(), strict=True))
            for factor in self.factors
        )

    def _varies(self, factor: Factor, size: int, stride: int) -> bool:
        """Whether a walk of so many steps of that stride passes along an axis that the factor varies along."""
        if size == 1 or stride == 0:
            return False
        axes = zip(factor, self.sizes, self.strides, strict=True)
        return any(varies and step * length > stride and step <= stride * (size - 1) for varies, length, step in axes)


@dataclass(slots=True)
class Products:
    """Watches the operators of a forward go by; `contractions` are known when it is over, for a product may be used
    again later."""

    _alive: dict[int, tuple[Product, "weakref.ref[Any]"]] = field(default_factory=dict)
    _closed: list[tuple[Product, Callable[[int], None]]] = field(default_factory=list)

    def see(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor], out: Any, count: Callable[[int], None],
            *, views: bool) -> None:  # fmt: skip
        """One operator: its name, arguments, the tensors among them, its output, and whom to tell of a contraction."""
        if views:
            return
        used = [(tensor, self._of(tensor)) for tensor in tensors]
        for product in {id(product): product for _, product in used if product is not None}.values():
            product.uses += 1
        if name in _SUMS and used and used[0][1] is not None and self._contracts(name, args, *used[0]):
            self._closed.append((used[0][1], count))
        if not isinstance(out, Tensor):
            return
        made = self._made(name, args, tensors, out)
        self._alive.pop(id(out.untyped_storage()), None)
        if made is not None:
            self._remember(out, made)

    def finish(self) -> None:
        """Tell of every contraction whose product was used for nothing else."""
        for product, count in self._closed:
            if product.used_once:
                count(product.macs)
        self._closed.clear()
        self._alive.clear()

    def _of(self, tensor: Tensor) -> Product | None:
        found = self._alive.get(id(tensor.untyped_storage()))
        return found[0] if found else None

    def _remember(self, out: Tensor, product: Product) -> None:
        storage = out.untyped_storage()
        address = id(storage)
        self._alive[address] = (product, weakref.ref(storage, lambda _: self._alive.pop(address, None)))

    def _contracts(self, name: str, args: Sequence[Any], tensor: Tensor, product: Product | None) -> bool:
        assert product is not None
        summed = _summed(name, args, tensor.dim())
        factors = product.seen_as(tensor)
        return any(sum(factor[axis] for factor in factors) > 1 for axis in summed)

    def _made(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor], out: Tensor) -> Product | None:
        if name in _COPIES and (source := self._of(tensors[0])) is not None:
            return _product(out, source.seen_as(tensors[0]), source.complexes, (source,))
        if name in _SCALINGS and (scaled := _scaled(args)) is not None:
            source = self._of(scaled)
            return source and _product(out, _spread(source.seen_as(scaled), out.dim()), source.complexes, (source,))
        if name not in _PRODUCTS or len(tensors) != 2 or _same(*tensors):
            return None
        factors: list[Factor] = []
        parents = []
        for tensor in tensors:
            source = self._of(tensor)
            parents += [source] if source is not None else []
            own = source.seen_as(tensor) if source else (_variation(tensor),)
            factors += _spread(own, out.dim())
        complexes = sum(tensor.dtype.is_complex for tensor in tensors)
        return _product(out, tuple(factors), complexes, tuple(parents))


def _product(out: Tensor, factors: tuple[Factor, ...], complexes: int, parents: tuple[Product, ...]) -> Product:
    return Product(tuple(out.shape), tuple(out.stride()), factors, complexes, parents)


def _scaled(args: Sequence[Any]) -> Tensor | None:
    """What is multiplied by a number, or by a tensor of one value."""
    if len(args) < 2 or not isinstance(args[0], Tensor):
        return None
    left: Tensor = args[0]
    right = args[1]
    if not isinstance(right, Tensor) or right.numel() == 1:
        return left
    return right if left.numel() == 1 else None


def _variation(tensor: Tensor) -> Factor:
    return tuple(size > 1 and stride != 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _spread(factors: tuple[Factor, ...], rank: int) -> tuple[Factor, ...]:
    """With the leading axes that broadcasting adds, along which nothing varies."""
    return tuple((False,) * (rank - len(factor)) + factor for factor in factors)


def _same(left: Tensor, right: Tensor) -> bool:
    def place(tensor: Tensor) -> tuple[Any, ...]:
        return id(tensor.untyped_storage()), tensor.storage_offset(), tensor.shape, tensor.stride()

    return place(left) == place(right)


def _summed(name: str, args: Sequence[Any], rank: int) -> list[int]:
    """The axes that are summed: those given, or all."""
    given = args[1] if len(args) > 1 else None
    if isinstance(given, int):
        given = [given]
    if not isinstance(given, list | tuple) or not given:
        return list(range(rank))
    return [axis % rank if rank else 0 for axis in given if rank]
