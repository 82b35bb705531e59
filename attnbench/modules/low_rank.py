"""Attention through a few tokens: keys and values are projected, pooled, summed by landmarks or agents, or learned."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.parts.arguments import head_dim, reduced
from attnbench.modules.parts.heads import merge_heads, split_heads
from attnbench.modules.spec import attention

__all__ = [
    "AgentAttention",
    "DoubleAttention",
    "ExternalAttention",
    "LinformerAttention",
    "NystromAttention",
    "SpatialReductionAttention",
]


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(..., N, d), (..., M, d), (..., M, e) -> (..., N, e), each step written out."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (..., N, M)
    attended: Tensor = scores.softmax(dim=-1) @ value
    return attended


@attention(
    name="linformer",
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "dim_head": "dim_head or C // heads",
        "inner": "heads*dim_head",
        "kv": "dim_head if one_kv_head else inner",
        "pair": "1 if share_kv else 2",
    },
    params="2*C*inner + C + pair*(C*kv + seq_len*k)",
    macs="B*(2*N*C*inner + pair*N*kv*(C + k) + 2*N*k*inner)",
    paper="Wang et al. 2020, Linformer: Self-Attention with Linear Complexity, arXiv:2006.04768",
    computes="approximation",
)
class LinformerAttention(nn.Module):
    """Linformer: keys and values are projected along the tokens to a fixed length k, then attended as usual.

    K = E^T (x W_k), V = F^T (x W_v), y = W_o concat_h(softmax(q K^T / sqrt(d)) V); E and F are (seq_len, k) and the
    same for all heads, so the number of parameters grows with the resolution. W_q, W_k and W_v have no bias.
    (B, N, C) -> (B, N, C), N <= seq_len: fewer tokens use the first rows of E and F. Eager, it holds (B, heads, N, k).
    With N below k it costs more than the full attention.

    Hyper-parameters: `seq_len`; `k`, the projected length; `dim_head` (dim / heads); `one_kv_head`, keys and values of
    one head for all queries; `share_kv`, one projection for both, so that keys and values are the same.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        seq_len: int,
        k: int = 256,
        dim_head: int | None = None,
        one_kv_head: bool = False,
        share_kv: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.seq_len, self.share_kv = heads, seq_len, share_kv
        dim_head = dim_head or head_dim(dim, heads)
        self.kv_heads = 1 if one_kv_head else heads
        self.query = nn.Linear(dim, heads * dim_head, bias=False)
        self.key = nn.Linear(dim, self.kv_heads * dim_head, bias=False)
        self.key_length = nn.Parameter(_length_projection(seq_len, k))
        if not share_kv:
            self.value = nn.Linear(dim, self.kv_heads * dim_head, bias=False)
            self.value_length = nn.Parameter(_length_projection(seq_len, k))
        self.out = nn.Linear(heads * dim_head, dim)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.seq_len:
            raise ValueError(f"{x.shape[1]} tokens are more than seq_len={self.seq_len}, for which it was built")
        query = split_heads(self.query(x), self.heads)  # (B, heads, N, d)
        key = self._shortened(self.key(x), self.key_length)  # (B, kv_heads, k, d)
        value = key if self.share_kv else self._shortened(self.value(x), self.value_length)
        y: Tensor = self.out(merge_heads(_attend(query, key, value)))  # (B, N, C)
        return y

    def _shortened(self, x: Tensor, projection: Tensor) -> Tensor:
        short = projection[: x.shape[1]].transpose(0, 1) @ x  # (k, N) (B, N, kv_heads * d) -> (B, k, kv_heads * d)
        return split_heads(short, self.kv_heads)


def _length_projection(seq_len: int, k: int) -> Tensor:
    return torch.empty(seq_len, k).uniform_(-(k**-0.5), k**-0.5)


