"""The low-rank attentions in other forms, in float64: head by head, polynomials, windows and stretches by hand."""

import math
from typing import Any

import torch
from comparisons import weighted
from module_numerics import Weights
from torch import Tensor
from torch.nn import functional as F

__all__ = ["agent", "double_by_pairs", "external_by_loops", "linformer_by_heads", "nystrom_polynomial",
           "published_eanet", "published_linformer", "published_nystrom", "published_nystromformer",
           "published_sr", "sr_by_patches"]  # fmt: skip


def share(scores: Tensor, dim: int = -1) -> Tensor:
    exponential = (scores - scores.amax(dim, keepdim=True)).exp()
    return exponential / exponential.sum(dim, keepdim=True)


def published_linformer(weights: Weights, x: Tensor, heads: int, seq_len: int, **hyper: Any) -> Tensor:
    from linformer import LinformerSelfAttention

    ours = {"query.weight": "to_q.weight", "key.weight": "to_k.weight", "key_length": "proj_k",
            "value.weight": "to_v.weight", "value_length": "proj_v", "out.weight": "to_out.weight",
            "out.bias": "to_out.bias"}  # fmt: skip
    published = LinformerSelfAttention(x.shape[-1], seq_len, heads=heads, **hyper)
    return weighted(published, {ours[name]: each for name, each in weights.items()}, x)


def linformer_by_heads(weights: Weights, x: Tensor, heads: int, mistake: str = "") -> Tensor:
    """Each head by itself: its columns of the projections, its keys and values shortened, its softmax."""
    first, second = ("value", "key") if mistake == "E and F exchanged" else ("key", "value")
    width = weights["query.weight"].shape[0] // heads
    over = 1 if mistake == "softmax over the queries" else 2
    attended = []
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        query, key, value = (torch.einsum("bnc,dc->bnd", x, weights[f"{name}.weight"][rows])
                             for name in ("query", "key", "value"))  # fmt: skip
        key = torch.einsum("nk,bnd->bkd", weights[f"{first}_length"], key)
        value = torch.einsum("nk,bnd->bkd", weights[f"{second}_length"], value)
        scores = torch.einsum("bnd,bkd->bnk", query, key) / math.sqrt(width)
        attended.append(torch.einsum("bnk,bkd->bnd", share(scores, over), value))
    return F.linear(torch.cat(attended, dim=-1), weights["out.weight"], weights["out.bias"])


