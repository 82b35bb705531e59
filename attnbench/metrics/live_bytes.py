"""Follows the bytes of live tensors through a step, on real tensors (measured) or on fake ones (predicted)."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "storage_bytes"]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind the tensors, each storage once however many tensors look at it."""
    storages = {id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage from the operator that makes it until nothing holds it any more.

    `held` are tensors that live before the step (weights and inputs). `now` and `peak` are in bytes. Scratch that a
    kernel takes and gives back within one operator is not seen.
    """

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}
        for tensor in held:
            self._watch(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._watch(leaf)
        return output

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = id(storage)
        if address in self._seen:
            return
        size = storage.nbytes()

        def forget(_: Any) -> None:
            self.now -= size
            del self._seen[address]

        # torch keeps one Python object per storage for as long as the storage lives, so its death is the storage's.
        self._seen[address] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)
