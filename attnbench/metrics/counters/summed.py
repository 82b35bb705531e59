"""When the sum of an explicit product is a contraction, read from a trace."""

import math
from collections.abc import Callable, Iterator, Sequence

from attnbench.metrics.counters.traced_values import Node, Value, ints, is_tensor, shape

__all__ = ["pooled_product", "sum_of_product"]

# From the index of an element in a result to the index of the element of an operand that it was made from.
Pull = Callable[[list[int]], list[int]]


def sum_of_product(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """MACs of a `sum`, `mean` or `cumsum` over axes S: the elements of the product, once, if it is a contraction.

    It is one if at least two different factors vary along one same axis in S, and the product and all that stands
    between it and the sum (views, casts, scaling by a number) are used nowhere else. So a map times a gate of one value
    a channel, pooled over the positions, is none: the gate could stand outside the sum. Nor is a gated map that goes
    on, and is pooled besides; nor a square, which is part of a norm.
    """
    return _contraction(inputs[0], _summed(inputs))


def pooled_product(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """MACs of an adaptive average pooling to one element along each pooled axis, which is a mean; of others none."""
    rank, sides = len(shape(inputs[0])), inputs[1].node()
    pooled = len(list(sides.inputs())) if sides.kind() == "prim::ListConstruct" else len(ints(inputs[1]) or [])
    if math.prod(shape(outputs[0])[rank - pooled :]) != 1:
        return 0
    return _contraction(inputs[0], range(rank - pooled, rank))


def _contraction(summed: Value, axes: Sequence[int]) -> int:
    chain, product = _chain(summed)
    sizes = shape(summed)
    if not _is_product(product) or not math.prod(sizes):
        return 0
    factors = list(_factors(product, _pulled(chain)))
    for axis in axes:
        end = [size - 1 if place == axis else 0 for place, size in enumerate(sizes)]
        # From the first element to the last along this axis: a factor that varies along it has moved.
        if len({factor.debugName() for factor, pull in factors if any(pull(end))}) > 1:
            return math.prod(sizes) * _real_products(product.node())
    return 0


def _real_products(node: Node) -> int:
    """How many real products one product of these numbers is: four of two complex ones, two of a complex and a real."""
    dtypes = [operand.type().dtype() for operand in node.inputs()]
    return math.prod(2 if dtype is not None and dtype.is_complex else 1 for dtype in dtypes)


def _summed(inputs: Sequence[Value]) -> list[int]:
    """Which axes are summed: those listed, the one named, or all where none is."""
    rank = len(shape(inputs[0]))
    # `sum(x)` and `mean(x)` have a dtype where the others have their axes.
    whole = inputs[1].node().kind() != "prim::ListConstruct" and len(inputs) == 2
    axes = None if whole else ints(inputs[1])
    return [axis % rank for axis in axes] if axes else list(range(rank))


def _factors(value: Value, pull: Pull) -> Iterator[tuple[Value, Pull]]:
    """The factors of a product, those of products within it as well, and the way to each from an index of the whole."""
    for operand in map(_unspread, value.node().inputs()):
        onto = _after(_broadcast(shape(operand)), pull)
        chain, product = _chain(operand)
        if _is_product(product):
            yield from _factors(product, _after(_pulled(chain), onto))
        else:
            yield operand, onto


def _unspread(value: Value) -> Value:
    """What was spread over more axes: along those it does not vary."""
    return next(value.node().inputs()) if _name(value.node()) in _SPREAD else value


def _after(second: Pull, first: Pull) -> Pull:
    return lambda index: second(first(index))


def _broadcast(sizes: Sequence[int]) -> Pull:
    """An operand without an axis, or of size 1 along it, stays where it is."""
    return lambda index: [
        0 if size == 1 else at for size, at in zip(sizes, index[len(index) - len(sizes) :], strict=True)
    ]


def _is_product(value: Value) -> bool:
    return _used_once(value) and _name(value.node()) in _PRODUCTS and not any(map(_is_scalar, value.node().inputs()))


def _is_scalar(value: Value) -> bool:
    return not is_tensor(value) or not shape(value)


def _used_once(value: Value) -> bool:
    """Nobody else computes with it; to ask for its size is no use."""
    return sum(use.user.kind() not in _ASKING for use in value.uses()) <= 1


def _name(node: Node) -> str:
    """`aten::mul_` -> `mul`."""
    return str(node.kind()).removeprefix("aten::").rstrip("_")


def _chain(value: Value) -> tuple[list[Node], Value]:
    """What only moves, casts or scales a value, the last first, and the value beneath."""
    chain = []
    while _used_once(value) and (beneath := _carried(value.node())) is not None:
        chain.append(value.node())
        value = beneath
    return chain, value


def _carried(node: Node) -> Value | None:
    """The operand whose elements a node carries on one by one; None where it does anything else."""
    operands = list(node.inputs())
    name = _name(node)
    if name in _PERMUTED or name in _IN_ORDER:
        return operands[0]
    if name in _PARTS and _elements(operands[0]) == _elements(node.output()):
        return operands[0]
    if name in _PRODUCTS | _QUOTIENTS and _is_scalar(operands[1]):
        return operands[0]
    return operands[1] if name in _PRODUCTS and _is_scalar(operands[0]) else None


def _elements(value: Value) -> int:
    return math.prod(shape(value))


def _pulled(chain: Sequence[Node]) -> Pull:
    """The way back through a chain, the last node first."""

    def pull(index: list[int]) -> list[int]:
        for node in chain:
            index = _back(node, index)
        return index

    return pull


def _back(node: Node, index: list[int]) -> list[int]:
    carried = _carried(node)
    before = shape(carried)
    permuted = _PERMUTED.get(_name(node))
    if permuted is None:
        return _unravelled(_ravelled(index, shape(node.output())), before)
    order = permuted(len(before), *(ints(value) or [] for value in list(node.inputs())[1:]))
    # axis `order[i]` of the operand stands at i of the result
    return [index[order.index(axis)] for axis in range(len(before))]


def _ravelled(index: Sequence[int], sizes: Sequence[int]) -> int:
    flat = 0
    for at, size in zip(index, sizes, strict=True):
        flat = flat * size + at
    return flat


def _unravelled(flat: int, sizes: Sequence[int]) -> list[int]:
    index = []
    for size in reversed(sizes):
        index.append(flat % max(size, 1))
        flat //= max(size, 1)
    return index[::-1]


def _swapped(rank: int, first: list[int], second: list[int]) -> list[int]:
    order = list(range(rank))
    order[first[0]], order[second[0]] = order[second[0]], order[first[0]]
    return order


def _moved(rank: int, sources: list[int], targets: list[int]) -> list[int]:
    taken = {target % rank: source % rank for source, target in zip(sources, targets, strict=True)}
    others = iter(axis for axis in range(rank) if axis not in taken.values())
    return [taken[axis] if axis in taken else next(others) for axis in range(rank)]


def _last_two(rank: int) -> list[int]:
    return _swapped(rank, [-2], [-1])


# How each puts the axes: from the rank and its own arguments to the order.
_PERMUTED: dict[str, Callable[..., list[int]]] = {
    "permute": lambda rank, order: [axis % rank for axis in order],
    "transpose": _swapped, "swapaxes": _swapped, "swapdims": _swapped, "movedim": _moved, "moveaxis": _moved,
    "mT": _last_two, "mH": _last_two, "adjoint": _last_two, "matrix_H": _last_two,
    "t": lambda rank: list(range(rank))[::-1], "numpy_T": lambda rank: list(range(rank))[::-1],
}  # fmt: skip
# These keep the elements in their order: views and casts.
_KEEPING = """
    view reshape flatten unflatten unsqueeze squeeze contiguous to type_as view_as reshape_as ravel clone detach alias
    _unsafe_view _reshape_alias _cast_Float _cast_Double _cast_Half lift_fresh conj resolve_conj resolve_neg
    _autocast_to_full_precision _autocast_to_reduced_precision atleast_1d
"""
_IN_ORDER = frozenset(_KEEPING.split())
# These do so where they take or spread nothing: `x[:, :, None]` is a slice of all of x.
_PARTS = frozenset(("slice", "select", "narrow", "expand", "expand_as", "broadcast_to"))
_SPREAD = frozenset(("expand", "expand_as", "broadcast_to"))
_PRODUCTS = frozenset(("mul", "multiply"))
_QUOTIENTS = frozenset(("div", "divide", "true_divide"))
_ASKING = frozenset(("aten::size", "aten::dim", "aten::numel", "aten::_shape_as_tensor", "aten::is_floating_point",
                     "aten::len", "prim::shape", "prim::dtype", "prim::device", "prim::layout"))  # fmt: skip
