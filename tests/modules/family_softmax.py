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
    "mhsa": [{"qkv_bias": False}, {"causal": True}],
    "nonlocal": [
        {"inter_channels": 24},
        {"sub_sample": True},
        {"mode": "dot_product", "bn": False},
        {"inter_channels": 5, "sub_sample": True, "bn": False},
    ],
    "flex": [
        {"mask": "causal", "qkv_bias": False},
        {"mask": "window", "window": 3},
        {"mask": "alibi", "causal": True},
    ],
    "gqa": [{"kv_heads": 1, "causal": True}],
    "mqa": [{"causal": True}],
    "mla": [
        {"causal": True},
        {"q_lora_rank": 24},
        {"q_lora_rank": 11, "kv_lora_rank": 13, "qk_nope_head_dim": 5, "qk_rope_head_dim": 6, "v_head_dim": 7},
    ],
    "diff": [{"causal": True}, {"depth": 3}],
    "talking_heads": [{"qkv_bias": True}],
    "mha": [{"d_k": 8}, {"d_v": 24}, {"d_k": 5, "d_v": 7, "bias": False}, {"d_o": 40}, {"d_o": 40, "bias": False}],
    "additive_attn": [{"hidden_dim": 24}],
    "pseudo_linear_attn": [{"key_ratio": 2}, {"key_ratio": 5}],
}

# What torch cannot differentiate on the CPU, and what the module says of it.
WITHOUT_BACKWARD = {"flex": "flex_attention has no backward on the CPU: use --mode fwd, or a CUDA device"}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 4096, d_k = 8: projections N*64*(8 + 8 + 64) = 20,971,520; q k^T N^2*8 = 134,217,728; A v N^2*64
    ("self_attn", {}, (1, 64, 1, 64, 64), 20_971_520 + 134_217_728 + 1_073_741_824),
    # N = 1024: qkv and out 4*1024*64*64 = 16,777,216; twice 1024*1024*64 = 67,108,864
    ("sdpa", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 67_108_864),
    # the fused kernel may skip, the dense product is what is counted
    ("sdpa", {"causal": True}, (1, 64, 4, 32, 32), 150_994_944),
    ("mhsa", {"causal": True}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 67_108_864),
    # dense, whatever the mask
    ("flex", {"mask": "window", "window": 3}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 67_108_864),
    # N = 35, d = 32: q, k, v and out 35*64*32 = 71,680 each; twice 35*35*32 = 39,200
    ("nonlocal", {}, (1, 64, 1, 5, 7), 4 * 71_680 + 2 * 39_200),
    # keys are 2 x 3 after pooling: twice 35*6*32 = 6,720; batch 2
    ("nonlocal", {"sub_sample": True}, (2, 64, 1, 5, 7), 2 * (4 * 71_680 + 2 * 6_720)),
    # one row is pooled along its other side alone: 13 x 6 pairs of 34 channels
    ("nonlocal", {"sub_sample": True}, (1, 68, 1, 1, 13), 4 * 13 * 68 * 34 + 2 * 13 * 6 * 34),
    # N = 16, d = 8, 2 of 8 heads: q, out 16*64*64 = 65,536 each; k, v 16*64*16 = 16,384 each; twice 256*64
    ("gqa", {}, (1, 64, 8, 4, 4), 2 * 65_536 + 2 * 16_384 + 2 * 16_384),
    # one of 4 heads, d = 16: as above
    ("mqa", {}, (1, 64, 4, 4, 4), 2 * 65_536 + 2 * 16_384 + 2 * 16_384),
    # N = 16, 4 heads of d = 16, d_c = 64, d_r = 8: q 16*64*96 = 98,304; kv_a 16*64*72 = 73,728
    # kv_b 16*64*128 = 131,072; out 16*64*64 = 65,536; q k^T 256*4*24 = 24,576; A v 256*4*16 = 16,384
    ("mla", {}, (1, 64, 4, 4, 4), 98_304 + 73_728 + 131_072 + 65_536 + 24_576 + 16_384),
    # queries by 24 numbers: 16*64*24 = 24,576 and 16*24*96 = 36,864; batch 2
    ("mla", {"q_lora_rank": 24}, (2, 64, 4, 4, 4), 2 * (24_576 + 36_864 + 73_728 + 131_072 + 65_536 + 24_576 + 16_384)),
    # as mhsa, and two products of 8 numbers for lambda, whatever the batch: 2 * (4*65,536 + 2*16,384) + 16
    ("diff", {}, (2, 64, 4, 4, 4), 2 * (4 * 65_536 + 2 * 16_384) + 16),
    # as mhsa, and twice 256 pairs of tokens by 4 x 4 heads
    ("talking_heads", {}, (1, 64, 4, 4, 4), 4 * 65_536 + 2 * 16_384 + 2 * 4_096),
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


