"""The local family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import local_oracles as oracles
from comparisons import Comparison, control, reference
from module_numerics import filled, noise

from attnbench.modules import local

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "swin": [{"window": 3}, {"window": 4, "shift": False}],
    "natten": [
        {"kernel_size": 3},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 5, "causal": True},
        {"kernel_size": 3, "dilation": 2, "causal": True, "rel_pos_bias": True},
        {"rel_pos_bias": True},
    ],
    "sliding_window": [{"window": 4}, {"window": 5, "causal": True}, {"window": 7}, {"causal": True}],
    "criss_cross": [{"key_ratio": 5}, {"recurrence": 2}],
    "twins_lsa": [{"window": 3}],
    "biformer": [{"n_win": 3, "topk": 2}, {"side_dwconv": 0}, {"n_win": 2, "topk": 4, "side_dwconv": 3}],
    "bigbird": [{"block": 2, "random_blocks": 1}, {"block": 3, "random_blocks": 2}, {"block": 1, "seed": 3}],
    "lsh": [{"bucket_size": 4}, {"bucket_size": 8, "n_hashes": 2}, {"bucket_size": 4, "n_hashes": 3, "causal": True}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024: four projections 4*1024*64*64 = 16,777,216; each query meets 64 keys: twice 1024*64*64 = 4,194,304
    ("swin", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 4_194_304),
    # 9 x 7 in windows of 4 is 12 x 8 = 96 positions: 4*96*32*32 = 393,216; 16 keys: twice 96*16*32 = 49,152; batch 2
    ("swin", {"window": 4}, (2, 32, 2, 9, 7), 2 * (393_216 + 2 * 49_152)),
    # 5 x 20 in windows of 8: 5 rows are one window, 20 columns are 24: 120 positions, 5*8 = 40 keys
    ("swin", {}, (1, 16, 2, 5, 20), 4 * 120 * 16 * 16 + 2 * 120 * 40 * 16),
    # 49 keys: twice 1024*49*64 = 3,211,264
    ("natten", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 3_211_264),
    # 2 x 13: no more than 2 rows, 7 columns: 14 keys
    ("natten", {}, (1, 16, 1, 2, 13), 4 * 26 * 16 * 16 + 2 * 26 * 14 * 16),
    # N = 1024, 8 blocks of 128 see 256 keys: twice 1024*256*64 = 16,777,216
    ("sliding_window", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 16_777_216),
    ("sliding_window", {"causal": True}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 16_777_216),
    # 35 tokens are 7 blocks of 5; not causal the blocks see 5 + 2*2 keys, causal 5 + 5
    ("sliding_window", {"window": 5}, (1, 16, 1, 5, 7), 4 * 35 * 256 + 2 * 35 * 9 * 16),
    ("sliding_window", {"window": 5, "causal": True}, (1, 16, 1, 5, 7), 4 * 35 * 256 + 2 * 35 * 10 * 16),
    # two layers: 8*1024*64*64 = 33,554,432; a row and a column: twice 1024*64*64
    ("axial", {}, (1, 64, 4, 32, 32), 33_554_432 + 2 * 4_194_304),
    # d_k = 8: 1024*64*(8 + 8 + 64) = 5,242,880; 64 in the cross: 1024*64*(8 + 64) = 4,718,592
    ("criss_cross", {}, (1, 64, 1, 32, 32), 5_242_880 + 4_718_592),
    ("criss_cross", {"recurrence": 2}, (1, 64, 1, 32, 32), 2 * (5_242_880 + 4_718_592)),
    # 32 x 32 in windows of 7 is 35 x 35 = 1225 positions: q, k, v 3*1225*64*64 = 15,052,800; W_o 1024*64*64
    # = 4,194,304; 49 keys: twice 1225*49*64 = 3,841,600
    ("twins_lsa", {}, (1, 64, 4, 32, 32), 15_052_800 + 4_194_304 + 2 * 3_841_600),
    # 28 x 28 = 784, regions of 16: 4*784*64*64 = 12,845,056; routing 49*49*64 = 153,664; 4 regions of 16 keys: twice
    # 784*64*64 = 3,211,264; 25 taps 784*25*64 = 1,254,400
    ("biformer", {}, (1, 64, 4, 28, 28), 12_845_056 + 153_664 + 2 * 3_211_264 + 1_254_400),
    # N = 1024, 16 blocks of 64: 3*1024*64*64 = 12,582,912; two blocks see 1024: twice 128*1024*64 = 8,388,608; 14 see
    # 8 blocks: twice 14*64*512*64 = 29,360,128
    ("bigbird", {}, (1, 64, 4, 32, 32), 12_582_912 + 2 * 8_388_608 + 2 * 29_360_128),
    # N = 256 are 4 blocks, which see each other: 3*256*64*64 = 3,145,728; twice 256*256*64 = 4,194,304
    ("bigbird", {}, (1, 64, 4, 16, 16), 3_145_728 + 2 * 4_194_304),
    # N = 1024: 3*1024*64*64; 8 rounds: hashing into 16 buckets 1024*64*8 = 524,288, twice 1024*128*64 = 8,388,608,
    # the sum over rounds 1024*64 = 65,536
    ("lsh", {}, (1, 64, 4, 32, 32), 12_582_912 + 8 * (524_288 + 2 * 8_388_608 + 65_536)),
]


def of_size(batch: int, side: tuple[int, int], dim: int = 16) -> tuple[Any, ...]:
    return (noise(batch, dim, *side),)


# --- windows

for side, window, shift in (((8, 12), 4, True), ((6, 9), 3, True), ((8, 4), 4, False)):

    @reference("swin", f"own oracle: dense mask, no rolling, {side} window={window} shift={shift}")
    def _(side: tuple[int, int] = side, window: int = window, shift: bool = shift) -> Comparison:
        # A side of one window is not shifted: there is none of that size here with the shift.
        oracle = partial(oracles.swin, heads=2, window=window, shift=window // 2 * shift)
        return Comparison(filled(local.ShiftedWindowAttention(16, 2, window, shift)), oracle, of_size(2, side))


for side, window, shift in (
    ((8, 12), 4, True),
    ((9, 7), 4, True),
    ((5, 20), 8, True),
    ((5, 7), 8, True),
    ((7, 10), 4, False),
    ((1, 13), 3, True),
):

    @reference("swin", f"timm SwinTransformerBlock._attn, {side} window={window} shift={shift}", "timm")
    def _(side: tuple[int, int] = side, window: int = window, shift: bool = shift) -> Comparison:
        oracle = partial(oracles.timm_swin, heads=2, window=window, shift=shift)
        return Comparison(filled(local.ShiftedWindowAttention(16, 2, window, shift)), oracle, of_size(1, side))


@control("swin", "not shifted")
def _() -> Comparison:
    oracle = partial(oracles.swin, heads=2, window=4, shift=0)
    return Comparison(filled(local.ShiftedWindowAttention(16, 2, 4)), oracle, of_size(2, (8, 12)))


@control("swin", "what comes round the border is not masked")
def _() -> Comparison:
    module = filled(local.ShiftedWindowAttention(16, 2, 4))
    return Comparison(module, partial(oracles.swin_round_the_border, heads=2, window=4), of_size(2, (8, 12)))


@reference("twins_lsa", "own oracle: dense mask")
def _() -> Comparison:
    oracle = partial(oracles.twins, heads=2, window=3)
    return Comparison(filled(local.LocallyGroupedAttention(16, 2, 3)), oracle, of_size(2, (6, 9)))


for side, window in (((6, 9), 3), ((5, 7), 3), ((5, 8), 7)):

    @reference("twins_lsa", f"timm LocallyGroupedAttn, {side} window={window}", "timm")
    def _(side: tuple[int, int] = side, window: int = window) -> Comparison:
        oracle = partial(oracles.timm_twins, heads=2, window=window)
        return Comparison(filled(local.LocallyGroupedAttention(16, 2, window)), oracle, of_size(1, side))


@control("twins_lsa", "padding that is masked")
def _() -> Comparison:
    # Where nothing is padded but the window is wider, the mask leaves what is there: windows cut off at the border.
    oracle = partial(oracles.twins, heads=2, window=3)
    return Comparison(filled(local.LocallyGroupedAttention(16, 2, 3)), oracle, of_size(2, (5, 7)))


# --- neighbourhoods

for side, hyper in (
    ((9, 7), {"kernel_size": 5}),
    ((6, 8), {"kernel_size": 3, "rel_pos_bias": True}),
    ((4, 9), {"kernel_size": 4}),
    ((9, 11), {"kernel_size": 3, "dilation": 2}),
    ((8, 10), {"kernel_size": 3, "dilation": 3, "rel_pos_bias": True}),
    ((3, 9), {"kernel_size": 7}),
    ((5, 7), {"kernel_size": 3, "dilation": 2, "causal": True}),
    ((7, 6), {"kernel_size": 3, "causal": True, "rel_pos_bias": True}),
    ((1, 13), {"kernel_size": 5, "dilation": 2}),
):
    words = ", ".join(f"{name}={value}" for name, value in hyper.items())

    @reference("natten", f"own oracle: dense mask, {side} {words}")
    def _(side: tuple[int, int] = side, hyper: dict[str, Any] = hyper) -> Comparison:
        kernel, dilation, causal = hyper["kernel_size"], hyper.get("dilation", 1), hyper.get("causal", False)
        oracle = partial(oracles.natten, heads=2, kernel=kernel, dilation=dilation, causal=causal)
        return Comparison(filled(local.NeighborhoodAttention(16, 2, **hyper)), oracle, of_size(2, side))


for side, kernel, dilation, causal in (((9, 7), 5, 1, False), ((9, 11), 3, 2, False), ((7, 9), 3, 2, True)):

    @reference("natten", f"natten na2d, {side} kernel={kernel} dilation={dilation} causal={causal}", "natten")
    def _(
        side: tuple[int, int] = side, kernel: int = kernel, dilation: int = dilation, causal: bool = causal
    ) -> Comparison:
        oracle = partial(oracles.published_natten, heads=2, kernel=kernel, dilation=dilation, causal=causal)
        module = filled(local.NeighborhoodAttention(16, 2, kernel, dilation, causal))
        return Comparison(module, oracle, of_size(1, side), in_float32=True, backward=False)


@control("natten", "truncated at the borders")
def _() -> Comparison:
    oracle = partial(oracles.natten, heads=2, kernel=5, truncated=True)
    return Comparison(filled(local.NeighborhoodAttention(16, 2, 5)), oracle, of_size(2, (9, 7)))


@control("natten", "a window smaller by one on each side")
def _() -> Comparison:
    oracle = partial(oracles.natten, heads=2, kernel=3)
    return Comparison(filled(local.NeighborhoodAttention(16, 2, 5)), oracle, of_size(2, (9, 7)))


# --- lines

for tokens, window, causal in ((35, 4, True), (13, 5, True), (33, 8, False), (35, 7, False), (7, 16, False)):

    @reference("sliding_window", f"own oracle: dense mask, N={tokens} window={window} causal={causal}")
    def _(tokens: int = tokens, window: int = window, causal: bool = causal) -> Comparison:
        before, after = (window, 0) if causal else (window // 2, window // 2)
        oracle = partial(oracles.sliding, heads=2, before=before, after=after)
        module = filled(local.SlidingWindowAttention(16, 2, window, causal))
        return Comparison(module, oracle, (noise(2, tokens, 16),))


for tokens, window in ((32, 8), (35, 4), (5, 8)):

    @reference("sliding_window", f"local-attention, exact_windowsize, N={tokens} window={window}", "local_attention")
    def _(tokens: int = tokens, window: int = window) -> Comparison:
        module = filled(local.SlidingWindowAttention(16, 2, window, causal=True))
        oracle = partial(oracles.local_attention, heads=2, window=window)
        return Comparison(module, oracle, (noise(1, tokens, 16),))


@reference("sliding_window", "transformers LongformerSelfAttention", "transformers")
def _() -> Comparison:
    oracle = partial(oracles.longformer, heads=2, window=8)
    module = filled(local.SlidingWindowAttention(16, 2, 8))
    return Comparison(module, oracle, (noise(2, 32, 16),), in_float32=True)


for mistake, before, after in (("a window smaller by one", 7, 0), ("full attention", 99, 0), ("not causal", 4, 4)):

    @control("sliding_window", mistake)
    def _(before: int = before, after: int = after) -> Comparison:
        module = filled(local.SlidingWindowAttention(16, 2, 8, causal=True))
        return Comparison(module, partial(oracles.sliding, heads=2, before=before, after=after), (noise(2, 35, 16),))


for side in ((5, 7), (1, 6)):

    @reference("axial", f"own oracle: dense masks, {side}")
    def _(side: tuple[int, int] = side) -> Comparison:
        return Comparison(filled(local.AxialAttention(16, 2)), partial(oracles.axial, heads=2), of_size(2, side))


@reference("axial", "axial-attention AxialAttention", "axial_attention")
def _() -> Comparison:
    oracle = partial(oracles.axial_attention, heads=2)
    return Comparison(filled(local.AxialAttention(16, 2)), oracle, of_size(1, (5, 7)))


@control("axial", "rows for columns")
def _() -> Comparison:
    def swapped(weights: oracles.Weights, x: oracles.Tensor) -> oracles.Tensor:
        return oracles.axial(weights, x.transpose(2, 3), heads=2).transpose(2, 3)

    return Comparison(filled(local.AxialAttention(16, 2)), swapped, of_size(2, (5, 7)))


for side, recurrence in (((5, 7), 1), ((4, 3), 2), ((1, 6), 1), ((6, 1), 2)):

    @reference("criss_cross", f"own oracle: dense mask, {side} recurrence={recurrence}")
    def _(side: tuple[int, int] = side, recurrence: int = recurrence) -> Comparison:
        module = filled(local.CrissCrossAttention(16, recurrence=recurrence))
        return Comparison(module, partial(oracles.criss_cross, recurrence=recurrence), of_size(2, side))

    @reference("criss_cross", f"fightingcv CrissCrossAttention, {side} x{recurrence}", "fightingcv_attention")
    def _(side: tuple[int, int] = side, recurrence: int = recurrence) -> Comparison:
        module = filled(local.CrissCrossAttention(16, recurrence=recurrence))
        return Comparison(module, partial(oracles.fightingcv_criss_cross, recurrence=recurrence), of_size(1, side))


@control("criss_cross", "the position itself counted twice")
def _() -> Comparison:
    oracle = partial(oracles.criss_cross, twice=True)
    return Comparison(filled(local.CrissCrossAttention(16)), oracle, of_size(2, (5, 7)))


# --- chosen blocks

for batch, side, hyper in (
    (2, (6, 9), {"n_win": 3, "topk": 2, "side_dwconv": 5}),
    (1, (5, 8), {"n_win": 3, "topk": 4, "side_dwconv": 3}),
    (2, (4, 6), {"n_win": 2, "topk": 1, "side_dwconv": 0}),
    (1, (5, 7), {"n_win": 7, "topk": 4, "side_dwconv": 5}),
):
    words = ", ".join(f"{name}={value}" for name, value in hyper.items())

    @reference("biformer", f"own oracle: routed by loops, dense mask, {side} {words}")
    def _(batch: int = batch, side: tuple[int, int] = side, hyper: dict[str, int] = hyper) -> Comparison:
        module = filled(local.BiLevelRoutingAttention(16, 2, **hyper))
        return Comparison(module, partial(oracles.biformer, heads=2, **hyper), of_size(batch, side))


for mistake, wrong in (("scaled by the width of a head", {"scale": 8**-0.5}), ("one region less", {"topk": 1})):

    @control("biformer", mistake)
    def _(wrong: dict[str, Any] = wrong) -> Comparison:
        hyper = {"n_win": 3, "topk": 2, "side_dwconv": 3}
        module = filled(local.BiLevelRoutingAttention(16, 2, **hyper))
        return Comparison(module, partial(oracles.biformer, heads=2, **{**hyper, **wrong}), of_size(2, (6, 9)))


def big_bird(tokens: int, block: int, random_blocks: int, seed: int = 0) -> local.BigBirdAttention:
    module = local.BigBirdAttention(16, 2, tokens, block, random_blocks, seed)
    filled(module)
    return module


for tokens, block, random_blocks in ((35, 2, 1), (40, 4, 2), (36, 4, 1), (9, 1, 1), (23, 4, 0)):

    @reference("bigbird", f"own oracle: dense mask, N={tokens} block={block} random_blocks={random_blocks}")
    def _(tokens: int = tokens, block: int = block, random_blocks: int = random_blocks) -> Comparison:
        module = big_bird(tokens, block, random_blocks)
        oracle = partial(oracles.bigbird, heads=2, block=block, random=module.seen[..., 5:])
        return Comparison(module, oracle, (noise(2, tokens, 16),))


@reference("bigbird", "own oracle: full attention over few blocks")
def _() -> Comparison:
    oracle = partial(oracles.bigbird, heads=2, block=5, random=None)
    return Comparison(big_bird(33, 5, 1), oracle, (noise(1, 33, 16),))


@reference("bigbird", "transformers BigBirdBlockSparseAttention, with our random blocks", "transformers")
def _() -> Comparison:
    module = big_bird(40, 4, 2)
    oracle = partial(oracles.transformers_bigbird, heads=2, block=4, random=module.seen[..., 5:])
    return Comparison(module, oracle, (noise(2, 40, 16),))


@control("bigbird", "other random blocks")
def _() -> Comparison:
    other = big_bird(40, 4, 2, seed=1).seen[..., 5:]
    return Comparison(big_bird(40, 4, 2), partial(oracles.bigbird, heads=2, block=4, random=other), (noise(2, 40, 16),))


@control("bigbird", "full attention")
def _() -> Comparison:
    oracle = partial(oracles.bigbird, heads=2, block=4, random=None)
    return Comparison(big_bird(40, 4, 2), oracle, (noise(2, 40, 16),))


# --- hashing


def hashed(**hyper: Any) -> oracles.Seeded:
    module = oracles.Seeded(local.LshAttention(16, 2, **hyper))
    filled(module)
    return module


for batch, tokens, hyper in (
    (2, 24, {"bucket_size": 4, "n_hashes": 2}),
    (1, 21, {"bucket_size": 4, "n_hashes": 3, "causal": True}),
    (1, 33, {"bucket_size": 2, "n_hashes": 1}),
    (2, 13, {"bucket_size": 16, "n_hashes": 2, "causal": True}),
):
    words = ", ".join(f"{name}={value}" for name, value in hyper.items())

    @reference("lsh", f"own oracle: token by token from lists of chunks, N={tokens} {words}")
    def _(batch: int = batch, tokens: int = tokens, hyper: dict[str, Any] = hyper) -> Comparison:
        return Comparison(hashed(**hyper), partial(oracles.lsh, heads=2, **hyper), (noise(batch, tokens, 16),))


for causal in (False, True):

    @reference("lsh", f"reformer-pytorch LSHSelfAttention, causal={causal}", "reformer_pytorch")
    def _(causal: bool = causal) -> Comparison:
        hyper = {"bucket_size": 4, "n_hashes": 3, "causal": causal}
        return Comparison(hashed(**hyper), partial(oracles.reformer, heads=2, **hyper), (noise(2, 32, 16),))


for mistake, wrong in (("a token sees itself", {"itself": True}), ("one round less", {"n_hashes": 2})):

    @control("lsh", mistake)
    def _(wrong: dict[str, Any] = wrong) -> Comparison:
        hyper = {"bucket_size": 4, "n_hashes": 3}
        return Comparison(hashed(**hyper), partial(oracles.lsh, heads=2, **{**hyper, **wrong}), (noise(2, 24, 16),))
