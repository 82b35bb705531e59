"""The linear family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

import importlib
from functools import partial
from typing import Any

import linear_oracles as oracles
from comparisons import Comparison, control, reference, weighted
from module_numerics import Weights, filled, noise
from torch import Tensor, nn

from attnbench.modules import linear

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "linear_attn": [{"eps": 1e-3}, {"causal": True}],
    "efficient_attn": [{"key_channels": 24}, {"value_channels": 96}, {"key_channels": 24, "value_channels": 12}],
    "performer": [{"nb_features": 20}, {"qkv_bias": True}, {"causal": True}, {"causal": True, "nb_features": 7}],
    "cosformer": [{"eps": 1e-3}, {"causal": True}],
    "litemla": [{"head_dim": 12}, {"scale": 3}, {"head_dim": 5, "scale": 7}],
    "focused": [{"focusing_factor": 2}, {"kernel_size": 3}],
    "sana": [{"eps": 1e-3}],
    "hydra": [{"causal": True}],
    "rfa": [{"proj_dim": 5}, {"causal": True}, {"causal": True, "proj_dim": 5}],
    "pola": [{"alpha": 2.0}, {"kernel_size": 3}],
    "mlla": [{"eps": 1e-3}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024, d = 16: four projections; k^T v and q S, 1024*64*16 = 1,048,576 each; q.z 1024*64 = 65,536
    ("linear_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576 + 65_536),
    # N = 100 in two chunks of 64, values of 17 with their column of ones. For each of 4 heads: scores 128*64*16, times
    # the values 128*64*17; k^T v and q S 128*16*17 each. Projections 4*100*64*64
    ("linear_attn", {"causal": True}, (1, 64, 4, 10, 10), 1_638_400 + 4 * (131_072 + 139_264 + 2 * 34_816)),
    ("efficient_attn", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576),
    # m = int(16 ln 16) = 44: features of q and k 4*1024*16*44 = 2,883,584 each; k^T v, q S as many; q.z 4*1024*44
    ("performer", {}, (1, 64, 4, 32, 32), 16_777_216 + 4 * 2_883_584 + 180_224),
    # one chunk of 35, features 44, values 17, 4 heads: 35*35*(44 + 17) and twice 35*44*17; features 2*4*35*16*44
    ("performer", {"causal": True}, (1, 64, 4, 5, 7), 573_440 + 197_120 + 4 * (74_725 + 2 * 26_180)),
    # features of 32 for each head: k^T v and q S 4*1024*32*16 = 2,097,152 each; q.z 4*1024*32
    ("cosformer", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 2_097_152 + 131_072),
    # N = 256, C = T = 32, four heads on two scales: qkv 256*32*96 = 786,432; taps 256*96*25 = 614,400; 1x1 in groups of
    # 8 256*96*8 = 196,608; k^T v and q S 8*256*8*9 = 147,456 each; out 256*64*32 = 524,288
    ("litemla", {}, (1, 32, 4, 16, 16), 786_432 + 614_400 + 196_608 + 2 * 147_456 + 524_288),
    # as linear_attn, and 25 taps of 1024*64
    ("focused", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_048_576 + 65_536 + 1_638_400),
    # k^T v and q S with a column of ones: 1024*64*17 = 1,114,112 each
    ("sana", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 1_114_112),
    # 1024*64*129 = 8,454,144; the context 1024*64; out 1024*64*64; batch 2
    ("separable", {}, (2, 64, 1, 32, 32), 2 * (8_454_144 + 65_536 + 4_194_304)),
    ("hydra", {}, (1, 64, 1, 32, 32), 16_777_216 + 65_536),
    # 64 rows for each head: projections of q and k 1024*64*64 = 4,194,304 each; features of 128: k^T v and q S
    # 1024*64*128 = 8,388,608 each; q.z 4*1024*128 = 524,288
    ("rfa", {}, (1, 64, 4, 32, 32), 16_777_216 + 2 * 4_194_304 + 2 * 8_388_608 + 524_288),
    # q w_g and the sum of the queries, 1024*64 each
    ("swift_additive", {}, (1, 64, 1, 32, 32), 16_777_216 + 2 * 65_536),
    # five projections; two halves of 8 with features of 32: 4*1024*32*8 = 1,048,576, four of them; q.z twice 4*1024*32;
    # 25 taps
    ("pola", {}, (1, 64, 4, 32, 32), 20_971_520 + 4 * 1_048_576 + 2 * 131_072 + 1_638_400),
    # two projections 8,388,608; k^T v and q S; q.z; 9 taps 589,824
    ("mlla", {}, (1, 64, 4, 32, 32), 8_388_608 + 2 * 1_048_576 + 65_536 + 589_824),
]

# torch's counter says nothing of a product that is then summed: MACs that the formula has and it has not.
UNHEARD_BY_TORCH: dict[str, str] = {"hydra": "B*N*C"}

TOKENS = noise(2, 35, 64)
LONG = noise(1, 83, 64)  # more than one chunk of 64, the last not full
MAP = noise(2, 64, 5, 7)
THIN = noise(1, 64, 1, 6)

for heads, eps in ((1, 1e-6), (4, 1e-6), (4, 0.5)):

    @reference("linear_attn", f"own oracle: N x N matrix, heads={heads}, eps={eps}")
    def _(heads: int = heads, eps: float = eps) -> Comparison:
        module = filled(linear.LinearAttention(64, heads, eps=eps))
        return Comparison(module, partial(oracles.linear, heads=heads, eps=eps), (TOKENS,))


for what, sums in (("dense mask", oracles.masked), ("recurrent", oracles.recurrent)):

    @reference("linear_attn", f"own oracle: {what}, causal")
    def _(sums: oracles.Sums = sums) -> Comparison:
        module = filled(linear.LinearAttention(64, 4, causal=True))
        return Comparison(module, partial(oracles.linear, heads=4, sums=sums), (LONG,))

    @reference("linear_attn", f"own oracle: {what}, causal, less than a chunk, eps=0.5")
    def _(sums: oracles.Sums = sums) -> Comparison:
        module = filled(linear.LinearAttention(64, 2, eps=0.5, causal=True))
        return Comparison(module, partial(oracles.linear, heads=2, eps=0.5, sums=sums), (TOKENS,))


@reference("linear_attn", "performer-pytorch linear_attention, of features", "performer_pytorch")
def _() -> Comparison:
    published = importlib.import_module("performer_pytorch.performer_pytorch").linear_attention

    def sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return published(query, key, value), query.new_ones(())

    return Comparison(filled(linear.LinearAttention(64, 4, eps=0.0)), partial(oracles.linear, heads=4, eps=0.0,
                                                                              sums=sums), (TOKENS,))  # fmt: skip


@control("linear_attn", "normalised over the queries")
def _() -> Comparison:
    oracle = partial(oracles.linear, heads=4, sums=oracles.over_the_queries)
    return Comparison(filled(linear.LinearAttention(64, 4)), oracle, (TOKENS,))


for mistake, sums in (("sees the next token", partial(oracles.masked, ahead=1)), ("sees all", oracles.dense)):

    @control("linear_attn", f"causal, but {mistake}")
    def _(sums: oracles.Sums = sums) -> Comparison:
        module = filled(linear.LinearAttention(64, 4, causal=True))
        return Comparison(module, partial(oracles.linear, heads=4, sums=sums), (LONG,))


for heads, key_channels, value_channels in ((1, None, None), (4, None, None), (4, 32, 96)):

    @reference("efficient_attn", f"own oracle: N x N matrix, heads={heads}, widths {key_channels}, {value_channels}")
    def _(heads: int = heads, widths: tuple[int | None, ...] = (key_channels, value_channels)) -> Comparison:
        module = filled(linear.EfficientAttention(64, heads, *widths))
        return Comparison(module, partial(oracles.efficient, heads=heads), (MAP,))


@reference("efficient_attn", "linear-attention-transformer linear_attn", "linear_attention_transformer")
def _() -> Comparison:
    """The package works on tokens, divides the queries by sqrt(d), and has no residual: those are taken back here."""
    package = importlib.import_module("linear_attention_transformer.linear_attention_transformer")

    def published(weights: Weights, x: Tensor) -> Tensor:
        query, key, value = (
            nn.functional.conv2d(x, weights[f"{n}.weight"], weights[f"{n}.bias"]).reshape(2, 4, 16, 35).mT
            for n in ("query", "key", "value")
        )
        core: Tensor = package.linear_attn(query, key, value) * 16**0.5  # (B, heads, N, d)
        core = core.transpose(2, 3).reshape(x.shape)
        return nn.functional.conv2d(core, weights["out.weight"], weights["out.bias"]) + x

    return Comparison(filled(linear.EfficientAttention(64, 4)), published, (MAP,))


for over in ((1, 2), (2, 2), (1, 1)):

    @control("efficient_attn", f"softmax over the axes {over}")
    def _(over: tuple[int, int] = over) -> Comparison:
        oracle = partial(oracles.efficient, heads=4, over=over)
        return Comparison(filled(linear.EfficientAttention(64, 4)), oracle, (MAP,))


def performer(sums: oracles.Sums, x: Tensor, power: float = 0.25, **settings: Any) -> Comparison:
    """With the module's own projection."""
    module = filled(linear.PerformerAttention(64, 4, **settings))
    oracle = partial(oracles.performer, projection=module.projection, heads=4, sums=sums, power=power)
    return Comparison(module, oracle, (x,))


