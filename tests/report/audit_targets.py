"""Attentions as people publish them, true and false, for the audit to judge; each docstring derives its order by hand.

N = s^2 positions, C channels, batch 1. `TRUTH` holds what each claims and what is so.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Name: the claim it comes with, the order of its worst figure, the verdict.
TRUTH = {
    "EinsumQuadratic": ("O(N)", "N^2", "refuted"),
    "FusedQuadratic": ("O(N)", "N^2", "refuted"),
    "MulSumQuadratic": ("O(N)", "N^2", "refuted"),
    "BroadcastQuadratic": ("O(N)", "N^2", "refuted"),
    "MemoryQuadratic": ("O(N)", "N^2", "refuted"),
    "LearnedQuadratic": ("O(N)", "N^2", "refuted"),
    "ValueQuadratic": ("O(N)", "N^2", "refuted"),
    "Cubic": ("O(N^2)", "N^3", "refuted"),
    "Axial": ("O(N sqrt(N))", "N^1.5", "holds"),
    "AxialCalledLinear": ("O(N)", "N^1.5", "refuted"),
    "Fourier": ("O(N log N)", "N log N", "holds"),
    "FourierCalledLinear": ("O(N)", "N log N", "refuted"),
    "Levels": ("O(N log N)", "N log N", "holds"),
    "Kernel": ("O(N)", "N", "holds"),
    "CausalKernel": ("O(N)", "N", "holds"),
    "Landmarks": ("O(N)", "N", "holds"),
    "Projected": ("O(N)", "N", "holds"),
    "CrossCovariance": ("O(N)", "N", "holds"),
    "ValueLinear": ("O(N)", "N", "holds"),
    "Windows": ("O(N)", "N", "holds"),
    "PaddedWindows": ("O(N)", "N", "holds"),
    "StrictWindows": ("O(N)", "N", "holds"),
    "OddWindows": ("O(N)", "N", "not polynomial"),
    "Gate": ("O(1)", "N", "holds"),
    "GrowingGate": ("O(1)", "N", "refuted"),
    "CheaperThanClaimed": ("O(N^2)", "N", "holds"),
    "Pyramid": ("O(N)", "N", "holds"),
}

# The catalogue by the formulas of its papers; of gates, whose multiply-accumulates may be constant, the map that is
# read and weighed. Networks: the largest of their parts.
CATALOGUE = {
    "se": "N", "cbam_channel": "N", "cbam_spatial": "N", "cbam": "N", "linear_attn": "N", "efficient_attn": "N",
    "self_attn": "N^2", "sdpa": "N^2", "mha": "N^2", "scaled_dot_product": "N^2", "additive_attn": "N^2",
    "pseudo_linear_attn": "N^2",
    "eca": "N", "xca": "N", "ge": "N", "simam": "N", "lka": "N", "gc": "N", "coord": "N", "bam": "N", "triplet": "N",
    "sk": "N",
    "performer": "N", "cosformer": "N", "litemla": "N", "focused": "N", "sana": "N", "separable": "N", "hydra": "N",
    "rfa": "N", "swift_additive": "N", "pola": "N", "mlla": "N",
    # a query of each window, line or neighbourhood; routing and hashing compare a fixed number of groups of N / groups
    "swin": "N", "natten": "N", "sliding_window": "N", "twins_lsa": "N", "bigbird": "N", "axial": "N^1.5",
    "criss_cross": "N^1.5", "biformer": "N^2", "lsh": "N^2",
    # a fixed number of keys, landmarks or agents; of `sr` a fixed part of all keys
    "linformer": "N", "nystrom": "N", "external": "N", "agent": "N", "a2": "N", "sr": "N^2",
    "aft_simple": "N", "aft_full": "N^2", "gmlp": "N^2", "fnet": "N log N",
    "retention": "N", "gla": "N", "ssd": "N", "deltanet": "N", "gated_deltanet": "N", "lightning": "N", "based": "N",
    "mhsa": "N^2", "nonlocal": "N^2", "gqa": "N^2", "mqa": "N^2", "flex": "N^2", "mla": "N^2", "diff": "N^2",
    "talking_heads": "N^2",
}  # fmt: skip
NETWORKS = {
    "vgg16": "N", "vgg16+cbam": "N", "vgg16+linear_attn": "N", "vgg16+self_attn": "N^2",
    "vgg16+pseudo_linear_attn": "N^2",
}  # fmt: skip


class Tokens(nn.Module):
    """(B, N, C) with three projections: 3 N C^2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).chunk(3, dim=-1)


class EinsumQuadratic(Tokens):
    """q k^T and A v by einsum: 2 N^2 C."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        weights = torch.einsum("bic,bjc->bij", q, k).softmax(-1)
        return torch.einsum("bij,bjc->bic", weights, v)


class FusedQuadratic(Tokens):
    """One call that hides 2 N^2 C, and on the CPU holds no N x N map."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.split(x))
        return F.scaled_dot_product_attention(q, k, v).squeeze(1)


class MulSumQuadratic(Tokens):
    """No matmul anywhere: sum_j (q_i . k_j) v_j as broadcast products and sums, N^2 C twice."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(-1)
        return (scores.unsqueeze(-1) * v.unsqueeze(1)).sum(2)


class BroadcastQuadratic(nn.Module):
    """2 N C multiply-accumulates for two scores a position; then N^2 sums of pairs, of which the largest is kept."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.score(x).unbind(-1)
        return x * (a.unsqueeze(2) + b.unsqueeze(1)).amax(2).unsqueeze(-1)


