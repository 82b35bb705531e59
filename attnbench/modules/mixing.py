"""Mixing without attention scores: learned weights for positions, gates, and Fourier transforms."""

import torch
from torch import Tensor, nn

from attnbench.modules.spec import attention

__all__ = ["AftFull", "AftSimple", "FourierMixing", "SpatialGating"]


@attention(
    name="aft_simple",
    layout="bnc",
    complexity="N",
    memory="N",
    where={"hidden_dim": "hidden_dim or C"},
    params="4*C*hidden_dim + 3*hidden_dim + C",
    macs="B*(4*N*C*hidden_dim + N*hidden_dim)",
    paper="Zhai et al. 2021, An Attention Free Transformer, arXiv:2105.14103",
)
class AftSimple(nn.Module):
    """AFT-simple: one weighted mean of the values over the tokens, gated at each position by its query.

    y_i = W_o (sigmoid(q_i) * sum_j softmax_j(k)_j * v_j), all products elementwise, the softmax over the tokens for
    each channel. (B, N, C) -> (B, N, C). The weighted mean is a product and a sum, N * C MACs beside the projections,
    which counters that know matrix products alone do not hear.

    Hyper-parameters: `hidden_dim` (dim).
    """

    def __init__(self, dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden = hidden_dim or dim
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden)
        self.value = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.key(x).softmax(dim=1)  # (B, N, hidden), over the tokens
        mean = (weights * self.value(x)).sum(dim=1, keepdim=True)  # (B, 1, hidden); as an einsum it is far slower
        y: Tensor = self.out(self.query(x).sigmoid() * mean)  # (B, N, C)
        return y


@attention(
    name="aft_full",
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    where={"hidden_dim": "hidden_dim or C"},
    params="4*C*hidden_dim + 3*hidden_dim + C + seq_len**2",
    macs="B*(4*N*C*hidden_dim + 2*N**2*hidden_dim)",
    paper="Zhai et al. 2021, An Attention Free Transformer, arXiv:2105.14103",
    causal="flag",
)
class AftFull(nn.Module):
    """AFT-full: the values are averaged with weights exp(k_j + w_ij), one learned w for each pair of positions.

    y_i = W_o (sigmoid(q_i) * sum_j exp(k_j + w_ij) * v_j / sum_j exp(k_j + w_ij)), channel by channel.
    (B, N, C) -> (B, N, C), N <= seq_len: fewer tokens use the upper left corner of w. w has seq_len^2 parameters and
    two products with an N x N matrix follow, so it is quadratic. The largest k of a channel and the largest w of a row
    are taken off before exp, which leaves the ratio as it is and does not overflow.

    Hyper-parameters: `seq_len`; `hidden_dim` (dim); `causal` leaves out the positions after the query.
    """

    def __init__(self, dim: int, seq_len: int, hidden_dim: int | None = None, causal: bool = False) -> None:
        super().__init__()
        hidden = hidden_dim or dim
        self.seq_len, self.causal = seq_len, causal
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden)
        self.value = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, dim)
        self.position = nn.Parameter(torch.empty(seq_len, seq_len))
        nn.init.xavier_uniform_(self.position)

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        weights = (key - key.detach().amax(dim=1, keepdim=True)).exp()  # (B, N, hidden)
        pairs = self._pairs(x.shape[1])  # (N, N)
        mean = (pairs @ (weights * self.value(x))) / (pairs @ weights)  # (B, N, hidden)
        y: Tensor = self.out(self.query(x).sigmoid() * mean)  # (B, N, C)
        return y

    def _pairs(self, tokens: int) -> Tensor:
        if tokens > self.seq_len:
            raise ValueError(f"{tokens} tokens are more than seq_len={self.seq_len}, for which it was built")
        position = self.position[:tokens, :tokens]
        pairs = (position - position.detach().amax(dim=1, keepdim=True)).exp()
        return pairs.tril() if self.causal else pairs


@attention(
    name="gmlp",
    aliases=("sgu",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    where={"f": "d_ffn or C"},
    params="seq_len**2 + seq_len + f + (C*f + f + f//2*C + C if d_ffn else 0)",
    macs="B*(N**2*(f//2) + (N*C*f + N*(f//2)*C if d_ffn else 0))",
    paper="Liu et al. 2021, Pay Attention to MLPs, arXiv:2105.08050",
    causal="flag",
)
class SpatialGating(nn.Module):
    """Spatial gating unit of gMLP: half of the channels, mixed over the tokens by a learned matrix, gate the others.

    u, v = split(x), y = u * (W LN(v) + b), W is (seq_len, seq_len) and starts next to zero, b at one.
    (B, N, C) -> (B, N, C / 2), N = seq_len: the unit alone halves the channels. With `d_ffn` the projections around it
    are there too, without the block's norm and residual, and the shape is kept: y = W_2 SGU(gelu(W_1 x)), W_1 of dim to
    d_ffn, W_2 of d_ffn / 2 to dim. The parameters grow with the square of the resolution.

    Hyper-parameters: `seq_len`; `d_ffn` (no projections); `causal` keeps the lower triangle of W.
    """

    def __init__(self, dim: int, seq_len: int, d_ffn: int | None = None, causal: bool = False) -> None:
        super().__init__()
        width = d_ffn or dim
        if width % 2:
            raise ValueError(f"{'d_ffn' if d_ffn else 'dim'}={width} is odd: one half of the channels gates the other")
        self.causal = causal
        self.norm = nn.LayerNorm(width // 2)
        self.spatial = nn.Linear(seq_len, seq_len)
        nn.init.normal_(self.spatial.weight, std=1e-6)
        nn.init.ones_(self.spatial.bias)
        self.widen = nn.Sequential(nn.Linear(dim, width), nn.GELU()) if d_ffn else nn.Identity()
        self.out = nn.Linear(width // 2, dim) if d_ffn else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        kept, gate = self.widen(x).chunk(2, dim=-1)  # (B, N, f / 2) each
        weight = self.spatial.weight.tril() if self.causal else self.spatial.weight
        mixed = nn.functional.linear(self.norm(gate).transpose(1, 2), weight, self.spatial.bias)  # (B, f / 2, N)
        y: Tensor = self.out(kept * mixed.transpose(1, 2))  # (B, N, f / 2), or (B, N, C) with d_ffn
        return y


@attention(
    name="fnet",
    layout="bnc",
    complexity="N log N",
    memory="N",
    params="0",
    macs="0",
    paper="Lee-Thorp et al. 2021, FNet: Mixing Tokens with Fourier Transforms, arXiv:2105.03824",
)
class FourierMixing(nn.Module):
    """FNet: the real part of the Fourier transform over tokens and channels, without any parameter.

    y = Re(F_N(F_C(x))). (B, N, C) -> (B, N, C). A fast Fourier transform has no multiply-accumulates by the convention
    of this project: MACs are 0 and its work, some 5 N C log2(N C) FLOPs, stands in a column of its own. bf16 and fp16
    are transformed in fp32, since torch has no transform for them. No hyper-parameters.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        y: Tensor = torch.fft.fftn(wide, dim=(1, 2)).real.to(x.dtype)
        return y
