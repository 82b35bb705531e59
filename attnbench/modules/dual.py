"""Dual attention: modules that weigh channels and positions, one after the other or both at once."""

import torch.nn.functional as F
from torch import Tensor, cat, nn, stack

from attnbench.modules.channel import CbamChannelAttention
from attnbench.modules.parts.arguments import reduced, same_padding
from attnbench.modules.spatial import CbamSpatialAttention
from attnbench.modules.spec import attention

__all__ = [
    "BottleneckAttention",
    "Cbam",
    "CoordinateAttention",
    "GlobalContext",
    "SelectiveKernel",
    "TripletAttention",
]


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


@attention(
    name="gc",
    aliases=("gcnet", "global_context"),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "C // reduction"},
    params="C + 1 + 2*C*hidden + 3*hidden + C",
    macs="B*(2*N*C + 2*C*hidden)",
    paper="Cao et al. 2019, GCNet: Non-local Networks Meet SE Networks and Beyond, arXiv:1904.11492",
)
class GlobalContext(nn.Module):
    """Global context: one attention map for all queries pools the map, and a small network adds the result to it.

    y = x + W_2 relu(LN(W_1 c)), c = sum_n a_n x_n, a = softmax_n(w . x_n + b). (B, C, H, W) -> (B, C, H, W).
    LN is a layer norm over the hidden channels; W_1, W_2 have a bias.

    Hyper-parameters: `reduction` of the hidden layer (the paper's ratio is its inverse); a `dim` below it is a
    ValueError.
    """

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = reduced(dim, reduction, "reduction")
        self.score = nn.Conv2d(dim, 1, 1)
        self.fc1 = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).flatten(2).softmax(dim=-1)  # (B, 1, N)
        context = (x.flatten(2) @ weights.transpose(1, 2)).squeeze(-1)  # (B, C)
        added: Tensor = self.fc2(self.norm(self.fc1(context)).relu())  # (B, C)
        return x + added[:, :, None, None]


