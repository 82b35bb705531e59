"""Gates over channels and positions, convolutions, and recurrent layers."""

import torch
from hand_case import MAP, TOKENS, Sizes, case
from torch import Tensor, nn

SE = "B * 2*C*(C//r)"
SE_PARAMS = "2*C*(C//r) + C//r + C"


@case("squeeze-and-excitation", "Linear", MAP, macs=SE, params=SE_PARAMS)
class SqueezeByLinear(nn.Module):
    """The pooled C channels to C/r and back: 2 C C/r for a sample. The mean and the gate are elementwise."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(s.C, s.C // s.r), nn.ReLU(), nn.Linear(s.C // s.r, s.C), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


@case("squeeze-and-excitation", "1x1 convolutions", MAP, macs=SE, params=SE_PARAMS)
class SqueezeByConvolution(nn.Module):
    """The same on a map of one position: 2 C C/r."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        reduced = s.C // s.r
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(s.C, reduced, 1), nn.ReLU(inplace=True),
                                  nn.Conv2d(reduced, s.C, 1), nn.Sigmoid())  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


@case("efficient channel attention (ECA)", "conv1d over channels", MAP, macs="B * 3*C", params="3")
class ChannelConvolution(nn.Module):
    """One filter of 3 taps slides over the C pooled channels, padded by one: 3 C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3))[:, None]).sigmoid()
        return x * gate[:, 0, :, None, None]


@case("CBAM", "shared MLP, 7x7 convolution", MAP, macs="B * (4*C*(C//r) + 98*N)", params="2*C*(C//r) + 98")
class ChannelThenSpatial(nn.Module):
    """The MLP C -> C/r -> C on the mean and on the maximum: 2 x 2 C C/r; a 7x7 filter over 2 maps: 98 N."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(s.C, s.C // s.r, bias=False), nn.Linear(s.C // s.r, s.C, bias=False)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.mean((2, 3)), x.amax((2, 3))])
        x = x * self.up(self.down(pooled).relu()).sum(0).sigmoid()[:, :, None, None]
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.spatial(both).sigmoid()


@case("coordinate attention", "strips", MAP, macs="B * 2*(H + W)*C*m", params="C*m + m + 2*m + 2*(m*C + C)")
class Coordinates(nn.Module):
    """H + W pooled strips to m channels: (H + W) C m; H of them back to C, and W of them: (H + W) m C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(s.C, s.m, 1), nn.BatchNorm2d(s.m)
        self.rows, self.columns = nn.Conv2d(s.m, s.C, 1), nn.Conv2d(s.m, s.C, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        strips = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = self.norm(self.down(strips)).relu().split([height, width], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns).transpose(2, 3).sigmoid()


@case("convolution block", "depth-wise 3x3, point-wise", MAP, macs="B * (9*N*C + N*C**2)", params="9*C + C**2 + C",
      backward="2 * macs")  # fmt: skip
class Separable(nn.Module):
    """9 taps at each of N C values: 9 N C; C -> C at N positions: N C².

    Backward: the input's gradient spreads each value over the same 9 taps, and each tap's weight sums over N
    positions of its own channel: 9 N C each, and N C² each.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.depth = nn.Conv2d(s.C, s.C, 3, padding=1, groups=s.C, bias=False)
        self.point = nn.Conv2d(s.C, s.C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.depth(x).relu())


@case("convolution block", "grouped, stride 2, padding by name", MAP, params="9*C*(C//4) + 9*C*C + C",
      macs="B * (N//4*C*9*C//4 + N//4*C*9*C)", backward="2 * macs")  # fmt: skip
class Strided(nn.Module):
    """A stride of 2 leaves N/4 positions, each C outputs of 9 C/4 taps; then C outputs of 9 C, the border padded.

    Backward: the same products for the input's gradient and for the filter's.
    """

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.down = nn.Conv2d(s.C, s.C, 3, stride=2, padding=1, groups=4, bias=False)
        self.same = nn.Conv2d(s.C, s.C, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.same(self.down(x))


@case("transposed convolution", "stride 2", MAP, macs="B * N*C*4*(C//2)", params="C*(C//2)*4 + C//2",
      backward="2 * macs")  # fmt: skip
class Upsampling(nn.Module):
    """Each of N C input values is spread over 2x2 taps of C/2 outputs: N C 4 C/2. Backward: twice that."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(s.C, s.C // 2, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


@case("LSTM", "nn.LSTM", TOKENS, macs="B * N*4*m*(C + m)", params="4*m*(C + m) + 8*m")
class Lstm(nn.Module):
    """At each of N tokens four gates of m units see the input and the state: 4 m (C + m)."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.core = nn.LSTM(s.C, s.m, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0]


@case("LSTM", "two layers, both directions", TOKENS, params="2*(4*m*(C + m) + 8*m) + 2*(4*m*(2*m + m) + 8*m)",
      macs="B * N*2*(4*m*(C + m) + 4*m*(2*m + m))")  # fmt: skip
class DeepLstm(nn.Module):
    """Two directions of 4 m (C + m); the second layer's two see both: 4 m (2 m + m) each."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.core = nn.LSTM(s.C, s.m, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0]


@case("GRU", "nn.GRU", TOKENS, macs="B * N*3*m*(C + m)", params="3*m*(C + m) + 6*m")
class Gru(nn.Module):
    """At each of N tokens three gates of m units see the input and the state: 3 m (C + m)."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.core = nn.GRU(s.C, s.m, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0]


@case("GRU", "nn.GRUCell in a loop", TOKENS, macs="B * N*3*m*(C + m)", params="3*m*(C + m) + 6*m")
class GruByCell(nn.Module):
    """The same 3 m (C + m) for each of N tokens, one token after another."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.cell, self.m = nn.GRUCell(s.C, s.m), s.m

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.m)
        for token in x.unbind(1):
            state = self.cell(token, state)
        return state