class MemoryQuadratic(nn.Module):
    """N C^2 of work, and an N x N map that is asked for and never written."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        scratch = x.new_empty(x.shape[1], x.shape[1])
        return self.proj(x).add_(scratch.numel() * 0)


class LearnedQuadratic(nn.Module):
    """The N x N map is a parameter (Synthesizer): N^2 C, and N^2 weights."""

    def __init__(self, dim: int, n: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(n, n))

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.softmax(-1) @ x


class ValueQuadratic(EinsumQuadratic):
    """As EinsumQuadratic, but it asks for a value: neither meta nor fake tensors can run it."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if y.amax().item() < 1e30 else x


class Cubic(Tokens):
    """A third product of two N x N maps: N^3."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        weights = q @ k.transpose(1, 2)
        return weights @ weights @ v


class Axial(nn.Module):
    """(B, C, H, W): attention within rows and within columns, s rows and s columns of 2 s^2 C: 4 s^3 C."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        columns = x.permute(0, 3, 2, 1)  # (B, W, H, C)
        y = (rows @ rows.transpose(2, 3)).softmax(-1) @ rows
        z = (columns @ columns.transpose(2, 3)).softmax(-1) @ columns
        return y.permute(0, 3, 1, 2) + z.permute(0, 3, 2, 1)


class AxialCalledLinear(Axial):
    pass


class Fourier(nn.Module):
    """Mixing by a two-dimensional Fourier transform of each channel: 5 N log2 N C FLOPs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.fft.fft2(x).real)


class FourierCalledLinear(Fourier):
    pass


class Levels(nn.Module):
    """One projection for each halving of the tokens: log2 N times N C^2, a logarithm in the MACs themselves."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.level = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[1].bit_length() - 1):
            x = self.level(x)
        return x


class Kernel(Tokens):
    """phi(q) (phi(k)^T v): 2 N C^2."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return torch.einsum("bnc,bcd->bnd", F.elu(q) + 1, torch.einsum("bnc,bnd->bcd", F.elu(k) + 1, v))


class CausalKernel(Tokens):
    """The running sum of k^T v, held at every position: N C^2 numbers and as many sums."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        state = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(1)
        return (q.unsqueeze(-2) @ state).squeeze(-2)


class Landmarks(nn.Module):
    """Every position looks at 7 x 7 pooled ones: 2 * 49 N C."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 7).flatten(2)  # (B, C, 49)
        weights = (x.flatten(2).transpose(1, 2) @ pooled).softmax(-1)
        return (weights @ pooled.transpose(1, 2)).transpose(1, 2).reshape(x.shape)


class Projected(nn.Module):
    """Linformer: keys are projected to 32 along the positions, 32 N C, with 32 N weights; then 2 * 32 N C."""

    def __init__(self, dim: int, seq_len: int) -> None:
        super().__init__()
        self.project = nn.Linear(seq_len, 32)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.project(x.transpose(1, 2))  # (B, C, 32)
        return (x @ keys).softmax(-1) @ keys.transpose(1, 2)


class CrossCovariance(Tokens):
    """XCiT: the map is C x C: 2 N C^2."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        weights = (F.normalize(k, dim=1).transpose(1, 2) @ F.normalize(q, dim=1)).softmax(-1)
        return v @ weights


class ValueLinear(Kernel):
    """As Kernel, but it asks for a value."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if y.amax().item() < 1e30 else x


class Windows(nn.Module):
    """(B, C, H, W) in windows, padded where they do not fit: 2 w^2 C for each of the padded positions."""

    size = 8

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        w = self.size
        x = F.pad(x, (0, -width % w, 0, -height % w))
        rows, columns = x.shape[2] // w, x.shape[3] // w
        windows = x.view(batch, dim, rows, w, columns, w).permute(0, 2, 4, 3, 5, 1).reshape(-1, w * w, dim)
        y = (windows @ windows.transpose(1, 2)).softmax(-1) @ windows
        y = y.view(batch, rows, columns, w, w, dim).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        return y[:, :, :height, :width]


class PaddedWindows(Windows):
    """Windows of 7, as Swin's: no side of 32, 64 ... holds them evenly, and every third multiple of 224 does."""

    size = 7


class OddWindows(Windows):
    """Windows of 11, which fit into none of the sides that are tried: linear, but no polynomial."""

    size = 11


class StrictWindows(Windows):
    """Windows of 7 that refuse to be padded."""

    size = 7

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 7 or x.shape[3] % 7:
            raise ValueError("the map must be divisible by the window, 7")
        return super().forward(x)


class Gate(nn.Module):
    """Squeeze and excite: C^2 whatever N; the map is read and weighed, N C elementwise."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x.mean(1, keepdim=True)).sigmoid()


class GrowingGate(nn.Module):
    """A gate for each position: N C^2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x).sigmoid()


class CheaperThanClaimed(Kernel):
    pass


class Nowhere(nn.Module):
    """Takes nothing."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("I take nothing")


class Pyramid(nn.Module):
    """A pyramid of maps, each half the side: N C^2 (1 + 1/4 + ...), down to one position where s is a power of two."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.level = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[2].bit_length() - 1):
            x = F.avg_pool2d(self.level(x), 2)
        return x
