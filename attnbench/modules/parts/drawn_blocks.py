"""The random blocks of block-sparse attention: drawn once, the same for the same seed on every device."""

import torch
from torch import Tensor

__all__ = ["drawn_blocks"]


def drawn_blocks(heads: int, blocks: int, count: int, seed: int) -> Tensor:
    """(heads, blocks - 2, count): for each block between the first and the last, blocks that it may look at besides.

    They are distinct, and none is the first, the last, the block itself or its neighbour: those are looked at anyway.
    Drawn on the CPU from the seed, without a list of all blocks for each block, then put on the default device.
    """
    generator = torch.Generator().manual_seed(seed)
    block = torch.arange(1, blocks - 1, device="cpu")
    first, last = (block - 1).clamp(min=1), (block + 1).clamp(max=blocks - 2)  # its neighbours, not the ends
    near = last - first + 1
    chosen = torch.empty(0, heads, blocks - 2, dtype=torch.long, device="cpu")
    for place in range(count):
        free = blocks - 2 - near - place
        uniform = torch.rand(heads, blocks - 2, generator=generator, dtype=torch.float64, device="cpu")
        chosen = _with_another(chosen, (uniform * free).long())
    found = 1 + chosen  # the first block is none of them
    found = found + (found >= first) * near  # nor are those near
    return found.permute(1, 2, 0).contiguous().to(torch.get_default_device())


def _with_another(chosen: Tensor, rank: Tensor) -> Tensor:
    """(n, ...) ascending and the rank of another among those not chosen -> (n + 1, ...) ascending."""
    for earlier in chosen:
        rank = rank + (rank >= earlier)
    return torch.cat([chosen, rank[None]]).sort(dim=0).values
