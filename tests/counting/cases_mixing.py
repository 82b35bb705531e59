"""Attention within windows and along axes, and what mixes tokens without attention: MLP, AFT, Fourier."""

import torch
from hand_case import MAP, TOKENS, Sizes, attend, case, merge, split
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = "B * (4*N*C**2 + 2*N*w**2*C)"


class Windows(nn.Module):
    """Projections over channels that stand last, and the map cut into windows of w x w."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h, self.w = s.h, s.w
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C), nn.Linear(s.C, s.C)

    def cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B windows, w*w, C)"""
        batch, channels, height, width = x.shape
        x = x.view(batch, channels, height // self.w, self.w, width // self.w, self.w)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.w**2, channels)


@case("window attention", "matmul, relative bias", MAP, macs=WINDOW, params="4*(C**2 + C) + h*(2*w - 1)**2",
      backward="2 * macs")  # fmt: skip
class WindowByMatmul(Windows):
    """4 N C²; in N/w² windows w² queries meet w² keys: (N/w²) w⁴ C = N w² C, twice. The bias is looked up."""

    def __init__(self, s: Sizes) -> None:
        super().__init__(s)
        self.bias = nn.Parameter(torch.zeros(s.h, (2 * s.w - 1) ** 2))
        place = torch.arange(s.w)
        offset = (place[:, None] - place[None]) + s.w - 1
        index = offset[:, None, :, None] * (2 * s.w - 1) + offset[None, :, None, :]
        self.register_buffer("index", index.reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(each, self.h) for each in self.qkv(self.cut(x)).chunk(3, -1))
        bias = self.bias[:, self.index].view(self.h, self.w**2, self.w**2)
        return self.out(merge((q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v))


@case("window attention", "shifted, scaled_dot_product_attention", MAP, macs=WINDOW, params="4*(C**2 + C)")
class ShiftedWindow(Windows):
    """The map rolled by half a window first; the same windows, the same products."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(x, (-(self.w // 2), -(self.w // 2)), (2, 3))
        q, k, v = (split(each, self.h) for each in self.qkv(self.cut(x)).chunk(3, -1))
        return self.out(merge(F.scaled_dot_product_attention(q, k, v)))


@case("window attention", "sliding, unfold and einsum", MAP, macs="B * (4*N*C**2 + 2*N*9*C)", params="4*(C**2 + C)")
class Sliding(nn.Module):
    """4 N C²; each position meets its 3 x 3 neighbours, zeros beyond the border among them: 9 N C, twice."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Conv2d(s.C, 3 * s.C, 1), nn.Conv2d(s.C, s.C, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, 1)
        q = q.flatten(2).unflatten(1, (self.h, -1))
        k, v = (F.unfold(each, 3, padding=1).unflatten(1, (self.h, -1, 9)) for each in (k, v))
        weights = torch.einsum("bhdn,bhdtn->bhtn", q, k).softmax(2)
        return self.out(torch.einsum("bhtn,bhdtn->bhdn", weights, v).reshape(x.shape))


AXIAL = "B * (8*N*C**2 + 2*N*(H + W)*C)"


class AlongRows(nn.Module):
    """Multi-head attention over the next to last axis of (..., n, C)."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C, bias=False), nn.Linear(s.C, s.C)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (self.h, -1)).transpose(-2, -3) for each in self.qkv(x).chunk(3, -1))
        return self.out(attend(q, k, v).transpose(-2, -3).flatten(-2))


@case("axial attention", "two attentions, added", MAP, macs=AXIAL, params="2*(4*C**2 + C)", backward="2 * macs")
class AxialBySum(nn.Module):
    """Each has 4 N C² of projections; along a row every position meets W others, along a column H: 2 N (H + W) C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.rows, self.columns = AlongRows(s), AlongRows(s)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return self.rows(x) + self.columns(x.transpose(1, 2)).transpose(1, 2)


@case("axial attention", "einsum, one projection", MAP, macs="B * (4*N*C**2 + 2*N*(H + W)*C)", params="4*C**2")
class AxialByEinsum(nn.Module):
    """4 N C² once; b h x y d . b h x z d summed over d: N W C; over a column: N H C; each twice."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.h = s.h
        self.qkv, self.out = nn.Linear(s.C, 3 * s.C, bias=False), nn.Linear(s.C, s.C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (self.h, -1)) for each in self.qkv(x.permute(0, 2, 3, 1)).chunk(3, -1))
        row = torch.einsum("bxyhd,bxzhd->bhxyz", q, k).softmax(-1)
        column = torch.einsum("bxyhd,bzyhd->bhxyz", q, k).softmax(-1)
        mixed = torch.einsum("bhxyz,bxzhd->bxyhd", row, v) + torch.einsum("bhxyz,bzyhd->bxyhd", column, v)
        return self.out(mixed.flatten(-2))


@case("attention-free transformer (AFT)", "full, matmul", TOKENS, macs="B * (4*N*C**2 + 2*N**2*C)",
      params="4*C**2 + N**2", quadratic=True)  # fmt: skip
class AftFull(nn.Module):
    """4 N C²; the N x N position weights meet e^k v and e^k, N x C each: 2 N² C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(s.C, s.C, bias=False) for _ in range(4))
        self.position = nn.Parameter(torch.zeros(s.N, s.N))

    def forward(self, x: Tensor) -> Tensor:
        weight, key = self.position.exp(), self.k(x).exp()
        return self.out(self.q(x).sigmoid() * (weight @ (key * self.v(x))) / (weight @ key))


@case("attention-free transformer (AFT)", "simple, mul and sum", TOKENS, macs="B * (4*N*C**2 + N*C)", params="4*C**2")
class AftSimple(nn.Module):
    """4 N C²; softmax(k) times v, summed over the N tokens for each channel: N C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(s.C, s.C, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        context = (self.k(x).softmax(1) * self.v(x)).sum(1, keepdim=True)
        return self.out(self.q(x).sigmoid() * context)


@case("gMLP", "conv1d over tokens", TOKENS, macs="B * (N*C*2*f + N**2*f + N*f*C)", backward=None,
      params="C*2*f + 2*f + 2*f + N**2 + N + f*C + C", quadratic=True)  # fmt: skip
class SpatialGating(nn.Module):
    """C -> 2 f at N tokens: 2 N C f; the N x N matrix mixes f channels of tokens: N² f; f -> C: N f C."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(s.C, 2 * s.f), nn.Linear(s.f, s.C)
        self.norm, self.mix = nn.LayerNorm(s.f), nn.Conv1d(s.N, s.N, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.up(x)).chunk(2, -1)
        return self.down(u * self.mix(self.norm(v)))


@case("MLP-Mixer", "token mixing through N units", TOKENS, macs="B * 2*N**2*C", params="2*(N**2 + N)",
      backward="2 * macs", quadratic=True)  # fmt: skip
class TokenMixing(nn.Module):
    """N tokens to N units and back in each of C channels: 2 N² C. Backward: two gradients for each."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(s.N, s.N), nn.GELU(), nn.Linear(s.N, s.N))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x.transpose(1, 2)).transpose(1, 2)


LOG_N, LOG_C = "(N.bit_length() - 1)", "(C.bit_length() - 1)"


class FourierBlock(nn.Module):
    """Mixing by Fourier transforms, and a feed-forward of f hidden units."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.feed = nn.Sequential(nn.Linear(s.C, s.f), nn.GELU(), nn.Linear(s.f, s.C))

    def forward(self, x: Tensor) -> Tensor:
        return self.feed(x + self.mixed(x))

    def mixed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@case("FNet", "fft2", TOKENS, macs="B * 2*N*C*f", params="2*C*f + f + C", fft=f"5 * B*N*C*({LOG_N} + {LOG_C})")
class FourierBy2d(FourierBlock):
    """2 N C f of feed-forward. A transform of n points is 5 n log2 n FLOPs of a column of their own: torch makes the
    tokens complex for one of n = N C points. It holds no contraction."""

    def mixed(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real


@case("FNet", "fft of fft", TOKENS, macs="B * 2*N*C*f", params="2*C*f + f + C",
      fft=f"5 * B*N*C*{LOG_C} // 2 + 5 * B*N*C*{LOG_N}")  # fmt: skip
class FourierTwice(FourierBlock):
    """2 N C f of feed-forward. N transforms of C real numbers, at half the price of complex ones, then C transforms
    of N complex numbers."""

    def mixed(self, x: Tensor) -> Tensor:
        return torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real
