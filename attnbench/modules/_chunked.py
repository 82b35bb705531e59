"""Causal linear attention in chunks: quadratic within a chunk, a running matrix of keys and values between chunks."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["causal_linear", "chunked"]


def chunked(x: Tensor, chunk: int) -> Tensor:
    """(B, h, N, d) -> (B, h, n, c, d): n chunks of c = min(chunk, N) tokens, the last one padded with zeros."""
    tokens = x.shape[2]
    length = min(chunk, tokens)
    missing = -tokens % length
    padded = F.pad(x, (0, 0, 0, missing)) if missing else x  # (B, h, P, d)
    return padded.unflatten(2, (-1, length))


def causal_linear(query: Tensor, key: Tensor, value: Tensor, chunk: int = 64) -> Tensor:
    """y_i = sum over j <= i of (q_i . k_j) v_j: (B, h, N, d), (B, h, N, d), (B, h, N, e) -> (B, h, N, e).

    Chunks of c = min(chunk, N) tokens, P = ceil(N / c) * c tokens with the padding (keys of zero, which add nothing):
    the scores within each chunk, and its queries times the sum of k_j^T v_j over all chunks before. All chunks at
    once, no loop: the sums are a cumulative sum over N / c matrices of (d, e), and nothing of size N*d*e is formed.

    MACs: B*h*(P*c*(d + e) + 2*P*d*e), all of them matrix products. Elements at once, for each head: about
    N*(c + d + 2*e + 2*d*e/c).

    The sums run in float32 at least, and come back to the dtype of the inputs: in float16 a sum beyond 65504 must be
    kept away by scaling the keys.
    """
    tokens = query.shape[2]
    query, key, value = (chunked(x, chunk) for x in (query, key, value))  # (B, h, n, c, d or e)
    within = (query @ key.transpose(-2, -1)).tril() @ value  # (B, h, n, c, e)
    before = query @ _sums_before(key.transpose(-2, -1) @ value)  # (B, h, n, c, e)
    return (within + before).flatten(2, 3)[:, :, :tokens]


def _sums_before(states: Tensor) -> Tensor:
    """The sum over all chunks before each one: (B, h, n, d, e) -> (B, h, n, d, e)."""
    before = F.pad(states[:, :, :-1], (0, 0, 0, 0, 1, 0))
    # In bfloat16 a running sum would stand still once it is 256 times what comes in.
    return before.cumsum(2, dtype=torch.promote_types(states.dtype, torch.float32)).to(states.dtype)
