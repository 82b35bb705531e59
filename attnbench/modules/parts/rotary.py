"""Rotary positions: pairs of channels turned by an angle that grows with the place of the token."""

import torch
from torch import Tensor

__all__ = ["rotate"]


def rotate(x: Tensor, theta: float) -> Tensor:
    """(..., N, d) with the pairs of channels (2i, 2i + 1) of token n turned by the angle n * theta^(-2i / d).

    Su et al. 2021, RoFormer, arXiv:2104.09864. The first numbers of all pairs come first in the result, then the
    second ones: products of two vectors that are both rotated do not see the order.
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    place = torch.arange(x.shape[-2], device=x.device, dtype=wide)
    rate = theta ** (-torch.arange(0, x.shape[-1], 2, device=x.device, dtype=wide) / x.shape[-1])
    angle = place[:, None] * rate  # (N, d / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
