"""Channel attention: the map is pooled to one vector, and a small network weighs the channels."""

from torch import Tensor, nn

from attnbench.modules._widths import reduced
from attnbench.modules.spec import attention

__all__ = ["CbamChannelAttention", "SqueezeExcitation"]


@attention(
    name="se",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "C // reduction"},
    params="2*C*hidden + hidden + C",
    macs="B*2*C*hidden",
    paper="Hu et al. 2017, Squeeze-and-Excitation Networks, arXiv:1709.01507",
)
class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: the mean of each channel, through two small layers, becomes the channel's weight.

    y = x * sigmoid(W_2 relu(W_1 mean_hw(x))), both layers with bias. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `reduction` of the hidden layer (the paper takes 16); a `dim` below it is a ValueError.
    """

    def __init__(self, dim: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = reduced(dim, reduction, "reduction")
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        weight: Tensor = self.fc2(self.fc1(pooled).relu()).sigmoid()  # (B, C, 1, 1)
        return x * weight


@attention(
    name="cbam_channel",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "C // rate"},
    params="2*C*hidden + (hidden + C if mlp_bias else 0)",
    macs="B*4*C*hidden",
    paper="Woo et al. 2018, CBAM: Convolutional Block Attention Module, arXiv:1807.06521",
)
class CbamChannelAttention(nn.Module):
    """The channel half of CBAM: mean and maximum of each channel go through one shared network and are added.

    y = x * sigmoid(MLP(mean_hw(x)) + MLP(max_hw(x))), MLP = W_2 relu(W_1 .). (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `rate` of reduction in the hidden layer (the paper takes 16; a `dim` below it is a ValueError);
    `mlp_bias` for both layers (the authors' code has it, the paper's formula and timm do not).
    """

    def __init__(self, dim: int, rate: int = 4, mlp_bias: bool = False) -> None:
        super().__init__()
        hidden = reduced(dim, rate, "rate")
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=mlp_bias), nn.ReLU(), nn.Conv2d(hidden, dim, 1, bias=mlp_bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        maximum = x.amax(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        weight: Tensor = (self.mlp(mean) + self.mlp(maximum)).sigmoid()  # (B, C, 1, 1)
        return x * weight
