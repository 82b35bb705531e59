"""The linear attentions against their quadratic forms in float64, where the N x N matrix is written down."""

from functools import partial

import pytest
import torch
from module_numerics import Weights, assert_agrees, errors, filled, noise, relative_error
from torch import Tensor, nn

from attnbench.modules.linear import EfficientAttention, LinearAttention


def phi(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(x))  # elu(x) + 1


def quadratic_elu(weights: Weights, x: Tensor, heads: int, eps: float, normalised_over: int = -1) -> Tensor:
    """phi(q) phi(k)^T as a matrix for each head, its rows normalised, then applied to the values."""

    def project(name: str, rows: Tensor) -> Tensor:
        return torch.einsum("oc,bnc->bno", weights[f"{name}.weight"], rows) + weights[f"{name}.bias"]

    parts = (project(name, x).chunk(heads, dim=-1) for name in ("query", "key", "value"))
    attended = []
    for query, key, value in zip(*parts, strict=True):
        kernel = torch.einsum("bid,bjd->bij", phi(query), phi(key))
        attended.append(kernel / (kernel.sum(normalised_over, keepdim=True) + eps) @ value)
    return project("out", torch.cat(attended, dim=-1))


@pytest.mark.parametrize(("heads", "eps"), [(1, 1e-6), (4, 1e-6), (4, 0.5)])
def test_linear_attn_agrees_with_its_quadratic_form(heads: int, eps: float) -> None:
    module = filled(LinearAttention(64, heads, eps=eps))
    assert_agrees(module, partial(quadratic_elu, heads=heads, eps=eps), noise(2, 35, 64))


def test_the_comparison_of_linear_attn_catches_sums_over_the_queries() -> None:
    oracle = partial(quadratic_elu, heads=4, eps=1e-6, normalised_over=-2)
    assert min(errors(filled(LinearAttention(64, 4)), oracle, noise(2, 35, 64))) > 1e-3


def test_linear_attn_does_not_overflow_in_half_precision() -> None:
    """At N = 4096 and d = 32 the normaliser phi(q) . sum phi(k) is beyond the largest fp16 number, 65,504."""
    module = filled(LinearAttention(64, 2))
    x = noise(1, 4096, 64)
    weights = {name: parameter.detach().double() for name, parameter in module.named_parameters()}
    expected = quadratic_elu(weights, x.double(), heads=2, eps=1e-6)
    assert relative_error(module.half()(x.half()), expected) < 2e-2


def test_heads_that_do_not_divide_the_width_are_refused_by_linear_attn() -> None:
    with pytest.raises(ValueError, match="dim=64 is not divisible by the number of heads, 5"):
        LinearAttention(64, 5)


def share(x: Tensor, dim: int) -> Tensor:
    return torch.exp(x) / torch.exp(x).sum(dim, keepdim=True)


def quadratic_efficient(weights: Weights, x: Tensor, heads: int, over: tuple[int, int] = (2, 1)) -> Tensor:
    """rho_q(q) rho_k(k)^T as a matrix for each head, on rows of pixels; `over`: the axes of the two softmaxes."""

    def project(name: str, rows: Tensor) -> Tensor:
        return torch.einsum("oc,bnc->bno", weights[f"{name}.weight"].flatten(1), rows) + weights[f"{name}.bias"]

    rows = x.flatten(2).transpose(1, 2)
    parts = (project(name, rows).chunk(heads, dim=-1) for name in ("query", "key", "value"))
    attended = [
        torch.einsum("bid,bjd->bij", share(query, over[0]), share(key, over[1])) @ value
        for query, key, value in zip(*parts, strict=True)
    ]
    return project("out", torch.cat(attended, dim=-1)).transpose(1, 2).reshape(x.shape) + x


@pytest.mark.parametrize(("heads", "key_channels", "value_channels"), [(1, None, None), (4, None, None), (4, 32, 96)])
def test_efficient_attn_agrees_with_its_quadratic_form(
    heads: int, key_channels: int | None, value_channels: int | None
) -> None:
    module = filled(EfficientAttention(64, heads, key_channels, value_channels))
    assert_agrees(module, partial(quadratic_efficient, heads=heads), noise(2, 64, 5, 7))


@pytest.mark.parametrize("over", [(1, 2), (2, 2), (1, 1)])
def test_the_comparison_of_efficient_attn_catches_a_softmax_over_the_wrong_axis(over: tuple[int, int]) -> None:
    oracle = partial(quadratic_efficient, heads=4, over=over)
    assert min(errors(filled(EfficientAttention(64, 4)), oracle, noise(2, 64, 5, 7))) > 1e-3


def test_efficient_attn_agrees_with_linear_attention_transformer() -> None:
    """The package works on tokens, divides the queries by sqrt(d), and has no residual: those are taken back here."""
    package = pytest.importorskip("linear_attention_transformer.linear_attention_transformer")

    def published(weights: Weights, x: Tensor) -> Tensor:
        query, key, value = (
            nn.functional.conv2d(x, weights[f"{n}.weight"], weights[f"{n}.bias"]).reshape(2, 4, 16, 35).mT
            for n in ("query", "key", "value")
        )
        core: Tensor = package.linear_attn(query, key, value) * 16**0.5  # (B, heads, N, d)
        core = core.transpose(2, 3).reshape(x.shape)
        return nn.functional.conv2d(core, weights["out.weight"], weights["out.bias"]) + x

    assert_agrees(filled(EfficientAttention(64, 4)), published, noise(2, 64, 5, 7))


@pytest.mark.parametrize("widths", [{}, {"key_channels": 60}, {"key_channels": 40, "value_channels": 64}])
def test_channels_that_the_heads_do_not_divide_are_refused(widths: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must both be divisible by the number of heads, "):
        EfficientAttention(64, 16 if widths else 5, **widths)
