"""Contractions that are written as an explicit product and a sum: followed from the `mul` to what sums it up.

A sum over some axes is a contraction when two factors of the product vary along one of them: a map times a gate of one
value a channel, pooled over the positions, is none, since the gate could stand outside the sum. Nor is a product that
is also used for itself (a gated map that goes on, and is pooled besides), nor a square (it belongs to a norm).
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

__all__ = ["Products"]

_PRODUCTS = ("mul", "multiply")
_SUMS = ("sum", "mean", "cumsum")
# A copy of a product, or one with another factor of one value, is the product still.
_COPIES = ("clone", "_to_copy", "contiguous", "_reshape_copy")
_SCALINGS = ("mul", "div")

Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Factor:
    """Along which axes a factor varies; where it is a product itself, that and its own factors along the same axes."""

    varies: tuple[bool, ...]
    product: "Product | None" = None
    parts: "tuple[Factor, ...]" = ()

    def mapped(self, mapping: Callable[[tuple[bool, ...]], tuple[bool, ...]]) -> "Factor":
        """The same along other axes."""
        return Factor(mapping(self.varies), self.product, tuple(part.mapped(mapping) for part in self.parts))

    def leaves(self) -> "list[Factor]":
        """What is multiplied in the end: a product that is used for itself too is a factor like any other."""
        if self.product is None or self.product.uses > 1:
            return [self]
        return [leaf for part in self.parts for leaf in part.leaves()]


@dataclass(slots=True)
class Product:
    """A tensor that is a product: its sizes and strides, its factors, and how often it has been used."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    factors: tuple[Factor, ...]
    complexes: int  # how many of the two numbers multiplied last are complex
    uses: int = 0

    def seen_as(self, view: Tensor) -> Factor:
        """It as a factor along the axes of a view of it."""

        def along(varies: tuple[bool, ...]) -> tuple[bool, ...]:
            steps = zip(view.shape, view.stride(), strict=True)
            return tuple(self._walks(varies, size, stride) for size, stride in steps)

        own = tuple(map(any, zip(*(factor.varies for factor in self.factors), strict=True)))
        return Factor(own, self, self.factors).mapped(along)

    def _walks(self, varies: tuple[bool, ...], size: int, stride: int) -> bool:
        """Whether so many steps of that stride pass along an axis on which something varies."""
        if size == 1 or stride == 0:
            return False
        axes = zip(varies, self.sizes, self.strides, strict=True)
        return any(each and step * length > stride and step <= stride * (size - 1) for each, length, step in axes)


@dataclass(frozen=True, slots=True)
class Sum:
    """A product that was summed over some axes of a view of it: how many numbers, and whom to tell."""

    product: Product
    factor: Factor
    axes: tuple[int, ...]
    numbers: int
    told: Told

    @property
    def is_contraction(self) -> bool:
        """Two factors vary along one of the axes, and the product was not used for anything else."""
        leaves = self.factor.leaves()
        return self.product.uses == 1 and any(sum(leaf.varies[axis] for leaf in leaves) > 1 for axis in self.axes)


@dataclass(slots=True)
class Products:
    """Watches the operators go by. What is a contraction is known when all is over: a product may be used again."""

    _alive: dict[int, tuple[Product, "weakref.ref[Any]"]] = field(default_factory=dict)
    _sums: list[Sum] = field(default_factory=list)

    def see(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor], out: Any, told: Told) -> None:
        """One operator that gives no mere view: its name, arguments, the tensors among them, what came out."""
        used = [product for product in map(self._of, tensors) if product is not None]
        for product in {id(product): product for product in used}.values():
            product.uses += 1
        if name in _SUMS and (summed := self._of(tensors[0])) is not None:
            self._sums.append(_sum(args, tensors[0], summed, told))
        if not isinstance(out, Tensor):
            return
        made = self._made(name, args, tensors, out)
        self._alive.pop(id(out.untyped_storage()), None)  # an in-place form: what was there is there no more
        if made is not None:
            self._remember(out, made)

    def finish(self) -> None:
        """Tell of every contraction."""
        for each in self._sums:
            if each.is_contraction:
                each.told(each.numbers * (1, 2, 4)[each.product.complexes])
        self._sums.clear()
        self._alive.clear()

    def _of(self, tensor: Tensor) -> Product | None:
        found = self._alive.get(id(tensor.untyped_storage()))
        return found[0] if found else None

    def _remember(self, out: Tensor, product: Product) -> None:
        storage = out.untyped_storage()
        address = id(storage)
        self._alive[address] = (product, weakref.ref(storage, lambda _: self._alive.pop(address, None)))

    def _made(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor], out: Tensor) -> Product | None:
        """The product that came out, if one did."""
        same = tensors[0] if name in _COPIES else _scaled(args) if name in _SCALINGS else None
        if same is not None:
            source = self._of(same)
            return source and replace(_product([source.seen_as(same)], out), complexes=source.complexes)
        if name not in _PRODUCTS or len(tensors) != 2 or _same(*tensors):
            return None
        made = _product([self._factor(tensor) for tensor in tensors], out)
        return replace(made, complexes=sum(tensor.dtype.is_complex for tensor in tensors))

    def _factor(self, tensor: Tensor) -> Factor:
        product = self._of(tensor)
        return Factor(_variation(tensor)) if product is None else product.seen_as(tensor)


def _product(factors: Sequence[Factor], out: Tensor) -> Product:
    """With the leading axes that broadcasting adds, along which nothing varies."""

    def spread(varies: tuple[bool, ...]) -> tuple[bool, ...]:
        return (False,) * (out.dim() - len(varies)) + varies

    return Product(tuple(out.shape), tuple(out.stride()), tuple(factor.mapped(spread) for factor in factors), 0)


def _sum(args: Sequence[Any], tensor: Tensor, product: Product, told: Told) -> Sum:
    return Sum(product, product.seen_as(tensor), _summed(args, tensor.dim()), tensor.numel(), told)


def _scaled(args: Sequence[Any]) -> Tensor | None:
    """What is multiplied by a number, or by a tensor of one value."""
    if len(args) < 2 or not isinstance(args[0], Tensor):
        return None
    left: Tensor = args[0]
    right = args[1]
    if not isinstance(right, Tensor) or right.numel() == 1:
        return left
    return right if left.numel() == 1 else None


def _variation(tensor: Tensor) -> tuple[bool, ...]:
    return tuple(size > 1 and stride != 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _same(left: Tensor, right: Tensor) -> bool:
    def place(tensor: Tensor) -> tuple[Any, ...]:
        return id(tensor.untyped_storage()), tensor.storage_offset(), tensor.shape, tensor.stride()

    return place(left) == place(right)


def _summed(args: Sequence[Any], rank: int) -> tuple[int, ...]:
    """The axes that are summed: those given, or all."""
    given = args[1] if len(args) > 1 else None
    if isinstance(given, int):
        given = [given]
    if not isinstance(given, list | tuple) or not given:
        return tuple(range(rank))
    return tuple(axis % rank for axis in given if rank)
