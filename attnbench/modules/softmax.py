"""Quadratic attention: every query is compared with every key, and a softmax weighs the values."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.modules.parts.arguments import head_dim, one_of, reduced
from attnbench.modules.parts.heads import merge_heads, split_heads
from attnbench.modules.parts.masks import hide_later
from attnbench.modules.parts.rotary import rotate
from attnbench.modules.spec import attention

__all__ = [
    "AdditiveAttention",
    "DifferentialAttention",
    "FlexAttention",
    "GroupedQueryAttention",
    "LatentAttention",
    "MultiHeadAttention",
    "MultiHeadSelfAttention",
    "MultiQueryAttention",
    "NonLocal2d",
    "PseudoLinearAttention",
    "ScaledDotProduct",
    "SdpaAttention",
    "SelfAttention2d",
    "TalkingHeads",
]


@attention(
    name="self_attn",
    aliases=("sagan", "self_attn2d"),
    layout="bchw",
    complexity="N^2",
    memory="N^2",
    where={"d_k": "C // key_ratio"},
    params="2*(C*d_k + d_k) + C**2 + C + 1",
    macs="B*(N*C*(2*d_k + C) + N**2*(d_k + C))",
    paper="Zhang et al. 2018, Self-Attention Generative Adversarial Networks, arXiv:1805.08318",
    computes="softmax",
)
class SelfAttention2d(nn.Module):
    """Self-attention of SAGAN over the positions of a feature map, gated by a scalar that starts at zero.

    q = W_q x, k = W_k x, v = W_v x (1x1 convolutions), A = softmax_j(q_i . k_j), y = gamma * (v A^T) + x.
    The product is not scaled. (B, C, H, W) -> (B, C, H, W); with `return_attention` also A, (B, N, N), whose rows
    belong to the queries.

    Hyper-parameters: `key_ratio`, by which queries and keys are narrower than `dim`; a `dim` below it is a ValueError.
    """

    def __init__(self, dim: int, key_ratio: int = 8, return_attention: bool = False) -> None:
        super().__init__()
        d_k = reduced(dim, key_ratio, "key_ratio")
        self.query = nn.Conv2d(dim, d_k, 1)
        self.key = nn.Conv2d(dim, d_k, 1)
        self.value = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.return_attention = return_attention

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, N, d_k)
        key = self.key(x).flatten(2)  # (B, d_k, N)
        value = self.value(x).flatten(2)  # (B, C, N)
        weights = (query @ key).softmax(dim=-1)  # (B, N, N)
        attended = (value @ weights.transpose(1, 2)).reshape(x.shape)  # (B, C, N) -> (B, C, H, W)
        y = self.gamma * attended + x
        return (y, weights) if self.return_attention else y


@attention(
    name="mhsa",
    aliases=("vit",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    params="4*C**2 + (3*C if qkv_bias else 0) + C",
    macs="B*(4*N*C**2 + 2*N**2*C)",
    paper="Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762; as in ViT: Dosovitskiy et al. 2020",
    computes="softmax",
    causal="flag",
)
class MultiHeadSelfAttention(nn.Module):
    """Multi-head self-attention of transformers, written out: one layer for q, k and v, and a matrix that is held.

    (q, k, v) = split(W_qkv x), y = W_o concat_h(softmax(q k^T / sqrt(d)) v), d = dim / heads.
    (B, N, C) -> (B, N, C). The same function as `sdpa`, and the same weights by the same names; here each step is
    eager and the heads * N^2 weights lie in memory.

    Hyper-parameters: `qkv_bias`; `causal` masks the keys after the query, whose products are computed all the same.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim, self.causal = heads, head_dim(dim, heads), causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3C) -> (B, N, 3, heads, d) -> (3, B, heads, N, d)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        scores = (query * self.head_dim**-0.5) @ key.transpose(-2, -1)  # (B, heads, N, N)
        if self.causal:
            scores = hide_later(scores)
        attended = scores.softmax(dim=-1) @ value  # (B, heads, N, d)
        y: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, C)
        return y


