"""What the comparisons of the linear attentions do not show: overflow, causality, and what is refused."""

from typing import Any

import linear_oracles as oracles
import pytest
import torch
from module_numerics import filled, noise, relative_error
from torch import nn

from attnbench.modules import linear


@pytest.mark.parametrize("causal", [False, True])
def test_linear_attn_does_not_overflow_in_half_precision(causal: bool) -> None:
    """At N = 4096 and d = 32 the normaliser phi(q) . sum phi(k) is beyond the largest fp16 number, 65,504."""
    module = filled(linear.LinearAttention(64, 2, causal=causal))
    x = noise(1, 4096, 64)
    weights = {name: parameter.detach().double() for name, parameter in module.named_parameters()}
    expected = oracles.linear(weights, x.double(), heads=2, sums=oracles.masked if causal else oracles.dense)
    assert relative_error(module.half()(x.half()), expected) < 2e-2


CAUSAL: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (linear.LinearAttention, {"heads": 4}),
    (linear.PerformerAttention, {"heads": 4, "eps": 0.0}),  # eps is what a later key can be seen by
    (linear.CosformerAttention, {"heads": 4}),
    (linear.HydraAttention, {}),
    (linear.RandomFeatureAttention, {"heads": 4}),
]


@pytest.mark.parametrize(("module", "settings"), CAUSAL)
def test_what_is_causal_does_not_see_later_tokens(module: type[nn.Module], settings: dict[str, Any]) -> None:
    causal = filled(module(64, causal=True, **settings)).double()
    x = noise(1, 83, 64).double().requires_grad_()
    (gradient,) = torch.autograd.grad(causal(x)[:, 70].sum(), x)
    assert gradient[:, 70].abs().max() > 0
    assert gradient[:, :70].abs().max() > 0
    assert gradient[:, 71:].abs().max() == 0
    changed = x.detach().clone()
    changed[:, 71:] += 1
    if not isinstance(causal, linear.RandomFeatureAttention):  # there too
        assert relative_error(causal(changed)[:, :71], causal(x)[:, :71]) < 1e-9


@pytest.mark.parametrize(("module", "many"), [(linear.PerformerAttention, "nb_features"),
                                              (linear.RandomFeatureAttention, "proj_dim")])  # fmt: skip
def test_random_features_approximate_the_softmax_the_better_the_more_there_are(module: Any, many: str) -> None:
    """With very many they are far closer to it than weights that are all the same."""
    errors = []
    for features in (100, 20_000):
        torch.manual_seed(0)
        random = filled(module(32, 8, eps=0.0, **{many: features})).double()
        x = noise(1, 20, 32).double()
        weights = {name: parameter.detach() for name, parameter in random.named_parameters()}
        query, key, value = oracles.heads_of(weights, x, 8)
        softmax, mean = nn.functional.scaled_dot_product_attention(query, key, value), value.mean(2, keepdim=True)
        expected, flat = (oracles.project(weights, "out", oracles.together(y)) for y in (softmax, mean + 0 * value))
        errors.append(relative_error(random(x), expected))
    assert errors[0] > 3 * errors[1]
    assert relative_error(flat, expected) > 3 * errors[1]


def test_the_rows_of_performer_are_orthogonal_in_blocks() -> None:
    rows = linear.PerformerAttention(64, 4).projection
    block = nn.functional.normalize(rows[:16], dim=1)
    torch.testing.assert_close(block @ block.T, torch.eye(16), rtol=0, atol=1e-5)
    assert rows.shape == (44, 16)
    assert rows.norm(dim=1).mean().item() == pytest.approx(4, rel=0.2)  # as long as 16 normals


@pytest.mark.parametrize("heads", ["LinearAttention", "PerformerAttention", "CosformerAttention", "SanaLinearAttention",
                                   "RandomFeatureAttention", "MambaLikeLinearAttention"])  # fmt: skip
def test_heads_that_do_not_divide_the_width_are_refused(heads: str) -> None:
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        getattr(linear, heads)(64, 5)


@pytest.mark.parametrize("name", ["FocusedLinearAttention", "PolaLinearAttention"])
def test_another_map_than_the_one_made_for_is_refused(name: str) -> None:
    made = getattr(linear, name)
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        made(64, 5, 4, 4)
    with pytest.raises(ValueError, match="kernel_size=4 is even"):
        made(64, 4, 4, 4, kernel_size=4)
    with pytest.raises(ValueError, match="made for a map of 4x6, not of 6x4"):
        made(64, 4, 4, 6)(noise(1, 64, 6, 4))


def test_widths_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="dim=4 must hold a head of head_dim=8"):
        linear.LiteMLA(4)
    with pytest.raises(ValueError, match="scale=4 must be odd"):
        linear.LiteMLA(64, scale=4)
    with pytest.raises(ValueError, match="a head of 1 channel has no random features"):
        linear.PerformerAttention(4, 4)
    with pytest.raises(ValueError, match="dim=6 is not divisible by 4"):
        linear.MambaLikeLinearAttention(6, 2)


@pytest.mark.parametrize("widths", [{}, {"key_channels": 60}, {"key_channels": 40, "value_channels": 64}])
def test_channels_that_the_heads_do_not_divide_are_refused(widths: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must both be divisible by the number of heads, "):
        linear.EfficientAttention(64, 16 if widths else 5, **widths)
