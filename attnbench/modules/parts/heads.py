"""Heads: channels cut into as many parts, each beside its own tokens, and put together again."""

from torch import Tensor, unflatten

__all__ = ["merge_heads", "split_heads", "split_qkv"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., N, heads * d) -> (..., heads, N, d)."""
    return unflatten(x, -1, (heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """(..., heads, N, d) -> (..., N, heads * d)."""
    return x.transpose(-3, -2).flatten(-2)


def split_qkv(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., N, 3 * heads * d), queries, keys and values beside each other -> each as (..., heads, N, d)."""
    query, key, value = (split_heads(each, heads) for each in x.chunk(3, -1))
    return query, key, value