def published_nystrom(weights: Weights, x: Tensor, heads: int, **hyper: Any) -> Tensor:
    from nystrom_attention import NystromAttention

    ours = {"qkv.weight": "to_qkv.weight", "conv.weight": "res_conv.weight", "out.weight": "to_out.0.weight",
            "out.bias": "to_out.0.bias"}  # fmt: skip
    dim = x.shape[-1]
    published = NystromAttention(dim, dim // heads, heads, residual="conv.weight" in weights, **hyper)
    return weighted(published, {ours[name]: each for name, each in weights.items()}, x)


def published_nystromformer(weights: Weights, x: Tensor, heads: int, landmarks: int, kernel: int) -> Tensor:
    """The authors' own form in transformers; it has biases and no last projection, and takes no padding."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    dim = x.shape[-1]
    config = NystromformerConfig(hidden_size=dim, num_attention_heads=heads, num_landmarks=landmarks,
                                 segment_means_seq_len=x.shape[1], conv_kernel_size=kernel,
                                 attention_probs_dropout_prob=0.0, inv_coeff_init_option=False)  # fmt: skip
    names = ("query", "key", "value")
    parts = dict(zip((f"{name}.weight" for name in names), weights["qkv.weight"].chunk(3), strict=True))
    zeros = {f"{name}.bias": torch.zeros(dim, dtype=torch.float64) for name in names}
    given = {**parts, **zeros, "conv.weight": weights["conv.weight"]}
    return F.linear(weighted(NystromformerSelfAttention(config), given, x), weights["out.weight"], weights["out.bias"])


def nystrom_polynomial(
    weights: Weights, x: Tensor, heads: int, landmarks: int, iterations: int, mistake: str = "", own_start: bool = False
) -> Tensor:
    """Head by head, with loops for means and filter; the iteration as a polynomial of A Z, multiplied out."""
    batch, tokens, dim = x.shape
    width = dim // heads
    padding = torch.zeros(batch, -tokens % landmarks, dim, dtype=x.dtype)
    query, key, value = (torch.cat((padding, x), dim=1) @ each.T for each in weights["qkv.weight"].chunk(3))
    each_mark = query.shape[1] // landmarks

    def marks(rows: Tensor) -> Tensor:
        return torch.stack([rows[:, i * each_mark : (i + 1) * each_mark].mean(1) for i in range(landmarks)], dim=1)

    heads_of = [slice(head * width, (head + 1) * width) for head in range(heads)]
    between = [share(marks(query[..., h]) @ marks(key[..., h]).mT / math.sqrt(width)) for h in heads_of]
    sums = torch.stack([each.sum(1) for each in between], dim=1)  # (B, heads, m)
    largest = sums.amax(2) if mistake == "start of each head" or own_start else sums.max().expand(batch, heads)
    attended = []
    for head, columns in enumerate(heads_of):
        inverse = between[head].mT / largest[:, head, None, None]
        for _ in range(iterations):
            inverse = _step(between[head], inverse)
        to_marks = share(query[..., columns] @ marks(key[..., columns]).mT / math.sqrt(width))
        from_keys = share(marks(query[..., columns]) @ key[..., columns].mT / math.sqrt(width))
        y = to_marks @ inverse @ from_keys @ value[..., columns]
        if "conv.weight" in weights and mistake != "no convolution":
            y = y + _along_tokens(value[..., columns], weights["conv.weight"][head, 0, :, 0])
        attended.append(y)
    y = torch.cat(attended, dim=-1)[:, -tokens:]
    return F.linear(y, weights["out.weight"], weights["out.bias"])


def _step(matrix: Tensor, inverse: Tensor) -> Tensor:
    product = matrix @ inverse
    unit = torch.eye(len(product[0]), dtype=product.dtype)
    return inverse @ (13 * unit - 15 * product + 7 * product @ product - product @ product @ product) / 4


def _along_tokens(rows: Tensor, taps: Tensor) -> Tensor:
    half, tokens = len(taps) // 2, rows.shape[1]
    total = torch.zeros_like(rows)
    for tap, offset in enumerate(range(-half, half + 1)):
        shifted = torch.zeros_like(rows)
        here, there = slice(max(0, -offset), tokens - max(0, offset)), slice(max(0, offset), tokens - max(0, -offset))
        if max(0, -offset) < tokens and max(0, offset) < tokens:
            shifted[:, here] = rows[:, there]
        total = total + taps[tap] * shifted
    return total


def published_sr(weights: Weights, x: Tensor, published: torch.nn.Module) -> Tensor:
    """timm's: PVT v2 or the global half of Twins, over tokens."""
    ours = {"query": "q", "key_value": "kv", "out": "proj", "reduce": "sr", "norm": "norm"}
    theirs = {}
    for name, each in weights.items():
        layer, _, kind = name.partition(".")
        theirs[f"{ours[layer]}.{kind}"] = each
    y = weighted(published, theirs, x.flatten(2).mT, x.shape[2:])
    return y.mT.reshape(x.shape)


def sr_by_patches(weights: Weights, x: Tensor, heads: int, ratio: int, mistake: str = "") -> Tensor:
    """Each patch of the map is one product with the filter, zeros at a side that has too little; head by head."""
    batch, dim, height, width = x.shape
    wide = torch.zeros(batch, dim, max(height, ratio), max(width, ratio), dtype=x.dtype)
    wide[:, :, :height, :width] = x
    means = []
    for top in range(0, wide.shape[2] - ratio + 1, ratio):
        for left in range(0, wide.shape[3] - ratio + 1, ratio):
            patch = wide[:, :, top : top + ratio, left : left + ratio]
            filtered = torch.einsum("bchw,ochw->bo", patch, weights["reduce.weight"]) + weights["reduce.bias"]
            means.append(filtered)
    fewer = torch.stack(means, dim=1)
    if mistake != "no norm":
        centred = fewer - fewer.mean(-1, keepdim=True)
        fewer = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        fewer = fewer * weights["norm.weight"] + weights["norm.bias"]
    query = _linear(weights, "query", x.flatten(2).mT)
    key, value = _linear(weights, "key_value", fewer).chunk(2, dim=-1)
    attended = [share(q @ k.mT / math.sqrt(dim // heads)) @ v
                for q, k, v in zip(*(each.chunk(heads, -1) for each in (query, key, value)), strict=True)]  # fmt: skip
    return _linear(weights, "out", torch.cat(attended, dim=-1)).mT.reshape(x.shape)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    y = torch.einsum("bnc,oc->bno", x, weights[f"{name}.weight"].flatten(1))
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def published_eanet(weights: Weights, x: Tensor, slots: int) -> Tensor:
    from fightingcv_attention.attention.ExternalAttention import ExternalAttention

    theirs = {"mk.weight": weights["keys.weight"], "mv.weight": weights["values.weight"]}
    return weighted(ExternalAttention(x.shape[-1], S=slots), theirs, x)


def external_by_loops(weights: Weights, x: Tensor, mistake: str = "") -> Tensor:
    """Every learned key weighs the tokens by itself; every token divides by what all keys gave it."""
    over = 1 if mistake == "softmax over the learned keys" else 0
    outputs = []
    for sample in x:
        scores = torch.stack([sample @ key for key in weights["keys.weight"]], dim=1)  # (N, S)
        shares = share(scores, over)
        if mistake != "rows not divided":
            shares = torch.stack([row / row.sum() for row in shares])
        outputs.append(torch.stack([weights["values.weight"] @ row for row in shares]))
    return torch.stack(outputs)


def agent(weights: Weights, x: Tensor, heads: int, side: int, mistake: str = "") -> Tensor:
    """Head by head; pooling and stretching are matrices, made from the borders and distances of their definitions."""
    dim, height, width = x.shape[1:]
    tokens = x.flatten(2).mT
    query, key, value = (_linear(weights, name, tokens) for name in ("query", "key", "value"))
    pool = torch.kron(_pooling(height, side), _pooling(width, side))  # (side * side, N)
    agents = pool @ query
    gather, spread = (_agent_bias(weights, name, height, width) for name in ("gather", "spread"))
    if mistake == "no bias":
        gather, spread = 0 * gather, 0 * spread
    attended = []
    parts = (each.chunk(heads, dim=-1) for each in (query, key, value, agents))
    for head, (q, k, v, a) in enumerate(zip(*parts, strict=True)):
        scale = 1.0 if mistake == "not scaled" else math.sqrt(dim // heads)
        of_agents = share(a @ k.mT / scale + gather[head]) @ v
        attended.append(share(q @ a.mT / scale + spread[head].T) @ of_agents)
    y = torch.cat(attended, dim=-1)
    if mistake != "no convolution":
        y = y + _neighbours(weights, value.mT.reshape(x.shape)).flatten(2).mT
    return _linear(weights, "out", y).mT.reshape(x.shape)


def _pooling(length: int, cells: int) -> Tensor:
    """Cell i is the mean of the positions floor(i length / cells) to ceil((i + 1) length / cells)."""
    matrix = torch.zeros(cells, length, dtype=torch.float64)
    for cell in range(cells):
        start, stop = cell * length // cells, -(-(cell + 1) * length // cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix


def _stretching(length: int, cells: int) -> Tensor:
    """Position p lies at (p + 0.5) cells / length - 0.5 between the cells, which weigh it by their nearness."""
    matrix = torch.zeros(length, cells, dtype=torch.float64)
    for position in range(length):
        place = max((position + 0.5) * cells / length - 0.5, 0.0)
        low = int(place)
        matrix[position, low] += 1 - (place - low)
        matrix[position, min(low + 1, cells - 1)] += place - low
    return matrix


def _agent_bias(weights: Weights, name: str, height: int, width: int) -> Tensor:
    grid = weights[f"{name}.grid"]
    stretched = torch.einsum("yi,xj,haij->hayx", _stretching(height, 7), _stretching(width, 7), grid)
    return (stretched + weights[f"{name}.rows"] + weights[f"{name}.columns"]).flatten(2)


def _neighbours(weights: Weights, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    wide = F.pad(x, (1, 1, 1, 1))
    total = weights["conv.bias"][None, :, None, None].expand_as(x)
    for row in range(3):
        for column in range(3):
            tap = weights["conv.weight"][:, 0, row, column][None, :, None, None]
            total = total + tap * wide[:, :, row : row + height, column : column + width]
    return total


def double_by_pairs(weights: Weights, x: Tensor, handed_over: int = -1) -> Tensor:
    """Every position i takes from every position j: sum over c of softmax_c(V)_ci softmax_N(B)_cj, times A_j."""
    tokens = x.flatten(2).mT
    value, key, query = (_linear(weights, name, tokens) for name in ("value", "key", "query"))
    pairs = torch.einsum("bic,bjc->bij", share(query, handed_over), share(key, 1))
    return _linear(weights, "out", pairs @ value).mT.reshape(x.shape)
