"""The quadratic attentions against forms of them that were written differently, in float64."""

from functools import partial

import pytest
import torch
from module_numerics import Weights, assert_agrees, errors, filled, noise, relative_error
from torch import Tensor, nn

from attnbench.modules.softmax import (
    AdditiveAttention,
    MultiHeadAttention,
    PseudoLinearAttention,
    ScaledDotProduct,
    SdpaAttention,
    SelfAttention2d,
)

MAP = (2, 64, 5, 7)


def share(scores: Tensor) -> Tensor:
    """exp(s_j) / sum_j exp(s_j) of one vector, spelled out."""
    exponentials = [torch.exp(each) for each in scores]
    total = sum(exponentials[1:], exponentials[0])
    return torch.stack([each / total for each in exponentials])


def sagan(weights: Weights, x: Tensor) -> Tensor:
    """Position by position: no N x N matrix, no transposed map to get wrong."""

    def project(name: str, pixel: Tensor) -> Tensor:
        return weights[f"{name}.weight"].flatten(1).mv(pixel) + weights[f"{name}.bias"]

    y = x.clone()
    for b, image in enumerate(x):
        pixels = [(i, j) for i in range(image.shape[1]) for j in range(image.shape[2])]
        keys = torch.stack([project("key", image[:, i, j]) for i, j in pixels])
        values = torch.stack([project("value", image[:, i, j]) for i, j in pixels])
        for i, j in pixels:
            probabilities = share(keys.mv(project("query", image[:, i, j])))
            y[b, :, i, j] += weights["gamma"][0] * values.T.mv(probabilities)
    return y


def wrong_sagan(weights: Weights, x: Tensor, mistake: str) -> Tensor:
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


def test_self_attn_agrees_with_a_loop_over_the_positions() -> None:
    assert_agrees(filled(SelfAttention2d(64)), sagan, noise(*MAP))


def test_self_attn_agrees_with_the_einsum_form_when_no_mistake_is_made() -> None:
    assert_agrees(filled(SelfAttention2d(64, key_ratio=4)), partial(wrong_sagan, mistake="none"), noise(*MAP))


@pytest.mark.parametrize("mistake", ["scaled", "softmax over the queries", "not transposed"])
def test_the_comparison_of_self_attn_catches(mistake: str) -> None:
    found = errors(filled(SelfAttention2d(64)), partial(wrong_sagan, mistake=mistake), noise(*MAP))
    assert min(found) > 1e-3, f"a tolerance of 1e-4 would hardly catch it: {found}"


def test_self_attn_starts_as_the_identity() -> None:
    x = noise(*MAP)
    assert torch.equal(SelfAttention2d(64)(x), x)


def test_self_attn_returns_its_attention_when_asked() -> None:
    x = noise(*MAP)
    module = filled(SelfAttention2d(64, return_attention=True))
    y, weights = module(x)
    assert y.shape == x.shape
    assert weights.shape == (2, 35, 35)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 35))
    assert torch.equal(y, filled(SelfAttention2d(64))(x))


@pytest.mark.parametrize("module", [SelfAttention2d, PseudoLinearAttention])
def test_a_map_with_fewer_channels_than_the_key_ratio_is_refused(module: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="dim=7 is smaller than key_ratio=8"):
        module(7)


def load(reference: nn.MultiheadAttention, weights: Weights, qkv: list[tuple[Tensor, Tensor]]) -> None:
    """torch's own module gets our weights; it stays in train mode, since in eval mode it may take a fused path."""
    state = {"in_proj_bias": torch.cat([bias for _, bias in qkv])}
    if reference.in_proj_weight is not None:
        state["in_proj_weight"] = torch.cat([weight for weight, _ in qkv])
    else:
        state |= {f"{name}_proj_weight": weight for name, (weight, _) in zip("qkv", qkv, strict=True)}
    state |= {"out_proj.weight": weights["out.weight"], "out_proj.bias": weights["out.bias"]}
    reference.load_state_dict(state, strict=True)


def torch_mha(weights: Weights, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    widths = query.shape[-1], key.shape[-1], value.shape[-1]
    reference = nn.MultiheadAttention(
        widths[0], heads, kdim=widths[1], vdim=widths[2], batch_first=True, dtype=torch.float64
    )
    load(reference, weights, [(weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in ("query", "key", "value")])
    y: Tensor = reference(query, key, value, need_weights=False)[0]
    return y


def torch_self_attention(weights: Weights, x: Tensor, heads: int, causal: bool) -> Tensor:
    reference = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True, dtype=torch.float64)
    split = zip(weights["qkv.weight"].chunk(3), weights["qkv.bias"].chunk(3), strict=True)
    load(reference, weights, list(split))
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=torch.float64) if causal else None
    y: Tensor = reference(x, x, x, need_weights=False, attn_mask=mask)[0]
    return y


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_sdpa_agrees_with_torch_multihead_attention(heads: int, causal: bool) -> None:
    module = filled(SdpaAttention(64, heads, causal=causal))
    assert_agrees(module, partial(torch_self_attention, heads=heads, causal=causal), noise(2, 33, 64))


def test_the_comparison_of_sdpa_catches_a_missing_mask() -> None:
    module = filled(SdpaAttention(64, 4, causal=True))
    assert min(errors(module, partial(torch_self_attention, heads=4, causal=False), noise(2, 33, 64))) > 1e-2