for settings in ({}, {"nb_features": 20}, {"qkv_bias": True}):

    @reference("performer", f"own oracle: N x N matrix, features by distances, {settings}")
    def _(settings: dict[str, Any] = settings) -> Comparison:
        return performer(oracles.dense, TOKENS, **settings)


for what, sums in (("dense mask", oracles.masked), ("recurrent", oracles.recurrent)):

    @reference("performer", f"own oracle: {what}, causal")
    def _(sums: oracles.Sums = sums) -> Comparison:
        return performer(sums, LONG, causal=True)


for x, settings in ((TOKENS, {}), (noise(1, 36, 64), {"nb_features": 20, "qkv_bias": True})):

    @reference("performer", f"performer-pytorch SelfAttention, {settings}", "performer_pytorch")
    def _(x: Tensor = x, settings: dict[str, Any] = settings) -> Comparison:
        package = importlib.import_module("performer_pytorch")
        module = filled(linear.PerformerAttention(64, 4, **settings))

        def published(weights: Weights, x: Tensor) -> Tensor:
            theirs = package.SelfAttention(64, heads=4, dim_head=16, causal=False, **settings)
            theirs.fast_attention.projection_matrix.copy_(module.projection)
            names = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out"}
            named = {f"{names[(parts := name.split('.'))[0]]}.{parts[1]}": w for name, w in weights.items()}
            # Made double first, so that the buffer is; it holds float32 numbers all the same.
            return weighted(theirs, named, x)

        return Comparison(module, published, (x,))


