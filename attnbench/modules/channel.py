"""Channel attention: channels are weighed by what they hold over the map, or attend to each other."""

import torch.nn.functional as F
from torch import Tensor, nn, ones

from attnbench.modules.parts.arguments import head_dim, reduced, same_padding
from attnbench.modules.spec import attention

__all__ = [
    "CbamChannelAttention",
    "CrossCovarianceAttention",
    "EfficientChannelAttention",
    "GatherExcite",
    "SqueezeExcitation",
]


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


@attention(
    name="eca",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"k": "kernel_size or 2*((bit_length(C) - 1 + b)//(2*gamma)) + 1"},
    params="k",
    macs="B*C*k",
    may_be_zero=("b",),
    paper="Wang et al. 2019, ECA-Net: Efficient Channel Attention for Deep CNNs, arXiv:1910.03151",
)
class EfficientChannelAttention(nn.Module):
    """Efficient channel attention: each channel is weighed by its own mean and those of its neighbours.

    y = x * sigmoid(conv1d_k(mean_hw(x))), one kernel of k weights along the channels, no bias;
    k = t if odd, else t + 1, with t = floor((log2(dim) + b) / gamma). (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `kernel_size`, odd, in place of k; `gamma`, `b`. The paper calls k the nearest odd number to
    t, and its authors' code rounds as above; timm never goes below 3, which this does for fewer than 8 channels.
    """

    def __init__(self, dim: int, kernel_size: int | None = None, gamma: int = 2, b: int = 1) -> None:
        super().__init__()
        # floor((log2(dim) + b) / gamma) in integers, and if that is even, one more
        kernel_size = kernel_size or 2 * ((dim.bit_length() - 1 + b) // (2 * gamma)) + 1
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=same_padding(kernel_size), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3)).unsqueeze(1)  # (B, 1, C)
        weight: Tensor = self.conv(pooled).sigmoid()  # (B, 1, C)
        return x * weight.transpose(1, 2).unsqueeze(-1)


@attention(
    name="xca",
    aliases=("cross_covariance",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"d": "C // heads"},
    params="4*C**2 + (3*C if qkv_bias else 0) + C + heads",
    macs="B*(4*N*C**2 + 2*N*C*d)",
    paper="El-Nouby et al. 2021, XCiT: Cross-Covariance Image Transformers, arXiv:2106.09681",
)
class CrossCovarianceAttention(nn.Module):
    """Cross-covariance attention: the channels of a head attend to each other, over all tokens.

    (q, k, v) = split(W_qkv x), each (d, N) for a head, d = dim / heads; the rows of q and k have length 1,
    A = softmax(tau q k^T) is (d, d), y = W_o concat_h(A v). (B, N, C) -> (B, N, C); tau is a parameter of each head.

    Hyper-parameters: `qkv_bias` (the authors' networks set it, their module does not).
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.temperature = nn.Parameter(ones(heads, 1, 1))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3C) -> (B, N, 3, heads, d) -> (3, B, heads, d, N)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 4, 1)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        weights = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)  # (B, heads, d, d)
        attended = weights @ value  # (B, heads, d, N)
        y: Tensor = self.out(attended.flatten(1, 2).transpose(1, 2))  # (B, N, C)
        return y


@attention(
    name="ge",
    aliases=("gather_excite",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={
        "hidden": "C // reduction",
        "levels": "bit_length(extent) - 1 if extra_params else 0",
        "places": "(H + extent - 1)//extent * ((W + extent - 1)//extent) if extent else 1",
        "n2": "(H + 1)//2 * ((W + 1)//2)",
        "n4": "(H + 3)//4 * ((W + 3)//4) if extent // 4 else 0",
        "n8": "(H + 7)//8 * ((W + 7)//8) if extent // 8 else 0",
    },
    params="levels*11*C + (2*C*hidden + hidden + C if use_mlp else 0)",
    macs="B*C*((9*(n2 + n4 + n8) if extra_params else 0) + (2*hidden*places if use_mlp else 0))",
    paper="Hu et al. 2018, Gather-Excite: Exploiting Feature Context in CNNs, arXiv:1810.12348",
)
class GatherExcite(nn.Module):
    """Gather-excite: each channel is weighed by what it holds nearby, or on the whole map.

    y = x * sigmoid(nearest(E(G(x)))). G gathers: the mean over the map (`extent` 0), or over the 2 e - 1 square around
    every e-th pixel; with `extra_params` by log2(e) depthwise 3x3 convolutions of stride 2, each with a batch norm,
    rectified between. E is the identity, or with `use_mlp` two 1x1 convolutions. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `extent` e; `extra_params`, `use_mlp`, `reduction` of its hidden layer. The defaults are the
    paper's GE-theta-minus, global and without a parameter; `extra_params` gives GE-theta (e of 2, 4 or 8: the global
    one, with a weight for each pixel of the map, is left out), and with `use_mlp` besides GE-theta-plus.
    """

    def __init__(
        self, dim: int, extent: int = 0, extra_params: bool = False, use_mlp: bool = False, reduction: int = 16
    ) -> None:
        super().__init__()
        if extra_params and extent not in (2, 4, 8):
            raise ValueError(f"extent={extent} has no convolutions: with extra_params it is 2, 4 or 8")
        self.extent = extent
        self.gather = _halving(dim, extent.bit_length() - 1) if extra_params else None
        self.excite = _two_layers(dim, reduced(dim, reduction, "reduction")) if use_mlp else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        gathered = self.excite(self._gathered(x))  # (B, C, H / extent, W / extent), rounded up
        return x * F.interpolate(gathered, size=x.shape[-2:]).sigmoid()

    def _gathered(self, x: Tensor) -> Tensor:
        if self.gather is not None:
            gathered: Tensor = self.gather(x)
            return gathered
        if not self.extent:
            return x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        window, border = 2 * self.extent - 1, self.extent - 1
        return F.avg_pool2d(x, window, self.extent, border, count_include_pad=False)


def _halving(dim: int, times: int) -> nn.Sequential:
    """Depthwise 3x3 convolutions of stride 2 with batch norms, rectified between: each halves the map, rounding up."""
    steps: list[nn.Module] = []
    for _ in range(times):
        steps += [nn.Conv2d(dim, dim, 3, 2, padding=1, groups=dim, bias=False), nn.BatchNorm2d(dim), nn.ReLU()]
    return nn.Sequential(*steps[:-1])


def _two_layers(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))