@attention(
    name="sdpa",
    layout="bnc",
    complexity="N^2",
    memory="N",
    params="4*C**2 + (3*C if qkv_bias else 0) + C",
    macs="B*(4*N*C**2 + 2*N**2*C)",
    paper="Vaswani et al. 2017, arXiv:1706.03762; fused: Dao et al. 2022, FlashAttention, arXiv:2205.14135",
    computes="softmax",
    causal="flag",
)
class SdpaAttention(nn.Module):
    """Multi-head self-attention over PyTorch's fused scaled_dot_product_attention.

    (q, k, v) = split(W_qkv x), y = W_o concat_h(softmax(q k^T / sqrt(d)) v), d = dim / heads.
    (B, N, C) -> (B, N, C). The memory claim, N, is that of the fused kernels; the math backend holds heads * N^2.

    Hyper-parameters: `qkv_bias`; `causal` masks the keys after the query. The MAC formula counts the dense product
    in both cases, as counters do; a causal kernel that skips blocks does about half of the N^2 part.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim, self.causal = heads, head_dim(dim, heads), causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3C) -> (B, N, 3, heads, d) -> (3, B, heads, N, d)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)  # (B, heads, N, d)
        y: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, C)
        return y


@attention(
    name="mha",
    layout="qkv",
    complexity="N^2",
    memory="N^2",
    where={
        "d_k": "d_k or C // n_head",
        "d_v": "d_v or C // n_head",
        "dim_k": "dim_k or C",
        "dim_v": "dim_v or C",
        "d_o": "d_o or C",
    },
    params="n_head*(d_k*(C + dim_k) + d_v*(dim_v + d_o)) + (n_head*(2*d_k + d_v) + d_o if bias else 0)",
    macs="B*(N*n_head*(d_k*(C + dim_k) + d_v*(dim_v + d_o)) + N**2*n_head*(d_k + d_v))",
    paper="Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762",
    computes="softmax",
)
class MultiHeadAttention(nn.Module):
    """Multi-head attention written out, with separate widths for queries, keys, values and output.

    y = W_o concat_h(softmax(q_h k_h^T / sqrt(d_k)) v_h), where q = W_q query, k = W_k key, v = W_v value.
    query (B, Tq, dim), key (B, Tk, dim_k), value (B, Tk, dim_v) -> (B, Tq, d_o). Each step is eager, and the
    attention matrix is held: the form to compare fused kernels with. The formulas are for Tq = Tk = N.

    Hyper-parameters: `d_k`, `d_v` widths of one head (dim / n_head); `dim_k`, `dim_v`, `d_o` widths of key, value and
    output (dim); `bias` of the four projections.
    """

    def __init__(
        self,
        dim: int,
        n_head: int,
        d_k: int | None = None,
        d_v: int | None = None,
        dim_k: int | None = None,
        dim_v: int | None = None,
        d_o: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_head = n_head
        self.d_k = d_k or head_dim(dim, n_head)
        self.d_v = d_v or head_dim(dim, n_head)
        self.query = nn.Linear(dim, n_head * self.d_k, bias=bias)
        self.key = nn.Linear(dim_k or dim, n_head * self.d_k, bias=bias)
        self.value = nn.Linear(dim_v or dim, n_head * self.d_v, bias=bias)
        self.out = nn.Linear(n_head * self.d_v, d_o or dim, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = split_heads(self.query(query), self.n_head)  # (B, n_head, Tq, d_k)
        k = split_heads(self.key(key), self.n_head)  # (B, n_head, Tk, d_k)
        v = split_heads(self.value(value), self.n_head)  # (B, n_head, Tk, d_v)
        scores = (q * self.d_k**-0.5) @ k.transpose(-2, -1)  # (B, n_head, Tq, Tk)
        attended = scores.softmax(dim=-1) @ v  # (B, n_head, Tq, d_v)
        y: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, Tq, d_o)
        return y


@attention(
    name="scaled_dot_product",
    aliases=("dot",),
    layout="qkv",
    complexity="N^2",
    memory="N^2",
    params="0",
    macs="B*2*N**2*C",
    paper="Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762",
    computes="softmax",
)
class ScaledDotProduct(nn.Module):
    """The bare core of attention, softmax(q k^T / sqrt(d)) v, without a projection and without parameters.

    query (B, Tq, C), key (B, Tk, C), value (B, Tk, C) -> (B, Tq, C); d is the width of the keys, C. Eager: it holds
    the (B, Tq, Tk) matrix. No hyper-parameters. The formulas are for Tq = Tk = N.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = (query * key.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, Tq, Tk)
        attended: Tensor = scores.softmax(dim=-1) @ value  # (B, Tq, C)
        return attended


