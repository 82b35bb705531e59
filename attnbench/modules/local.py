"""Local and sparse attention: each query sees only some of the keys, near ones, those in line, or chosen ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.parts.arguments import head_dim, reduced, same_padding
from attnbench.modules.parts.drawn_blocks import drawn_blocks
from attnbench.modules.parts.heads import merge_heads, split_heads, split_qkv
from attnbench.modules.parts.windows import padded, unwindowed, windows
from attnbench.modules.spec import attention

__all__ = [
    "AxialAttention",
    "BiLevelRoutingAttention",
    "BigBirdAttention",
    "CrissCrossAttention",
    "LocallyGroupedAttention",
    "LshAttention",
    "NeighborhoodAttention",
    "ShiftedWindowAttention",
    "SlidingWindowAttention",
]


@attention(
    name="swin",
    layout="bchw",
    complexity="N",
    memory="N",
    where={
        "w_h": "min(window, H)",
        "w_w": "min(window, W)",
        "P": "(H + w_h - 1)//w_h*w_h*((W + w_w - 1)//w_w*w_w)",
    },
    params="4*C**2 + 4*C + heads*(2*window - 1)**2",
    macs="B*(4*P*C**2 + 2*P*w_h*w_w*C)",
    paper="Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv:2103.14030",
    computes="softmax",
)
class ShiftedWindowAttention(nn.Module):
    """Attention within windows of a map, which the shift moves by half a window, with a bias for relative positions.

    In each window y = W_o concat_h(softmax(q k^T / sqrt(d) + b) v), b = table[row_i - row_j, column_i - column_j, h].
    With the shift the map is rolled by half a window first, and back afterwards; what meets in a window only because
    it came round the border is masked. (B, C, H, W) -> (B, C, H, W).

    Sides that windows do not divide are treated as in timm: the rolled map is padded with zeros below and to the
    right before the projections, so that the padding is seen, with the biases of key and value as its key and value;
    and the mask parts the last half window of the padded map. A side that fits into the window is one window, neither
    padded nor shifted. P in the MAC formula are the positions with the padding.

    Hyper-parameters: `window`, the side of a window; `shift`, as every second layer of Swin has it (without: W-MSA).
    """

    offsets: Tensor

    def __init__(self, dim: int, heads: int, window: int = 8, shift: bool = True) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.window, self.shift = _positive("window", window), shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.table = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, heads))
        self.register_buffer("offsets", _offsets(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        sides = min(self.window, height), min(self.window, width)
        shifts = [self.window // 2 if self.shift and size > self.window else 0 for size in (height, width)]
        rolled = x.permute(0, 2, 3, 1).roll([-shift for shift in shifts], (1, 2))  # (B, H, W, C)
        whole = padded(rolled, sides)  # (B, H', W', C)
        attended = self._attend(windows(whole, sides), sides, _strangers(whole, sides, shifts))
        whole = unwindowed(self.out(attended), sides, whole.shape[2] // sides[1])  # (B, H', W', C)
        return whole[:, :height, :width].roll(shifts, (1, 2)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor, sides: tuple[int, int], strangers: Tensor | None) -> Tensor:
        query, key, value = split_qkv(self.qkv(x), self.heads)  # (B, nW, heads, T, d)
        bias = self.table[self.offsets[: sides[0], : sides[1], : sides[0], : sides[1]].flatten()]  # (T * T, heads)
        bias = torch.unflatten(bias.T, -1, (x.shape[2], -1))  # (heads, T, T)
        scores = (query * self.scale) @ key.transpose(-2, -1) + bias  # (B, nW, heads, T, T)
        if strangers is not None:
            scores = scores.masked_fill(strangers, float("-inf"))
        return merge_heads(scores.softmax(dim=-1) @ value)  # (B, nW, T, C)


def _offsets(window: int) -> Tensor:
    """(w, w, w, w): for query (row, column) and key (row, column), the row of the table of relative positions."""
    side = torch.arange(window)
    apart = side[:, None] - side + window - 1  # (w, w), from 0 to 2w - 2
    return apart[:, None, :, None] * (2 * window - 1) + apart[:, None, :]


def _strangers(x: Tensor, sides: tuple[int, int], shifts: list[int]) -> Tensor | None:
    """(nW, 1, T, T): True where a query and a key lie on two sides of the border that was rolled into a window."""
    if not any(shifts):
        return None
    sizes = zip(x.shape[1:3], shifts, strict=True)
    rows, columns = (torch.arange(size, device=x.device) >= size - shift for size, shift in sizes)
    part = rows[:, None] * 2 + columns  # (H', W')
    part = windows(part[None, :, :, None], sides)[0]  # (nW, T, 1)
    return (part != part.transpose(1, 2)).unsqueeze(1)


@attention(
    name="natten",
    aliases=("neighborhood",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={
        "k_h": "min(kernel_size, (H + dilation - 1)//dilation)",
        "k_w": "min(kernel_size, (W + dilation - 1)//dilation)",
    },
    params="4*C**2 + 4*C + (heads*(2*kernel_size - 1)**2 if rel_pos_bias else 0)",
    macs="B*(4*N*C**2 + 2*N*k_h*k_w*C)",
    paper="Hassani et al. 2022, Neighborhood Attention Transformer, arXiv:2204.07143; "
    "dilated: Hassani and Shi 2022, arXiv:2209.15001",
    computes="softmax",
    causal="flag",
)
class NeighborhoodAttention(nn.Module):
    """Neighbourhood attention: each position of a map sees the kernel_size x kernel_size positions around it.

    y_i = W_o concat_h(softmax_{j in n(i)}(q_i . k_j / sqrt(d) [+ b_{j - i}]) v_j). Near a border the neighbourhood is
    shifted, not cut off: every position has as many neighbours. (B, C, H, W) -> (B, C, H, W).

    Plain torch, without the published kernels: keys and values of all neighbourhoods are gathered, which takes
    2 * C * N * kernel_size^2 numbers, linear in N but far more than a fused kernel.

    Hyper-parameters: `kernel_size`; `dilation`, neighbours are so many positions apart; `causal`, in both directions
    only what is not after the query, and nothing is shifted; `rel_pos_bias`, one learned number for each offset and
    head, as in the first paper. A side of fewer than kernel_size * dilation positions, which the published kernels
    refuse, is seen whole.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        kernel_size: int = 7,
        dilation: int = 1,
        causal: bool = False,
        rel_pos_bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.kernel_size = _positive("kernel_size", kernel_size)
        self.dilation, self.causal = _positive("dilation", dilation), causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        span = 2 * kernel_size - 1
        self.rel_pos_bias = nn.Parameter(0.02 * torch.randn(heads, span, span)) if rel_pos_bias else None

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2).contiguous()  # (B, C, H, W) -> (B, N, C)
        query, key, value = split_qkv(self.qkv(tokens), self.heads)  # (B, heads, N, d)
        rows, columns = self._neighbours(height, x.device), self._neighbours(width, x.device)  # (H, k_h), (W, k_w)
        near = _pairs(rows.clamp(0, height - 1) * width, columns.clamp(0, width - 1))  # (N, K), K = k_h * k_w
        scores = (query * self.scale).unsqueeze(3) @ key[:, :, near].transpose(-2, -1)  # (B, heads, N, 1, K)
        scores = self._biased(scores.squeeze(3), rows, columns)  # (B, heads, N, K)
        attended = scores.softmax(dim=-1).unsqueeze(3) @ value[:, :, near]  # (B, heads, N, 1, d)
        y: Tensor = self.out(merge_heads(attended.squeeze(3)))  # (B, N, C)
        return y.transpose(1, 2).reshape(x.shape)

    def _neighbours(self, size: int, device: torch.device) -> Tensor:
        """(size, k): the neighbours of each position on a side; those below 0 or beyond the side are not there."""
        count = min(self.kernel_size, -(-size // self.dilation))
        position = torch.arange(size, device=device)
        # Positions a multiple of the dilation apart form a line of their own: its offset, its length, the place on it.
        offset, place = position % self.dilation, position // self.dilation
        length = (size - offset + self.dilation - 1) // self.dilation
        centred = (place - count // 2).clamp(min=0).minimum((length - count).clamp(min=0))
        first = place - count + 1 if self.causal else centred
        return offset[:, None] + (first[:, None] + torch.arange(count, device=device)) * self.dilation

    def _biased(self, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Scores (B, heads, N, K) with the bias, and minus infinity for neighbours that are not there."""
        sides = len(rows), len(columns)
        if self.rel_pos_bias is not None:
            apart = [self._apart(each) for each in (rows, columns)]  # (H, k_h), (W, k_w)
            scores = scores + self.rel_pos_bias.flatten(1)[:, _pairs(apart[0] * (2 * self.kernel_size - 1), apart[1])]
        if self.causal or min(sides) < self.kernel_size * self.dilation:
            missing = [(each < 0) | (each >= side) for each, side in zip((rows, columns), sides, strict=True)]
            scores = scores.masked_fill(_pairs(*missing), float("-inf"))
        return scores

    def _apart(self, neighbours: Tensor) -> Tensor:
        """(size, k): how many places each neighbour is from its query, from 0 to 2 * kernel_size - 2."""
        position = torch.arange(len(neighbours), device=neighbours.device)
        return (neighbours - position[:, None]) // self.dilation + self.kernel_size - 1


def _pairs(rows: Tensor, columns: Tensor) -> Tensor:
    """(H, k_h) and (W, k_w) -> (H * W, k_h * k_w): the sums, of truth values the or, of every row's and column's."""
    return (rows[:, None, :, None] + columns[:, None]).flatten(2).flatten(0, 1)


@attention(
    name="sliding_window",
    aliases=("local_causal", "longformer"),
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "span": "window + (window if causal else window//2*2)",
        "P": "(N + window - 1)//window*window",
    },
    params="4*C**2 + 4*C",
    macs="B*(4*N*C**2 + 2*P*span*C)",
    paper="Beltagy et al. 2020, Longformer: The Long-Document Transformer, arXiv:2004.05150",
    computes="softmax",
    causal="flag",
)
class SlidingWindowAttention(nn.Module):
    """Each token sees a window of tokens around it, or, causal, itself and the `window` tokens before it.

    y_i = W_o concat_h(softmax_j(q_i . k_j / sqrt(d)) v_j) over |i - j| <= window / 2, or 0 <= i - j <= window: a
    window of w is w + 1 keys. (B, N, C) -> (B, N, C). Without the global tokens of Longformer.

    In blocks, as the published implementations: `window` queries at a time are compared with the `span` keys that
    any of them sees, 2w, and each query's scores beyond its window are masked; about half of the product is useful.
    The last block is padded to P tokens, so that fewer than `window` tokens cost as much as a whole block.

    Hyper-parameters: `window` (Longformer: 512), `causal`.
    """

    def __init__(self, dim: int, heads: int, window: int = 128, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.window = _positive("window", window)
        self.before, self.after = (window, 0) if causal else (window // 2, window // 2)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        query, key, value = split_qkv(self.qkv(x), self.heads)  # (B, heads, N, d)
        query = F.pad(query * self.scale, (0, 0, 0, -tokens % self.window))  # (B, heads, P, d)
        scores = torch.unflatten(query, 2, (-1, self.window)) @ self._spans(key)  # (B, heads, n, window, span)
        # Not minus infinity: a padded query may see nothing, and its gradient must not become NaN.
        scores = scores.masked_fill(self._hidden(tokens, x.device), torch.finfo(scores.dtype).min)
        attended = scores.softmax(dim=-1) @ self._spans(value).transpose(-2, -1)  # (B, heads, n, window, d)
        y: Tensor = self.out(merge_heads(attended.flatten(2, 3))[:, :tokens].contiguous())  # (B, N, C)
        return y

    def _spans(self, x: Tensor) -> Tensor:
        """(B, heads, N, d) -> (B, heads, n, d, span): the tokens that each of the n blocks of queries sees."""
        x = F.pad(x, (0, 0, self.before, -x.shape[2] % self.window + self.after))
        return x.unfold(2, self.before + self.window + self.after, self.window)

    def _hidden(self, tokens: int, device: torch.device) -> Tensor:
        """(n, window, span): True where the key is beyond the query's window, or is padding."""
        ends = torch.arange(0, tokens, self.window, device=device)[:, None]  # (n, 1)
        in_block = torch.arange(self.window, device=device)[:, None]  # (window, 1)
        in_span = torch.arange(self.before + self.window + self.after, device=device)  # (span,)
        beyond = (in_span < in_block) | (in_span > in_block + self.before + self.after)  # (window, span)
        position = ends + in_span - self.before  # (n, span)
        return beyond | ((position < 0) | (position >= tokens))[:, None]


@attention(
    name="axial",
    layout="bchw",
    complexity="N^1.5",
    memory="N^1.5",
    params="2*(4*C**2 + C)",
    macs="B*(8*N*C**2 + 2*N*(H + W)*C)",
    paper="Ho et al. 2019, Axial Attention in Multidimensional Transformers, arXiv:1912.12180",
)
class AxialAttention(nn.Module):
    """Axial attention: one attention along the columns of a map and one along its rows, and their sum.

    Each has its own projections, without biases but for W_o: y = A_columns(x) + A_rows(x), A(x) = W_o concat_h(
    softmax(q k^T / sqrt(d)) v). (B, C, H, W) -> (B, C, H, W). O(N (H + W)), which on a square map is O(N^1.5).
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.columns = _LineAttention(dim, heads)
        self.rows = _LineAttention(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.columns(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)  # (B, W, H, C) -> (B, C, H, W)
        rows = self.rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        y: Tensor = columns + rows
        return y


class _LineAttention(nn.Module):
    """Softmax attention within each line: (B, lines, T, C) -> (B, lines, T, C)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = split_qkv(self.qkv(x), self.heads)
        scores = (query * self.scale) @ key.transpose(-2, -1)  # (B, lines, heads, T, T)
        y: Tensor = self.out(merge_heads(scores.softmax(dim=-1) @ value))  # (B, lines, T, C)
        return y


@attention(
    name="criss_cross",
    aliases=("ccnet",),
    layout="bchw",
    complexity="N^1.5",
    memory="N^1.5",
    where={"d_k": "C // key_ratio"},
    params="2*(C*d_k + d_k) + C**2 + C + 1",
    macs="B*recurrence*(N*C*(2*d_k + C) + N*(H + W)*(d_k + C))",
    paper="Huang et al. 2018, CCNet: Criss-Cross Attention for Semantic Segmentation, arXiv:1811.11721",
    computes="softmax",
)
class CrissCrossAttention(nn.Module):
    """Criss-cross attention: each position of a map sees its row and its column, under one softmax.

    q, k, v are 1x1 convolutions, A_ij = softmax_j(q_i . k_j) over the H + W - 1 positions j in the cross of i, not
    scaled; y = gamma * A v + x, and gamma starts at zero. (B, C, H, W) -> (B, C, H, W). O(N (H + W)), which on a
    square map is O(N^1.5). The position itself is in both lines: its score in the column is computed and masked.

    Hyper-parameters: `key_ratio`, by which queries and keys are narrower than `dim`; `recurrence`, how often it is
    applied with the same weights: two times, as in CCNet, bring every position to every other.
    """

    def __init__(self, dim: int, key_ratio: int = 8, recurrence: int = 1) -> None:
        super().__init__()
        d_k = reduced(dim, key_ratio, "key_ratio")
        self.recurrence = _positive("recurrence", recurrence)
        self.query = nn.Conv2d(dim, d_k, 1)
        self.key = nn.Conv2d(dim, d_k, 1)
        self.value = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):
            x = self.gamma * self._cross(x) + x
        return x

    def _cross(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        query, key, value = (project(x).permute(0, 2, 3, 1) for project in (self.query, self.key, self.value))
        in_row = query @ key.transpose(2, 3)  # (B, H, W, W)
        in_column = query.transpose(1, 2) @ key.permute(0, 2, 3, 1)  # (B, W, H, H)
        itself = torch.eye(height, dtype=torch.bool, device=x.device)
        in_column = in_column.masked_fill(itself, float("-inf")).transpose(1, 2)  # (B, H, W, H)
        weights = torch.cat([in_column, in_row], dim=3).softmax(dim=3)  # (B, H, W, H + W)
        of_column, of_row = weights[..., :height].transpose(1, 2), weights[..., height:]
        attended: Tensor = (of_column @ value.transpose(1, 2)).transpose(1, 2) + of_row @ value  # (B, H, W, C)
        return attended.permute(0, 3, 1, 2)


@attention(
    name="twins_lsa",
    aliases=("lsa",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"P": "(H + window - 1)//window*window*((W + window - 1)//window*window)"},
    params="4*C**2 + 4*C",
    macs="B*(3*P*C**2 + N*C**2 + 2*P*window**2*C)",
    paper="Chu et al. 2021, Twins: Revisiting the Design of Spatial Attention in Vision Transformers, arXiv:2104.13840",
    computes="softmax",
)
class LocallyGroupedAttention(nn.Module):
    """Locally grouped self-attention of Twins: softmax attention within each window of a map, without a bias.

    In each window y = W_o concat_h(softmax(q k^T / sqrt(d)) v). (B, C, H, W) -> (B, C, H, W).

    A map that windows do not divide is padded with zeros below and to the right before the projections, as in timm:
    the padding is seen, with the biases of key and value as its key and value. P in the MAC formula are the positions
    with the padding; W_o is applied without it.

    Hyper-parameters: `window`, the side of a window.
    """

    def __init__(self, dim: int, heads: int, window: int = 7) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.window = _positive("window", window)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        sides = (self.window, self.window)
        whole = padded(x.permute(0, 2, 3, 1), sides)  # (B, H', W', C)
        query, key, value = split_qkv(self.qkv(windows(whole, sides)), self.heads)  # (B, nW, heads, T, d)
        scores = (query * self.scale) @ key.transpose(-2, -1)  # (B, nW, heads, T, T)
        attended = merge_heads(scores.softmax(dim=-1) @ value)  # (B, nW, T, C)
        attended = unwindowed(attended, sides, whole.shape[2] // self.window)  # (B, H', W', C)
        y: Tensor = self.out(attended[:, : x.shape[2], : x.shape[3]].contiguous())  # (B, H, W, C)
        return y.permute(0, 3, 1, 2)


@attention(
    name="biformer",
    aliases=("bra",),
    layout="bchw",
    complexity="N^2",
    memory="N^2",
    where={
        "R": "n_win**2",
        "P": "(H + n_win - 1)//n_win*n_win*((W + n_win - 1)//n_win*n_win)",
    },
    params="4*C**2 + 4*C + (C*(side_dwconv**2 + 1) if side_dwconv else 0)",
    macs="B*(4*P*C**2 + R**2*C + 2*P*topk*(P//R)*C + P*side_dwconv**2*C)",
    paper="Zhu et al. 2023, BiFormer: Vision Transformer with Bi-Level Routing Attention, arXiv:2303.08810",
    computes="softmax",
)
class BiLevelRoutingAttention(nn.Module):
    """Bi-level routing attention: each region of a map sees the `topk` regions whose mean key fits its mean query.

    The map is cut into n_win x n_win regions. Regions are chosen by the mean of their queries times the mean of their
    keys, then y = W_o (concat_h(softmax(q k^T / sqrt(C)) v) + DWConv(v)) over all positions of the chosen regions; the
    scale is that of the whole width, not of a head. No gradient passes the choice. (B, C, H, W) -> (B, C, H, W).

    With a fixed number of regions, as here, a region grows with the map and the cost is O(N^2), topk / n_win^2 of
    that of full attention; the paper's O(N^(4/3)) holds when n_win grows as N^(1/3). A map that n_win does not divide
    is padded with zeros below and to the right before the projections, as in the authors' code: the padding is seen,
    with the biases as its key and value. P in the MAC formula are the positions with the padding.

    Hyper-parameters: `n_win`, regions along each side; `topk`, how many are seen; `side_dwconv`, the kernel of the
    depthwise convolution (odd; 0: none).
    """

    def __init__(self, dim: int, heads: int, n_win: int = 7, topk: int = 4, side_dwconv: int = 5) -> None:
        super().__init__()
        head_dim(dim, heads)
        self.heads, self.scale = heads, dim**-0.5
        self.n_win, self.topk = _positive("n_win", n_win), topk
        if not 1 <= topk <= n_win**2:
            raise ValueError(f"topk={topk} is not between 1 and the number of regions, n_win**2={n_win**2}")
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        padding = same_padding(side_dwconv, "side_dwconv") if side_dwconv else 0
        self.side = nn.Conv2d(dim, dim, side_dwconv, padding=padding, groups=dim) if side_dwconv else None

    def forward(self, x: Tensor) -> Tensor:
        whole = padded(x.permute(0, 2, 3, 1), (self.n_win, self.n_win))  # (B, H', W', C)
        sides = whole.shape[1] // self.n_win, whole.shape[2] // self.n_win
        query, key, value = self.qkv(whole.contiguous()).chunk(3, -1)  # (B, H', W', C)
        attended = self._attend(*(windows(each, sides) for each in (query, key, value)))  # (B, R, T, C)
        attended = unwindowed(attended, sides, self.n_win)  # (B, H', W', C)
        if self.side is not None:
            attended = attended + self.side(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y: Tensor = self.out(attended)[:, : x.shape[2], : x.shape[3]]  # (B, H, W, C)
        return y.permute(0, 3, 1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        chosen = self._route(query.detach().mean(dim=2), key.detach().mean(dim=2))  # (B, R, topk)
        key, value = (split_heads(_regions(each, chosen), self.heads) for each in (key, value))
        scores = (split_heads(query, self.heads) * self.scale) @ key.transpose(-2, -1)  # (B, R, heads, T, topk * T)
        return merge_heads(scores.softmax(dim=-1) @ value)  # (B, R, T, C)

    def _route(self, query: Tensor, key: Tensor) -> Tensor:
        """(B, R, C), (B, R, C) -> (B, R, topk): the regions that each region sees."""
        chosen: Tensor = ((query * self.scale) @ key.transpose(1, 2)).topk(self.topk, dim=-1).indices
        return chosen


def _regions(x: Tensor, chosen: Tensor) -> Tensor:
    """(B, R, T, C) and indices (B, R, topk) -> (B, R, topk * T, C): all positions of the chosen regions."""
    index = chosen.flatten(1)[:, :, None, None].expand(-1, -1, *x.shape[2:])  # (B, R * topk, T, C)
    return torch.unflatten(x.gather(1, index), 1, chosen.shape[1:]).flatten(2, 3)


@attention(
    name="bigbird",
    layout="bnc",
    complexity="N",
    memory="N",
    where={
        "n": "(N + block - 1)//block",
        "sparse": "max(0, n - 5 - 2*random_blocks)",
        "pairs": "(2*block*N + (n - 2)*(5 + random_blocks)*block**2) if sparse else N**2",
    },
    params="3*C**2 + 3*C",
    macs="B*(3*N*C**2 + 2*pairs*C)",
    may_be_zero=("random_blocks",),
    paper="Zaheer et al. 2020, Big Bird: Transformers for Longer Sequences, arXiv:2007.14062",
    computes="softmax",
)
class BigBirdAttention(nn.Module):
    """Block-sparse attention: each block of tokens sees the first and last, its neighbours, and a few random blocks.

    y = concat_h(softmax(q k^T / sqrt(d)) v) over the blocks seen: the first and the last block see every block, each
    other one the first, the last, those before and after it, itself, and `random_blocks` more, drawn for each head
    from `seed` when the module is built. (B, N, C) -> (B, N, C), N tokens in at most ceil(seq_len / block) blocks.

    As in transformers: no W_o (it belongs to the layer around it), the last block is padded and the padding masked,
    and a sequence of at most 5 + 2 * random_blocks blocks is attended to in full. Unlike there, random blocks come
    from the whole sequence, as the paper says, and the second and last but one block, which see one block less, are
    computed like the others, with what would be seen twice masked.

    Hyper-parameters: `block` tokens in a block, `random_blocks`, `seed`.
    """

    seen: Tensor
    twice: Tensor

    def __init__(
        self, dim: int, heads: int, seq_len: int, block: int = 64, random_blocks: int = 3, seed: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.block, self.blocks = _positive("block", block), -(-seq_len // block)
        if random_blocks < 0:
            raise ValueError(f"random_blocks={random_blocks} must be at least 0")
        self.sparse = self.blocks > 5 + 2 * random_blocks
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        if self.sparse:
            self.see(drawn_blocks(heads, self.blocks, random_blocks, seed))

    def see(self, random: Tensor) -> None:
        """Take these random blocks, (heads, blocks - 2, random_blocks), for the blocks between the ends."""
        own = torch.arange(1, self.blocks - 1, device=random.device)
        first, last = torch.zeros_like(own), torch.full_like(own, self.blocks - 1)
        always = torch.stack([first, last, own - 1, own, own + 1], dim=-1).expand(self.heads, -1, -1)
        twice = torch.stack([own < 0, own < 0, own == 1, own < 0, own == self.blocks - 2], dim=-1)
        self.register_buffer("seen", torch.cat([always, random], dim=-1))  # (heads, n - 2, s), s = 5 + random_blocks
        self.register_buffer("twice", F.pad(twice, (0, random.shape[-1])))  # (n - 2, s)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        if -(-tokens // self.block) != self.blocks:
            raise ValueError(f"{tokens} tokens do not make the {self.blocks} blocks of {self.block} it was built for")
        query, key, value = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        query = query * self.scale  # (B, heads, N, d)
        if not self.sparse:
            return merge_heads((query @ key.transpose(-2, -1)).softmax(dim=-1) @ value)
        query = self._blocked(query)  # (B, heads, n, block, d)
        ends = torch.cat([query[:, :, :1], query[:, :, -1:]], dim=2).flatten(2, 3)  # (B, heads, 2 * block, d)
        first, last = ((ends @ key.transpose(-2, -1)).softmax(dim=-1) @ value).chunk(2, dim=2)
        between = self._between(query[:, :, 1:-1], self._blocked(key), self._blocked(value), tokens)
        return merge_heads(torch.cat([first, between, last], dim=2)[:, :, :tokens])  # (B, N, C)

    def _blocked(self, x: Tensor) -> Tensor:
        return torch.unflatten(F.pad(x, (0, 0, 0, -x.shape[2] % self.block)), 2, (self.blocks, self.block))

    def _between(self, query: Tensor, key: Tensor, value: Tensor, tokens: int) -> Tensor:
        """Queries (B, heads, n - 2, block, d), the others (B, heads, n, block, d) -> (B, heads, (n - 2) * block, d)."""
        position = self.seen[..., None] * self.block + torch.arange(self.block, device=key.device)
        hidden = (self.twice[..., None] | (position >= tokens)).flatten(2)  # (heads, n - 2, s * block)
        scores = query @ self._seen_by_each(key).transpose(-2, -1)  # (B, heads, n - 2, block, s * block)
        scores = scores.masked_fill(hidden.unsqueeze(2), float("-inf"))
        return (scores.softmax(dim=-1) @ self._seen_by_each(value)).flatten(2, 3)

    def _seen_by_each(self, x: Tensor) -> Tensor:
        """(B, heads, n, block, d) -> (B, heads, n - 2, s * block, d): all tokens of the blocks that each block sees."""
        index = self.seen.flatten(1)[None, :, :, None, None].expand(x.shape[0], -1, -1, *x.shape[3:])
        return torch.unflatten(x.gather(2, index), 2, self.seen.shape[1:]).flatten(3, 4)


@attention(
    name="lsh",
    aliases=("reformer",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    where={
        "n": "2*((N + 2*bucket_size - 1)//(2*bucket_size))",
        "P": "n*bucket_size",
    },
    params="3*C**2 + C",
    macs="B*(3*N*C**2 + n_hashes*(N*C*n//2 + 4*P*bucket_size*C + N*C))",
    paper="Kitaev et al. 2020, Reformer: The Efficient Transformer, arXiv:2001.04451",
    computes="approximation",
    causal="flag",
)
class LshAttention(nn.Module):
    """LSH attention of the Reformer: tokens are sorted by a hash, and each sees its chunk and the one before it.

    Query and key are one vector q, the key at length one. In each round h = argmax([q R; -q R]) with a random R hashes
    N tokens into n = N / bucket_size buckets; sorted by bucket and position they are cut into chunks of bucket_size,
    and softmax attention runs within each chunk and the chunk before it (also over the border of two rounds). A token
    sees itself only when there is nothing else. The rounds are weighed by their sums of exponentials, without
    correcting for a pair that meets in several rounds; then W_o. (B, N, C) -> (B, N, C).

    Stochastic: R is drawn in each forward, (d, n_hashes, n / 2), shared by batch and heads. The paper says
    O(N log N), and that is the sort; but R grows with N, so that hashing takes n_hashes * C * N^2 / (2 * bucket_size)
    MACs and, held for all buckets, as much memory a head: O(N^2) with a small factor. (A hash in two factors, as
    transformers offers it for long sequences, makes that O(N^1.5).) Tokens are padded to P, a multiple of
    2 * bucket_size; the padding has a bucket of its own behind all others and is masked.

    Hyper-parameters: `bucket_size`, `n_hashes` rounds, `causal`: no later token is seen, but which of the earlier
    ones are depends on all tokens, through the sort.
    """

    def __init__(self, dim: int, heads: int, bucket_size: int = 64, n_hashes: int = 8, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim(dim, heads) ** -0.5
        self.bucket_size, self.n_hashes = _positive("bucket_size", bucket_size), _positive("n_hashes", n_hashes)
        self.causal = causal
        self.query_key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        query, value = (split_heads(project(x), self.heads) for project in (self.query_key, self.value))
        order = self._order(query.detach())  # (B, heads, rounds, P), positions by bucket
        query, value = self._sorted(query, order), self._sorted(value, order)  # (B, heads, chunks, bucket_size, d)
        key = F.normalize(query, dim=-1, eps=1e-6)  # torch's 1e-12 is zero in float16, and the padding 0 / 0
        scores = query @ _with_previous(key).transpose(-2, -1) * self.scale
        scores = self._masked(scores, torch.unflatten(order.flatten(2), 2, (-1, self.bucket_size)), tokens)
        attended = scores.softmax(dim=-1) @ _with_previous(value)  # (B, heads, chunks, bucket_size, d)
        back = order.argsort(dim=-1)[..., :tokens]  # (B, heads, rounds, N)
        rounds = self._unsorted(attended, back)  # (B, heads, rounds, N, d)
        sums = self._unsorted(scores.logsumexp(dim=-1, keepdim=True), back).squeeze(-1)  # (B, heads, rounds, N)
        attended = torch.einsum("bhrn,bhrnd->bhnd", sums.softmax(dim=2), rounds)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y

    def _order(self, query: Tensor) -> Tensor:
        """(B, heads, N, d) -> (B, heads, rounds, P): for each round the positions sorted by bucket, padding last."""
        tokens, width = query.shape[2:]
        missing = -tokens % (2 * self.bucket_size)
        pairs = (tokens + missing) // self.bucket_size // 2
        # Drawn in float32, whatever the dtype, so that a seed gives the same rotations.
        rotations = torch.randn(width, self.n_hashes * pairs, device=query.device, dtype=torch.float32).to(query.dtype)
        rotated = torch.unflatten(query @ rotations, -1, (self.n_hashes, pairs))  # (B, heads, N, rounds, n / 2)
        buckets = torch.cat([rotated, -rotated], dim=-1).argmax(dim=-1).transpose(2, 3)  # (B, heads, rounds, N)
        return F.pad(buckets, (0, missing), value=2 * pairs).argsort(dim=-1, stable=True)

    def _sorted(self, x: Tensor, order: Tensor) -> Tensor:
        """(B, heads, N, d) -> (B, heads, rounds * P / bucket_size, bucket_size, d)."""
        x = F.pad(x, (0, 0, 0, order.shape[3] - x.shape[2]))
        index = order.flatten(2).unsqueeze(-1).expand(-1, -1, -1, x.shape[3])
        return torch.unflatten(x.gather(2, index), 2, (-1, self.bucket_size))

    def _unsorted(self, x: Tensor, back: Tensor) -> Tensor:
        """(B, heads, chunks, bucket_size, e) -> (B, heads, rounds, N, e)."""
        x = torch.unflatten(x.flatten(2, 3), 2, (self.n_hashes, -1))  # (B, heads, rounds, P, e)
        return x.gather(3, back.unsqueeze(-1).expand(-1, -1, -1, -1, x.shape[4]))

    def _masked(self, scores: Tensor, position: Tensor, tokens: int) -> Tensor:
        """Scores (B, heads, chunks, b, 2b) of tokens at these positions, (B, heads, chunks, b)."""
        query, key = position.unsqueeze(-1), _with_previous(position.unsqueeze(-1)).transpose(-2, -1)
        hidden = (key >= tokens) | (key > query) if self.causal else key >= tokens
        # Not minus infinity: the padding sees nothing else, and its gradient must not become NaN.
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores.masked_fill(query == key, _ITSELF)


# The score of a token with itself: below all others, above what is hidden, and within float16.
_ITSELF = -5e4


def _with_previous(x: Tensor) -> Tensor:
    """(B, heads, chunks, b, e) -> (B, heads, chunks, 2 * b, e): each chunk and the one before, round the whole."""
    return torch.cat([x, x.roll(1, dims=2)], dim=3)


def _positive(name: str, value: int) -> int:
    """The value of the hyper-parameter of that name; ValueError when it is below one."""
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
    return value
