"""What the quadratic attentions do beside their formulas: how they start, what else they return, what they refuse."""

import pytest
import torch
from module_numerics import filled, noise, relative_error
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask

from attnbench.modules.parts.flex import Band, blocks_of
from attnbench.modules.parts.rotary import rotate
from attnbench.modules.softmax import (
    AdditiveAttention,
    DifferentialAttention,
    FlexAttention,
    GroupedQueryAttention,
    LatentAttention,
    MultiHeadAttention,
    MultiHeadSelfAttention,
    MultiQueryAttention,
    NonLocal2d,
    PseudoLinearAttention,
    ScaledDotProduct,
    SdpaAttention,
    SelfAttention2d,
    TalkingHeads,
)

MAP = (2, 64, 5, 7)


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


ALL_WITH_HEADS = [
    DifferentialAttention,
    FlexAttention,
    GroupedQueryAttention,
    LatentAttention,
    MultiHeadAttention,
    MultiHeadSelfAttention,
    MultiQueryAttention,
    SdpaAttention,
    TalkingHeads,
]


@pytest.mark.parametrize("module", ALL_WITH_HEADS)
def test_heads_that_do_not_divide_the_width_are_refused(module: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        module(64, 5)


def test_the_one_head_of_sdpa_without_projections_is_scaled_dot_product() -> None:
    x = noise(2, 9, 32)
    fused = nn.functional.scaled_dot_product_attention(x, x, x)
    assert relative_error(ScaledDotProduct()(x, x, x), fused) < 1e-5


def test_additive_attn_takes_one_step() -> None:
    module = filled(AdditiveAttention(32, key_dim=20))
    step, keys = noise(2, 32), noise(2, 7, 20, seed=3)
    assert module(step, keys).shape == (2, 20)
    assert torch.equal(module(step, keys), module(step[:, None], keys)[:, 0])


@pytest.mark.parametrize("causal", [False, True])
def test_mhsa_and_sdpa_are_one_function_of_the_same_weights(causal: bool) -> None:
    written_out, fused = MultiHeadSelfAttention(64, 4, causal=causal), SdpaAttention(64, 4, causal=causal)
    fused.load_state_dict(written_out.state_dict())
    x = noise(2, 19, 64)
    assert relative_error(written_out(x), fused(x)) < 1e-5


@pytest.mark.parametrize("bn", [True, False])
def test_nonlocal_starts_as_the_identity(bn: bool) -> None:
    x = noise(*MAP)
    assert torch.equal(NonLocal2d(64, bn=bn)(x), x)


def test_nonlocal_refuses_a_mode_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="mode='gaussian' is none of embedded_gaussian, dot_product"):
        NonLocal2d(64, mode="gaussian")


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_nonlocal_pools_small_maps(size: tuple[int, int]) -> None:
    assert NonLocal2d(8, sub_sample=True).eval()(noise(1, 8, *size)).shape == (1, 8, *size)


@pytest.mark.parametrize("kv_heads", [0, 3, 8])
def test_key_heads_that_do_not_divide_the_heads_are_refused(kv_heads: int) -> None:
    with pytest.raises(ValueError, match=f"heads=4 is not divisible by the number of key and value heads, {kv_heads}"):
        GroupedQueryAttention(64, 4, kv_heads)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 2), (4, 1), (6, 1), (1, 1)])
def test_four_query_heads_share_a_key_head(heads: int, kv_heads: int) -> None:
    assert GroupedQueryAttention(48, heads).key.out_features == kv_heads * 48 // heads


def test_mqa_is_gqa_with_one_key_head() -> None:
    one, grouped = MultiQueryAttention(64, 4), GroupedQueryAttention(64, 4, kv_heads=1)
    grouped.load_state_dict(one.state_dict())
    assert torch.equal(one(noise(1, 9, 64)), grouped(noise(1, 9, 64)))


BANDS = [Band(ahead=0), Band(3, 3), Band(128, 0), Band(127, 127), Band(129, 129), Band(200, 0)]


@pytest.mark.parametrize("tokens", [1, 127, 128, 130, 390])
@pytest.mark.parametrize("band", BANDS, ids=str)
def test_the_blocks_are_those_that_torch_finds_in_the_whole_mask(band: Band, tokens: int) -> None:
    ours = blocks_of(band, band.mask_mod(), tokens, torch.device("cpu"))
    found = create_block_mask(band.mask_mod(), None, None, tokens, tokens, device="cpu")
    assert ours.shape == found.shape
    assert torch.equal(ours.to_dense(), found.to_dense())
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert torch.equal(getattr(ours, name), getattr(found, name))


@pytest.mark.parametrize("hyper", [{}, {"mask": "window", "window": 3}, {"mask": "alibi", "causal": True}])
def test_flex_without_data_is_flex(hyper: dict[str, str | int]) -> None:
    """The counters see the form for meta tensors; with data it gives what torch gives."""
    module = FlexAttention(32, 4, **hyper)  # type: ignore[arg-type]
    query, key, value = (noise(2, 4, 13, 8, seed=seed) for seed in range(3))
    assert relative_error(module.core._without_data(query, key, value), module.core(query, key, value)) < 1e-5


def test_flex_finds_its_blocks_once() -> None:
    module = FlexAttention(32, 4, mask="causal").core
    query = noise(1, 4, 13, 8)
    assert module._blocks_for(query) is module._blocks_for(query)
    assert module._blocks_for(query[:, :, :7]).shape[-2:] == (7, 7)


@pytest.mark.parametrize(
    ("hyper", "sentence"),
    [
        ({"mask": "blocks"}, "mask='blocks' is none of none, causal, window, alibi"),
        ({"mask": "window", "window": -1}, "window=-1 is negative: a query would not see itself"),
    ],
)
def test_flex_refuses_masks_that_it_does_not_have(hyper: dict[str, str | int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FlexAttention(32, 4, **hyper)  # type: ignore[arg-type]


def test_diff_needs_two_halves_of_each_head() -> None:
    with pytest.raises(ValueError, match="dim=9 over 3 heads leaves 3 channels, which have no two halves"):
        DifferentialAttention(9, 3)


def test_mla_rotates_pairs() -> None:
    with pytest.raises(ValueError, match="qk_rope_head_dim=5 is odd: channels are rotated in pairs"):
        LatentAttention(64, 4, qk_rope_head_dim=5)


def test_a_rotation_depends_on_the_distance_alone() -> None:
    x, y = noise(1, 1, 6).expand(1, 9, 6), noise(1, 1, 6, seed=3).expand(1, 9, 6)
    scores = (rotate(x, 100.0) @ rotate(y, 100.0).mT)[0]
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    torch.testing.assert_close(scores.diagonal(), (x * y).sum(-1)[0])
    assert not torch.allclose(scores[0], scores[0, :1])