@attention(
    name="additive_attn",
    aliases=("additive", "bahdanau"),
    layout="qk",
    complexity="N^2",
    memory="N^2",
    where={"key_dim": "key_dim or C", "hidden_dim": "hidden_dim or C"},
    params="hidden_dim*(C + key_dim + 1)",
    macs="B*(N*hidden_dim*(C + key_dim) + N**2*(hidden_dim + key_dim))",
    paper="Bahdanau et al. 2014, Neural Machine Translation by Jointly Learning to Align, arXiv:1409.0473",
)
class AdditiveAttention(nn.Module):
    """Additive (Bahdanau) attention: a small network scores each pair, and the keys themselves are summed.

    e_ij = v . tanh(W_q q_i + W_k k_j), y_i = sum_j softmax_j(e)_ij k_j; W_q, W_k and v have no bias, as in the paper.
    query (B, Tq, dim), keys (B, Tk, key_dim) -> (B, Tq, key_dim); one step, query (B, dim), gives (B, key_dim).
    The tanh holds Tq * Tk * hidden_dim numbers. The formulas are for Tq = Tk = N.

    Hyper-parameters: `key_dim` (dim), `hidden_dim` of the score (dim).
    """

    def __init__(self, dim: int, key_dim: int | None = None, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden = hidden_dim or dim
        self.query = nn.Linear(dim, hidden, bias=False)
        self.key = nn.Linear(key_dim or dim, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        if query.dim() == 2:
            return self.forward(query.unsqueeze(1), keys).squeeze(1)  # (B, C) is one step
        pairs = self.query(query).unsqueeze(2) + self.key(keys).unsqueeze(1)  # (B, Tq, Tk, hidden)
        scores: Tensor = self.score(pairs.tanh()).squeeze(-1)  # (B, Tq, Tk)
        attended: Tensor = scores.softmax(dim=-1) @ keys  # (B, Tq, key_dim)
        return attended


@attention(
    name="pseudo_linear_attn",
    aliases=("proj_softmax",),
    layout="bchw",
    complexity="N",
    memory="N",
    where={"d_k": "C // key_ratio"},
    params="2*(C*d_k + d_k) + 2*(C**2 + C)",
    macs="B*(N*C*(2*d_k + 2*C) + N**2*(d_k + C))",
    paper="none; published under the name 'linear attention'",
    computes="softmax",
)
class PseudoLinearAttention(nn.Module):
    """Softmax attention that is published as linear, and is quadratic: the word Linear is nn.Linear.

    q, k, v = Linear(x) on the flattened map, A = softmax(q k^T / sqrt(d_k)), y = Linear(A v) + x.
    (B, C, H, W) -> (B, C, H, W). The spec repeats the published claim, N in time and memory; the MAC formula beside it
    has the term N^2 * (d_k + C), and the forward holds the N x N matrix. Run it at two sizes to see which holds.

    Hyper-parameters: `key_ratio`, by which queries and keys are narrower than `dim`; a `dim` below it is a ValueError.
    """

    def __init__(self, dim: int, key_ratio: int = 8) -> None:
        super().__init__()
        d_k = reduced(dim, key_ratio, "key_ratio")
        self.query = nn.Linear(dim, d_k)
        self.key = nn.Linear(dim, d_k)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.scale = d_k**-0.5

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        scores = (self.query(tokens) * self.scale) @ self.key(tokens).transpose(1, 2)  # (B, N, N)
        attended = self.out(scores.softmax(dim=-1) @ self.value(tokens))  # (B, N, C)
        y: Tensor = attended.transpose(1, 2).reshape(x.shape) + x  # (B, C, H, W)
        return y


@attention(
    name="nonlocal",
    aliases=("nl",),
    layout="bchw",
    complexity="N^2",
    memory="N^2",
    where={
        "d": "inter_channels or max(C // 2, 1)",
        "keys": "max(H // 2, 1) * max(W // 2, 1) if sub_sample else N",
    },
    params="3*(C*d + d) + d*C + (2*C if bn else C)",
    macs="B*(4*N*C*d + 2*N*keys*d)",
    paper="Wang et al. 2017, Non-local Neural Networks, arXiv:1711.07971",
    computes="softmax",
)
class NonLocal2d(nn.Module):
    """Non-local block over the positions of a feature map, as a residual.

    q, k, v (the paper's theta, phi, g) = 1x1 convolutions to d channels, y = W(f(q, k) v) + x. In the mode
    `embedded_gaussian` f is softmax_j(q_i . k_j), unscaled; in `dot_product` it is q_i . k_j over the number of keys.
    (B, C, H, W) -> (B, C, H, W). With `bn` a normalisation follows W, which has then no bias; the last of the two
    starts at zero.

    Hyper-parameters: `inter_channels` d (dim / 2); `sub_sample`, which takes the largest of each 2x2 keys and values
    (a last odd row or column is left out) and so a quarter of the products; `mode`; `bn`.
    """

    def __init__(
        self,
        dim: int,
        inter_channels: int | None = None,
        sub_sample: bool = False,
        mode: str = "embedded_gaussian",
        bn: bool = True,
    ) -> None:
        super().__init__()
        self.mode, self.sub_sample = one_of("mode", mode, "embedded_gaussian", "dot_product"), sub_sample
        inter = inter_channels or max(dim // 2, 1)
        self.query = nn.Conv2d(dim, inter, 1)
        self.key = nn.Conv2d(dim, inter, 1)
        self.value = nn.Conv2d(dim, inter, 1)
        self.out = nn.Conv2d(inter, dim, 1, bias=not bn)
        self.norm = nn.BatchNorm2d(dim) if bn else nn.Identity()
        for parameter in (self.norm if bn else self.out).parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, N, d)
        key = self._pooled(self.key(x)).flatten(2)  # (B, d, keys)
        value = self._pooled(self.value(x)).flatten(2).transpose(1, 2)  # (B, keys, d)
        scores = query @ key  # (B, N, keys)
        weights = scores.softmax(dim=-1) if self.mode == "embedded_gaussian" else scores / scores.shape[-1]
        attended = (weights @ value).transpose(1, 2).unflatten(2, x.shape[2:])  # (B, N, d) -> (B, d, H, W)
        y: Tensor = self.norm(self.out(attended)) + x
        return y

    def _pooled(self, x: Tensor) -> Tensor:
        # A map of one row or column is pooled along its other side alone.
        sides = min(2, x.shape[2]), min(2, x.shape[3])
        return F.max_pool2d(x, sides) if self.sub_sample else x


@attention(
    name="gqa",
    aliases=("grouped_query",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    where={"kv_heads": "kv_heads or (1 if heads % 4 else heads // 4)"},
    params="2*C**2 + 2*C*(C // heads)*kv_heads",
    macs="B*(2*N*C**2 + 2*N*C*(C // heads)*kv_heads + 2*N**2*C)",
    paper="Ainslie et al. 2023, GQA: Training Generalized Multi-Query Transformer Models, arXiv:2305.13245",
    computes="softmax",
    causal="flag",
)
class GroupedQueryAttention(nn.Module):
    """Multi-head attention whose query heads share key and value heads by groups, without positions and biases.

    y = W_o concat_h(softmax(q_h k_g^T / sqrt(d)) v_g), where head h belongs to the group g = h // (heads / kv_heads).
    (B, N, C) -> (B, N, C). Fewer keys and values save parameters and a decoder's cache; the N^2 products stay. Eager:
    the heads * N^2 weights are held, the keys and values are not repeated.

    Hyper-parameters: `kv_heads`, as many as divide `heads` (one for every four, or one in all where four do not divide
    them); `causal` masks the keys after the query, whose products are computed all the same.
    """

    def __init__(self, dim: int, heads: int, kv_heads: int | None = None, causal: bool = False) -> None:
        super().__init__()
        self.head_dim, self.causal = head_dim(dim, heads), causal
        self.kv_heads = (1 if heads % 4 else heads // 4) if kv_heads is None else kv_heads
        if self.kv_heads < 1 or heads % self.kv_heads:
            raise ValueError(f"heads={heads} is not divisible by the number of key and value heads, {kv_heads}")
        self.groups = heads // self.kv_heads  # query heads to a key head
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, self.kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(dim, self.kv_heads * self.head_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, C) -> (B, kv_heads, groups, N, d), then the queries of a group are rows of one product
        query = self.query(x).unflatten(-1, (self.kv_heads, self.groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        key = self.key(x).unflatten(-1, (self.kv_heads, -1)).permute(0, 2, 3, 1)  # (B, kv_heads, d, N)
        value = self.value(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)  # (B, kv_heads, N, d)
        scores = (query * self.head_dim**-0.5) @ key  # (B, kv_heads, groups * N, N)
        if self.causal:
            scores = hide_later(scores.unflatten(2, (self.groups, -1))).flatten(2, 3)
        attended = (scores.softmax(dim=-1) @ value).unflatten(2, (self.groups, -1))  # (B, kv_heads, groups, N, d)
        y: Tensor = self.out(attended.permute(0, 3, 1, 2, 4).flatten(2))  # (B, N, C)
        return y


@attention(
    name="mqa",
    aliases=("multi_query",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    params="2*C**2 + 2*C*(C // heads)",
    macs="B*(2*N*C**2 + 2*N*C*(C // heads) + 2*N**2*C)",
    paper="Shazeer 2019, Fast Transformer Decoding: One Write-Head is All You Need, arXiv:1911.02150",
    computes="softmax",
    causal="flag",
)
class MultiQueryAttention(GroupedQueryAttention):
    """Multi-head attention whose query heads all share one head of keys and values: `gqa` with one group.

    y = W_o concat_h(softmax(q_h k^T / sqrt(d)) v), d = dim / heads. (B, N, C) -> (B, N, C).

    Hyper-parameters: `causal` masks the keys after the query, whose products are computed all the same.
    """

    def __init__(self, dim: int, heads: int, causal: bool = False) -> None:
        super().__init__(dim, heads, kv_heads=1, causal=causal)


@attention(
    name="flex",
    aliases=("flex_attention",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    params="4*C**2 + (3*C if qkv_bias else 0) + C",
    macs="B*(4*N*C**2 + 2*N**2*C)",
    paper="Dong et al. 2024, Flex Attention: A Programming Model for Attention Kernels, arXiv:2412.05496",
    computes="softmax",
    causal="flag",
)
class FlexAttention(nn.Module):
    """Multi-head self-attention over PyTorch's flex_attention, under a mask or a bias that it is told as a function.

    (q, k, v) = split(W_qkv x), y = W_o concat_h(softmax(q k^T / sqrt(d) + bias) v) over the keys that the mask leaves.
    (B, N, C) -> (B, N, C). Eager, torch computes, holds and then masks all heads * N^2 scores. Only compiled (`--engine
    compile`) is it one kernel, which holds N and skips each block of 128 x 128 scores that has no visible pair: about
    half of them under `causal`, all but about N * (2 * window + 128) scores under `window`. The MAC formula counts the
    dense product whatever the mask: that is what the eager form computes, and what counters say of both.
    On the CPU torch has no backward for it.

    Hyper-parameters: `mask`, one of `none`, `causal`, `window` (only keys at most `window` tokens away), `alibi` (each
    score less 2^(-8 h / heads) times the distance, h = 1 ... heads: Press et al. 2021, arXiv:2108.12409); `window`;
    `qkv_bias`; `causal`, which masks the keys after the query under any of them.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mask: str = "none",
        window: int = 128,
        qkv_bias: bool = True,
        causal: bool = False,
    ) -> None:
        from attnbench.modules.parts.flex import (  # who does not use it need not wait for it to load
            Band,
            FlexCore,
            alibi,
        )

        super().__init__()
        one_of("mask", mask, "none", "causal", "window", "alibi")
        self.heads, self.head_dim = heads, head_dim(dim, heads)
        sides = {"behind": window, "ahead": window} if mask == "window" else {}
        if causal or mask == "causal":
            sides["ahead"] = 0
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.core = FlexCore(Band(**sides), alibi(heads) if mask == "alibi" else None)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3C) -> (B, N, 3, heads, d) -> (3, B, heads, N, d)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = self.core(query, key, value)  # (B, heads, N, d)
        y: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, C)
        return y


@attention(
    name="mla",
    aliases=("latent",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    where={
        "d_n": "qk_nope_head_dim or C // heads",
        "d_r": "qk_rope_head_dim or max(C // heads // 4 * 2, 2)",
        "d_v": "v_head_dim or C // heads",
        "d_c": "kv_lora_rank or 4*(C // heads)",
        "q_weights": "q_lora_rank*(C + heads*(d_n + d_r)) if q_lora_rank else C*heads*(d_n + d_r)",
        "kv_weights": "C*(d_c + d_r) + d_c*heads*(d_n + d_v)",
    },
    params="q_weights + (q_lora_rank or 0) + kv_weights + d_c + heads*d_v*C",
    macs="B*(N*(q_weights + kv_weights + heads*d_v*C) + N**2*heads*(d_n + d_r + d_v))",
    paper="DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434",
    computes="softmax",
    causal="flag",
)
class LatentAttention(nn.Module):
    """Multi-head latent attention of DeepSeek-V2: keys and values are made from one narrow latent, which is cached.

    (c, k_r) = W_a x, (k_h, v_h) = W_b rms(c), q_h = W_q x or W_qb rms(W_qa x); key h is [k_h | rope(k_r)], where all
    heads share k_r, and query h [q_h | rope(q_rh)]; y = W_o concat_h(softmax(q k^T / sqrt(d_n + d_r)) v).
    (B, N, C) -> (B, N, C). A forward of N tokens makes all keys and values: what the latent saves is a decoder's cache,
    d_c + d_r numbers a token. Eager: the heads * N^2 weights are held.

    Hyper-parameters, with d = dim / heads: `kv_lora_rank` d_c (4 d, as in the paper), `q_lora_rank` (none: queries
    straight from x, as in DeepSeek-V2-Lite), `qk_nope_head_dim` d_n (d), `qk_rope_head_dim` d_r (d / 2, made even),
    `v_head_dim` d_v (d), `rope_theta`; `causal` masks the keys after the query, whose products are computed all the
    same.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        q_lora_rank: int | None = None,
        kv_lora_rank: int | None = None,
        qk_nope_head_dim: int | None = None,
        qk_rope_head_dim: int | None = None,
        v_head_dim: int | None = None,
        rope_theta: float = 10000.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        width = head_dim(dim, heads)
        self.heads, self.rope_theta, self.causal = heads, rope_theta, causal
        self.d_n, self.d_v = qk_nope_head_dim or width, v_head_dim or width
        self.d_r, self.d_c = qk_rope_head_dim or max(width // 4 * 2, 2), kv_lora_rank or 4 * width
        if self.d_r % 2:
            raise ValueError(f"qk_rope_head_dim={self.d_r} is odd: channels are rotated in pairs")
        self.query = self._queries(dim, q_lora_rank, heads * (self.d_n + self.d_r))
        self.kv_a = nn.Linear(dim, self.d_c + self.d_r, bias=False)
        self.kv_norm = nn.RMSNorm(self.d_c, eps=1e-6)
        self.kv_b = nn.Linear(self.d_c, heads * (self.d_n + self.d_v), bias=False)
        self.out = nn.Linear(heads * self.d_v, dim, bias=False)

    @staticmethod
    def _queries(dim: int, rank: int | None, width: int) -> nn.Module:
        if not rank:
            return nn.Linear(dim, width, bias=False)
        return nn.Sequential(
            nn.Linear(dim, rank, bias=False), nn.RMSNorm(rank, eps=1e-6), nn.Linear(rank, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        query = split_heads(self.query(x), self.heads)  # (B, heads, N, d_n + d_r)
        latent, shared = self.kv_a(x).split((self.d_c, self.d_r), dim=-1)  # (B, N, d_c), (B, N, d_r)
        key_value = split_heads(self.kv_b(self.kv_norm(latent)), self.heads)  # (B, heads, N, d_n + d_v)
        key, value = key_value[..., : self.d_n], key_value[..., self.d_n :]
        rotated = rotate(shared, self.rope_theta).unsqueeze(1).expand(-1, self.heads, -1, -1)  # (B, heads, N, d_r)
        query = torch.cat((query[..., : self.d_n], rotate(query[..., self.d_n :], self.rope_theta)), dim=-1)
        scores = (query * query.shape[-1] ** -0.5) @ torch.cat((key, rotated), dim=-1).transpose(-2, -1)
        if self.causal:
            scores = hide_later(scores)  # (B, heads, N, N)
        y: Tensor = self.out(merge_heads(scores.softmax(dim=-1) @ value))  # (B, N, C)
        return y


@attention(
    name="diff",
    aliases=("differential",),
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    params="4*C**2 + C + 3*(C // heads)",
    macs="B*(4*N*C**2 + 2*N**2*C) + C // heads",
    paper="Ye et al. 2024, Differential Transformer, arXiv:2410.05258",
    computes="other",
    causal="flag",
)
class DifferentialAttention(nn.Module):
    """Differential attention: the difference of two softmax attentions, which cancels what both attend to.

    q and k have two halves a head, v one: A_h = S_1 - lambda S_2, where S_i = softmax(q_i k_i^T / sqrt(d / 2)), and
    y = W_o concat_h((1 - lambda_0) rms(A_h v_h)), d = dim / heads. lambda = exp(a_1 . b_1) - exp(a_2 . b_2) + lambda_0
    with learned a and b, lambda_0 = 0.8 - 0.6 exp(-0.3 depth). (B, N, C) -> (B, N, C). Eager: twice heads * N^2 weights
    are held, but the values are multiplied once, by the difference; two fused attentions would do it twice, 3 N^2 C in
    all. The products in lambda are the d MACs beside those of the batch.

    Hyper-parameters: `depth` of the layer, from 0; `causal` masks the keys after the query, whose products are computed
    all the same.
    """

    def __init__(self, dim: int, heads: int, depth: int = 0, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim, self.causal = heads, head_dim(dim, heads), causal
        if self.head_dim % 2:
            raise ValueError(f"dim={dim} over {heads} heads leaves {self.head_dim} channels, which have no two halves")
        self.lambda_0 = 0.8 - 0.6 * math.exp(-0.3 * depth)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.lambda_q = nn.Parameter(torch.randn(2, 1, self.head_dim // 2) * 0.1)
        self.lambda_k = nn.Parameter(torch.randn(2, self.head_dim // 2, 1) * 0.1)
        self.norm = nn.RMSNorm(self.head_dim, eps=1e-5)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # (B, N, C) each
        query, key = split_heads(query, 2 * self.heads), split_heads(key, 2 * self.heads)  # (B, 2 * heads, N, d / 2)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, 2 * heads, N, N)
        if self.causal:
            scores = hide_later(scores)
        first, second = scores.softmax(dim=-1).unflatten(1, (self.heads, 2)).unbind(2)  # (B, heads, N, N)
        grown = (self.lambda_q @ self.lambda_k).exp().flatten()  # (2)
        weights = first - (grown[0] - grown[1] + self.lambda_0) * second
        attended = self.norm(weights @ split_heads(value, self.heads)) * (1 - self.lambda_0)  # (B, heads, N, d)
        y: Tensor = self.out(merge_heads(attended))  # (B, N, C)
        return y


@attention(
    name="talking_heads",
    layout="bnc",
    complexity="N^2",
    memory="N^2",
    params="4*C**2 + (3*C if qkv_bias else 0) + C + 2*(heads**2 + heads)",
    macs="B*(4*N*C**2 + 2*N**2*C + 2*N**2*heads**2)",
    paper="Shazeer et al. 2020, Talking-Heads Attention, arXiv:2003.02436; as in CaiT: Touvron et al. 2021",
    computes="other",
)
class TalkingHeads(nn.Module):
    """Talking-heads attention: the heads are mixed by learned matrices, before the softmax and after it.

    (q, k, v) = split(W_qkv x), y = W_o concat_h((W_w softmax(W_l (q k^T / sqrt(d))))_h v_h), where W_l and W_w act on
    the heads of each pair of tokens, with a bias. (B, N, C) -> (B, N, C). No fused kernel computes it, since each score
    needs those of all heads: several forms of heads * N^2 numbers are held.

    Hyper-parameters: `qkv_bias`.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.mix_scores = nn.Linear(heads, heads)
        self.mix_weights = nn.Linear(heads, heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3C) -> (B, N, 3, heads, d) -> (3, B, heads, N, d)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        scores = (query * self.head_dim**-0.5) @ key.transpose(-2, -1)  # (B, heads, N, N)
        weights = self._mixed(self.mix_weights, self._mixed(self.mix_scores, scores).softmax(dim=-1))
        y: Tensor = self.out(merge_heads(weights @ value))  # (B, N, C)
        return y

    @staticmethod
    def _mixed(layer: nn.Linear, scores: Tensor) -> Tensor:
        # The layer over the heads of each pair, without moving the heads: (h, h) @ (B, h, N * N)
        weight = layer.weight.expand(len(scores), -1, -1)
        return torch.baddbmm(layer.bias[:, None], weight, scores.flatten(2)).view_as(scores)
