"""The dual family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import pytest
import torch
from comparisons import Comparison, control, reference, weighted
from family_channel import cbam_channel
from family_spatial import cbam_spatial
from gates_written_out import dense, normed, pooled, shifted, sigmoid
from module_numerics import Weights, filled, noise
from torch import Tensor, nn

from attnbench.modules.dual import (
    BottleneckAttention,
    Cbam,
    CoordinateAttention,
    GlobalContext,
    SelectiveKernel,
    TripletAttention,
)

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "cbam": [{"rate": 16, "kernel_size": 7}, {"mlp_bias": True, "bn": True}],
    "gc": [{"reduction": 5}],
    "coord": [{"reduction": 4}],
    "bam": [{"reduction": 5, "dilation": 2}, {"combine": "sum"}],
    "triplet": [{"kernel_size": 3}, {"no_spatial": True}],
    "sk": [
        {"branches": 2, "kernel_size": 3, "bn": True},
        {"groups": 2, "min_hidden": 8, "reduction": 3},
        {"branches": 3},
    ],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    ("cbam", {}, (1, 64, 1, 32, 32), 4_096 + 18_432),
    # scores 1024*64, the pooled sum 1024*64, hidden 4: 64*4 + 4*64
    ("gc", {}, (1, 64, 1, 32, 32), 2 * 65_536 + 512),
    # hidden max(8, 2): 64*8 for 32 + 48 sides, and as much back
    ("coord", {}, (1, 64, 1, 32, 48), 2 * 80 * 512),
    # hidden 4: 2*64*4 on one pixel; 64*4, twice 9*4*4, 4 on each of 1024
    ("bam", {}, (2, 64, 1, 32, 32), 2 * (512 + 1024 * (256 + 288 + 4))),
    # 98 taps on planes of 5x7, 64x7 and 5x64
    ("triplet", {}, (1, 64, 1, 5, 7), 98 * (35 + 448 + 320)),
    # 1 + 9 + 25 + 49 = 84 taps of 64*64 on 1024; hidden 32: once in, four times out
    ("sk", {}, (1, 64, 1, 32, 32), 1024 * 84 * 4_096 + 5 * 2_048),
    # the paper's 3x3 and 5x5, 34 taps of 64*2 on 16
    ("sk", {"branches": 2, "kernel_size": 3, "groups": 32}, (1, 64, 1, 4, 4), 16 * 34 * 128 + 3 * 2_048),
]

MAP = (2, 32, 5, 7)


def cbam(weights: Weights, x: Tensor) -> Tensor:
    return cbam_spatial(weights, cbam_channel(weights, x, "channel."), "spatial.")


def cbam_with(hyper: dict[str, Any]) -> Comparison:
    return Comparison(filled(Cbam(32, **hyper)), cbam, (noise(*MAP),))


reference("cbam", "own oracle: channel, then spatial")(partial(cbam_with, {}))
reference("cbam", "own oracle: channel, then spatial, all options")(
    partial(cbam_with, {"rate": 8, "kernel_size": 7, "mlp_bias": True, "bn": True})
)


@reference("cbam", "timm CbamModule, whose planes are the other way round", "timm")
def cbam_of_timm() -> Comparison:
    from timm.layers.cbam import CbamModule

    names = {"channel.mlp.0.weight": "channel.fc1.weight", "channel.mlp.2.weight": "channel.fc2.weight",
             "spatial.norm.weight": "spatial.conv.bn.weight", "spatial.norm.bias": "spatial.conv.bn.bias"}  # fmt: skip

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {names[name]: weight for name, weight in weights.items() if name in names}
        theirs["spatial.conv.conv.weight"] = weights["spatial.conv.weight"].flip(1)
        return weighted(CbamModule(32, rd_channels=8), theirs, x)

    return Comparison(filled(Cbam(32, kernel_size=7, bn=True)), published, (noise(*MAP),))


@control("cbam", "spatial before channel")
def cbam_the_other_way_round() -> Comparison:
    def other(weights: Weights, x: Tensor) -> Tensor:
        return cbam_channel(weights, cbam_spatial(weights, x, "spatial."), "channel.")

    return Comparison(filled(Cbam(32)), other, (noise(*MAP),))


def global_context(weights: Weights, x: Tensor, mean: bool = False) -> Tensor:
    """Position by position, with a running sum of the exponentials."""
    total, context = torch.tensor(0.0), torch.zeros(())
    for pixel in x.flatten(2).unbind(-1):  # each (B, C)
        chance = torch.exp(0 * pixel[:, :1] if mean else dense(weights, "score", pixel))  # (B, 1)
        total, context = total + chance, context + chance * pixel
    hidden = dense(weights, "fc1", context / total)
    centred = hidden - hidden.mean(1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-5)
    active = torch.clamp(scaled * weights["norm.weight"] + weights["norm.bias"], min=0)
    return x + dense(weights, "fc2", active)[:, :, None, None]


def gc_with(reduction: int, shape: tuple[int, ...]) -> Comparison:
    return Comparison(filled(GlobalContext(32, reduction)), global_context, (noise(*shape),))


for reduction, shape in [(4, (2, 32, 5, 7)), (16, (1, 32, 1, 6))]:
    reference("gc", f"own oracle: running sum, reduction {reduction}")(partial(gc_with, reduction, shape))


@reference("gc", "timm GlobalContext", "timm")
def gc_of_timm() -> Comparison:
    from timm.layers import GlobalContext as Published

    def published(weights: Weights, x: Tensor) -> Tensor:
        module = Published(32, fuse_add=True, fuse_scale=False, rd_channels=8)
        module.mlp_add.norm.eps = 1e-5  # the paper's code leaves torch's own
        theirs = {name.replace("score", "conv_attn"): weight for name, weight in weights.items() if "score" in name}
        theirs |= {f"mlp_add.{name}": weight for name, weight in weights.items() if "score" not in name}
        maps = {name: weight[:, :, None, None] for name, weight in theirs.items() if "fc" in name and weight.dim() == 2}
        return weighted(module, theirs | maps, x)

    return Comparison(filled(GlobalContext(32, 4)), published, (noise(*MAP),))


@reference("gc", "mmcv ContextBlock", "mmcv", "cv2")
def gc_of_mmcv() -> Comparison:
    from mmcv.cnn import ContextBlock

    names = {
        "score": "conv_mask",
        "fc1": "channel_add_conv.0",
        "norm": "channel_add_conv.1",
        "fc2": "channel_add_conv.3",
    }

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {}
        for name, weight in weights.items():
            layer, kind = name.split(".")
            mapped = weight[..., None, None] if layer == "norm" or name in ("fc1.weight", "fc2.weight") else weight
            theirs[f"{names[layer]}.{kind}"] = mapped
        return weighted(ContextBlock(32, ratio=1 / 4), theirs, x)

    return Comparison(filled(GlobalContext(32, 4)), published, (noise(*MAP),))


@control("gc", "a mean in place of the attention")
def gc_with_a_mean() -> Comparison:
    return Comparison(filled(GlobalContext(32, 4)), partial(global_context, mean=True), (noise(*MAP),))


def coordinate(weights: Weights, x: Tensor, apart: bool = False) -> Tensor:
    """Rows and columns as lists of vectors; `apart` normalises each for itself."""
    rows, columns = x.sum(3).mT / x.shape[3], x.sum(2).mT / x.shape[2]  # (B, H, C), (B, W, C)
    reduced = [dense(weights, "reduce", sides) for sides in (rows, columns)]
    if apart:
        rows, columns = (normed(weights, "norm", each) for each in reduced)
    else:
        rows, columns = normed(weights, "norm", torch.cat(reduced, 1)).split([x.shape[2], x.shape[3]], dim=1)
    rows, columns = (side * torch.clamp(side + 3, 0, 6) / 6 for side in (rows, columns))
    row, column = sigmoid(dense(weights, "rows", rows)), sigmoid(dense(weights, "columns", columns))
    return torch.einsum("bchw,bhc,bwc->bchw", x, row, column)


def coord_with(reduction: int, shape: tuple[int, ...]) -> Comparison:
    return Comparison(filled(CoordinateAttention(shape[1], reduction)), coordinate, (noise(*shape),))


for reduction, shape in [(32, (2, 32, 5, 7)), (4, (1, 64, 6, 1))]:
    reference("coord", f"own oracle: lists of sides, reduction {reduction}")(partial(coord_with, reduction, shape))

SIDES = {"reduce": "conv1", "norm": "bn1", "rows": "conv_h", "columns": "conv_w"}


def sides_of(weights: Weights) -> dict[str, Tensor]:
    """Our names as those of the published modules, convolutions over a line as those over a map."""
    named = [(name.split("."), weight) for name, weight in weights.items()]
    return {f"{SIDES[layer]}.{kind}": w[..., None] if w.dim() == 3 else w for (layer, kind), w in named}


@reference("coord", "fightingcv CoordAtt", "fightingcv_attention")
def coord_of_fightingcv() -> Comparison:
    from fightingcv_attention.attention.CoordAttention import CoordAtt

    def published(weights: Weights, x: Tensor) -> Tensor:
        return weighted(CoordAtt(32, 32), sides_of(weights), x)

    return Comparison(filled(CoordinateAttention(32)), published, (noise(*MAP),))


@reference("coord", "timm CoordAttn with biases", "timm")
def coord_of_timm() -> Comparison:
    CoordAttn = pytest.importorskip("timm.layers.coord_attn").CoordAttn  # timm has it since 2025

    def published(weights: Weights, x: Tensor) -> Tensor:
        return weighted(CoordAttn(32, rd_channels=8, bias=True), sides_of(weights), x)

    return Comparison(filled(CoordinateAttention(32)), published, (noise(*MAP),))


@control("coord", "rows and columns normalised apart")
def coord_apart() -> Comparison:
    return Comparison(filled(CoordinateAttention(32)), partial(coordinate, apart=True), (noise(*MAP),))


def bottleneck(weights: Weights, x: Tensor, dilation: int = 4, product: bool = True) -> Tensor:
    """Pixels as rows of a table for the 1x1 convolutions, shifted planes for the dilated ones."""
    channel = torch.clamp(normed(weights, "channel.1", dense(weights, "channel.0", pooled(x))), min=0)
    channel = dense(weights, "channel.3", channel)[:, :, None, None]
    y = _rectified(weights, "spatial.1", dense(weights, "spatial.0", x.movedim(1, -1)))
    for place in (3, 6):
        taps = weights[f"spatial.{place}.weight"]
        spread = shifted(y.movedim(-1, 1).unsqueeze(1), taps, dilation).sum(2)  # (B, out, in, H, W) over in
        y = spread.movedim(1, -1) + weights[f"spatial.{place}.bias"]
        y = _rectified(weights, f"spatial.{place + 1}", y)
    spatial = dense(weights, "spatial.9", y).movedim(-1, 1)
    return x + x * sigmoid(channel * spatial if product else channel + spatial)


def _rectified(weights: Weights, name: str, pixels: Tensor) -> Tensor:
    return torch.clamp(normed(weights, name, pixels), min=0)


def bam_with(combine: str, dilation: int, shape: tuple[int, ...]) -> Comparison:
    module = filled(BottleneckAttention(shape[1], 4, dilation, combine))
    return Comparison(module, partial(bottleneck, dilation=dilation, product=combine == "product"), (noise(*shape),))


for combine, dilation, shape in [
    ("product", 4, (3, 16, 5, 7)),
    ("sum", 4, (4, 16, 9, 6)),
    ("product", 1, (3, 16, 3, 3)),
]:
    words = f"{combine}, dilation {dilation}"
    reference("bam", f"own oracle: table and shifted planes, {words}")(partial(bam_with, combine, dilation, shape))


@control("bam", "sum in place of product")
def bam_of_the_sum() -> Comparison:
    return Comparison(filled(BottleneckAttention(16, 4)), partial(bottleneck, product=False), (noise(3, 16, 5, 7),))


@control("bam", "dilation 2 in place of 4")
def bam_less_dilated() -> Comparison:
    return Comparison(filled(BottleneckAttention(16, 4)), partial(bottleneck, dilation=2), (noise(3, 16, 9, 9),))


def triplet(weights: Weights, x: Tensor, gates: tuple[str, ...] = ("columns", "rows", "plane")) -> Tensor:
    """The gate over (C, W) sees the map with rows for channels, the one over (H, C) with columns for channels."""
    turns = {"columns": "bchw->bhcw", "rows": "bchw->bwhc", "plane": "bchw->bchw"}
    seen = [name for name in gates if f"{name}.conv.weight" in weights]
    parts = []
    for name in seen:
        there, back = turns[name], "->".join(reversed(turns[name].split("->")))
        parts.append(torch.einsum(back, cbam_spatial(weights, torch.einsum(there, x), f"{name}.")))
    return sum(parts) / len(parts)


def triplet_with(kernel_size: int, no_spatial: bool, shape: tuple[int, ...]) -> Comparison:
    return Comparison(filled(TripletAttention(kernel_size, no_spatial)), triplet, (noise(*shape),))


for kernel_size, no_spatial, shape in [(7, False, (2, 16, 5, 7)), (3, True, (1, 8, 3, 4))]:
    words = f"kernel {kernel_size}{', two gates' * no_spatial}"
    reference("triplet", f"own oracle: turned maps, {words}")(partial(triplet_with, kernel_size, no_spatial, shape))


def triplet_of_fightingcv_with(no_spatial: bool) -> Comparison:
    from fightingcv_attention.attention.TripletAttention import TripletAttention as Published

    names = {"columns": "cw", "rows": "hc", "plane": "hw", "conv": "conv.conv", "norm": "conv.bn"}

    def published(weights: Weights, x: Tensor) -> Tensor:
        named = [(name.split("."), weight) for name, weight in weights.items()]
        theirs = {f"{names[gate]}.{names[layer]}.{kind}": weight for (gate, layer, kind), weight in named}
        return weighted(Published(no_spatial), theirs, x)

    return Comparison(filled(TripletAttention(no_spatial=no_spatial)), published, (noise(2, 16, 5, 7),))


for no_spatial in (False, True):
    words = f"fightingcv TripletAttention{', no_spatial' * no_spatial}"
    reference("triplet", words, "fightingcv_attention")(partial(triplet_of_fightingcv_with, no_spatial))


@control("triplet", "the gates over rows and columns exchanged")
def triplet_exchanged() -> Comparison:
    exchanged = {"columns": "rows", "rows": "columns", "plane": "plane"}

    def other(weights: Weights, x: Tensor) -> Tensor:
        named = [(name.split(".", 1), weight) for name, weight in weights.items()]
        return triplet({f"{exchanged[gate]}.{rest}": weight for (gate, rest), weight in named}, x)

    return Comparison(filled(TripletAttention()), other, (noise(2, 16, 5, 7),))


def selective(weights: Weights, x: Tensor, over_branches: bool = True) -> Tensor:
    """Each convolution as shifted planes summed over the channels of its group."""
    maps = []
    while f"branches.{len(maps)}.0.weight" in weights:
        name = f"branches.{len(maps)}"
        spread = _grouped(x, weights[f"{name}.0.weight"]) + weights[f"{name}.0.bias"][:, None, None]
        maps.append(_rectified(weights, f"{name}.1", spread.movedim(1, -1)).movedim(-1, 1))
    squeezed = dense(weights, "squeeze.0", pooled(torch.stack(maps).sum(0)))
    if "squeeze.1.weight" in weights:
        squeezed = _rectified(weights, "squeeze.1", squeezed)
    scores = torch.exp(torch.stack([dense(weights, f"choose.{m}", squeezed) for m in range(len(maps))]))
    chances = scores / scores.sum(0 if over_branches else 2, keepdim=True)  # (branches, B, C)
    return torch.einsum("mbc,mbchw->bchw", chances, torch.stack(maps))


def _grouped(x: Tensor, taps: Tensor) -> Tensor:
    """(B, C, H, W) with a kernel (C, C / groups, k, k): the channels of one group after the other."""
    members = taps.shape[1]
    groups = x.shape[1] // members
    parts = []
    for own, kernel in zip(x.chunk(groups, 1), taps.chunk(groups), strict=True):
        parts.append(shifted(own.unsqueeze(1), kernel).sum(2))  # (B, out, in, H, W) over in
    return torch.cat(parts, 1)


def sk_with(hyper: dict[str, Any], shape: tuple[int, ...]) -> Comparison:
    return Comparison(filled(SelectiveKernel(shape[1], min_hidden=8, **hyper)), selective, (noise(*shape),))


for hyper, shape in [
    ({}, (2, 8, 5, 7)),
    ({"branches": 2, "kernel_size": 3, "groups": 4, "bn": True}, (3, 8, 6, 5)),
    ({"branches": 3}, (1, 8, 2, 3)),
]:
    words = "".join(f", {name} {value}" for name, value in hyper.items())
    reference("sk", f"own oracle: shifted planes{words}")(partial(sk_with, hyper, shape))


def sk_of_fightingcv_with(groups: int) -> Comparison:
    from fightingcv_attention.attention.SKAttention import SKAttention

    names = {"0": "conv", "1": "bn"}

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = {}
        for name, weight in weights.items():
            first, place, *rest = name.split(".")
            if first == "branches":
                theirs[f"convs.{place}.{names[rest[0]]}.{rest[1]}"] = weight
            else:
                theirs[f"fcs.{place}.{rest[0]}" if first == "choose" else f"fc.{rest[0]}"] = weight
        return weighted(SKAttention(16, group=groups, L=8), theirs, x)

    return Comparison(filled(SelectiveKernel(16, groups=groups, min_hidden=8)), published, (noise(2, 16, 5, 7),))


for groups in (1, 4):
    reference("sk", f"fightingcv SKAttention, groups {groups}", "fightingcv_attention")(
        partial(sk_of_fightingcv_with, groups)
    )


@control("sk", "softmax over the channels")
def sk_over_the_channels() -> Comparison:
    module = filled(SelectiveKernel(8, min_hidden=8))
    return Comparison(module, partial(selective, over_branches=False), (noise(2, 8, 5, 7),))


@control("sk", "the branches simply added")
def sk_added() -> Comparison:
    def added(weights: Weights, x: Tensor) -> Tensor:
        chosen = {name: 0 * weight if "choose" in name else weight for name, weight in weights.items()}
        return 4 * selective(chosen, x)

    module: nn.Module = filled(SelectiveKernel(8, min_hidden=8))
    return Comparison(module, added, (noise(2, 8, 5, 7),))
