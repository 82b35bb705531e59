"""The softmax family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import softmax_oracles as oracles
from comparisons import Comparison, control, reference
from module_numerics import Weights, filled, noise
from torch import Tensor

from attnbench.modules import softmax

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "self_attn": [{"key_ratio": 4}, {"key_ratio": 3}],
    "sdpa": [{"qkv_bias": False}, {"causal": True}],
    "mha": [{"d_k": 8}, {"d_v": 24}, {"d_k": 5, "d_v": 7, "bias": False}, {"d_o": 40}, {"d_o": 40, "bias": False}],
    "additive_attn": [{"hidden_dim": 24}],
    "pseudo_linear_attn": [{"key_ratio": 2}, {"key_ratio": 5}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 4096, d_k = 8: projections N*64*(8 + 8 + 64) = 20,971,520; q k^T N^2*8 = 134,217,728; A v N^2*64
    ("self_attn", {}, (1, 64, 1, 64, 64), 20_971_520 + 134_217_728 + 1_073_741_824),
    # N = 1024: qkv and out 4*1024*64*64 = 16,777,216; twice 1024*1024*64 = 67,108,864
    ("sdpa", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 67_108_864),
    # the fused kernel may skip, the dense product is what is counted
    ("sdpa", {"causal": True}, (1, 64, 4, 32, 32), 150_994_944),
    ("mha", {}, (1, 64, 4, 32, 32), 150_994_944),
    # N = 16, 4 heads: q, k 16*64*32 = 32,768 each; v, out 16*64*96 = 98,304 each; 256*32 and 256*96; batch 2
    ("mha", {"d_k": 8, "d_v": 24}, (2, 64, 4, 4, 4), 2 * (2 * 32_768 + 2 * 98_304 + 8_192 + 24_576)),
    # N = 64, C = 16: 2*64*64*16 = 131,072; batch 3
    ("scaled_dot_product", {}, (3, 16, 1, 8, 8), 3 * 131_072),
    # N = 10, C = 32: q and k 10*32*32 = 10,240 each; v.tanh 100*32 and the sum of keys 100*32
    ("additive_attn", {}, (1, 32, 1, 2, 5), 2 * 10_240 + 3_200 + 3_200),
    # N = 1024: q, k 1024*64*8 = 524,288 each; v, out 1024*64*64 = 4,194,304 each; N^2*8 and N^2*64
    ("pseudo_linear_attn", {}, (1, 64, 1, 32, 32), 2 * 524_288 + 2 * 4_194_304 + 8_388_608 + 67_108_864),
]

MAP = noise(2, 64, 5, 7)
TOKENS = noise(2, 33, 64)


@reference("self_attn", "own oracle: loop over the positions")
def _() -> Comparison:
    return Comparison(filled(softmax.SelfAttention2d(64)), oracles.sagan, (MAP,))


@reference("self_attn", "own oracle: einsum, key_ratio=4, batch 1")
def _() -> Comparison:
    return Comparison(filled(softmax.SelfAttention2d(64, key_ratio=4)), oracles.einsum_sagan, (noise(1, 64, 9, 4),))


for mistake in ("scaled", "softmax over the queries", "not transposed"):

    @control("self_attn", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.einsum_sagan, mistake=mistake)
        return Comparison(filled(softmax.SelfAttention2d(64)), oracle, (MAP,))


for heads, causal in ((1, False), (4, False), (1, True), (4, True)):

    @reference("sdpa", f"torch MultiheadAttention, heads={heads}, causal={causal}")
    def _(heads: int = heads, causal: bool = causal) -> Comparison:
        oracle = partial(oracles.torch_qkv, heads=heads, causal=causal)
        return Comparison(filled(softmax.SdpaAttention(64, heads, causal=causal)), oracle, (TOKENS,))


@reference("sdpa", "torch MultiheadAttention, without the bias of qkv")
def _() -> Comparison:
    module = filled(softmax.SdpaAttention(64, 4, qkv_bias=False))
    return Comparison(module, partial(oracles.torch_qkv, heads=4), (noise(1, 13, 64),))


@control("sdpa", "no mask")
def _() -> Comparison:
    oracle = partial(oracles.torch_qkv, heads=4)
    return Comparison(filled(softmax.SdpaAttention(64, 4, causal=True)), oracle, (TOKENS,))


for dim_k, dim_v in ((64, 64), (48, 64), (40, 24)):

    @reference("mha", f"torch MultiheadAttention, kdim={dim_k}, vdim={dim_v}")
    def _(dim_k: int = dim_k, dim_v: int = dim_v) -> Comparison:
        inputs = noise(2, 9, 64), noise(2, 13, dim_k, seed=3), noise(2, 13, dim_v, seed=4)
        module = filled(softmax.MultiHeadAttention(64, 4, dim_k=dim_k, dim_v=dim_v))
        return Comparison(module, partial(oracles.torch_mha, heads=4), inputs)


for bias in (True, False):

    @reference("mha", f"own oracle: head by head, every width its own, bias={bias}")
    def _(bias: bool = bias) -> Comparison:
        module = filled(softmax.MultiHeadAttention(32, 3, d_k=8, d_v=12, dim_k=40, dim_v=24, d_o=20, bias=bias))
        inputs = noise(2, 9, 32), noise(2, 13, 40, seed=3), noise(2, 13, 24, seed=4)
        return Comparison(module, partial(oracles.head_by_head, n_head=3, d_k=8), inputs)


@control("mha", "scaled by the width of all heads together")
def _() -> Comparison:
    module = filled(softmax.MultiHeadAttention(32, 3, d_k=8, d_v=12))
    inputs = noise(2, 9, 32), noise(2, 9, 32, seed=3), noise(2, 9, 32, seed=4)
    return Comparison(module, partial(oracles.head_by_head, n_head=3, d_k=24), inputs)


@reference("scaled_dot_product", "own oracle: loop over the queries")
def _() -> Comparison:
    inputs = noise(2, 6, 32), noise(2, 9, 32, seed=3), noise(2, 9, 32, seed=4)
    return Comparison(softmax.ScaledDotProduct(), oracles.dot_by_loops, inputs)


for key_dim, hidden_dim in ((32, 32), (20, 32), (24, 40)):

    @reference("additive_attn", f"own oracle: loop over the pairs, key_dim={key_dim}, hidden_dim={hidden_dim}")
    def _(key_dim: int = key_dim, hidden_dim: int = hidden_dim) -> Comparison:
        module = filled(softmax.AdditiveAttention(32, key_dim=key_dim, hidden_dim=hidden_dim))
        return Comparison(module, oracles.bahdanau, (noise(2, 4, 32), noise(2, 7, key_dim, seed=3)))


for key_ratio in (8, 5):

    @reference("pseudo_linear_attn", f"own oracle: loop over the positions, key_ratio={key_ratio}")
    def _(key_ratio: int = key_ratio) -> Comparison:
        oracle = partial(oracles.proj_softmax, key_ratio=key_ratio)
        return Comparison(filled(softmax.PseudoLinearAttention(64, key_ratio)), oracle, (MAP,))


@control("pseudo_linear_attn", "swapped axes")
def _() -> Comparison:
    def swapped(weights: Weights, x: Tensor) -> Tensor:
        return oracles.proj_softmax(weights, x).reshape(2, 64, 7, 5).transpose(2, 3)

    return Comparison(filled(softmax.PseudoLinearAttention(64)), swapped, (MAP,))
