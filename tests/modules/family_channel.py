"""The channel family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import torch
from comparisons import Comparison, control, reference, weighted
from gates_written_out import dense, gated, normed, pooled, shifted, two_layers
from module_numerics import Weights, filled, noise
from torch import Tensor, nn

from attnbench.modules.channel import (
    CbamChannelAttention,
    CrossCovarianceAttention,
    EfficientChannelAttention,
    GatherExcite,
    SqueezeExcitation,
)

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "se": [{"reduction": 16}, {"reduction": 5}],
    "cbam_channel": [{"rate": 16}, {"rate": 5, "mlp_bias": True}],
    "eca": [{"kernel_size": 5}, {"gamma": 1}, {"b": 3}],
    "xca": [{"qkv_bias": True}],
    "ge": [
        {"extent": 2},
        {"extent": 3, "use_mlp": True},
        {"use_mlp": True, "reduction": 5},
        {"extent": 2, "extra_params": True},
        {"extent": 4, "extra_params": True, "use_mlp": True},
        {"extent": 8, "extra_params": True},
    ],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # hidden 16: 64*16 + 16*64 on one pixel; batch 2
    ("se", {}, (2, 64, 1, 32, 32), 2 * 2_048),
    ("cbam_channel", {}, (2, 64, 1, 32, 32), 2 * 2 * 2_048),
    # log2(64) = 6, (6 + 1) / 2 = 3.5, rounded down 3, odd: 64 channels of 3 taps
    ("eca", {}, (2, 64, 1, 32, 32), 2 * 192),
    # log2(512) = 9, (9 + 1) / 2 = 5
    ("eca", {}, (1, 512, 1, 7, 7), 2_560),
    # log2(48) = 5.58, 3.29, rounded down 3
    ("eca", {}, (1, 48, 1, 7, 7), 144),
    # log2(16) = 4, 2.5, rounded down 2, even: 3
    ("eca", {}, (1, 16, 1, 7, 7), 48),
    # N = 1024, d = 16: four projections 4*1024*64*64 = 16,777,216; q k^T and A v 4 heads * 16*16*1024 = 1,048,576 each
    ("xca", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576),
    ("ge", {}, (1, 64, 1, 32, 32), 0),
    # 7x9 to 4x5 and to 2x3: (20 + 6) places of 9 taps in 64 channels
    ("ge", {"extent": 4, "extra_params": True}, (1, 64, 1, 7, 9), 14_976),
    # hidden 4: 64*4 + 4*64 = 512 on each of 4x5 gathered places
    ("ge", {"extent": 2, "use_mlp": True}, (1, 64, 1, 7, 9), 20 * 512),
]

MAP = (2, 32, 5, 7)


def squeeze_excitation(weights: Weights, x: Tensor) -> Tensor:
    return gated(x, two_layers(weights, "fc1", "fc2", pooled(x)))


@reference("se", "own oracle: einsum and dense layers")
def se_of_the_paper() -> Comparison:
    return Comparison(filled(SqueezeExcitation(32)), squeeze_excitation, (noise(*MAP),))


@reference("se", "own oracle: einsum and dense layers, reduction 16, batch 1")
def se_reduced() -> Comparison:
    return Comparison(filled(SqueezeExcitation(32, 16)), squeeze_excitation, (noise(1, 32, 3, 3),))


@reference("se", "torchvision SqueezeExcitation", "torchvision")
def se_of_torchvision() -> Comparison:
    from torchvision.ops import SqueezeExcitation as Published

    def published(weights: Weights, x: Tensor) -> Tensor:
        return weighted(Published(32, 8), weights, x)

    return Comparison(filled(SqueezeExcitation(32)), published, (noise(*MAP),))


@reference("se", "timm SEModule", "timm")
def se_of_timm() -> Comparison:
    from timm.layers import SEModule

    def published(weights: Weights, x: Tensor) -> Tensor:
        return weighted(SEModule(32, rd_channels=8), weights, x)

    return Comparison(filled(SqueezeExcitation(32)), published, (noise(*MAP),))


@control("se", "no rectifier between the layers")
def se_without_a_rectifier() -> Comparison:
    def linear(weights: Weights, x: Tensor) -> Tensor:
        return gated(x, dense(weights, "fc2", dense(weights, "fc1", pooled(x))))

    return Comparison(filled(SqueezeExcitation(32)), linear, (noise(*MAP),))


def cbam_channel(weights: Weights, x: Tensor, prefix: str = "", pools: tuple[str, ...] = ("mean", "max")) -> Tensor:
    pixels = x.reshape(x.shape[0], x.shape[1], -1)
    found = {"mean": pixels.sum(2) / pixels.shape[2], "max": pixels.sort(2).values[..., -1]}
    return gated(x, sum(two_layers(weights, f"{prefix}mlp.0", f"{prefix}mlp.2", found[pool]) for pool in pools))


def cbam_channel_with(rate: int, mlp_bias: bool) -> Comparison:
    return Comparison(filled(CbamChannelAttention(32, rate, mlp_bias)), cbam_channel, (noise(*MAP),))


for rate, mlp_bias in [(4, False), (4, True), (16, False)]:
    reference("cbam_channel", f"own oracle: sort and dense layers, rate {rate}{', with bias' * mlp_bias}")(
        partial(cbam_channel_with, rate, mlp_bias)
    )


@reference("cbam_channel", "timm ChannelAttn", "timm")
def cbam_channel_of_timm() -> Comparison:
    from timm.layers.cbam import ChannelAttn

    names = {"mlp.0": "fc1", "mlp.2": "fc2"}

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {name.replace(name[:5], names[name[:5]]): weight for name, weight in weights.items()}
        return weighted(ChannelAttn(32, rd_channels=8, mlp_bias=True), theirs, x)

    return Comparison(filled(CbamChannelAttention(32, mlp_bias=True)), published, (noise(*MAP),))


@control("cbam_channel", "no maximum")
def cbam_channel_without_a_maximum() -> Comparison:
    return Comparison(filled(CbamChannelAttention(32)), partial(cbam_channel, pools=("mean",)), (noise(*MAP),))


def banded(weights: Weights, x: Tensor, flipped: bool = False) -> Tensor:
    """The convolution along the channels as a dense layer with a matrix of bands."""
    (taps,) = weights["conv.weight"][0]
    channels, middle = x.shape[1], len(taps) // 2
    matrix = torch.zeros(channels, channels, dtype=x.dtype)
    for offset, tap in enumerate(taps.flip(0) if flipped else taps):
        near = torch.ones(channels - abs(offset - middle), dtype=x.dtype)
        matrix = matrix + tap * torch.diag(near, offset - middle)
    return gated(x, pooled(x) @ matrix.T)


def eca_with(dim: int, hyper: dict[str, Any], batch: int = 2) -> Comparison:
    return Comparison(filled(EfficientChannelAttention(dim, **hyper)), banded, (noise(batch, dim, 5, 7),))


for dim, hyper in [(32, {}), (256, {}), (6, {}), (20, {"kernel_size": 7})]:
    words = "".join(f", {name} {value}" for name, value in hyper.items())
    reference("eca", f"own oracle: matrix of bands, {dim} channels{words}")(partial(eca_with, dim, hyper))


def eca_of_timm_with(dim: int) -> Comparison:
    from timm.layers import EcaModule

    def published(weights: Weights, x: Tensor) -> Tensor:
        return weighted(EcaModule(dim), weights, x)

    return Comparison(filled(EfficientChannelAttention(dim)), published, (noise(1, dim, 5, 7),))


for dim in (16, 48, 512):
    reference("eca", f"timm EcaModule, {dim} channels", "timm")(partial(eca_of_timm_with, dim))


@control("eca", "the kernel turned round")
def eca_turned_round() -> Comparison:
    inputs = (noise(2, 32, 5, 7),)
    return Comparison(filled(EfficientChannelAttention(32)), partial(banded, flipped=True), inputs)


def covariance(weights: Weights, x: Tensor, normal: bool = True, over_keys: bool = True) -> Tensor:
    """One pair of channels after the other."""
    heads = weights["temperature"].shape[0]
    query, key, value = dense(weights, "qkv", x).chunk(3, dim=-1)  # (B, N, C)
    d = x.shape[-1] // heads
    if normal:
        query, key = (each / each.pow(2).sum(1, keepdim=True).sqrt() for each in (query, key))
    columns = []
    for head in range(heads):
        own = range(head * d, head * d + d)
        scores = torch.stack([(query[:, :, [i]] * key[:, :, list(own)]).sum(1) for i in own], 1)  # (B, d, d)
        tempered = torch.exp(weights["temperature"][head] * scores)
        chances = tempered / tempered.sum(2 if over_keys else 1, keepdim=True)
        columns += [sum(chances[:, i, j, None] * value[:, :, head * d + j] for j in range(d)) for i in range(d)]
    return dense(weights, "out", torch.stack(columns, -1))


def xca_with(heads: int, qkv_bias: bool, shape: tuple[int, int]) -> Comparison:
    module = filled(CrossCovarianceAttention(16, heads, qkv_bias))
    return Comparison(module, covariance, (noise(*shape, 16),))


for heads, qkv_bias, shape in [(4, False, (2, 15)), (2, True, (1, 7))]:
    words = f"{heads} heads{', with bias' * qkv_bias}"
    reference("xca", f"own oracle: pairs of channels, {words}")(partial(xca_with, heads, qkv_bias, shape))


@reference("xca", "timm XCA", "timm")
def xca_of_timm() -> Comparison:
    from timm.models.xcit import XCA

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {name.replace("out.", "proj."): weight for name, weight in weights.items()}
        return weighted(XCA(32, num_heads=4, qkv_bias=True), theirs, x)

    return Comparison(filled(CrossCovarianceAttention(32, 4, qkv_bias=True)), published, (noise(2, 21, 32),))


def wide_xca() -> nn.Module:
    """A temperature at which the scores matter."""
    module = filled(CrossCovarianceAttention(16, 4))
    nn.init.constant_(module.temperature, 3.0)
    return module


@control("xca", "queries and keys not normalised")
def xca_not_normalised() -> Comparison:
    return Comparison(wide_xca(), partial(covariance, normal=False), (noise(2, 15, 16),))


@control("xca", "softmax over the queries' channels")
def xca_over_the_queries() -> Comparison:
    return Comparison(wide_xca(), partial(covariance, over_keys=False), (noise(2, 15, 16),))


def gather_excite(weights: Weights, x: Tensor, extent: int = 0) -> Tensor:
    """One gathered place after the other; each pixel then takes the one at the same share of the way."""
    gathered = _convolved(weights, x, extent) if "gather.0.weight" in weights else _averaged(x, extent)
    if "excite.0.weight" in weights:
        gathered = two_layers(weights, "excite.0", "excite.2", gathered.movedim(1, -1)).movedim(-1, 1)
    height, width = x.shape[2:]
    rows = [i * gathered.shape[2] // height for i in range(height)]
    columns = [j * gathered.shape[3] // width for j in range(width)]
    return x / (1 + torch.exp(-gathered[:, :, rows][:, :, :, columns]))


def _averaged(x: Tensor, extent: int) -> Tensor:
    if not extent:
        return pooled(x)[:, :, None, None]
    reach = extent - 1
    rows = []
    for i in range(0, x.shape[2], extent):
        near = x[:, :, max(i - reach, 0) : i + reach + 1]
        rows.append([near[..., max(j - reach, 0) : j + reach + 1].mean((2, 3)) for j in range(0, x.shape[3], extent)])
    return torch.stack([torch.stack(row, -1) for row in rows], -2)  # (B, C, H / extent, W / extent)


def _convolved(weights: Weights, x: Tensor, extent: int) -> Tensor:
    """Convolutions of stride 1, of which every second pixel is kept."""
    for level in range(extent.bit_length() - 1):
        x = torch.clamp(x, min=0) if level else x
        x = shifted(x, weights[f"gather.{3 * level}.weight"][:, 0])[:, :, ::2, ::2]
        x = normed(weights, f"gather.{3 * level + 1}", x.movedim(1, -1)).movedim(-1, 1)
    return x


def ge_with(hyper: dict[str, Any], size: tuple[int, int, int]) -> Comparison:
    oracle = partial(gather_excite, extent=hyper.get("extent", 0))
    batch, height, width = size
    return Comparison(filled(GatherExcite(16, **hyper)), oracle, (noise(batch, 16, height, width),))


for hyper, size in [
    ({}, (2, 5, 7)),
    ({}, (1, 1, 1)),
    ({"use_mlp": True, "reduction": 4}, (2, 5, 7)),
    ({"extent": 2}, (2, 5, 7)),
    ({"extent": 4, "use_mlp": True}, (1, 9, 6)),
    ({"extent": 2, "extra_params": True}, (2, 5, 7)),
    ({"extent": 8, "extra_params": True}, (3, 9, 14)),
    ({"extent": 4, "extra_params": True, "use_mlp": True}, (2, 8, 8)),
]:
    words = "".join(f", {name} {value}" for name, value in hyper.items()) or ", theta-minus"
    reference("ge", f"own oracle: place by place{words}, {'x'.join(map(str, size[1:]))}")(partial(ge_with, hyper, size))


@control("ge", "the padding counted in the mean")
def ge_with_padding() -> Comparison:
    def padded(weights: Weights, x: Tensor) -> Tensor:
        gathered = nn.functional.avg_pool2d(x, 3, 2, 1)
        return x * nn.functional.interpolate(gathered, size=x.shape[2:]).sigmoid()

    return Comparison(filled(GatherExcite(16, extent=2)), padded, (noise(2, 16, 5, 7),))
