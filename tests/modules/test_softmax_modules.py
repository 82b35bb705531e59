"""What the quadratic attentions do beside their formulas: how they start, what else they return, what they refuse."""

import pytest
import torch
from module_numerics import filled, noise, relative_error
from torch import nn

from attnbench.modules.softmax import (
    AdditiveAttention,
    MultiHeadAttention,
    PseudoLinearAttention,
    ScaledDotProduct,
    SdpaAttention,
    SelfAttention2d,
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


@pytest.mark.parametrize("module", [SdpaAttention, MultiHeadAttention])
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
