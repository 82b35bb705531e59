"""Gates written out in float64 from their formulas, in other forms than the modules: sums, shifts, dense layers."""

import torch
from module_numerics import Weights
from torch import Tensor, nn

__all__ = ["dense", "gated", "normed", "pooled", "shifted", "sigmoid", "two_layers"]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def pooled(x: Tensor) -> Tensor:
    """The mean of each channel, (B, C, H, W) -> (B, C)."""
    return torch.einsum("bchw->bc", x) / (x.shape[2] * x.shape[3])


def gated(x: Tensor, scores: Tensor) -> Tensor:
    """Each channel times the sigmoid of its score, (B, C)."""
    return torch.einsum("bchw,bc->bchw", x, sigmoid(scores))


def dense(weights: Weights, name: str, vectors: Tensor) -> Tensor:
    """A layer over the last axis, whether it is a linear one or a convolution of one tap."""
    bias = weights.get(f"{name}.bias", torch.tensor(0.0))
    return vectors @ weights[f"{name}.weight"].flatten(1).T + bias  # (..., C) -> (..., C')


def two_layers(weights: Weights, first: str, second: str, vectors: Tensor) -> Tensor:
    return dense(weights, second, torch.clamp(dense(weights, first, vectors), min=0))


def normed(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A batch norm in train mode over all but the last axis."""
    axes = tuple(range(x.dim() - 1))
    centred = x - x.mean(axes)
    scaled = centred / torch.sqrt((centred**2).mean(axes) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def shifted(plane: Tensor, taps: Tensor, dilation: int = 1) -> Tensor:
    """A convolution that keeps the size as a sum of shifted planes: (..., H, W) with a kernel (..., k, k)."""
    side, height, width = taps.shape[-1], plane.shape[-2], plane.shape[-1]
    border = (side - 1) * dilation // 2
    padded = nn.functional.pad(plane, (border,) * 4)
    total = torch.zeros_like(plane)
    for i in range(side):
        for j in range(side):
            rows, columns = i * dilation, j * dilation
            tap = taps[..., i, j, None, None]
            total = total + tap * padded[..., rows : rows + height, columns : columns + width]
    return total
