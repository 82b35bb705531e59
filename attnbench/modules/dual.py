"""Dual attention: modules that weigh channels and positions, one after the other."""

from torch import Tensor, nn

from attnbench.modules.channel import CbamChannelAttention
from attnbench.modules.spatial import CbamSpatialAttention
from attnbench.modules.spec import attention

__all__ = ["Cbam"]


@attention(
    name="cbam",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "C // rate"},
    params="2*C*hidden + (hidden + C if mlp_bias else 0) + 2*kernel_size**2 + (2 if bn else 0)",
    macs="B*(4*C*hidden + 2*kernel_size**2*N)",
    paper="Woo et al. 2018, CBAM: Convolutional Block Attention Module, arXiv:1807.06521",
)
class Cbam(nn.Module):
    """CBAM: channel attention, then spatial attention on its result.

    y = spatial(channel(x)), see `cbam_channel` and `cbam_spatial`. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: those of the halves: `rate`, `mlp_bias`; `kernel_size`, `bn` (the paper: rate 16, kernel 7).
    """

    def __init__(self, dim: int, rate: int = 4, kernel_size: int = 3, mlp_bias: bool = False, bn: bool = False) -> None:
        super().__init__()
        self.channel = CbamChannelAttention(dim, rate, mlp_bias)
        self.spatial = CbamSpatialAttention(kernel_size, bn)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.spatial(self.channel(x))
        return y
