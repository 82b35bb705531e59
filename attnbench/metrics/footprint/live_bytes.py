"""Follows the bytes of live tensors through a step, on real tensors (measured) or on fake ones (predicted)."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnbench.metrics.footprint.calls import Call, described
from attnbench.metrics.footprint.linear_bias import unwatched

__all__ = ["LiveBytes", "Moment", "storage_bytes"]


def storage_bytes(tensors: Iterable[Tensor], block: int = 1) -> int:
    """Bytes of the storages behind the tensors, each once however many tensors look at it, in whole blocks."""
    storages = {id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(_rounded(size, block) for size in storages.values())


def _rounded(size: int, block: int) -> int:
    return -(-size // block) * block


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """An operator's place in a step: bytes alive before it, and bytes of the outputs that it made."""

    before: int
    made: int


# Autograd adds up gradients, and puts them into zeros, in place; but not while a mode watches.
_IN_PLACE_UNWATCHED = frozenset({
    torch.ops.aten.add.Tensor, torch.ops.aten.scatter.src, torch.ops.aten.scatter_add.default,
    torch.ops.aten.index_add.default, torch.ops.aten.index_put.default,
})  # fmt: skip


def _in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _may_be_in_place(func: Any, args: Any) -> bool:
    """Whether this operator of a backward is done in place once no mode watches.

    Its first operand is then gone before the next operator, and the peak is looked at only there. Into a view autograd
    does not write: the tensor that it looks at is held by it, and might be somebody else's.
    """
    if func not in _IN_PLACE_UNWATCHED or not _in_backward():
        return False
    return not args[0]._is_view()


# A view too, whatever its schema says, and what only lets go of a history.
_LOOKING = frozenset({torch.ops.aten._unsafe_view.default, torch.ops.aten.detach_.default})
# What asks for sizes, and the marks that an optimizer sets for a profiler.
_WITHOUT_TENSORS = ("prim", "profiler")


def _only_looks(func: Any) -> bool:
    """Whether this operator gives a view, or asks a tensor something, and so computes nothing."""
    return func in _LOOKING or getattr(func, "is_view", False) or getattr(func, "namespace", "") in _WITHOUT_TENSORS


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage from the operator that makes it until nothing holds it any more.

    `held` are tensors that live before the step (weights and inputs); an allocator that gives whole blocks of `block`
    bytes rounds each storage up; with `device`, tensors elsewhere do not count. `now` and `peak` are in bytes. Scratch
    that a kernel takes and gives back within one operator is not seen; `calls` has what it takes to find it: each
    distinct call, at the moment when most was alive. `phases` has the name of each operator, and whether a backward
    called it.
    """

    def __init__(self, held: Iterable[Tensor], block: int = 1, device: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self._block = block
        self._device = device
        self.calls: dict[Call, Moment] = {}
        self.phases: set[tuple[str, bool]] = set()
        self._peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._sizes: dict[int, int] = {}
        for tensor in held:
            self._watch(tensor)

    # flex_attention and its like are no operators of ATen: what they are made of is followed.
    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not hasattr(func, "overloadpacket"):
            return self._by_its_parts(func, args, kwargs or {})
        self._peak, before = self.peak, self.now
        operator = unwatched(func)
        call = None if _only_looks(operator) else described(operator, args, kwargs or {})
        output = operator(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._watch(leaf)
        if not _may_be_in_place(func, args):
            self._peak = self.peak
            if call is not None:
                self.phases.add((call.name, _in_backward()))
                moment = Moment(before, self.now - before)
                self.calls[call] = max(moment, self.calls.get(call, moment))
        # Whoever asked for a tensor of its own gives it a history of its own.
        return output if operator is func else output.detach()

    def _by_its_parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        with self:
            return func.py_kernels[DispatchKey.CompositeExplicitAutograd](*args, **kwargs)

    @property
    def peak(self) -> int:
        """The most bytes alive at once until now."""
        return max(self._peak, self.now)

    def _watch(self, tensor: Tensor) -> None:
        if self._device not in (None, tensor.device.type):
            return
        storage = tensor.untyped_storage()
        address = id(storage)
        if address not in self._seen:
            # torch keeps one Python object per storage for as long as the storage lives: its death is the storage's.
            self._seen[address] = weakref.ref(storage, lambda _: self._forget(address))
        # An `out=` or a resize may have made a known storage larger.
        size = _rounded(storage.nbytes(), self._block)
        self.now += size - self._sizes.get(address, 0)
        self._sizes[address] = size

    def _forget(self, address: int) -> None:
        del self._seen[address]
        self.now -= self._sizes.pop(address)