@attention(
    name="coord",
    aliases=("coordinate_attn",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "max(8, C // reduction)"},
    params="3*C*hidden + 3*hidden + 2*C",
    macs="B*2*(H + W)*C*hidden",
    paper="Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design, arXiv:2103.02907",
)
class CoordinateAttention(nn.Module):
    """Coordinate attention: a pixel is weighed by what its row holds and by what its column holds.

    r, c = split(hardswish(BN(W [mean_w(x), mean_h(x)]))), y = x * sigmoid(W_r r) * sigmoid(W_c c): rows and columns
    go through one first layer, max(8, dim // reduction) wide, and one batch norm. (B, C, H, W) -> (B, C, H, W).

    Hyper-parameters: `reduction` of the hidden layer.
    """

    def __init__(self, dim: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = max(8, dim // reduction)
        self.reduce = nn.Conv1d(dim, hidden, 1)
        self.norm = nn.BatchNorm1d(hidden)
        self.rows = nn.Conv1d(hidden, dim, 1)
        self.columns = nn.Conv1d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        sides = cat((x.mean(dim=3), x.mean(dim=2)), dim=2)  # (B, C, H + W)
        hidden = F.hardswish(self.norm(self.reduce(sides)))  # (B, hidden, H + W)
        rows, columns = hidden[..., : x.shape[2]], hidden[..., x.shape[2] :]  # (B, hidden, H), (B, hidden, W)
        row, column = self.rows(rows).sigmoid(), self.columns(columns).sigmoid()  # (B, C, H), (B, C, W)
        y: Tensor = x * row.unsqueeze(3) * column.unsqueeze(2)
        return y


@attention(
    name="bam",
    layout="bchw",
    complexity="N",
    memory="N",
    where={"hidden": "C // reduction"},
    params="3*C*hidden + 18*hidden**2 + 13*hidden + C + 1",
    macs="B*(2*C*hidden + N*(C*hidden + 18*hidden**2 + hidden))",
    paper="Park et al. 2018, BAM: Bottleneck Attention Module, arXiv:1807.06514",
)
class BottleneckAttention(nn.Module):
    """BAM: a weight for each channel and one for each position, put together and added to one.

    y = x * (1 + sigmoid(c * s)), c = W_2 relu(BN(W_1 mean_hw(x))) for each channel, s for each position: 1x1 to
    dim / reduction channels, two dilated 3x3, each with BN and relu, then 1x1 to one. (B, C, H, W) -> (B, C, H, W).
    The batch norm in c sees one value for each sample: in train mode a batch of 1 fails.

    Hyper-parameters: `reduction`; `dilation` of the 3x3 convolutions; `combine`: "product" as in the authors' code, or
    "sum" as in the paper's equation (without the batch norms that it has behind W_2 and behind s).
    """

    def __init__(self, dim: int, reduction: int = 16, dilation: int = 4, combine: str = "product") -> None:
        super().__init__()
        if combine not in ("product", "sum"):
            raise ValueError(f"combine={combine!r} is unknown: it is 'product' or 'sum'")
        self.product = combine == "product"
        hidden = reduced(dim, reduction, "reduction")
        self.channel = nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.spatial = nn.Sequential(
            *_normalised(nn.Conv2d(dim, hidden, 1)),
            *_normalised(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)),
            *_normalised(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        channel = self.channel(x.mean(dim=(2, 3)))[:, :, None, None]  # (B, C, 1, 1)
        spatial = self.spatial(x)  # (B, 1, H, W)
        weight: Tensor = (channel * spatial if self.product else channel + spatial).sigmoid()  # (B, C, H, W)
        return x * (1 + weight)


def _normalised(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
    return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()


@attention(
    name="triplet",
    layout="bchw",
    complexity="N",
    memory="N",
    params="(2 if no_spatial else 3)*(2*kernel_size**2 + 2)",
    macs="B*2*kernel_size**2*((0 if no_spatial else H*W) + C*W + H*C)",
    paper="Misra et al. 2020, Rotate to Attend: Convolutional Triplet Attention Module, arXiv:2010.03045",
)
class TripletAttention(nn.Module):
    """Triplet attention: three gates, each over two of channel, row and column, pooled over the third.

    y = mean(g_hw(x), g_cw(x), g_hc(x)); each g pools the one axis left out by maximum and mean, and weighs the other
    two by sigmoid(BN(conv_kxk)): the gate of `cbam_spatial`, on the turned map. (B, C, H, W) -> (B, C, H, W).
    In train mode a 1x1 map with batch 1 fails: its batch norm sees one value.

    Hyper-parameters: `kernel_size`, odd; `no_spatial` leaves the gate over (H, W) out.
    """

    def __init__(self, kernel_size: int = 7, no_spatial: bool = False) -> None:
        super().__init__()
        self.columns = CbamSpatialAttention(kernel_size, bn=True)
        self.rows = CbamSpatialAttention(kernel_size, bn=True)
        self.plane = None if no_spatial else CbamSpatialAttention(kernel_size, bn=True)

    def forward(self, x: Tensor) -> Tensor:
        by_column = self.columns(x.transpose(1, 2)).transpose(1, 2)  # pooled over H: (B, H, C, W) and back
        by_row = self.rows(x.transpose(1, 3)).transpose(1, 3)  # pooled over W: (B, W, H, C) and back
        total: Tensor = by_column + by_row
        return total / 2 if self.plane is None else (total + self.plane(x)) / 3


@attention(
    name="sk",
    aliases=("selective_kernel",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={
        "hidden": "max(min_hidden, C // reduction)",
        "taps": "branches*kernel_size**2 + 2*kernel_size*branches*(branches - 1)"
        " + 2*branches*(branches - 1)*(2*branches - 1)//3",
    },
    params="C*(C//groups)*taps + 3*branches*C + (1 + branches)*C*hidden + hidden + branches*C"
    " + (2*hidden if bn else 0)",
    macs="B*(N*C*(C//groups)*taps + (1 + branches)*C*hidden)",
    may_be_zero=("min_hidden",),
    paper="Li et al. 2019, Selective Kernel Networks, arXiv:1903.06586",
)
class SelectiveKernel(nn.Module):
    """Selective kernels: several convolutions of different sizes, and for each channel a softmax that chooses.

    u_m = relu(BN(conv_m(x))), z = W mean_hw(sum_m u_m), y = sum_m softmax_m(W_m z) * u_m. (B, C, H, W) -> (B, C, H, W).
    The branches' kernels have the sides kernel_size, kernel_size + 2 and so on: 1, 3, 5, 7. The weighted sum of the
    branches, work on each element, is not in the MACs. In train mode a 1x1 map with batch 1 fails in the batch norm.

    Hyper-parameters: `branches`; `kernel_size` of the first, odd; `groups` of the convolutions; `reduction`, of which
    at least `min_hidden` (the paper's L) features are left; `bn`, a batch norm and a relu behind W as in the paper
    (in train mode a batch of 1 fails there). The paper's own: branches 2, kernel_size 3, groups 32, bn; there the 5x5
    is a 3x3 with dilation 2, which is not done here.
    """

    def __init__(
        self,
        dim: int,
        branches: int = 4,
        kernel_size: int = 1,
        groups: int = 1,
        reduction: int = 16,
        min_hidden: int = 32,
        bn: bool = False,
    ) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"dim={dim} is not divisible by groups={groups}")
        hidden = max(min_hidden, dim // reduction)
        sides = range(kernel_size, kernel_size + 2 * branches, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(*_normalised(nn.Conv2d(dim, dim, side, padding=same_padding(side), groups=groups)))
            for side in sides
        )
        self.squeeze = nn.Sequential(nn.Linear(dim, hidden), *((nn.BatchNorm1d(hidden), nn.ReLU()) if bn else ()))
        self.choose = nn.ModuleList(nn.Linear(hidden, dim) for _ in sides)

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]  # each (B, C, H, W)
        squeezed = self.squeeze(_sum(maps).mean(dim=(2, 3)))  # (B, hidden)
        weights = stack([choose(squeezed) for choose in self.choose]).softmax(dim=0)  # (branches, B, C)
        return _sum([weight[:, :, None, None] * each for weight, each in zip(weights, maps, strict=True)])


def _sum(maps: list[Tensor]) -> Tensor:
    """One by one: a stack of all would hold them twice."""
    total, *others = maps
    for each in others:
        total = total + each
    return total
