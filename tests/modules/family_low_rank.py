"""The low-rank family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import low_rank_oracles as oracles
from comparisons import Comparison, control, reference
from module_numerics import Weights, filled, noise
from torch import Tensor

from attnbench.modules import low_rank

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "linformer": [
        {"k": 9},
        {"one_kv_head": True, "k": 20},
        {"share_kv": True},
        {"dim_head": 10, "k": 7},
        {"dim_head": 10, "one_kv_head": True, "share_kv": True},
    ],
    "nystrom": [
        {"num_landmarks": 6, "own_start": True},
        {"num_landmarks": 13, "pinv_iterations": 4},
        {"residual_conv_kernel": 5},
        {"residual_conv_kernel": 0},
    ],
    "sr": [{"sr_ratio": 1}, {"sr_ratio": 2}, {"sr_ratio": 3, "qkv_bias": False}],
    "external": [{"S": 8}],
    "agent": [{"agent_num": 9}, {"agent_num": 16, "qkv_bias": True}],
    "a2": [{"c_m": 24}, {"c_n": 10}, {"c_m": 5, "c_n": 7}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024: q, k, v, out 1024*64*64 = 4,194,304 each; E and F 1024*256*64 = 16,777,216 each, as q K^T and A V
    ("linformer", {}, (1, 64, 4, 32, 32), 4 * 4_194_304 + 4 * 16_777_216),
    # one head of 16 for keys and values, the same: q, out as above; k 1024*64*16; E 1024*256*16 = 4,194,304
    ("linformer", {"one_kv_head": True, "share_kv": True}, (1, 64, 4, 32, 32),
     2 * 4_194_304 + 1_048_576 + 4_194_304 + 2 * 16_777_216),
    # N = 1024, m = 64: projections; F, D, D v, F Z D v 1024*64*64 = 4,194,304 each; A 64*64*64 = 262,144;
    # 24 products of 64^3 = 262,144 in each of 4 heads; F Z 1024*64*64*4 = 16,777,216; 33 taps of 1024*64
    ("nystrom", {}, (1, 64, 4, 32, 32),
     4 * 4_194_304 + 4 * 4_194_304 + 262_144 + 24 * 262_144 * 4 + 16_777_216 + 2_162_688),
    # N = 10 in front of which 2 zeros make 12, m = 6, one head: 4*10*256 = 10,240; F and F Z D v 10*6*16 = 960 each,
    # D and D v 12*6*16 = 1,152 each; A 36*16 = 576; 24*216 = 5,184; F Z 10*36 = 360; 33*10*16 = 5,280
    ("nystrom", {"num_landmarks": 6}, (1, 16, 1, 2, 5), 10_240 + 2 * 960 + 2 * 1_152 + 576 + 5_184 + 360 + 5_280),
    # N = 1024, M = 64 keys: q, out 4,194,304 each; k, v 64*64*64 = 262,144 each; 8*8 patches of 4*4*64 into 64,
    # 64*1024*64 = 4,194,304; twice 1024*64*64
    ("sr", {}, (1, 64, 4, 32, 32), 2 * 4_194_304 + 2 * 262_144 + 4_194_304 + 2 * 4_194_304),
    # 1 x 13 with R = 4: one row, filled up, of 3 patches, the last column left out; batch 2
    ("sr", {}, (2, 16, 1, 1, 13), 2 * (2 * 13 * 256 + 2 * 3 * 256 + 3 * 16 * 256 + 2 * 13 * 3 * 16)),
    # full attention: 4*16*1024 and twice 256*32
    ("sr", {"sr_ratio": 1}, (1, 32, 1, 4, 4), 65_536 + 2 * 8_192),
    # N = 1024: 1024*64*64 twice
    ("external", {}, (1, 64, 1, 32, 32), 2 * 4_194_304),
    # N = 1024: four projections; four products with 49 agents, 1024*49*64 = 3,211,264 each; 9 taps of 1024*64
    ("agent", {}, (1, 64, 4, 32, 32), 4 * 4_194_304 + 4 * 3_211_264 + 589_824),
    # N = 1024, c_m = c_n = 16: four convolutions of 1024*64*16 = 1,048,576; twice 1024*16*16 = 262,144
    ("a2", {}, (1, 64, 1, 32, 32), 4 * 1_048_576 + 2 * 262_144),
]  # fmt: skip

# Whose samples meet in a batch, and why.
COUPLED: dict[str, str] = {
    "nystrom": "the published pseudo-inverse starts from the largest column sum of the whole batch (own_start: no)",
}

MAP = noise(2, 32, 5, 7)
TOKENS = noise(2, 33, 32)


for hyper in ({"k": 9}, {"k": 9, "one_kv_head": True}, {"k": 40, "share_kv": True}, {"k": 9, "dim_head": 10}):

    @reference("linformer", f"linformer LinformerSelfAttention, {hyper}", "linformer")
    def _(hyper: dict[str, Any] = hyper) -> Comparison:
        module = filled(low_rank.LinformerAttention(32, 4, 33, **hyper))
        return Comparison(module, partial(oracles.published_linformer, heads=4, seq_len=33, **hyper), (TOKENS,))


@reference("linformer", "linformer LinformerSelfAttention, fewer tokens than seq_len, batch 1", "linformer")
def _() -> Comparison:
    oracle = partial(oracles.published_linformer, heads=2, seq_len=50, k=9)
    return Comparison(filled(low_rank.LinformerAttention(32, 2, 50, k=9)), oracle, (noise(1, 33, 32),))


@reference("linformer", "own oracle: head by head")
def _() -> Comparison:
    module = filled(low_rank.LinformerAttention(32, 4, 33, k=9))
    return Comparison(module, partial(oracles.linformer_by_heads, heads=4), (TOKENS,))


for mistake in ("E and F exchanged", "softmax over the queries"):

    @control("linformer", mistake)
    def _(mistake: str = mistake) -> Comparison:
        module = filled(low_rank.LinformerAttention(32, 4, 33, k=9))
        return Comparison(module, partial(oracles.linformer_by_heads, heads=4, mistake=mistake), (TOKENS,))


# With the landmarks as a divisor of N and not, more of them than tokens, and without the convolution.
for tokens, landmarks, kernel in ((32, 8, 33), (33, 8, 33), (10, 16, 5), (33, 8, 0)):

    @reference("nystrom", f"nystrom_attention NystromAttention, N={tokens}, num_landmarks={landmarks}, "
               f"residual_conv_kernel={kernel}", "nystrom_attention")  # fmt: skip
    def _(tokens: int = tokens, landmarks: int = landmarks, kernel: int = kernel) -> Comparison:
        module = filled(low_rank.NystromAttention(32, 4, landmarks, residual_conv_kernel=kernel))
        oracle = partial(oracles.published_nystrom, heads=4, num_landmarks=landmarks, residual_conv_kernel=kernel)
        return Comparison(module, oracle, (noise(2, tokens, 32),))


@reference("nystrom", "transformers NystromformerSelfAttention", "transformers")
def _() -> Comparison:
    module = filled(low_rank.NystromAttention(32, 4, 8, residual_conv_kernel=65))
    oracle = partial(oracles.published_nystromformer, heads=4, landmarks=8, kernel=65)
    return Comparison(module, oracle, (noise(2, 32, 32),))


for batch, own_start in ((1, False), (2, False), (2, True)):

    @reference("nystrom", f"own oracle: the iteration as a polynomial, batch {batch}, own_start={own_start}")
    def _(batch: int = batch, own_start: bool = own_start) -> Comparison:
        module = filled(low_rank.NystromAttention(32, 4, 8, 4, residual_conv_kernel=5, own_start=own_start))
        oracle = partial(oracles.nystrom_polynomial, heads=4, landmarks=8, iterations=4, own_start=own_start)
        return Comparison(module, oracle, (3 * noise(batch, 33, 32),))


for mistake in ("start of each head", "no convolution"):

    @control("nystrom", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.nystrom_polynomial, heads=4, landmarks=8, iterations=6, mistake=mistake)
        return Comparison(filled(low_rank.NystromAttention(32, 4, 8)), oracle, (3 * noise(2, 33, 32),))


@control("nystrom", "five iterations")
def _() -> Comparison:
    oracle = partial(oracles.nystrom_polynomial, heads=4, landmarks=8, iterations=5)
    return Comparison(filled(low_rank.NystromAttention(32, 4, 8)), oracle, (3 * noise(2, 33, 32),))


def timm_sr(weights: Weights, x: Tensor, heads: int, ratio: int, qkv_bias: bool = True) -> Tensor:
    from timm.models.pvt_v2 import Attention

    return oracles.published_sr(weights, x, Attention(x.shape[1], heads, sr_ratio=ratio, qkv_bias=qkv_bias))


def timm_gsa(weights: Weights, x: Tensor, heads: int, ratio: int) -> Tensor:
    from timm.models.twins import GlobalSubSampleAttn

    return oracles.published_sr(weights, x, GlobalSubSampleAttn(x.shape[1], heads, sr_ratio=ratio))


for ratio, qkv_bias in ((1, True), (2, True), (3, False)):

    @reference("sr", f"timm pvt_v2.Attention, sr_ratio={ratio}, qkv_bias={qkv_bias}", "timm")
    def _(ratio: int = ratio, qkv_bias: bool = qkv_bias) -> Comparison:
        module = filled(low_rank.SpatialReductionAttention(32, 4, ratio, qkv_bias))
        return Comparison(module, partial(timm_sr, heads=4, ratio=ratio, qkv_bias=qkv_bias), (MAP,))


@reference("sr", "timm twins.GlobalSubSampleAttn, batch 1", "timm")
def _() -> Comparison:
    module = filled(low_rank.SpatialReductionAttention(32, 2, 2))
    return Comparison(module, partial(timm_gsa, heads=2, ratio=2), (noise(1, 32, 9, 4),))


for height, width in ((5, 7), (1, 13), (3, 2)):

    @reference("sr", f"own oracle: patch by patch, {height}x{width} with sr_ratio=4")
    def _(height: int = height, width: int = width) -> Comparison:
        module = filled(low_rank.SpatialReductionAttention(32, 4))
        return Comparison(module, partial(oracles.sr_by_patches, heads=4, ratio=4), (noise(2, 32, height, width),))


@control("sr", "no norm")
def _() -> Comparison:
    oracle = partial(oracles.sr_by_patches, heads=4, ratio=2, mistake="no norm")
    return Comparison(filled(low_rank.SpatialReductionAttention(32, 4, 2)), oracle, (MAP,))


@reference("external", "fightingcv ExternalAttention", "fightingcv_attention")
def _() -> Comparison:
    oracle = partial(oracles.published_eanet, slots=10)
    return Comparison(filled(low_rank.ExternalAttention(32, 10)), oracle, (TOKENS,))


for batch, slots in ((1, 64), (2, 5)):

    @reference("external", f"own oracle: loop over the learned keys, S={slots}, batch {batch}")
    def _(batch: int = batch, slots: int = slots) -> Comparison:
        module = filled(low_rank.ExternalAttention(32, slots))
        return Comparison(module, oracles.external_by_loops, (noise(batch, 33, 32),))


for mistake in ("softmax over the learned keys", "rows not divided"):

    @control("external", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.external_by_loops, mistake=mistake)
        return Comparison(filled(low_rank.ExternalAttention(32, 10)), oracle, (TOKENS,))


for height, width, agents, qkv_bias in ((5, 7, 9, False), (9, 4, 49, False), (1, 13, 4, True), (14, 14, 49, False)):

    @reference("agent", "own oracle: head by head, pooling and stretching as matrices, "
               f"{height}x{width}, agent_num={agents}, qkv_bias={qkv_bias}")  # fmt: skip
    def _(height: int = height, width: int = width, agents: int = agents, qkv_bias: bool = qkv_bias) -> Comparison:
        module = filled(low_rank.AgentAttention(32, 4, height, width, agents, qkv_bias))
        oracle = partial(oracles.agent, heads=4, side=round(agents**0.5))
        return Comparison(module, oracle, (noise(1 if height == 1 else 2, 32, height, width),))


for mistake in ("no bias", "not scaled", "no convolution"):

    @control("agent", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.agent, heads=4, side=3, mistake=mistake)
        return Comparison(filled(low_rank.AgentAttention(32, 4, 5, 7, 9)), oracle, (MAP,))


for batch, hyper in ((2, {}), (1, {"c_m": 5, "c_n": 11})):

    @reference("a2", f"own oracle: position by position, {hyper}, batch {batch}")
    def _(batch: int = batch, hyper: dict[str, Any] = hyper) -> Comparison:
        module = filled(low_rank.DoubleAttention(32, **hyper))
        return Comparison(module, oracles.double_by_pairs, (noise(batch, 32, 9, 4),))


for axis, mistake in ((0, "softmax over the batch"), (1, "both softmaxes over the positions")):

    @control("a2", mistake)
    def _(axis: int = axis) -> Comparison:
        oracle = partial(oracles.double_by_pairs, handed_over=axis)
        return Comparison(filled(low_rank.DoubleAttention(32)), oracle, (MAP,))
