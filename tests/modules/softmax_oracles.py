"""The quadratic attentions written differently, for float64: loops over positions, pairs and heads; dense masks."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from comparisons import weighted
from module_numerics import Weights
from torch import Tensor, nn

Sees = Callable[[int, int], bool]  # whether query i sees key j


def share(scores: Tensor) -> Tensor:
    """exp(s_j) / sum_j exp(s_j) of one vector, spelled out."""
    exponentials = [torch.exp(each) for each in scores]
    total = sum(exponentials[1:], exponentials[0])
    return torch.stack([each / total for each in exponentials])


def pixels(image: Tensor) -> list[tuple[int, int]]:
    return [(i, j) for i in range(image.shape[1]) for j in range(image.shape[2])]


def sagan(weights: Weights, x: Tensor) -> Tensor:
    """Position by position: no N x N matrix, no transposed map to get wrong."""

    def project(name: str, pixel: Tensor) -> Tensor:
        return weights[f"{name}.weight"].flatten(1).mv(pixel) + weights[f"{name}.bias"]

    y = x.clone()
    for b, image in enumerate(x):
        keys = torch.stack([project("key", image[:, i, j]) for i, j in pixels(image)])
        values = torch.stack([project("value", image[:, i, j]) for i, j in pixels(image)])
        for i, j in pixels(image):
            probabilities = share(keys.mv(project("query", image[:, i, j])))
            y[b, :, i, j] += weights["gamma"][0] * values.T.mv(probabilities)
    return y


def einsum_sagan(weights: Weights, x: Tensor, mistake: str = "none") -> Tensor:
    """The matrices of SAGAN by their indices, with the mistakes that people make in them."""
    query, key, value = (
        torch.einsum("oc,bchw->bohw", weights[f"{name}.weight"].flatten(1), x).flatten(2)
        + weights[f"{name}.bias"][:, None]
        for name in ("query", "key", "value")
    )
    scores = torch.einsum("bdi,bdj->bij", query, key)
    if mistake == "scaled":
        scores = scores * query.shape[1] ** -0.5
    probabilities = torch.softmax(scores, dim=1 if mistake == "softmax over the queries" else 2)
    equation = "bci,bij->bcj" if mistake == "not transposed" else "bcj,bij->bci"
    return weights["gamma"] * torch.einsum(equation, value, probabilities).view_as(x) + x


def load(reference: nn.MultiheadAttention, weights: Weights, qkv: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Our weights under the names of torch's own module, which lays q, k and v together where it can."""
    named = {"in_proj_bias": torch.cat([bias for _, bias in qkv])}
    if reference.in_proj_weight is not None:
        named["in_proj_weight"] = torch.cat([weight for weight, _ in qkv])
    else:
        named |= {f"{name}_proj_weight": weight for name, (weight, _) in zip("qkv", qkv, strict=True)}
    return named | {f"out_proj.{name}": weights[f"out.{name}"] for name in ("weight", "bias")}


def torch_mha(weights: Weights, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """nn.MultiheadAttention stays in train mode, since in eval mode it may take a fused path."""
    widths = query.shape[-1], key.shape[-1], value.shape[-1]
    reference = nn.MultiheadAttention(widths[0], heads, kdim=widths[1], vdim=widths[2], batch_first=True).double()
    qkv = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in ("query", "key", "value")]
    named = load(reference, weights, qkv)
    y: Tensor = torch.func.functional_call(reference, named, (query, key, value), {"need_weights": False})[0]
    return y


def torch_qkv(weights: Weights, x: Tensor, heads: int, causal: bool = False) -> Tensor:
    """nn.MultiheadAttention of x with itself, from a layer `qkv` and a layer `out`."""
    reference = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True).double()
    bias = weights.get("qkv.bias", torch.zeros(3 * x.shape[-1], dtype=x.dtype))
    named = load(reference, weights, list(zip(weights["qkv.weight"].chunk(3), bias.chunk(3), strict=True)))
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype) if causal else None
    options = {"need_weights": False, "attn_mask": mask}
    y: Tensor = torch.func.functional_call(reference, named, (x, x, x), options)[0]
    return y