@control("performer", "queries and keys not scaled")
def _() -> Comparison:
    return performer(oracles.dense, TOKENS, power=0.0)


@control("performer", "causal, but sees the next token")
def _() -> Comparison:
    return performer(partial(oracles.masked, ahead=1), LONG, causal=True)


for heads, causal, x in ((4, False, TOKENS), (1, False, noise(1, 12, 64)), (4, True, LONG), (2, True, TOKENS)):

    @reference("cosformer", f"own oracle: N x N matrix of cosines, heads={heads}, causal={causal}, N={x.shape[1]}")
    def _(heads: int = heads, causal: bool = causal, x: Tensor = x) -> Comparison:
        module = filled(linear.CosformerAttention(64, heads, causal=causal))
        return Comparison(module, partial(oracles.cosformer, heads=heads, causal=causal), (x,))


@reference("cosformer", "own oracle: recurrent, positions as complex numbers, causal")
def _() -> Comparison:
    module = filled(linear.CosformerAttention(64, 4, causal=True))
    return Comparison(module, partial(oracles.recurrent_cosformer, heads=4), (LONG,))


@reference("cosformer", "own oracle: N x N matrix of cosines, a large eps")
def _() -> Comparison:
    module = filled(linear.CosformerAttention(64, 4, eps=10.0))
    return Comparison(module, partial(oracles.cosformer, heads=4, eps=10.0), (TOKENS,))


