"""Windows of a map: cut, padded where they do not divide it, and put together again."""

import torch.nn.functional as F
from torch import Tensor, unflatten

__all__ = ["padded", "unwindowed", "windows"]


def padded(x: Tensor, sides: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B, H', W', C): zeros below and to the right, up to whole windows of these sides."""
    below, right = -x.shape[1] % sides[0], -x.shape[2] % sides[1]
    return F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


def windows(x: Tensor, sides: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B, nW, T, C): nW windows, row by row, of T = sides[0] * sides[1] tokens."""
    x = unflatten(unflatten(x, 2, (-1, sides[1])), 1, (-1, sides[0]))  # (B, rows, w, columns, w, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def unwindowed(x: Tensor, sides: tuple[int, int], columns: int) -> Tensor:
    """(B, nW, T, C) -> (B, H, W, C), the inverse of `windows`, for so many windows side by side."""
    x = unflatten(unflatten(x, 2, sides), 1, (-1, columns))  # (B, rows, columns, w, w, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
