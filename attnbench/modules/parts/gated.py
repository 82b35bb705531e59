"""Linear attention whose state forgets each key feature at a rate of its own, in chunks and blocks within them."""

import torch
from torch import Tensor

from attnbench.modules.parts.chunked import chunked, exact, states_before

__all__ = ["BLOCK", "gated_linear"]

BLOCK = 16
# A gate below exp(-10) = 4.5e-5 counts as that: over half a block its inverse stays well within float32.
_LEAST = -10.0


def gated_linear(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, chunk: int = 64) -> Tensor:
    """o_i = q_i S_i, S_i = diag(exp g_i) S_{i-1} + k_i^T v_i: (B, h, N, d) three times but for v, (B, h, N, e).

    Chunks of c = min(chunk, N rounded up to 16) tokens, `chunk` a multiple of 16; P tokens with the padding.
    MACs: B*h*(P*c*(d + e) + 2*P*d*e). In float16, whose range is too small for the gates, it computes in float32.
    """
    tokens, dtype = query.shape[2], query.dtype
    if dtype == torch.float16:
        query, key, value = (exact(x) for x in (query, key, value))
    length = min(chunk, -(-tokens // BLOCK) * BLOCK)
    query, key, value = (chunked(x, length) for x in (query, key, value))  # (B, h, n, c, d or e)
    decay = chunked(exact(log_decay).clamp(min=_LEAST), length).cumsum(3)  # (B, h, n, c, d)
    end = decay[:, :, :, -1:]  # (B, h, n, 1, d)
    states = (key * (end - decay).exp().to(key.dtype)).transpose(-2, -1) @ value  # (B, h, n, d, e)
    carried = states_before(end.transpose(-2, -1).exp(), states)  # (B, h, n, d, e)
    before = (query * decay.exp().to(query.dtype)) @ carried  # (B, h, n, c, e)
    within = _scores(query, key, decay).tril() @ value  # (B, h, n, c, e)
    return (within + before).flatten(2, 3)[:, :, :tokens].to(dtype)


def _scores(query: Tensor, key: Tensor, decay: Tensor) -> Tensor:
    """sum_d q_i k_j exp(decay_i - decay_j) for j <= i, anything finite elsewhere: (B, h, n, c, d) -> (B, h, n, c, c).

    The two factors are taken apart at the middle of the query's block of 16, so that none grows beyond 8 steps' decay
    however long the chunk is. Yang et al. 2023, arXiv:2312.06635, call it secondary chunking.
    """
    since = torch.unflatten(decay, 3, (-1, BLOCK))  # (B, h, n, s, 16, d)
    middle = since[..., BLOCK // 2 - 1 : BLOCK // 2, :]  # (B, h, n, s, 1, d)
    rows = torch.unflatten(query, 3, (-1, BLOCK)) * (since - middle).exp().to(query.dtype)  # (B, h, n, s, 16, d)
    # What lies ahead of the block is masked later; until then it must not be infinite.
    ahead = (middle - decay.unsqueeze(3)).clamp(max=-_LEAST * BLOCK // 2)  # (B, h, n, s, c, d)
    columns = key.unsqueeze(3) * ahead.exp().to(key.dtype)  # (B, h, n, s, c, d)
    return (rows @ columns.transpose(-2, -1)).flatten(3, 4)