@control("cosformer", "no cosines")
def _() -> Comparison:
    oracle = partial(oracles.cosformer, heads=4, cosine=False)
    return Comparison(filled(linear.CosformerAttention(64, 4)), oracle, (TOKENS,))


@control("cosformer", "causal, but sees all")
def _() -> Comparison:
    module = filled(linear.CosformerAttention(64, 4, causal=True))
    return Comparison(module, partial(oracles.cosformer, heads=4), (LONG,))


def litemla(x: Tensor, **settings: Any) -> nn.Module:
    """In eval mode: what training does to the norm is the norm's own affair."""
    return filled(linear.LiteMLA(x.shape[1], **settings)).eval()


for x, width in ((MAP, 8), (THIN, 12), (noise(2, 20, 3, 4), 8)):

    @reference("litemla", f"own oracle: N x N matrix, tap by tap, {tuple(x.shape)}, head_dim={width}")
    def _(x: Tensor = x, width: int = width) -> Comparison:
        return Comparison(litemla(x, head_dim=width), partial(oracles.litemla, width=width), (x,))


for x, settings in ((MAP, {}), (noise(1, 68, 6, 3), {"head_dim": 12, "scale": 3})):

    @reference("litemla", f"timm LiteMLA, {settings}", "timm")
    def _(x: Tensor = x, settings: dict[str, int] = settings) -> Comparison:
        package = importlib.import_module("timm.models.efficientvit_mit")

        def published(weights: Weights, x: Tensor) -> Tensor:
            width, scale = settings.get("head_dim", 8), settings.get("scale", 5)
            theirs = package.LiteMLA(x.shape[1], x.shape[1], dim=width, scales=(scale,)).eval()
            names = {"qkv.weight": "qkv.conv.weight", "depthwise.weight": "aggreg.0.0.weight",
                     "pointwise.weight": "aggreg.0.1.weight", "out.weight": "proj.conv.weight",
                     "norm.weight": "proj.norm.weight", "norm.bias": "proj.norm.bias"}  # fmt: skip
            return weighted(theirs, {names[name]: weight for name, weight in weights.items()}, x)

        return Comparison(litemla(x, **settings), published, (x,), in_float32=True)


@control("litemla", "one scale only")
def _() -> Comparison:
    return Comparison(litemla(MAP), partial(oracles.litemla, scales=1), (MAP,))


def focused(x: Tensor, heads: int, oracle: Any, **settings: Any) -> Comparison:
    module = filled(linear.FocusedLinearAttention(x.shape[1], heads, *x.shape[2:], **settings))
    return Comparison(module, partial(oracle, heads=heads), (x,))


for x, heads, power, kernel_size in ((MAP, 4, 3, 5), (THIN, 1, 3, 3), (noise(2, 24, 4, 3), 3, 2, 5)):

    @reference("focused", f"own oracle: N x N matrix, tap by tap, {tuple(x.shape)}, power {power}, {kernel_size}")
    def _(x: Tensor = x, heads: int = heads, power: int = power, kernel_size: int = kernel_size) -> Comparison:
        oracle = partial(oracles.focused, power=power)
        return focused(x, heads, oracle, focusing_factor=power, kernel_size=kernel_size)


for mistake in ({"norm_by_head": True}, {"power": 2}):

    @control("focused", f"{mistake}")
    def _(mistake: dict[str, int] = mistake) -> Comparison:
        return focused(MAP, 4, partial(oracles.focused, **mistake))


