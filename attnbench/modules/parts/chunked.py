"""Causal linear attention in chunks: quadratic within a chunk, a running matrix of keys and values between chunks."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["between", "causal_linear", "chunked", "decayed_linear", "exact", "states_before", "sums_before"]


def chunked(x: Tensor, length: int) -> Tensor:
    """(B, h, N, d) -> (B, h, n, c, d): chunks of `length` tokens, the last one padded with zeros."""
    missing = -x.shape[2] % length
    padded = F.pad(x, (0, 0, 0, missing)) if missing else x  # (B, h, P, d)
    return torch.unflatten(padded, 2, (-1, length))


def exact(x: Tensor) -> Tensor:
    """In float32 where it came in less: exponents and long sums lose too much in 8 or 11 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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
    query, key, value = (chunked(x, min(chunk, tokens)) for x in (query, key, value))  # (B, h, n, c, d or e)
    within = (query @ key.transpose(-2, -1)).tril() @ value  # (B, h, n, c, e)
    before = query @ sums_before(key.transpose(-2, -1) @ value)  # (B, h, n, c, e)
    return (within + before).flatten(2, 3)[:, :, :tokens]


def sums_before(states: Tensor) -> Tensor:
    """The sum over all chunks before each one: (B, h, n, d, e) -> (B, h, n, d, e)."""
    before = F.pad(states[:, :, :-1], (0, 0, 0, 0, 1, 0))
    # In bfloat16 a running sum would stand still once it is 256 times what comes in.
    return exact(before).cumsum(2).to(states.dtype)


def decayed_linear(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, chunk: int = 64) -> Tensor:
    """y_i = sum over j <= i of exp(g_{j+1} + ... + g_i) (q_i . k_j) v_j, for one decay g <= 0 a head and token.

    (B, h, N, d), (B, h, N, d), (B, h, N, e), (B, h, N) -> (B, h, N, e). Queries and keys of one head, (B, 1, N, d),
    are shared by all heads, and their scores computed once; `log_decay` is (1, h, 1) where it is the same everywhere.

    In chunks as `causal_linear`; every factor is exp of a number <= 0, so that nothing overflows.
    MACs: B*(P*c*(m*d + h*e) + 2*P*h*d*e) for queries and keys of m heads.
    """
    tokens, length = query.shape[2], min(chunk, query.shape[2])
    if log_decay.shape[2] == 1:
        log_decay = log_decay.expand(-1, -1, length)  # one chunk stands for all
    query, key, value = (chunked(x, length) for x in (query, key, value))  # (B, m or h, n, c, d or e)
    decay = chunked(exact(log_decay).unsqueeze(-1), length).cumsum(3)  # (B, h, n, c, 1), since the chunk's start
    scores = (query @ key.transpose(-2, -1)) * between(decay).to(query.dtype)  # (B, h, n, c, c)
    end = decay[:, :, :, -1:]  # (B, h, n, 1, 1)
    # The decays go to the values and to the output: shared keys and queries are not copied for each head.
    states = torch.einsum("bhncd,bhnce->bhnde", key, value * (end - decay).exp().to(value.dtype))
    carried = states_before(end.exp(), states)  # (B, h, n, d, e)
    before = torch.einsum("bhncd,bhnde->bhnce", query, carried) * decay.exp().to(value.dtype)
    return (scores @ value + before).flatten(2, 3)[:, :, :tokens]


def between(decay: Tensor) -> Tensor:
    """exp(g_{j+1} + ... + g_i), zero for j > i, from the sums since the chunk's start: (..., c, 1) -> (..., c, c)."""
    length = decay.shape[-2]
    future = torch.ones(length, length, dtype=torch.bool, device=decay.device).triu(1)
    return (decay - decay.transpose(-2, -1)).masked_fill(future, float("-inf")).exp()


def states_before(decay: Tensor, states: Tensor) -> Tensor:
    """The state S_n at the start of each chunk: S_0 = 0, S_{n+1} = decay_n * S_n + states_n, in float32 at least.

    `states` (B, h, n, d, e); `decay` (B, h, n, 1, 1) or (B, h, n, d, 1), or with n = 1 where it is the same
    everywhere; -> (B, h, n, d, e). Pairs of chunks become one until one is left: log2(n) steps, 2 * n products in all.
    """
    decay = decay.expand(-1, -1, states.shape[2], -1, -1)
    return _scanned(decay, exact(states)).to(states.dtype)


def _scanned(decay: Tensor, states: Tensor) -> Tensor:
    chunks = states.shape[2]
    if chunks == 1:
        return torch.zeros_like(states)
    if chunks % 2:
        decay, states = (F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (decay, states))
    decay_even, decay_odd = decay[:, :, ::2], decay[:, :, 1::2]
    even, odd = states[:, :, ::2], states[:, :, 1::2]
    at_even = _scanned(decay_even * decay_odd, decay_odd * even + odd)
    at_odd = decay_even * at_even + even
    return torch.stack((at_even, at_odd), 3).flatten(2, 3)[:, :, :chunks]
