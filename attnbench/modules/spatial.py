"""Spatial attention: the channels are pooled to a few planes, and a convolution weighs the positions."""

from torch import Tensor, cat, nn

from attnbench.modules.spec import attention

__all__ = ["CbamSpatialAttention"]


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
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} is even: only an odd kernel keeps the map's size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1) if bn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        planes = cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)  # (B, 2, H, W)
        weight: Tensor = self.norm(self.conv(planes)).sigmoid()  # (B, 1, H, W)
        return x * weight