for x, heads, eps in ((TOKENS, 4, 1e-15), (noise(1, 7, 64), 1, 0.5)):

    @reference("sana", f"own oracle: N x N matrix, heads={heads}, eps={eps}")
    def _(x: Tensor = x, heads: int = heads, eps: float = eps) -> Comparison:
        module = filled(linear.SanaLinearAttention(64, heads, eps=eps))
        return Comparison(module, partial(oracles.sana, heads=heads, eps=eps), (x,))


@reference("sana", "diffusers SanaLinearAttnProcessor2_0", "diffusers")
def _() -> Comparison:
    package = importlib.import_module("diffusers.models.attention_processor")

    def published(weights: Weights, x: Tensor) -> Tensor:
        theirs = package.Attention(64, heads=4, dim_head=16, processor=package.SanaLinearAttnProcessor2_0())
        names = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
        named = {f"{names[(parts := name.split('.'))[0]]}.{parts[1]}": w for name, w in weights.items()}
        return weighted(theirs, named, x)

    return Comparison(filled(linear.SanaLinearAttention(64, 4)), published, (TOKENS,), in_float32=True)


@control("sana", "a large eps")
def _() -> Comparison:
    return Comparison(filled(linear.SanaLinearAttention(64, 4)), partial(oracles.sana, heads=4, eps=1.0), (TOKENS,))


for x in (MAP, THIN):

    @reference("separable", f"timm mobilevit.LinearSelfAttention, {tuple(x.shape)}", "timm")
    def _(x: Tensor = x) -> Comparison:
        package = importlib.import_module("timm.models.mobilevit")

        def published(weights: Weights, x: Tensor) -> Tensor:
            names = {"qkv": "qkv_proj", "out": "out_proj"}
            named = {f"{names[(parts := name.split('.'))[0]]}.{parts[1]}": w for name, w in weights.items()}
            # The package takes (B, C, pixels of a patch, patches): one patch for each pixel here.
            y = weighted(package.LinearSelfAttention(x.shape[1]), named, x.flatten(2).unsqueeze(2))
            return y.reshape(x.shape)

        return Comparison(filled(linear.SeparableAttention(64)), published, (x,))

    @reference("separable", f"own oracle: loop over the positions, {tuple(x.shape)}")
    def _(x: Tensor = x) -> Comparison:
        return Comparison(filled(linear.SeparableAttention(64)), oracles.separable, (x,))


@control("separable", "not rectified")
def _() -> Comparison:
    oracle = partial(oracles.separable, rectified=False)
    return Comparison(filled(linear.SeparableAttention(64)), oracle, (MAP,))


for x in (TOKENS, noise(1, 6, 64)):

    @reference("hydra", f"own oracle: N x N matrix for each channel, N={x.shape[1]}")
    def _(x: Tensor = x) -> Comparison:
        return Comparison(filled(linear.HydraAttention(64)), oracles.hydra, (x,))


for what, sums in (("dense mask", oracles.masked), ("recurrent", oracles.recurrent)):

    @reference("hydra", f"own oracle: {what}, causal")
    def _(sums: oracles.Sums = sums) -> Comparison:
        return Comparison(filled(linear.HydraAttention(64, causal=True)), partial(oracles.hydra, sums=sums), (TOKENS,))


@control("hydra", "normalised within heads")
def _() -> Comparison:
    return Comparison(filled(linear.HydraAttention(64)), partial(oracles.hydra, heads=4), (TOKENS,))


@control("hydra", "causal, but sees the next token")
def _() -> Comparison:
    oracle = partial(oracles.hydra, sums=partial(oracles.masked, ahead=1))
    return Comparison(filled(linear.HydraAttention(64, causal=True)), oracle, (TOKENS,))


def rfa(oracle: Any, x: Tensor, heads: int = 4, causal: bool = False, **settings: Any) -> Comparison:
    """With the module's own projections."""
    module = filled(linear.RandomFeatureAttention(64, heads, causal=causal, **settings))
    return Comparison(module, partial(oracle, projection=module.projection, heads=heads), (x,))


