"""Channel and spatial gates against plain float64 forms of their formulas, and SE against torchvision."""

from functools import partial

import pytest
import torch
from module_numerics import Weights, assert_agrees, errors, filled, noise
from torch import Tensor, nn

from attnbench.modules.channel import CbamChannelAttention, SqueezeExcitation
from attnbench.modules.dual import Cbam
from attnbench.modules.spatial import CbamSpatialAttention

MAP = (2, 32, 5, 7)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def dense(weights: Weights, name: str, vectors: Tensor) -> Tensor:
    bias = weights.get(f"{name}.bias", torch.tensor(0.0))
    return vectors @ weights[f"{name}.weight"].flatten(1).T + bias  # (B, C) -> (B, C')


def two_layers(weights: Weights, first: str, second: str, vectors: Tensor) -> Tensor:
    return dense(weights, second, torch.clamp(dense(weights, first, vectors), min=0))


def squeeze_excitation(weights: Weights, x: Tensor) -> Tensor:
    pooled = torch.einsum("bchw->bc", x) / (x.shape[2] * x.shape[3])
    return torch.einsum("bchw,bc->bchw", x, sigmoid(two_layers(weights, "fc1", "fc2", pooled)))


@pytest.mark.parametrize("reduction", [4, 16])
def test_se_agrees_with_its_formula(reduction: int) -> None:
    assert_agrees(filled(SqueezeExcitation(32, reduction)), squeeze_excitation, noise(*MAP))


def test_se_agrees_with_torchvision() -> None:
    ops = pytest.importorskip("torchvision.ops")

    def published(weights: Weights, x: Tensor) -> Tensor:
        reference: nn.Module = ops.SqueezeExcitation(32, 8).double()
        reference.load_state_dict(dict(weights), strict=True)
        y: Tensor = reference(x)
        return y

    assert_agrees(filled(SqueezeExcitation(32)), published, noise(*MAP))


def cbam_channel(weights: Weights, x: Tensor, prefix: str = "", pools: tuple[str, ...] = ("mean", "max")) -> Tensor:
    pixels = x.reshape(x.shape[0], x.shape[1], -1)
    pooled = {"mean": pixels.sum(2) / pixels.shape[2], "max": pixels.sort(2).values[..., -1]}
    total = sum(two_layers(weights, f"{prefix}mlp.0", f"{prefix}mlp.2", pooled[pool]) for pool in pools)
    return x * sigmoid(torch.as_tensor(total))[:, :, None, None]


def cbam_spatial(weights: Weights, x: Tensor, prefix: str = "", swap: bool = False) -> Tensor:
    """The convolution as a sum of shifted planes."""
    kernel = weights[f"{prefix}conv.weight"][0]
    side, height, width = kernel.shape[-1], x.shape[2], x.shape[3]
    planes = [x.sort(1).values[:, -1], x.sum(1) / x.shape[1]]  # maximum, then mean
    padded = [nn.functional.pad(plane, (side // 2,) * 4) for plane in (reversed(planes) if swap else planes)]
    total = torch.zeros_like(x[:, 0])
    for plane, taps in zip(padded, kernel, strict=True):
        for i in range(side):
            for j in range(side):
                total = total + taps[i, j] * plane[:, i : i + height, j : j + width]
    if f"{prefix}norm.weight" in weights:
        centred = total - total.mean()
        total = centred / torch.sqrt((centred**2).mean() + 1e-5)
        total = total * weights[f"{prefix}norm.weight"] + weights[f"{prefix}norm.bias"]
    return x * sigmoid(total)[:, None]


def cbam(weights: Weights, x: Tensor) -> Tensor:
    return cbam_spatial(weights, cbam_channel(weights, x, "channel."), "spatial.")


@pytest.mark.parametrize(("rate", "mlp_bias"), [(4, False), (4, True), (16, False)])
def test_cbam_channel_agrees_with_its_formula(rate: int, mlp_bias: bool) -> None:
    assert_agrees(filled(CbamChannelAttention(32, rate, mlp_bias)), cbam_channel, noise(*MAP))


@pytest.mark.parametrize(("kernel_size", "bn"), [(3, False), (7, False), (7, True), (1, False)])
def test_cbam_spatial_agrees_with_its_formula(kernel_size: int, bn: bool) -> None:
    assert_agrees(filled(CbamSpatialAttention(kernel_size, bn)), cbam_spatial, noise(*MAP))


@pytest.mark.parametrize("module", [Cbam(32), Cbam(32, rate=8, kernel_size=7, mlp_bias=True, bn=True)], ids=["", "all"])
def test_cbam_is_channel_then_spatial(module: Cbam) -> None:
    assert_agrees(filled(module), cbam, noise(*MAP))


def test_the_comparisons_catch_the_wrong_pooling_order_and_gate() -> None:
    spatial, channel = filled(CbamSpatialAttention(7)), filled(CbamChannelAttention(32))
    controls = {
        "mean before maximum": errors(spatial, partial(cbam_spatial, swap=True), noise(*MAP)),
        "no maximum": errors(channel, partial(cbam_channel, pools=("mean",)), noise(*MAP)),
        "spatial before channel": errors(
            filled(Cbam(32)),
            lambda weights, x: cbam_channel(weights, cbam_spatial(weights, x, "spatial."), "channel."),
            noise(*MAP),
        ),
    }
    assert {name: found for name, found in controls.items() if max(found) < 1e-3} == {}


@pytest.mark.parametrize("module", [SqueezeExcitation, CbamChannelAttention, Cbam])
def test_a_map_with_fewer_channels_than_the_reduction_is_refused(module: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"dim=3 is smaller than (reduction|rate)=4"):
        module(3)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size=4 is even"):
        CbamSpatialAttention(4)
