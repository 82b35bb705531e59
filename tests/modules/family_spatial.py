"""The spatial family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import torch
from comparisons import Comparison, control, reference, weighted
from gates_written_out import dense, normed, shifted, sigmoid
from module_numerics import Weights, filled, noise
from torch import Tensor

from attnbench.modules.spatial import CbamSpatialAttention, LargeKernelAttention, SimAm

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cbam_spatial": [{"kernel_size": 7}, {"bn": True}],
    "simam": [{"e_lambda": 1e-2}],
    "lka": [{"kernel_size": 35, "dilation": 5}, {"kernel_size": 5, "dilation": 1}, {"kernel_size": 17, "dilation": 4}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # 3*3*2 = 18 and 7*7*2 = 98 taps at 1024 positions
    ("cbam_spatial", {}, (1, 64, 1, 32, 32), 18_432),
    ("cbam_spatial", {"kernel_size": 7}, (1, 64, 1, 32, 32), 100_352),
    ("simam", {}, (1, 64, 1, 32, 32), 0),
    # 64 channels of 25 and of 49 taps, and 64*64, at 1024 positions
    ("lka", {}, (1, 64, 1, 32, 32), 1024 * (1_600 + 3_136 + 4_096)),
    # 35 by 5: 9x9 near, 7x7 far, at 6 positions, batch 2
    ("lka", {"kernel_size": 35, "dilation": 5}, (2, 10, 1, 2, 3), 2 * 6 * (810 + 490 + 100)),
]

MAP = (2, 32, 5, 7)


def cbam_spatial(weights: Weights, x: Tensor, prefix: str = "", swap: bool = False) -> Tensor:
    """The convolution as a sum of shifted planes."""
    planes = [x.sort(1).values[:, -1], x.sum(1) / x.shape[1]]  # maximum, then mean
    kernel = weights[f"{prefix}conv.weight"][0]
    total = sum(map(shifted, reversed(planes) if swap else planes, kernel))
    if f"{prefix}norm.weight" in weights:
        total = normed(weights, f"{prefix}norm", total[..., None])[..., 0]
    return x * sigmoid(total)[:, None]


def cbam_spatial_with(kernel_size: int, bn: bool) -> Comparison:
    return Comparison(filled(CbamSpatialAttention(kernel_size, bn)), cbam_spatial, (noise(*MAP),))


for kernel_size, bn in [(3, False), (7, False), (7, True), (1, False)]:
    words = f"kernel {kernel_size}{', batch norm' * bn}"
    reference("cbam_spatial", f"own oracle: shifted planes, {words}")(partial(cbam_spatial_with, kernel_size, bn))


@reference("cbam_spatial", "timm SpatialAttn, whose planes are the other way round", "timm")
def cbam_spatial_of_timm() -> Comparison:
    from timm.layers.cbam import SpatialAttn

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {"conv.conv.weight": weights["conv.weight"].flip(1)}
        theirs |= {f"conv.bn.{name}": weights[f"norm.{name}"] for name in ("weight", "bias")}
        return weighted(SpatialAttn(7), theirs, x)

    return Comparison(filled(CbamSpatialAttention(7, bn=True)), published, (noise(*MAP),))


@control("cbam_spatial", "mean before maximum")
def cbam_spatial_swapped() -> Comparison:
    return Comparison(filled(CbamSpatialAttention(7)), partial(cbam_spatial, swap=True), (noise(*MAP),))


def energy(weights: Weights, x: Tensor, e_lambda: float = 1e-4, less: int = 1) -> Tensor:
    """The inverse of the paper's minimal energy, 4 (v + lambda) / (d + 2 v + 2 lambda), with torch's own variance."""
    pixels = x.flatten(2)
    v = pixels.var(-1, keepdim=True, correction=less) + e_lambda
    d = (pixels - pixels.mean(-1, keepdim=True)) ** 2
    return x * sigmoid(((d + 2 * v) / (4 * v)).reshape(x.shape))


def simam_with(e_lambda: float, shape: tuple[int, ...]) -> Comparison:
    return Comparison(SimAm(e_lambda), partial(energy, e_lambda=e_lambda), (noise(*shape),))


for e_lambda, shape in [(1e-4, (2, 8, 5, 7)), (0.1, (1, 8, 1, 3))]:
    reference("simam", f"own oracle: inverse energy, lambda {e_lambda:g}")(partial(simam_with, e_lambda, shape))


@reference("simam", "own oracle: a map of one pixel keeps its place at the sigmoid of 1/2")
def simam_of_one_pixel() -> Comparison:
    return Comparison(SimAm(), lambda weights, x: x * sigmoid(torch.full_like(x, 0.5)), (noise(2, 8, 1, 1),))


@reference("simam", "fightingcv SimAM", "fightingcv_attention")
def simam_of_fightingcv() -> Comparison:
    from fightingcv_attention.attention.SimAM import SimAM

    return Comparison(SimAm(), lambda weights, x: weighted(SimAM(), weights, x), (noise(2, 8, 5, 7),))


@control("simam", "the sum divided by N")
def simam_divided_by_all() -> Comparison:
    return Comparison(SimAm(), partial(energy, less=0), (noise(2, 8, 5, 7),))


def large_kernel(weights: Weights, x: Tensor, dilation: int = 3) -> Tensor:
    """Both depthwise convolutions as shifted planes, the last as a dense layer over the channels."""
    near = shifted(x, weights["near.weight"][:, 0]) + weights["near.bias"][:, None, None]
    far = shifted(near, weights["far.weight"][:, 0], dilation) + weights["far.bias"][:, None, None]
    return x * dense(weights, "point", far.movedim(1, -1)).movedim(-1, 1)


def lka_with(kernel_size: int, dilation: int, shape: tuple[int, ...]) -> Comparison:
    module = filled(LargeKernelAttention(shape[1], kernel_size, dilation))
    return Comparison(module, partial(large_kernel, dilation=dilation), (noise(*shape),))


for kernel_size, dilation, shape in [(21, 3, (2, 8, 5, 7)), (21, 3, (1, 8, 12, 10)), (9, 2, (2, 8, 6, 5))]:
    words = f"kernel {kernel_size} by {dilation}, {'x'.join(map(str, shape[2:]))}"
    reference("lka", f"own oracle: shifted planes, {words}")(partial(lka_with, kernel_size, dilation, shape))


@reference("lka", "own oracle: the one large kernel, far from the border")
def lka_as_one_kernel() -> Comparison:
    """Of a point whose surroundings are all on the map: the product of the two kernels, spread, is one of 23x23."""

    def one(weights: Weights, x: Tensor) -> Tensor:
        near, far = weights["near.weight"][:, 0], weights["far.weight"][:, 0]  # (C, 5, 5), (C, 7, 7)
        whole = sum(
            torch.nn.functional.pad(far[:, i, j, None, None] * near, (3 * j, 18 - 3 * j, 3 * i, 18 - 3 * i))
            for i in range(7)
            for j in range(7)
        )
        score = (x * whole).sum((2, 3)) + weights["near.bias"] * far.sum((1, 2)) + weights["far.bias"]
        return x[:, :, 11, 11] * dense(weights, "point", score)

    class Middle(LargeKernelAttention):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :, 11, 11]

    return Comparison(filled(Middle(4)), one, (noise(2, 4, 23, 23),))


@control("lka", "no dilation")
def lka_without_dilation() -> Comparison:
    return Comparison(filled(LargeKernelAttention(8)), partial(large_kernel, dilation=1), (noise(2, 8, 9, 11),))