def head_by_head(weights: Weights, query: Tensor, key: Tensor, value: Tensor, n_head: int, d_k: int) -> Tensor:
    """The sum over heads of softmax(q k^T / sqrt(d_k)) v W_o, each head with its own rows of the weights."""
    bias = {n: weights.get(f"{n}.bias", torch.tensor(0.0)) for n in ("query", "key", "value", "out")}
    q = torch.einsum("oc,btc->bto", weights["query.weight"], query) + bias["query"]
    k = torch.einsum("oc,btc->bto", weights["key.weight"], key) + bias["key"]
    v = torch.einsum("oc,btc->bto", weights["value.weight"], value) + bias["value"]
    heads = zip(
        *(part.chunk(n_head, dim=-1) for part in (q, k, v)), weights["out.weight"].chunk(n_head, 1), strict=True
    )
    y = sum(
        torch.softmax(torch.einsum("bid,bjd->bij", qh, kh) / d_k**0.5, -1) @ torch.einsum("bjd,od->bjo", vh, wh)
        for qh, kh, vh, wh in heads
    )
    return y + bias["out"]


def dot_by_loops(_: Mapping[str, Tensor], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    width = key.shape[-1]
    return torch.stack(
        [
            torch.stack([value[b].T.mv(share(key[b].mv(q) / width**0.5)) for q in sequence])
            for b, sequence in enumerate(query)
        ]
    )


def bahdanau(weights: Weights, query: Tensor, keys: Tensor) -> Tensor:
    """One score at a time."""
    batch = []
    for q, k in zip(query, keys, strict=True):
        rows = []
        for q_i in q:
            hidden = [torch.tanh(weights["query.weight"].mv(q_i) + weights["key.weight"].mv(k_j)) for k_j in k]
            probabilities = share(torch.stack([weights["score.weight"][0].dot(each) for each in hidden]))
            rows.append(sum(p * k_j for p, k_j in zip(probabilities, k, strict=True)))
        batch.append(torch.stack(rows))
    return torch.stack(batch)


def proj_softmax(weights: Weights, x: Tensor, key_ratio: int = 8) -> Tensor:
    """Row by row of each image."""

    def project(name: str, rows: Tensor) -> Tensor:
        return torch.einsum("oc,nc->no", weights[f"{name}.weight"], rows) + weights[f"{name}.bias"]

    y = []
    for image in x:
        rows = torch.stack([image[:, i, j] for i, j in pixels(image)])
        query, key, value = (project(name, rows) for name in ("query", "key", "value"))
        probabilities = [share(key.mv(q) / (image.shape[0] // key_ratio) ** 0.5) for q in query]
        attended = project("out", torch.stack([value.T.mv(p) for p in probabilities]))
        y.append(image + attended.T.reshape(image.shape))
    return torch.stack(y)


def timm_attention(weights: Weights, x: Tensor, heads: int, causal: bool = False) -> Tensor:
    """timm's own module has `proj` for `out`."""
    attention = importlib.import_module("timm.layers").Attention
    named = {name.replace("out.", "proj."): weight for name, weight in weights.items()}
    published = attention(x.shape[-1], heads, qkv_bias="qkv.bias" in weights)
    return weighted(published, named, x, is_causal=causal)


def llama(weights: Weights, x: Tensor, heads: int, kv_heads: int, causal: bool = False, turn: bool = False) -> Tensor:
    """The attention of LLaMA with its rotation switched off (an angle of zero), unless `turn`, which is a mistake."""
    published = importlib.import_module("transformers.models.llama.modeling_llama")
    config = published.LlamaConfig(
        hidden_size=x.shape[-1], num_attention_heads=heads, num_key_value_heads=kv_heads, attn_implementation="sdpa"
    )
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
    named = {f"{names[name.removesuffix('.weight')]}.weight": weight for name, weight in weights.items()}
    angle = torch.arange(x.shape[1])[None, :, None] * torch.ones(x.shape[-1] // heads) * turn
    mask = additive_mask(x.shape[1]) if causal else torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    return weighted(published.LlamaAttention(config, 0), named, x, (angle.cos(), angle.sin()), mask)


def additive_mask(tokens: int) -> Tensor:
    """(N, N), minus infinity where the key comes later, entry by entry."""
    rows = [[0.0 if j <= i else float("-inf") for j in range(tokens)] for i in range(tokens)]
    return torch.tensor(rows, dtype=torch.float64)


def grouped(weights: Weights, x: Tensor, heads: int, kv_heads: int, tiled: bool = False) -> Tensor:
    """Head by head, each with the keys of its group; `tiled` takes turns instead, which is a mistake."""
    width = x.shape[-1] // heads
    y = torch.zeros_like(x)
    for head in range(heads):
        group = head % kv_heads if tiled else head * kv_heads // heads
        own, shared = slice(head * width, (head + 1) * width), slice(group * width, (group + 1) * width)
        query, key, value = (
            torch.einsum("oc,bnc->bno", weights[f"{name}.weight"][rows], x)
            for name, rows in (("query", own), ("key", shared), ("value", shared))
        )
        scores = torch.einsum("bid,bjd->bij", query, key) / width**0.5
        attended = torch.einsum("bij,bjd->bid", scores.exp() / scores.exp().sum(-1, keepdim=True), value)
        y = y + torch.einsum("bid,cd->bic", attended, weights["out.weight"][:, own])
    return y


def nonlocal_by_loops(weights: Weights, x: Tensor, mode: str, scaled: bool = False) -> Tensor:
    """Position by position, with the statistics of the batch where there is a normalisation."""
    w = {name: weight.flatten(1) if weight.dim() == 4 else weight for name, weight in weights.items()}
    rows = []
    for image in x:
        places = [image[:, i, j] for i, j in pixels(image)]
        query, key, value = (
            torch.stack([w[f"{name}.weight"].mv(place) + w[f"{name}.bias"] for place in places])
            for name in ("query", "key", "value")
        )
        scores = [key.mv(q) / (len(q) ** 0.5 if scaled else 1) for q in query]
        weighing = [share(row) if mode == "embedded_gaussian" else row / len(row) for row in scores]
        rows.append(torch.stack([w["out.weight"].mv(value.T.mv(each)) for each in weighing]))
    y = torch.stack(rows)  # (B, N, C)
    if "norm.weight" in w:
        centred = y - y.mean((0, 1))
        y = centred / (centred.square().mean((0, 1)) + 1e-5).sqrt() * w["norm.weight"] + w["norm.bias"]
    else:
        y = y + w["out.bias"]
    return x + y.transpose(1, 2).reshape(x.shape)


def mmcv_nonlocal(weights: Weights, x: Tensor, mode: str, sub_sample: bool, bn: bool) -> Tensor:
    block = importlib.import_module("mmcv.cnn").NonLocal2d(
        x.shape[1], mode=mode, sub_sample=sub_sample, use_scale=False, norm_cfg={"type": "BN"} if bn else None
    )
    pooled = ".0" if sub_sample else ""
    names = {"query": "theta.conv", "key": f"phi{pooled}.conv", "value": f"g{pooled}.conv", "out": "conv_out.conv"}
    names["norm"] = "conv_out.bn"
    named = {f"{names[n.partition('.')[0]]}.{n.partition('.')[2]}": weight for n, weight in weights.items()}
    return weighted(block.eval(), named, x)


def masked_by_hand(weights: Weights, x: Tensor, heads: int, sees: Sees, slopes: Sequence[float] = ()) -> Tensor:
    """Dense softmax attention whose mask is asked for each pair (i, j), and whose bias is -slope |i - j|."""
    tokens, width = x.shape[1], x.shape[2] // heads
    query, key, value = torch.einsum("oc,bnc->bno", weights["qkv.weight"], x).add(weights["qkv.bias"]).chunk(3, dim=-1)
    visible = torch.tensor([[sees(i, j) for j in range(tokens)] for i in range(tokens)])
    distance = torch.tensor([[float(abs(i - j)) for j in range(tokens)] for i in range(tokens)], dtype=x.dtype)
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = torch.einsum("bid,bjd->bij", query[..., own], key[..., own]) / width**0.5
        scores = scores - distance * (slopes[head] if slopes else 0.0)
        exponentials = torch.where(visible, scores.exp(), 0.0)
        shares = exponentials / exponentials.sum(-1, keepdim=True)
        parts.append(torch.einsum("bij,bjd->bid", shares, value[..., own]))
    return torch.einsum("oc,bnc->bno", weights["out.weight"], torch.cat(parts, dim=-1)) + weights["out.bias"]


def deepseek(weights: Weights, x: Tensor, heads: int, hyper: Mapping[str, Any]) -> Tensor:
    """DeepSeek-V3's attention, which is that of V2, given the angles of our rotation."""
    published = importlib.import_module("transformers.models.deepseek_v3.modeling_deepseek_v3")
    width, ranks = x.shape[-1] // heads, {name: value for name, value in hyper.items() if name != "causal"}
    sizes = {
        "q_lora_rank": None,
        "kv_lora_rank": 4 * width,
        "qk_nope_head_dim": width,
        "qk_rope_head_dim": width // 2,
        "v_head_dim": width,
    } | ranks
    config = published.DeepseekV3Config(
        hidden_size=x.shape[-1],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        attn_implementation="eager",
        **sizes,
    )
    names = {"query": "q_proj", "query.0": "q_a_proj", "query.1": "q_a_layernorm", "query.2": "q_b_proj"}
    names |= {"kv_a": "kv_a_proj_with_mqa", "kv_norm": "kv_a_layernorm", "kv_b": "kv_b_proj", "out": "o_proj"}
    named = {f"{names[name.removesuffix('.weight')]}.weight": weight for name, weight in weights.items()}
    half = sizes["qk_rope_head_dim"] // 2
    angle = torch.tensor([[n * 10000 ** (-i / half) for i in range(half)] * 2 for n in range(x.shape[1])])[None]
    mask = additive_mask(x.shape[1]) if hyper.get("causal") else None
    attention = published.DeepseekV3Attention(config, 0)
    return weighted(attention, named, x, (angle.double().cos(), angle.double().sin()), mask)


def root_mean_square(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def latent(weights: Weights, x: Tensor, heads: int, hyper: Mapping[str, Any], mistake: str = "none") -> Tensor:
    """Head by head; pairs of channels are complex numbers, which a rotation multiplies."""
    width = x.shape[-1] // heads
    d_n, d_v = hyper.get("qk_nope_head_dim", width), hyper.get("v_head_dim", width)
    d_r, d_c = hyper.get("qk_rope_head_dim", width // 2), hyper.get("kv_lora_rank", 4 * width)
    rates = torch.tensor([10000 ** (-2 * i / d_r) for i in range(d_r // 2)], dtype=x.dtype)
    turn = torch.polar(torch.ones((), dtype=x.dtype), torch.arange(x.shape[1])[:, None] * rates)  # (N, d_r / 2)

    def turned(y: Tensor) -> Tensor:
        return torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()) * turn

    if "query.weight" in weights:
        query = x @ weights["query.weight"].T
    else:
        low = root_mean_square(x @ weights["query.0.weight"].T, weights["query.1.weight"], 1e-6)
        query = low @ weights["query.2.weight"].T
    compressed = x @ weights["kv_a.weight"].T
    shared = turned(compressed[..., d_c:])
    made = root_mean_square(compressed[..., :d_c], weights["kv_norm.weight"], 1e-6) @ weights["kv_b.weight"].T
    y = torch.zeros_like(x)
    for q, kv, out in zip(
        query.chunk(heads, -1), made.chunk(heads, -1), weights["out.weight"].chunk(heads, 1), strict=True
    ):
        pairs = q[..., d_n:].unflatten(-1, (-1, 2)).contiguous()
        q_r = torch.view_as_complex(pairs) if mistake == "unturned" else turned(q[..., d_n:])
        scores = q[..., :d_n] @ kv[..., :d_n].mT + (q_r @ shared.mT.conj()).real
        scores = scores / (d_n if mistake == "scale" else d_n + d_r) ** 0.5
        if hyper.get("causal"):
            scores = scores + additive_mask(x.shape[1])
        y = y + torch.softmax(scores, -1) @ kv[..., -d_v:] @ out.T
    return y


def timm_diff(weights: Weights, x: Tensor, heads: int, depth: int, causal: bool) -> Tensor:
    module = importlib.import_module("timm.layers.diff_attention").DiffAttention(x.shape[-1], heads, depth=depth)
    named = {"qkv.weight": weights["qkv.weight"], "sub_norm.weight": weights["norm.weight"]}
    named |= {f"proj.{each}": weights[f"out.{each}"] for each in ("weight", "bias")}
    named |= {f"lambda_{n}{i + 1}": weights[f"lambda_{n}"][i].flatten() for n in "qk" for i in range(2)}
    return weighted(module, named, x, is_causal=causal)


def two_attentions(weights: Weights, x: Tensor, heads: int, depth: int, causal: bool = False) -> Tensor:
    """The difference of the outputs of two attentions, as their fused kernels would give it, head by head."""
    products = (weights["lambda_q"].flatten(1) * weights["lambda_k"].flatten(1)).sum(1).exp()
    start = 0.8 - 0.6 * 2.718281828459045 ** (-0.3 * depth)
    query, key, value = (part.chunk(heads, -1) for part in (x @ weights["qkv.weight"].T).chunk(3, -1))
    parts = []
    for q, k, v in zip(query, key, value, strict=True):
        first, second = (
            torch.nn.functional.scaled_dot_product_attention(qi, ki, v, is_causal=causal)
            for qi, ki in zip(q.chunk(2, -1), k.chunk(2, -1), strict=True)
        )
        difference = first - (products[0] - products[1] + start) * second
        parts.append(root_mean_square(difference, weights["norm.weight"], 1e-5) * (1 - start))
    return torch.cat(parts, -1) @ weights["out.weight"].T + weights["out.bias"]


def timm_talking(weights: Weights, x: Tensor, heads: int) -> Tensor:
    published = importlib.import_module("timm.models.cait").TalkingHeadAttn
    names = {"mix_scores": "proj_l", "mix_weights": "proj_w", "out": "proj", "qkv": "qkv"}
    named = {f"{names[n.partition('.')[0]]}.{n.partition('.')[2]}": weight for n, weight in weights.items()}
    return weighted(published(x.shape[-1], heads, qkv_bias="qkv.bias" in weights), named, x)


def talking(weights: Weights, x: Tensor, heads: int, transposed: bool = False) -> Tensor:
    """By the indices of the heads: g mixes h."""
    query, key, value = (part.unflatten(-1, (heads, -1)) for part in (x @ weights["qkv.weight"].T).chunk(3, -1))
    equation = "hg,bhij->bgij" if transposed else "gh,bhij->bgij"
    scores = torch.einsum("bihd,bjhd->bhij", query, key) / query.shape[-1] ** 0.5
    scores = torch.einsum(equation, weights["mix_scores.weight"], scores)
    exponentials = (scores + weights["mix_scores.bias"][:, None, None]).exp()
    shares = exponentials / exponentials.sum(-1, keepdim=True)
    mixed = torch.einsum(equation, weights["mix_weights.weight"], shares) + weights["mix_weights.bias"][:, None, None]
    attended = torch.einsum("bhij,bjhd->bihd", mixed, value).flatten(2)
    return attended @ weights["out.weight"].T + weights["out.bias"]
