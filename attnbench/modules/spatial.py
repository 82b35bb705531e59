"""Spatial attention: positions are weighed by what lies around them."""

from torch import Tensor, cat, nn

from attnbench.modules.parts.arguments import same_padding
from attnbench.modules.spec import attention

__all__ = ["CbamSpatialAttention", "LargeKernelAttention", "SimAm"]


@attention(
    name="cbam_spatial",
    layout="bchw",
    complexity="N",
    memory="N",
    params="2*kernel_size**2 + (2 if bn else 0)",
    macs="B*2*kernel_size**2*N",
    paper="Woo et al. 2018, CBAM: Convolutional Block Attention Module, arXiv:1807.06521",
)
class CbamSpatialAttention(nn.Module):
    """The spatial half of CBAM: maximum and mean over the channels, one convolution, one weight for each position.

    y = x * sigmoid(BN?(conv_kxk([max_c(x), mean_c(x)]))), without a bias. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `kernel_size`, odd (the paper takes 7); `bn`, a batch norm after the convolution as in the
    authors' code (in train mode it needs more than one value: batch 1 on a 1x1 map fails).
    """

    def __init__(self, kernel_size: int = 3, bn: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=same_padding(kernel_size), bias=False)
        self.norm = nn.BatchNorm2d(1) if bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        planes = cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)  # (B, 2, H, W)
        weight: Tensor = self.norm(self.conv(planes)).sigmoid()  # (B, 1, H, W)
        return x * weight


@attention(
    name="simam",
    layout="bchw",
    complexity="N",
    memory="N",
    params="0",
    macs="0",
    paper="Yang et al. 2021, SimAM: A Simple, Parameter-Free Attention Module, ICML 2021",
)
class SimAm(nn.Module):
    """SimAM: a pixel weighs more the farther it lies from the mean of its channel, without a parameter.

    y = x * sigmoid(d / (4 (v + lambda)) + 1/2), d = (x - mean_hw(x))^2, v = sum_hw(d) / (N - 1).
    (B, C, H, W) -> (B, C, H, W). It does no multiply-accumulates, only work on each element. On a map of one pixel,
    where v is 0 / 0, it is 0.

    Hyper-parameters: `e_lambda` keeps a flat channel from dividing by zero.
    """

    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[2] * x.shape[3]
        squared = (x - x.mean(dim=(2, 3), keepdim=True)).square()  # (B, C, H, W)
        # The mean times N / (N - 1), since the sum over a large map does not fit into fp16.
        variance = squared.mean(dim=(2, 3), keepdim=True) * (tokens / max(tokens - 1, 1))  # (B, C, 1, 1)
        return x * (squared / (4 * (variance + self.e_lambda)) + 0.5).sigmoid()


@attention(
    name="lka",
    aliases=("van",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"near": "2*dilation - 1", "far": "(kernel_size + dilation - 1)//dilation"},
    params="C*(near**2 + far**2 + 2) + C**2 + C",
    macs="B*N*(C*(near**2 + far**2) + C**2)",
    paper="Guo et al. 2022, Visual Attention Network, arXiv:2202.09741",
)
class LargeKernelAttention(nn.Module):
    """Large kernel attention: three small convolutions stand for one of a large kernel, and weigh the map.

    y = x * conv_1x1(dw_far(dw_near(x))), all with bias; dw_near is a depthwise convolution of side 2 dilation - 1,
    dw_far one of side ceil(kernel_size / dilation) with that dilation. (B, C, H, W) -> (B, C, H, W). The weights are
    not squashed by a sigmoid. The paper's block has two 1x1 convolutions around this, which are not part of it here.

    Hyper-parameters: `kernel_size` of the large kernel, `dilation` (21 and 3: a 5x5, then a 7x7 with dilation 3).
    """

    def __init__(self, dim: int, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        near, far = 2 * dilation - 1, -(-kernel_size // dilation)
        border = dilation * same_padding(far, "kernel_size / dilation")
        self.near = nn.Conv2d(dim, dim, near, padding=dilation - 1, groups=dim)
        self.far = nn.Conv2d(dim, dim, far, padding=border, groups=dim, dilation=dilation)
        self.point = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.point(self.far(self.near(x)))  # (B, C, H, W)
        return x * weight