@attention(
    name="nystrom",
    aliases=("nystromformer",),
    layout="bnc",
    complexity="N",
    memory="N",
    where={"m": "num_landmarks", "padded": "(N + m - 1) // m * m"},
    params="4*C**2 + C + residual_conv_kernel*heads",
    macs="B*(4*N*C**2 + 2*N*m*C + 2*padded*m*C + m**2*C + 4*pinv_iterations*m**3*heads + N*m**2*heads"
    " + residual_conv_kernel*N*C)",
    may_be_zero=("residual_conv_kernel", "pinv_iterations"),
    paper="Xiong et al. 2021, Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, "
    "arXiv:2102.03902",
    computes="approximation",
)
class NystromAttention(nn.Module):
    """Nyström attention: the softmax matrix from a few landmarks, means of neighbouring tokens.

    F = softmax(q k_l^T), A = softmax(q_l k_l^T), D = softmax(q_l k^T), all scaled by 1 / sqrt(d);
    y = W_o concat_h(F Z (D v) + DWConv(v)), Z an iterated pseudo-inverse of A: Z <- Z (13 I - A Z (15 I - A Z
    (7 I - A Z))) / 4, from Z = A^T / (largest column sum; the rows of a softmax sum to one). W_q, W_k, W_v have no
    bias. (B, N, C) -> (B, N, C). Two habits of public code are kept: the largest sum is that of the whole batch, so
    that a sample's output depends on its neighbours in the batch (a little: the iteration is not run to the end); and
    where the landmarks do not divide N, zeros are put in front, which take part as keys and in the means.

    Hyper-parameters: `num_landmarks` m; `pinv_iterations`; `residual_conv_kernel`, odd, along the tokens (0: no
    convolution); `own_start` starts each matrix from its own largest sum, so that samples do not
    meet.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        num_landmarks: int = 64,
        pinv_iterations: int = 6,
        residual_conv_kernel: int = 33,
        own_start: bool = False,
    ) -> None:
        super().__init__()
        if residual_conv_kernel and residual_conv_kernel % 2 == 0:
            raise ValueError(f"residual_conv_kernel={residual_conv_kernel} is even: only an odd one keeps the length")
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.num_landmarks, self.pinv_iterations, self.own_start = num_landmarks, pinv_iterations, own_start
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.conv = _along_tokens(heads, residual_conv_kernel) if residual_conv_kernel else None
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        # Without a bias zeros stay zeros, so that they need not be projected: N -> M m, M tokens to a landmark.
        qkv = F.pad(self.qkv(x), (0, 0, -tokens % self.num_landmarks, 0))
        query, key, value = (split_heads(each, self.heads) for each in qkv.chunk(3, dim=-1))  # (B, heads, M m, d)
        query = query * self.scale
        query_marks, key_marks = self._landmarks(query), self._landmarks(key)  # (B, heads, m, d)
        between = (query_marks @ key_marks.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, m, m)
        from_keys = (query_marks @ key.transpose(-2, -1)).softmax(dim=-1) @ value  # (B, heads, m, d)
        query, value = query[:, :, -tokens:], value[:, :, -tokens:]  # (B, heads, N, d)
        to_marks = (query @ key_marks.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, N, m)
        attended = (to_marks @ self._pseudo_inverse(between)) @ from_keys  # (B, heads, N, d)
        if self.conv is not None:
            attended = attended + self.conv(value)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y

    def _landmarks(self, x: Tensor) -> Tensor:
        batch, heads, tokens, width = x.shape
        marks = self.num_landmarks
        return x.reshape(batch, heads, marks, tokens // marks, width).mean(dim=3)  # (B, heads, m, d)

    def _pseudo_inverse(self, matrix: Tensor) -> Tensor:
        """(B, heads, m, m) -> (B, heads, m, m), by the third-order iteration of the paper's equation 11."""
        over = (-1,) if self.own_start else (0, 1, 2)
        largest = matrix.sum(dim=-2).amax(dim=over, keepdim=True).unsqueeze(-1)  # (1, 1, 1, 1) or (B, heads, 1, 1)
        inverse = matrix.transpose(-2, -1) / largest
        unit = torch.eye(self.num_landmarks, dtype=matrix.dtype, device=matrix.device)
        outer, middle, inner = 13 / 4 * unit, 15 / 4 * unit, 7 / 4 * unit
        for _ in range(self.pinv_iterations):
            product = matrix @ inverse
            inverse = inverse @ (outer - product @ (middle - product @ inner.sub(product, alpha=1 / 4)))
        return inverse


def _along_tokens(heads: int, kernel: int) -> nn.Conv2d:
    """A filter along the tokens for each head, the same for all of its channels: (B, heads, N, d), same shape."""
    return nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)