def test_sdpa_without_the_bias_of_qkv_is_sdpa_with_a_bias_of_zero() -> None:
    module, plain = SdpaAttention(64, 4), SdpaAttention(64, 4, qkv_bias=False)
    nn.init.zeros_(module.qkv.bias)
    plain.load_state_dict({name: value for name, value in module.state_dict().items() if name != "qkv.bias"})
    assert torch.equal(plain(noise(2, 9, 64)), module(noise(2, 9, 64)))


@pytest.mark.parametrize(("dim_k", "dim_v"), [(None, None), (48, None), (40, 24)])
def test_mha_agrees_with_torch_multihead_attention(dim_k: int | None, dim_v: int | None) -> None:
    module = filled(MultiHeadAttention(64, 4, dim_k=dim_k, dim_v=dim_v))
    inputs = noise(2, 9, 64), noise(2, 13, dim_k or 64, seed=3), noise(2, 13, dim_v or 64, seed=4)
    assert_agrees(module, partial(torch_mha, heads=4), *inputs)


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


@pytest.mark.parametrize("bias", [True, False])
def test_mha_agrees_head_by_head_when_every_width_is_its_own(bias: bool) -> None:
    module = filled(MultiHeadAttention(32, 3, d_k=8, d_v=12, dim_k=40, dim_v=24, d_o=20, bias=bias))
    inputs = noise(2, 9, 32), noise(2, 13, 40, seed=3), noise(2, 13, 24, seed=4)
    assert_agrees(module, partial(head_by_head, n_head=3, d_k=8), *inputs)


def test_the_comparison_of_mha_catches_the_wrong_scale() -> None:
    module = filled(MultiHeadAttention(32, 3, d_k=8, d_v=12))
    oracle = partial(head_by_head, n_head=3, d_k=24)  # as if scaled by the width of all heads together
    assert max(errors(module, oracle, noise(2, 9, 32), noise(2, 9, 32, seed=3), noise(2, 9, 32, seed=4))) > 1e-2


@pytest.mark.parametrize("module", [SdpaAttention, MultiHeadAttention])
def test_heads_that_do_not_divide_the_width_are_refused(module: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        module(64, 5)


def dot_by_loops(_: Weights, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    width = key.shape[-1]
    return torch.stack(
        [
            torch.stack([value[b].T.mv(share(key[b].mv(q) / width**0.5)) for q in sequence])
            for b, sequence in enumerate(query)
        ]
    )


def test_scaled_dot_product_agrees_with_a_loop_over_the_queries() -> None:
    assert_agrees(ScaledDotProduct(), dot_by_loops, noise(2, 6, 32), noise(2, 9, 32, seed=3), noise(2, 9, 32, seed=4))


def test_the_one_head_of_sdpa_without_projections_is_scaled_dot_product() -> None:
    x = noise(2, 9, 32)
    fused = nn.functional.scaled_dot_product_attention(x, x, x)
    assert relative_error(ScaledDotProduct()(x, x, x), fused) < 1e-5


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


@pytest.mark.parametrize(("key_dim", "hidden_dim"), [(None, None), (20, None), (24, 40)])
def test_additive_attn_agrees_with_a_loop_over_the_pairs(key_dim: int | None, hidden_dim: int | None) -> None:
    module = filled(AdditiveAttention(32, key_dim=key_dim, hidden_dim=hidden_dim))
    assert_agrees(module, bahdanau, noise(2, 4, 32), noise(2, 7, key_dim or 32, seed=3))


def test_additive_attn_takes_one_step() -> None:
    module = filled(AdditiveAttention(32, key_dim=20))
    step, keys = noise(2, 32), noise(2, 7, 20, seed=3)
    assert module(step, keys).shape == (2, 20)
    assert torch.equal(module(step, keys), module(step[:, None], keys)[:, 0])


def proj_softmax(weights: Weights, x: Tensor) -> Tensor:
    def project(name: str, rows: Tensor) -> Tensor:
        return torch.einsum("oc,nc->no", weights[f"{name}.weight"], rows) + weights[f"{name}.bias"]

    y = []
    for image in x:
        rows = torch.stack([image[:, i, j] for i in range(image.shape[1]) for j in range(image.shape[2])])
        query, key, value = (project(name, rows) for name in ("query", "key", "value"))
        probabilities = [share(key.mv(q) / (image.shape[0] // 8) ** 0.5) for q in query]
        attended = project("out", torch.stack([value.T.mv(p) for p in probabilities]))
        y.append(image + attended.T.reshape(image.shape))
    return torch.stack(y)


def test_pseudo_linear_attn_agrees_with_a_loop_over_the_positions() -> None:
    assert_agrees(filled(PseudoLinearAttention(64)), proj_softmax, noise(*MAP))


def test_the_comparison_of_pseudo_linear_attn_catches_swapped_axes() -> None:
    def swapped(weights: Weights, x: Tensor) -> Tensor:
        return proj_softmax(weights, x).reshape(2, 64, 7, 5).transpose(2, 3)

    assert min(errors(filled(PseudoLinearAttention(64)), swapped, noise(*MAP))) > 1e-2