for heads, causal, bias in ((4, False, True), (8, True, True), (1, True, False)):

    @reference("mhsa", f"timm Attention, heads={heads}, causal={causal}, qkv_bias={bias}", "timm")
    def _(heads: int = heads, causal: bool = causal, bias: bool = bias) -> Comparison:
        module = filled(softmax.MultiHeadSelfAttention(64, heads, qkv_bias=bias, causal=causal))
        return Comparison(module, partial(oracles.timm_attention, heads=heads, causal=causal), (TOKENS,))


@reference("mhsa", "torch MultiheadAttention, causal, one sequence of odd length")
def _() -> Comparison:
    oracle = partial(oracles.torch_qkv, heads=4, causal=True)
    return Comparison(filled(softmax.MultiHeadSelfAttention(64, 4, causal=True)), oracle, (noise(1, 17, 64),))


@control("mhsa", "no mask")
def _() -> Comparison:
    oracle = partial(oracles.torch_qkv, heads=4)
    return Comparison(filled(softmax.MultiHeadSelfAttention(64, 4, causal=True)), oracle, (TOKENS,))


@control("mhsa", "the heads of another number")
def _() -> Comparison:
    oracle = partial(oracles.torch_qkv, heads=2)
    return Comparison(filled(softmax.MultiHeadSelfAttention(64, 4)), oracle, (TOKENS,))


for mode, bn in (("embedded_gaussian", False), ("dot_product", True)):

    @reference("nonlocal", f"own oracle: loop over the positions, mode={mode}, bn={bn}")
    def _(mode: str = mode, bn: bool = bn) -> Comparison:
        module = filled(softmax.NonLocal2d(16, mode=mode, bn=bn))
        return Comparison(module, partial(oracles.nonlocal_by_loops, mode=mode), (noise(2, 16, 5, 3),))


for mode, sub_sample, bn in (
    ("embedded_gaussian", False, True),
    ("embedded_gaussian", True, True),
    ("dot_product", True, False),
):

    @reference("nonlocal", f"mmcv NonLocal2d, mode={mode}, sub_sample={sub_sample}, bn={bn}", "mmcv")
    def _(mode: str = mode, sub_sample: bool = sub_sample, bn: bool = bn) -> Comparison:
        module = filled(softmax.NonLocal2d(16, sub_sample=sub_sample, mode=mode, bn=bn)).eval()
        oracle = partial(oracles.mmcv_nonlocal, mode=mode, sub_sample=sub_sample, bn=bn)
        return Comparison(module, oracle, (noise(2, 16, 5, 7),))


@control("nonlocal", "scaled")
def _() -> Comparison:
    oracle = partial(oracles.nonlocal_by_loops, mode="embedded_gaussian", scaled=True)
    return Comparison(filled(softmax.NonLocal2d(16, bn=False)), oracle, (noise(2, 16, 5, 3),))


