"""Follows the bytes of live tensors through a step, on real tensors (measured) or on fake ones (predicted)."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "storage_bytes"]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind the tensors, each storage once however many tensors look at it."""
    storages = {id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def _may_accumulate(func: Any) -> bool:
    """Whether this operator is autograd adding up gradients, which it does in place once no mode watches.

    Its first operand is then gone before the next operator, and the peak is looked at only there.
    """
    return func is torch.ops.aten.add.Tensor and torch._C._current_graph_task_id() != -1


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage from the operator that makes it until nothing holds it any more.

    `held` are tensors that live before the step (weights and inputs). `now` and `peak` are in bytes. Scratch that a
    kernel takes and gives back within one operator is not seen.
    """

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self._peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._sizes: dict[int, int] = {}
        for tensor in held:
            self._watch(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._peak = self.peak
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._watch(leaf)
        if not _may_accumulate(func):
            self._peak = self.peak
        return output

    @property
    def peak(self) -> int:
        """The most bytes alive at once until now."""
        return max(self._peak, self.now)

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = id(storage)
        if address not in self._seen:
            # torch keeps one Python object per storage for as long as the storage lives: its death is the storage's.
            self._seen[address] = weakref.ref(storage, lambda _: self._forget(address))
        # An `out=` or a resize may have made a known storage larger.
        size = storage.nbytes()
        self.now += size - self._sizes.get(address, 0)
        self._sizes[address] = size

    def _forget(self, address: int) -> None:
        del self._seen[address]
        self.now -= self._sizes.pop(address)
