"""The delta rule in chunks: what a chunk's keys would overwrite is solved for at once, and the chunks are composed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbench.modules.parts.chunked import between, chunked, exact

__all__ = ["delta_rule", "gated_delta_rule"]


def delta_rule(query: Tensor, key: Tensor, value: Tensor, beta: Tensor, chunk: int = 64) -> Tensor:
    """S_i = S_{i-1} + beta_i k_i^T (v_i - k_i S_{i-1}), o_i = q_i S_i, from S_0 = 0.

    (B, h, N, d), (B, h, N, d), (B, h, N, e), (B, h, N) -> (B, h, N, e).

    Chunks of c = min(chunk, N rounded up to a power of two) tokens, `chunk` a power of two; P with the padding. The
    values that a chunk writes are U - W S for the state S at its start (the WY form of Yang et al. 2024,
    arXiv:2406.06484), so that it makes (I - K^T W) S + K^T U of S. The published kernel goes from chunk to chunk in a
    loop; here these maps are composed in pairs, in log2 of n steps, n = P / c rounded up to a power of two.

    MACs: B*h*(P*(c*(3*d + 2*e) + (c**2 - 1)/3 + d**2 + 3*d*e) + max(n - 2, 0)*d**2*(d + 2*e)), all matrix products.
    """
    tokens, length = query.shape[2], _length(query.shape[2], chunk)
    query, key, value = (chunked(x, length) for x in (query, key, value))  # (B, h, n, c, d or e)
    beta = chunked(beta.unsqueeze(-1), length)  # (B, h, n, c, 1)
    solved = _solved((key @ key.mT).tril(-1), beta)  # (B, h, n, c, c)
    states, written = _written(solved @ value, solved @ key, key)
    scores = (query @ key.mT).tril()  # (B, h, n, c, c)
    return (query @ states + scores @ written).flatten(2, 3)[:, :, :tokens]


def gated_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, beta: Tensor, log_decay: Tensor, chunk: int = 64
) -> Tensor:
    """The delta rule with a_i S_{i-1} in place of S_{i-1}, a = exp(log_decay) of (B, h, N); the MACs are the same.

    (B, h, N, d), (B, h, N, d), (B, h, N, e), (B, h, N), (B, h, N) -> (B, h, N, e). Yang et al. 2024, arXiv:2412.06464.
    """
    tokens, length = query.shape[2], _length(query.shape[2], chunk)
    query, key, value = (chunked(x, length) for x in (query, key, value))  # (B, h, n, c, d or e)
    beta = chunked(beta.unsqueeze(-1), length)  # (B, h, n, c, 1)
    decay = chunked(exact(log_decay).unsqueeze(-1), length).cumsum(3)  # (B, h, n, c, 1), since the chunk's start
    pairs = between(decay).to(key.dtype)  # (B, h, n, c, c)
    solved = _solved((key @ key.mT * pairs).tril(-1), beta)  # (B, h, n, c, c)
    end, kept = decay[:, :, :, -1:], decay.exp().to(key.dtype)  # (B, h, n, 1, 1), (B, h, n, c, 1)
    left = key * (end - decay).exp().to(key.dtype)  # (B, h, n, c, d), what is left of each key at the chunk's end
    states, written = _written(solved @ value, solved @ (key * kept), left, end.exp())
    scores = query @ key.mT * pairs  # (B, h, n, c, c)
    return ((query * kept) @ states + scores @ written).flatten(2, 3)[:, :, :tokens]


def _length(tokens: int, chunk: int) -> int:
    """Tokens of a chunk: a power of two, since the inverse goes by halves."""
    return min(chunk, 1 << (tokens - 1).bit_length())


def _solved(overlaps: Tensor, beta: Tensor) -> Tensor:
    """(I + diag(beta) overlaps)^-1 diag(beta), solved in float32 at least: (..., c, c), (..., c, 1) -> (..., c, c)."""
    wide = exact(beta)
    return (_inverse(wide * overlaps) * wide.transpose(-2, -1)).to(overlaps.dtype)


def _inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 for a strictly lower triangular (..., c, c), c a power of two: (c**3 - c)/3 MACs.

    By halves, both at once: [[A, 0], [C, D]]^-1 = [[A^-1, 0], [-D^-1 C A^-1, D^-1]]. As stable as a substitution row
    by row; the power series I - lower + lower^2 - ... is not, since it cancels.
    """
    if lower.shape[-1] == 1:
        return torch.ones_like(lower)
    half = lower.shape[-1] // 2
    blocks = torch.stack((lower[..., :half, :half], lower[..., half:, half:]), -3)  # (..., 2, c/2, c/2)
    first, second = _inverse(blocks).unbind(-3)  # (..., c/2, c/2)
    corner = -(second @ lower[..., half:, :half] @ first)
    above = torch.cat((first, torch.zeros_like(corner)), -1)
    return torch.cat((above, torch.cat((corner, second), -1)), -2)


def _written(values: Tensor, read: Tensor, key: Tensor, decay: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The state at the start of each chunk, and the values that the chunk writes into it.

    (B, h, n, c, e), (B, h, n, c, d), (B, h, n, c, d), (B, h, n, 1, 1) -> (B, h, n, d, e), (B, h, n, c, e).
    """
    kept = torch.eye(key.shape[-1], device=key.device, dtype=torch.promote_types(key.dtype, torch.float32))
    transition = (kept if decay is None else kept * decay) - key.mT @ read  # (B, h, n, d, d)
    states = _states(transition, exact(key.mT @ values)).to(values.dtype)  # (B, h, n, d, e)
    return states, values - read @ states


def _states(transition: Tensor, added: Tensor) -> Tensor:
    """S_n at the start of each chunk, S_0 = 0, S_{n+1} = transition_n S_n + added_n: (B, h, n, d, d or e)."""
    chunks = added.shape[2]
    missing = (1 << (chunks - 1).bit_length()) - chunks
    if missing:
        transition, added = (F.pad(x, (0, 0, 0, 0, 0, missing)) for x in (transition, added))
    return _scanned(transition, added)[:, :, :chunks]


def _scanned(transition: Tensor, added: Tensor) -> Tensor:
    if added.shape[2] <= 2:
        return F.pad(added[:, :, :-1], (0, 0, 0, 0, 1, 0))
    even, odd = transition[:, :, ::2], transition[:, :, 1::2]
    added_even, added_odd = added[:, :, ::2], added[:, :, 1::2]
    at_even = _scanned(odd @ even, odd @ added_even + added_odd)
    at_odd = even @ at_even + added_even
    return torch.stack((at_even, at_odd), 3).flatten(2, 3)