for heads, kv_heads, causal in ((8, 2, False), (8, 2, True), (4, 4, False), (6, 3, True)):

    @reference("gqa", f"transformers LlamaAttention, {kv_heads} of {heads} heads, causal={causal}", "transformers")
    def _(heads: int = heads, kv_heads: int = kv_heads, causal: bool = causal) -> Comparison:
        module = filled(softmax.GroupedQueryAttention(48, heads, kv_heads, causal))
        oracle = partial(oracles.llama, heads=heads, kv_heads=kv_heads, causal=causal)
        return Comparison(module, oracle, (noise(2, 13, 48),))


@reference("gqa", "own oracle: head by head")
def _() -> Comparison:
    module = filled(softmax.GroupedQueryAttention(48, 6, 2))
    return Comparison(module, partial(oracles.grouped, heads=6, kv_heads=2), (noise(1, 11, 48),))


@control("gqa", "the key heads take turns")
def _() -> Comparison:
    module = filled(softmax.GroupedQueryAttention(64, 8))
    return Comparison(module, partial(oracles.grouped, heads=8, kv_heads=2, tiled=True), (TOKENS,))


@control("gqa", "rotated by positions", "transformers")
def _() -> Comparison:
    module = filled(softmax.GroupedQueryAttention(64, 8))
    return Comparison(module, partial(oracles.llama, heads=8, kv_heads=2, turn=True), (TOKENS,))


for causal in (False, True):

    @reference("mqa", f"transformers LlamaAttention with one key head, causal={causal}", "transformers")
    def _(causal: bool = causal) -> Comparison:
        oracle = partial(oracles.llama, heads=4, kv_heads=1, causal=causal)
        return Comparison(filled(softmax.MultiQueryAttention(64, 4, causal)), oracle, (noise(1, 15, 64),))


@reference("mqa", "own oracle: head by head")
def _() -> Comparison:
    oracle = partial(oracles.grouped, heads=4, kv_heads=1)
    return Comparison(filled(softmax.MultiQueryAttention(64, 4)), oracle, (TOKENS,))


SEEN: list[tuple[dict[str, Any], oracles.Sees]] = [
    ({}, lambda i, j: True),
    ({"mask": "causal"}, lambda i, j: j <= i),
    ({"mask": "window", "window": 3}, lambda i, j: abs(i - j) <= 3),
    ({"mask": "window", "window": 3, "causal": True}, lambda i, j: 0 <= i - j <= 3),
]
for hyper, sees in SEEN:

    @reference("flex", f"own oracle: dense mask, pair by pair, {hyper}")
    def _(hyper: dict[str, Any] = hyper, sees: oracles.Sees = sees) -> Comparison:
        oracle = partial(oracles.masked_by_hand, heads=4, sees=sees)
        return Comparison(filled(softmax.FlexAttention(32, 4, **hyper)), oracle, (noise(2, 13, 32),), backward=False)


@reference("flex", "own oracle: dense, with the slopes of ALiBi for four heads")
def _() -> Comparison:
    oracle = partial(oracles.masked_by_hand, heads=4, sees=lambda i, j: j <= i, slopes=[1 / 4, 1 / 16, 1 / 64, 1 / 256])
    module = filled(softmax.FlexAttention(32, 4, mask="alibi", causal=True))
    return Comparison(module, oracle, (noise(1, 13, 32),), backward=False)


@reference("flex", "torch MultiheadAttention, causal, several blocks of 128")
def _() -> Comparison:
    oracle = partial(oracles.torch_qkv, heads=1, causal=True)
    return Comparison(filled(softmax.FlexAttention(16, 1, causal=True)), oracle, (noise(1, 261, 16),), backward=False)


@control("flex", "a window that is one key too narrow")
def _() -> Comparison:
    oracle = partial(oracles.masked_by_hand, heads=4, sees=lambda i, j: abs(i - j) < 3)
    module = filled(softmax.FlexAttention(32, 4, mask="window", window=3))
    return Comparison(module, oracle, (noise(2, 13, 32),), backward=False)


