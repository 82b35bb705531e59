"""Which bytes of given tensors the operators of a step read and write; views and questions of size touch none."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnbench.metrics.roof.regions import Regions

__all__ = ["Touched"]

_ASKING = frozenset({"is_same_size", "size", "stride", "dim", "numel", "sym_size", "sym_stride", "sym_numel",
                     "sym_storage_offset", "is_contiguous"})  # fmt: skip
# These write into a tensor without reading it, or to places that only values tell.
_OVERWRITING = frozenset({"copy", "fill", "zero", "normal", "uniform", "bernoulli"})
_SCATTERING = frozenset({"index_put", "_index_put_impl", "index_copy", "index_add", "index_fill", "scatter",
                         "scatter_add", "scatter_reduce", "index_reduce"})  # fmt: skip
# Of their first operand these read so many elements for each that comes out, at the most.
_TAPS: Mapping[str, int] = {
    "embedding": 1, "index": 1, "_unsafe_index": 1, "_unsafe_masked_index": 1, "index_select": 1, "gather": 1,
    "take": 1, "grid_sampler_2d": 1, "grid_sampler_3d": 1, "cudnn_grid_sampler": 1, "upsample_nearest1d": 1,
    "upsample_nearest2d": 1, "upsample_nearest3d": 1, "_upsample_nearest_exact1d": 1, "_upsample_nearest_exact2d": 1,
    "_upsample_nearest_exact3d": 1, "upsample_linear1d": 2, "upsample_bilinear2d": 4, "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
}  # fmt: skip
_BAGS = ("_embedding_bag", "_embedding_bag_forward_only")
_POOLS = ("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d")


class Touched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is read and what is written of the storages behind `held`, while it is entered.

    Rows that are looked up, whose numbers only the values tell, are taken to be different ones while there are any.
    """

    supports_higher_order_operators = True

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in held)}
        self.read, self.written = Regions(), Regions()

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor looks at one of the held storages."""
        return id(tensor.untyped_storage()) in self._held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not hasattr(func, "overloadpacket"):  # flex_attention and its like
            self._reads((args, kwargs))
        elif not _only_looks(func, args, out):
            self._see(func, args, kwargs, out)
        return out

    def _see(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        name = func.overloadpacket.__name__.rstrip("_")
        written = list(_written(func, args, kwargs))
        if name in _SCATTERING and written:
            self._reads(args[1:])
            return
        for tensor in filter(self.holds, written):
            self.written.add(tensor)
        first = _elements_of_first(name, args, out)
        if first is not None and self.holds(args[0]):
            self.read.add_part(args[0], first)
        passed_over = first is not None or (name in _OVERWRITING and bool(written))
        filled = _out_names(func)
        self._reads((args[1:] if passed_over else args, [kwargs[key] for key in kwargs if key not in filled]))

    def _reads(self, values: Any) -> None:
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and self.holds(leaf):
                self.read.add(leaf)


def _only_looks(func: Any, args: Any, out: Any) -> bool:
    """Whether it gives views, makes something of that size, or asks a tensor something: no byte is moved."""
    name = func.overloadpacket.__name__
    if func.is_view or func.namespace == "prim" or name in _ASKING or name.endswith("_like") or name.startswith("new_"):
        return True
    if func._schema.is_mutable:
        return False
    made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    given = {id(leaf.untyped_storage()) for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
    return bool(made) and all(id(tensor.untyped_storage()) in given for tensor in made)


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that the operator's schema says it writes into."""
    if not func._schema.is_mutable:
        return
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _out_names(func: Any) -> set[str]:
    """The names of those arguments that an `out=` form fills."""
    return {argument.name for argument in func._schema.arguments if argument.is_out}


def _elements_of_first(name: str, args: Sequence[Any], out: Any) -> int | None:
    """How many elements of its first operand the operator reads; None where it is all of them."""
    if name in _TAPS:
        return _TAPS[name] * int(out.numel())
    if name in _BAGS:
        return int(args[1].numel() * args[0].shape[-1])
    if name == "convolution" and not args[6]:  # a transposed one reads all
        return _under_windows(args[0], out, list(args[1].shape[2:]), *args[3:6])
    if name in _POOLS:
        kernel, stride, padding, dilation = _pool_settings(name, args)
        out = out[0] if isinstance(out, tuple) else out
        return _under_windows(args[0], out, kernel, stride, padding, dilation)
    return None


def _pool_settings(name: str, args: Sequence[Any]) -> Iterator[list[int]]:
    """Kernel, stride (the kernel's size unless given), padding and dilation, each for all of its axes."""
    rank = 3 if "3d" in name else 2
    kernel, stride, padding = args[1], (args[2] if len(args) > 2 else None) or args[1], args[3] if len(args) > 3 else 0
    dilation = args[4] if name.startswith("max") and len(args) > 4 else 1
    for value in (kernel, stride, padding, dilation):
        values = [value] if isinstance(value, int) else list(value)
        yield values * rank if len(values) == 1 else values


def _under_windows(
    x: Tensor, out: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> int:
    """Elements of the map (..., *sides) that some window sees: with strides above the kernel's size not all."""
    rank = len(kernel)
    ways = zip(x.shape[-rank:], out.shape[-rank:], kernel, stride, padding, dilation, strict=True)
    return x.shape[:-rank].numel() * math.prod(_seen(*way) for way in ways)


def _seen(size: int, windows: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """Places of one axis that at least one window's tap falls on."""
    seen = np.zeros(size, dtype=bool)
    for tap in range(taps):
        places = np.arange(windows) * stride + (tap * dilation - padding)
        seen[places[(places >= 0) & (places < size)]] = True
    return int(seen.sum())
