"""Masks over the scores of queries and keys."""

import torch
from torch import Tensor

__all__ = ["hide_later"]


def hide_later(scores: Tensor) -> Tensor:
    """Scores (..., N, N) with minus infinity where the key stands after the query."""
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)  # (N, N)
    return scores.masked_fill(later, float("-inf"))