@attention(
    name="sr",
    aliases=("pvt", "twins_gsa", "segformer"),
    layout="bchw",
    complexity="N^2",
    memory="N^2",
    where={"M": "max(H // sr_ratio, 1)*max(W // sr_ratio, 1)"},
    params="4*C**2 + C + (3*C if qkv_bias else 0) + (sr_ratio**2*C**2 + 3*C if sr_ratio - 1 else 0)",
    macs="B*(2*N*C**2 + 2*M*C**2 + (M*sr_ratio**2*C**2 if sr_ratio - 1 else 0) + 2*N*M*C)",
    paper="Wang et al. 2021, Pyramid Vision Transformer, arXiv:2102.12122",
    computes="approximation",
)
class SpatialReductionAttention(nn.Module):
    """Spatial-reduction attention: keys and values come from a map that a strided convolution has made smaller.

    z = LN(Conv_RxR,stride R(x)), y = W_o concat_h(softmax(q k^T / sqrt(d)) v), q = W_q x, (k, v) = W_kv z.
    (B, C, H, W) -> (B, C, H, W). With R = `sr_ratio` fixed it is N^2 / R^2, still quadratic. Rows and columns that R
    does not divide are left out of the keys, as in the authors' code; a side below R is filled up with zeros to R,
    where that code fails. Eager, it holds (B, heads, N, N / R^2).

    Hyper-parameters: `sr_ratio` (the paper takes 8, 4, 2, 1 on maps of side 56, 28, 14, 7); 1 is full attention,
    without convolution and norm. `qkv_bias`.
    """

    def __init__(self, dim: int, heads: int, sr_ratio: int = 4, qkv_bias: bool = True) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.sr_ratio = heads, sr_ratio
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key_value = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.reduce = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        query = split_heads(self.query(tokens), self.heads)  # (B, heads, N, d)
        fewer = self._reduced(x) if self.sr_ratio > 1 else tokens  # (B, M, C)
        key, value = (split_heads(each, self.heads) for each in self.key_value(fewer).chunk(2, dim=-1))
        attended = self.out(merge_heads(_attend(query, key, value)))  # (B, N, C)
        y: Tensor = attended.transpose(1, 2).reshape(x.shape)  # (B, C, H, W)
        return y

    def _reduced(self, x: Tensor) -> Tensor:
        lacking = [max(self.sr_ratio - side, 0) for side in x.shape[2:]]
        x = self.reduce(F.pad(x, (0, lacking[1], 0, lacking[0])) if any(lacking) else x)
        y: Tensor = self.norm(x.flatten(2).transpose(1, 2))  # (B, M, C)
        return y