for heads, causal, settings in ((4, False, {}), (2, False, {"proj_dim": 5}), (4, True, {"proj_dim": 5})):

    @reference("rfa", f"own oracle: N x N matrix of differences, heads={heads}, causal={causal}, {settings}")
    def _(heads: int = heads, causal: bool = causal, settings: dict[str, int] = settings) -> Comparison:
        return rfa(partial(oracles.rfa, causal=causal), TOKENS, heads, causal, **settings)


@reference("rfa", "own oracle: recurrent, waves as complex numbers, causal")
def _() -> Comparison:
    return rfa(oracles.recurrent_rfa, LONG, causal=True)


@reference("rfa", "own oracle: N x N matrix of differences, a large eps")
def _() -> Comparison:
    return rfa(partial(oracles.rfa, eps=20.0), TOKENS, eps=20.0)


@control("rfa", "keys without their lengths")
def _() -> Comparison:
    return rfa(partial(oracles.rfa, lengths=False), TOKENS)


@control("rfa", "causal, but sees all")
def _() -> Comparison:
    return rfa(oracles.rfa, LONG, causal=True, proj_dim=5)


for x in (MAP, THIN):

    @reference("swift_additive", f"timm EfficientAdditiveAttention, {tuple(x.shape)}", "timm")
    def _(x: Tensor = x) -> Comparison:
        package = importlib.import_module("timm.models.swiftformer")

        def published(weights: Weights, x: Tensor) -> Tensor:
            names = {"query": "to_query", "key": "to_key", "out": "final"}
            pairs = ((name.split(".", 1), weight) for name, weight in weights.items())
            named = {".".join([names.get(parts[0], parts[0]), *parts[1:]]): weight for parts, weight in pairs}
            return weighted(package.EfficientAdditiveAttention(64, 64), named, x)

        return Comparison(filled(linear.SwiftAdditiveAttention(64)), published, (x,))

    @reference("swift_additive", f"own oracle: loop over the positions, {tuple(x.shape)}")
    def _(x: Tensor = x) -> Comparison:
        return Comparison(filled(linear.SwiftAdditiveAttention(64)), oracles.swift, (x,))


@control("swift_additive", "a softmax over the positions")
def _() -> Comparison:
    return Comparison(filled(linear.SwiftAdditiveAttention(64)), partial(oracles.swift, softmax=True), (MAP,))


def pola(x: Tensor, heads: int, oracle: Any, **settings: Any) -> Comparison:
    module = filled(linear.PolaLinearAttention(x.shape[1], heads, *x.shape[2:], **settings))
    return Comparison(module, partial(oracle, heads=heads), (x,))


for x, heads, alpha, kernel_size in ((MAP, 4, 4.0, 5), (THIN, 1, 4.0, 3), (noise(2, 20, 4, 3), 4, 2.0, 5)):

    @reference("pola", f"own oracle: N x N matrices of signs, {tuple(x.shape)}, alpha={alpha}, {kernel_size}")
    def _(x: Tensor = x, heads: int = heads, alpha: float = alpha, kernel_size: int = kernel_size) -> Comparison:
        return pola(x, heads, partial(oracles.pola, alpha=alpha), alpha=alpha, kernel_size=kernel_size)


@control("pola", "equal and opposite signs exchanged")
def _() -> Comparison:
    return pola(MAP, 4, partial(oracles.pola, crossed=True))


for x, heads in ((MAP, 4), (THIN, 1), (noise(2, 20, 4, 3), 5)):

    @reference("mlla", f"own oracle: N x N matrix, rotations as complex numbers, {tuple(x.shape)}, heads={heads}")
    def _(x: Tensor = x, heads: int = heads) -> Comparison:
        module = filled(linear.MambaLikeLinearAttention(x.shape[1], heads))
        return Comparison(module, partial(oracles.mlla, heads=heads), (x,))


for mistake in ("not rotated", "a rotated denominator"):

    @control("mlla", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.mlla, heads=4, mistake=mistake)
        return Comparison(filled(linear.MambaLikeLinearAttention(64, 4)), oracle, (MAP,))
