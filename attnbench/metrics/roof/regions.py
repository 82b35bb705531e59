"""Parts of storages as sets of bytes: each byte is counted once, however many tensors look at it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Regions", "View"]

# Above so many runs of bytes the union of views is not computed: the largest of them is a lower bound of it.
_MOST_RUNS = 2**20


@dataclass(frozen=True, slots=True)
class View:
    """The bytes of a storage that a tensor looks at: runs of `run` bytes, one at each step along the `axes`.

    `axes` are pairs of size and stride in bytes, the smallest stride first; they may overlap.
    """

    start: int
    run: int
    axes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "View":
        """Axes along which the bytes lie without a gap become part of the run."""
        width = tensor.dtype.itemsize
        steps = sorted((step * width, size) for size, step in zip(tensor.shape, tensor.stride(), strict=True) if step)
        run, axes = width if tensor.numel() else 0, []
        for step, size in steps:
            if step <= run:
                run += step * (size - 1)
            elif size > 1:
                axes.append((size, step))
        return cls(int(tensor.storage_offset()) * width, run, tuple(axes) if run else ())

    @property
    def runs(self) -> int:
        return prod(size for size, _ in self.axes)

    @property
    def least(self) -> int:
        """A lower bound of its distinct bytes: those of the axes that do not fall into what smaller steps span."""
        count, span = self.run, self.run
        for size, step in self.axes:
            if step >= span:
                count, span = count * size, span + step * (size - 1)
        return count

    def starts(self) -> Any:
        """Where each run begins, as an array of int64."""
        found = np.array([self.start], dtype=np.int64)
        for size, step in self.axes:
            found = np.add.outer(np.arange(size, dtype=np.int64) * step, found).ravel()
        return found


@dataclass(slots=True)
class Regions:
    """Bytes of some storages; the storages are kept, so that none is taken for another at the same address."""

    _views: dict[int, set[View]] = field(default_factory=dict)
    _parts: dict[int, int] = field(default_factory=dict)
    _storages: dict[int, Any] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> None:
        """All that the tensor looks at."""
        self._views.setdefault(self._place(tensor), set()).add(View.of(tensor))

    def add_part(self, tensor: Tensor, elements: int) -> None:
        """So many elements of what the tensor looks at, nobody knows which; never more than there are."""
        place = self._place(tensor)
        part = min(View.of(tensor).least, elements * tensor.dtype.itemsize)
        self._parts[place] = max(part, self._parts.get(place, 0))

    @property
    def bytes(self) -> int:
        """Distinct bytes; of parts that may be the same bytes, those of the largest."""
        return sum(
            max(_union(self._views.get(place, ())), self._parts.get(place, 0))
            for place in self._views.keys() | self._parts.keys()
        )

    def _place(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self._storages[id(storage)] = storage
        return id(storage)


def _union(views: Iterable[View]) -> int:
    views = [view for view in views if view.run]
    if not views:
        return 0
    if sum(view.runs for view in views) > _MOST_RUNS:
        return max(view.least for view in views)
    starts = np.concatenate([view.starts() for view in views])
    ends = starts + np.concatenate([np.full(view.runs, view.run, dtype=np.int64) for view in views])
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    fresh = np.maximum(starts[1:], ends[:-1])  # a run counts from where the runs before it end
    return int(ends[0] - starts[0] + np.maximum(ends[1:] - fresh, 0).sum())