@attention(
    name="external",
    aliases=("eanet",),
    layout="bnc",
    complexity="N",
    memory="N",
    params="2*C*S",
    macs="B*2*N*C*S",
    paper="Guo et al. 2021, Beyond Self-attention: External Attention using Two Linear Layers, arXiv:2105.02358",
)
class ExternalAttention(nn.Module):
    """External attention: the tokens attend to S learned keys and values, the same for every input.

    A = softmax over the tokens of x M_k^T, its rows then divided by their sums, y = A M_v; M_k and M_v are (S, C)
    without a bias. (B, N, C) -> (B, N, C). The core alone: EANet puts 1x1 convolutions, a batch norm and a residual
    around it. No position sees another but through the softmax over the tokens.

    Hyper-parameters: `S`, the number of learned keys.
    """

    def __init__(self, dim: int, S: int = 64) -> None:
        super().__init__()
        self.keys = nn.Linear(dim, S, bias=False)
        self.values = nn.Linear(S, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.keys(x).softmax(dim=1)  # (B, N, S), over the tokens
        weights = weights / weights.sum(dim=2, keepdim=True)
        y: Tensor = self.values(weights)  # (B, N, C)
        return y


# The agents' learned biases are this many positions high and wide, and are stretched to the map.
_GRID = 7


@attention(
    name="agent",
    layout="bchw",
    complexity="N",
    memory="N",
    params="4*C**2 + 11*C + (3*C if qkv_bias else 0) + 2*heads*agent_num*(49 + height + width)",
    macs="B*(4*N*C**2 + 4*agent_num*N*C + 9*N*C)",
    paper="Han et al. 2023, Agent Attention: On the Integration of Softmax and Linear Attention, arXiv:2312.08874",
    computes="approximation",
)
class AgentAttention(nn.Module):
    """Agent attention: a few agents, pooled from the queries, gather the values and hand them on to the queries.

    a = AvgPool(q), y = W_o concat_h(softmax(q a^T / sqrt(d) + b_2) softmax(a k^T / sqrt(d) + b_1) v + DWConv_3x3(v)).
    b_1 and b_2 are learned: a 7x7 grid for each agent and head, stretched to the map, plus one value for each row and
    one for each column, so the number of parameters grows with the resolution. (B, C, height, width), same shape out.

    Hyper-parameters: `height` and `width` of the map; `agent_num`, a square number; `qkv_bias`.
    """

    def __init__(
        self, dim: int, heads: int, height: int, width: int, agent_num: int = 49, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.side = round(agent_num**0.5)
        if self.side**2 != agent_num:
            raise ValueError(f"agent_num={agent_num} is not a square number: the agents are pooled to a square map")
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key = nn.Linear(dim, dim, bias=qkv_bias)
        self.value = nn.Linear(dim, dim, bias=qkv_bias)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.out = nn.Linear(dim, dim)
        self.gather = _AgentBias(heads, agent_num, height, width)
        self.spread = _AgentBias(heads, agent_num, height, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        query, value = self.query(tokens), self.value(tokens)
        pooled = F.adaptive_avg_pool2d(_as_map(query, x), self.side)  # (B, C, side, side)
        agents = split_heads(pooled.flatten(2).transpose(1, 2), self.heads)  # (B, heads, n, d)
        agents = agents * agents.shape[-1] ** -0.5
        key = split_heads(self.key(tokens), self.heads)  # (B, heads, N, d)
        gathered = agents @ key.transpose(-2, -1) + self.gather(*x.shape[2:])  # (B, heads, n, N)
        of_agents = gathered.softmax(dim=-1) @ split_heads(value, self.heads)  # (B, heads, n, d)
        to_agents = split_heads(query, self.heads) @ agents.transpose(-2, -1)  # (B, heads, N, n)
        weights = (to_agents + self.spread(*x.shape[2:]).transpose(-2, -1)).softmax(dim=-1)
        local = self.conv(_as_map(value, x)).flatten(2).transpose(1, 2)  # (B, N, C)
        attended = self.out(merge_heads(weights @ of_agents) + local)  # (B, N, C)
        return _as_map(attended, x)


class _AgentBias(nn.Module):
    """The learned bias between agents and positions: a stretched grid, rows and columns. () -> (heads, n, N)."""

    def __init__(self, heads: int, agents: int, height: int, width: int) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.empty(heads, agents, _GRID, _GRID))
        self.rows = nn.Parameter(torch.empty(heads, agents, height, 1))
        self.columns = nn.Parameter(torch.empty(heads, agents, 1, width))
        for each in self.parameters():
            nn.init.trunc_normal_(each, std=0.02)

    def forward(self, height: int, width: int) -> Tensor:
        stretched = F.interpolate(self.grid, (height, width), mode="bilinear")  # (heads, n, H, W)
        return (stretched + (self.rows + self.columns)).flatten(2)  # (heads, n, N)


def _as_map(tokens: Tensor, like: Tensor) -> Tensor:
    return tokens.transpose(1, 2).reshape(like.shape)  # (B, N, C) -> (B, C, H, W)


@attention(
    name="a2",
    aliases=("double",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"c_m": "c_m or C // 4", "c_n": "c_n or C // 4"},
    params="2*C*(c_m + c_n) + c_m + 2*c_n + C",
    macs="B*(2*N*C*(c_m + c_n) + 2*N*c_m*c_n)",
    paper="Chen et al. 2018, A2-Nets: Double Attention Networks, arXiv:1810.11579",
)
class DoubleAttention(nn.Module):
    """Double attention: features are gathered into a few descriptors of the whole map, then handed to each position.

    A, B, V = 1x1 convolutions of x with c_m, c_n, c_n channels; G = A softmax_N(B)^T, (c_m, c_n), the first softmax
    over the positions; Z = G softmax_c(V), the second over the channels; y = W_o Z. (B, C, H, W) -> (B, C, H, W),
    without the residual that the network puts around it. Some public implementations take both softmaxes over the
    positions, or one over the batch.

    Hyper-parameters: `c_m`, `c_n`, the descriptors' width and number (dim / 4, as in the paper).
    """

    def __init__(self, dim: int, c_m: int | None = None, c_n: int | None = None) -> None:
        super().__init__()
        c_m, c_n = c_m or reduced(dim, 4, "the reduction"), c_n or reduced(dim, 4, "the reduction")
        self.value = nn.Conv2d(dim, c_m, 1)
        self.key = nn.Conv2d(dim, c_n, 1)
        self.query = nn.Conv2d(dim, c_n, 1)
        self.out = nn.Conv2d(c_m, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x).flatten(2)  # (B, c_m, N)
        gathering = self.key(x).flatten(2).softmax(dim=2)  # (B, c_n, N), over the positions
        handing = self.query(x).flatten(2).softmax(dim=1)  # (B, c_n, N), over the channels
        descriptors = value @ gathering.transpose(1, 2)  # (B, c_m, c_n)
        y: Tensor = self.out((descriptors @ handing).unflatten(2, x.shape[2:]))  # (B, C, H, W)
        return y