@control("flex", "the slopes of ALiBi begin at one")
def _() -> Comparison:
    oracle = partial(oracles.masked_by_hand, heads=4, sees=lambda i, j: True, slopes=[1, 1 / 4, 1 / 16, 1 / 64])
    module = filled(softmax.FlexAttention(32, 4, mask="alibi"))
    return Comparison(module, oracle, (noise(1, 13, 32),), backward=False)


RANKS: list[dict[str, Any]] = [
    {},
    {"q_lora_rank": 20, "causal": True},
    {"q_lora_rank": 11, "kv_lora_rank": 13, "qk_nope_head_dim": 5, "qk_rope_head_dim": 6, "v_head_dim": 7},
]
for hyper in RANKS:

    @reference("mla", f"transformers DeepseekV3Attention, {hyper}", "transformers")
    def _(hyper: dict[str, Any] = hyper) -> Comparison:
        oracle = partial(oracles.deepseek, heads=4, hyper=hyper)
        return Comparison(filled(softmax.LatentAttention(64, 4, **hyper)), oracle, (noise(2, 13, 64),), in_float32=True)

    @reference("mla", f"own oracle: head by head, rotated as complex numbers, {hyper}")
    def _(hyper: dict[str, Any] = hyper) -> Comparison:
        oracle = partial(oracles.latent, heads=4, hyper=hyper)
        return Comparison(filled(softmax.LatentAttention(64, 4, **hyper)), oracle, (noise(1, 11, 64),))


@control("mla", "the query's rotated part is not rotated")
def _() -> Comparison:
    oracle = partial(oracles.latent, heads=4, hyper={}, mistake="unturned")
    return Comparison(filled(softmax.LatentAttention(64, 4)), oracle, (noise(2, 13, 64),))


@control("mla", "scaled by the width without positions")
def _() -> Comparison:
    oracle = partial(oracles.latent, heads=4, hyper={}, mistake="scale")
    return Comparison(filled(softmax.LatentAttention(64, 4)), oracle, (noise(2, 13, 64),))


for depth, causal in ((0, False), (3, True)):

    @reference("diff", f"timm DiffAttention, depth={depth}, causal={causal}", "timm")
    def _(depth: int = depth, causal: bool = causal) -> Comparison:
        module = filled(softmax.DifferentialAttention(64, 4, depth, causal))
        oracle = partial(oracles.timm_diff, heads=4, depth=depth, causal=causal)
        return Comparison(module, oracle, (noise(2, 13, 64),), in_float32=True)

    @reference("diff", f"own oracle: two fused attentions a head, depth={depth}, causal={causal}")
    def _(depth: int = depth, causal: bool = causal) -> Comparison:
        module = filled(softmax.DifferentialAttention(48, 3, depth, causal))
        oracle = partial(oracles.two_attentions, heads=3, depth=depth, causal=causal)
        return Comparison(module, oracle, (noise(1, 17, 48),))


@control("diff", "lambda of another depth")
def _() -> Comparison:
    oracle = partial(oracles.two_attentions, heads=4, depth=1)
    return Comparison(filled(softmax.DifferentialAttention(64, 4)), oracle, (noise(2, 13, 64),))


for bias in (False, True):

    @reference("talking_heads", f"timm TalkingHeadAttn, qkv_bias={bias}", "timm")
    def _(bias: bool = bias) -> Comparison:
        module = filled(softmax.TalkingHeads(64, 4, qkv_bias=bias))
        return Comparison(module, partial(oracles.timm_talking, heads=4), (noise(2, 13, 64),))


@reference("talking_heads", "own oracle: einsum over the heads, one sequence")
def _() -> Comparison:
    return Comparison(filled(softmax.TalkingHeads(48, 3)), partial(oracles.talking, heads=3), (noise(1, 11, 48),))


@control("talking_heads", "the matrices are transposed")
def _() -> Comparison:
    oracle = partial(oracles.talking, heads=4, transposed=True)
    return Comparison(filled(softmax.TalkingHeads(64, 4)), oracle, (noise(2, 13, 64),))
