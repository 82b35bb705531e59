"""The mixing family: hyper-parameters to vary, MACs derived by hand, references and mistakes."""

from functools import partial
from typing import Any

import mixing_oracles as oracles
from comparisons import Comparison, control, reference
from module_numerics import filled, noise

from attnbench.modules import mixing

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "aft_simple": [{"hidden_dim": 20}],
    "aft_full": [{"hidden_dim": 20}, {"causal": True}],
    "gmlp": [{"causal": True}, {"d_ffn": 26}, {"d_ffn": 128, "causal": True}],
}

# (name, hyper-parameters, shape, MACs), each product written as it was derived on paper.
BY_HAND: list[tuple[str, dict[str, Any], Shape, int]] = [
    # N = 1024: q, k, v, out 1024*64*64 = 4,194,304 each; softmax(k) times v, summed: 1024*64
    ("aft_simple", {}, (1, 64, 1, 32, 32), 4 * 4_194_304 + 65_536),
    # N = 1024: projections as above; exp(w) meets exp(k) v and exp(k), 1024*1024*64 = 67,108,864 each
    ("aft_full", {}, (1, 64, 1, 32, 32), 4 * 4_194_304 + 2 * 67_108_864),
    # N = 1024: W meets 32 channels, 1024*1024*32; batch 2
    ("gmlp", {}, (2, 64, 1, 32, 32), 2 * 33_554_432),
    # N = 16, d_ffn = 96: W_1 16*32*96 = 49,152, W 256*48 = 12,288, W_2 16*48*32 = 24,576
    ("gmlp", {"d_ffn": 96}, (1, 32, 1, 4, 4), 49_152 + 12_288 + 24_576),
    # a Fourier transform has no MACs
    ("fnet", {}, (2, 64, 1, 32, 32), 0),
]

# What comes out narrower than what goes in, and why.
NARROWED: dict[str, str] = {"gmlp": "one half of the channels gates the other; with d_ffn a projection widens it again"}

# torch's counter says nothing of a product that is summed: MACs that the formula has and it has not.
UNHEARD_BY_TORCH: dict[str, str] = {"aft_simple": "B*N*hidden_dim"}

TOKENS = noise(2, 33, 32)


for batch, hidden in ((2, None), (1, 20)):

    @reference("aft_simple", f"aft_pytorch AFTSimple, hidden_dim={hidden}, batch {batch}", "aft_pytorch")
    def _(batch: int = batch, hidden: int | None = hidden) -> Comparison:
        oracle = partial(oracles.published_aft, kind="AFTSimple", seq_len=33)
        return Comparison(filled(mixing.AftSimple(32, hidden)), oracle, (noise(batch, 33, 32),))


@reference("aft_simple", "own oracle: a dense softmax for every query")
def _() -> Comparison:
    return Comparison(filled(mixing.AftSimple(32)), oracles.aft_dense, (TOKENS,))


@control("aft_simple", "softmax over the channels")
def _() -> Comparison:
    return Comparison(filled(mixing.AftSimple(32)), partial(oracles.aft_dense, over=3), (TOKENS,))


for seq_len, hidden in ((33, None), (50, 20)):

    @reference("aft_full", f"aft_pytorch AFTFull, hidden_dim={hidden}, N=33 of {seq_len}", "aft_pytorch")
    def _(seq_len: int = seq_len, hidden: int | None = hidden) -> Comparison:
        oracle = partial(oracles.published_aft, kind="AFTFull", seq_len=seq_len)
        return Comparison(filled(mixing.AftFull(32, seq_len, hidden)), oracle, (TOKENS,))


for batch, causal in ((2, False), (2, True), (1, True)):

    @reference("aft_full", f"own oracle: a dense softmax for every channel, causal={causal}, batch {batch}")
    def _(batch: int = batch, causal: bool = causal) -> Comparison:
        module = filled(mixing.AftFull(32, 33, causal=causal))
        return Comparison(module, partial(oracles.aft_dense, causal=causal), (noise(batch, 33, 32),))


@control("aft_full", "no mask")
def _() -> Comparison:
    return Comparison(filled(mixing.AftFull(32, 33, causal=True)), oracles.aft_dense, (TOKENS,))


@control("aft_full", "normalised over the queries")
def _() -> Comparison:
    return Comparison(filled(mixing.AftFull(32, 33)), partial(oracles.aft_dense, over=1), (TOKENS,))


for batch in (1, 2):

    @reference("gmlp", f"timm SpatialGatingUnit, batch {batch}", "timm")
    def _(batch: int = batch) -> Comparison:
        return Comparison(filled(mixing.SpatialGating(32, 35)), oracles.published_gating, (noise(batch, 35, 32),))


@reference("gmlp", "timm GatedMlp, d_ffn=48", "timm")
def _() -> Comparison:
    return Comparison(filled(mixing.SpatialGating(32, 33, d_ffn=48)), oracles.published_gmlp, (TOKENS,))


for causal, d_ffn in ((False, None), (True, None), (True, 48)):

    @reference("gmlp", f"own oracle: position by position, causal={causal}, d_ffn={d_ffn}")
    def _(causal: bool = causal, d_ffn: int | None = d_ffn) -> Comparison:
        module = filled(mixing.SpatialGating(32, 33, d_ffn, causal))
        return Comparison(module, partial(oracles.gating_by_loops, causal=causal), (TOKENS,))


for mistake in ("halves exchanged", "no norm"):

    @control("gmlp", mistake)
    def _(mistake: str = mistake) -> Comparison:
        oracle = partial(oracles.gating_by_loops, mistake=mistake)
        return Comparison(filled(mixing.SpatialGating(32, 33)), oracle, (TOKENS,))


@control("gmlp", "no mask")
def _() -> Comparison:
    return Comparison(filled(mixing.SpatialGating(32, 33, causal=True)), oracles.gating_by_loops, (TOKENS,))


@reference("fnet", "transformers FNetBasicFourierTransform", "transformers")
def _() -> Comparison:
    return Comparison(mixing.FourierMixing(), oracles.published_fnet, (TOKENS,))


for batch, tokens, dim in ((2, 35, 48), (1, 13, 17)):

    @reference("fnet", f"own oracle: matrices of cosines and sines, ({batch}, {tokens}, {dim})")
    def _(batch: int = batch, tokens: int = tokens, dim: int = dim) -> Comparison:
        return Comparison(mixing.FourierMixing(), oracles.fourier_matrices, (noise(batch, tokens, dim),))


for mistake in ("tokens only", "imaginary part"):

    @control("fnet", mistake)
    def _(mistake: str = mistake) -> Comparison:
        return Comparison(mixing.FourierMixing(), partial(oracles.fourier_matrices, mistake=mistake), (TOKENS,))
