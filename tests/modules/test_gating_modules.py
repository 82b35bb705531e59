"""What channel and spatial gates refuse, in one sentence each."""

from typing import Any

import pytest
import torch
from torch import nn

from attnbench.modules.channel import (
    CbamChannelAttention,
    CrossCovarianceAttention,
    EfficientChannelAttention,
    GatherExcite,
    SqueezeExcitation,
)
from attnbench.modules.dual import (
    BottleneckAttention,
    Cbam,
    CoordinateAttention,
    GlobalContext,
    SelectiveKernel,
    TripletAttention,
)
from attnbench.modules.spatial import CbamSpatialAttention, LargeKernelAttention, SimAm


@pytest.mark.parametrize("module", [SqueezeExcitation, CbamChannelAttention, Cbam, GlobalContext, BottleneckAttention])
def test_a_map_with_fewer_channels_than_the_reduction_is_refused(module: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"dim=3 is smaller than (reduction|rate)=(4|16)"):
        module(3)


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        (CbamSpatialAttention, {"kernel_size": 4}, "kernel_size=4 is even"),
        (TripletAttention, {"kernel_size": 4}, "kernel_size=4 is even"),
        (EfficientChannelAttention, {"dim": 64, "kernel_size": 4}, "kernel_size=4 is even"),
        (SelectiveKernel, {"dim": 64, "kernel_size": 2}, "kernel_size=2 is even"),
        (LargeKernelAttention, {"dim": 64, "kernel_size": 24, "dilation": 3}, "kernel_size / dilation=8 is even"),
        (SelectiveKernel, {"dim": 60, "groups": 32}, "dim=60 is not divisible by groups=32"),
        (CrossCovarianceAttention, {"dim": 60, "heads": 8}, "dim=60 is not divisible by the number of heads, 8"),
        (GatherExcite, {"dim": 64, "extra_params": True}, "extent=0 has no convolutions"),
        (GatherExcite, {"dim": 64, "extra_params": True, "extent": 3}, "with extra_params it is 2, 4 or 8"),
        (GatherExcite, {"dim": 8, "use_mlp": True}, "dim=8 is smaller than reduction=16"),
        (BottleneckAttention, {"dim": 64, "combine": "mean"}, "combine='mean' is unknown: it is 'product' or 'sum'"),
    ],
)
def test_what_does_not_fit_is_refused(module: type[nn.Module], arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        module(**arguments)


@pytest.mark.parametrize("module", [BottleneckAttention(64), SelectiveKernel(64), TripletAttention()])
def test_one_value_for_a_batch_norm_fails_in_train_mode_only(module: nn.Module) -> None:
    x = torch.ones(1, 64, 1, 1)
    assert module.eval()(x).isfinite().all()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        module.train()(x)


@pytest.mark.parametrize("module", [SimAm(), CoordinateAttention(64), GatherExcite(64, 8, extra_params=True).eval()])
def test_a_map_of_one_pixel_is_finite(module: nn.Module) -> None:
    assert module(torch.ones(1, 64, 1, 1)).isfinite().all()


def test_a_large_map_in_half_precision_does_not_overflow() -> None:
    """128 x 128 squares of about 9 sum to more than fp16 holds: then every weight would be that of the mean."""
    x = 3 * torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SimAm()(x.half()).float(), SimAm()(x), rtol=1e-2, atol=1e-2)
