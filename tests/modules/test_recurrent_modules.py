"""The recurrent family where it is hard: long inputs, gates near zero, equal keys, low precision, bad arguments."""

from collections.abc import Callable

import pytest
import torch
from family_recurrent import recurrence, unit
from module_numerics import filled, noise, relative_error
from test_chunked import Largest
from torch import Tensor, nn

from attnbench.modules.parts.chunked import decayed_linear, states_before
from attnbench.modules.parts.delta import delta_rule, gated_delta_rule
from attnbench.modules.parts.gated import gated_linear
from attnbench.modules.recurrent import (
    SSD,
    Based,
    DeltaNet,
    GatedDeltaNet,
    GatedLinearAttention,
    LightningAttention,
    Retention,
)

CLASSES = [Retention, GatedLinearAttention, SSD, DeltaNet, GatedDeltaNet, LightningAttention, Based]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

Make = Callable[..., nn.Module]


def qkv(tokens: int, d: int = 4, e: int = 5) -> list[Tensor]:
    return [noise(1, 2, tokens, width, seed=i).double() for i, width in enumerate((d, d, e))]


@pytest.mark.parametrize("chunks", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("shape", [(1, 1), (4, 1)])
def test_the_scan_is_the_loop_over_the_chunks(chunks: int, shape: tuple[int, int]) -> None:
    decay, states = noise(2, 3, chunks, *shape).double().sigmoid(), noise(2, 3, chunks, 4, 5, seed=2).double()
    state, expected = torch.zeros(2, 3, 4, 5, dtype=torch.float64), []
    for n in range(chunks):
        expected.append(state)
        state = decay[:, :, n] * state + states[:, :, n]
    torch.testing.assert_close(states_before(decay, states), torch.stack(expected, 2))


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_one_head_of_queries_and_keys_serves_all(chunk: int) -> None:
    query, key, value = noise(2, 1, 13, 4), noise(2, 1, 13, 4, seed=2), noise(2, 3, 13, 5, seed=3)
    log_decay = -noise(2, 3, 13, seed=4).square()
    shared = decayed_linear(query, key, value, log_decay, chunk)
    each = decayed_linear(query.expand(-1, 3, -1, -1), key.expand(-1, 3, -1, -1), value, log_decay, chunk)
    torch.testing.assert_close(shared, each)


def test_gates_that_close_at_once_leave_nothing_infinite() -> None:
    """exp(-10) a step is the least that is told apart; what the clamp changes is below 1e-4 of what is written."""
    query, key, value = qkv(200)
    log_decay = torch.where(noise(1, 2, 200, 4, seed=9) > 0, -1000.0, 0.0).double()
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        x = [each.detach().to(dtype).clone().requires_grad_() for each in (query, key, value, log_decay)]
        y = gated_linear(*x)
        y.sum().backward()
        assert y.isfinite().all()
        assert all(each.grad.isfinite().all() for each in x)
        expected = recurrence(*(each.detach().double() for each in x[:3]), log_decay.exp())
        assert relative_error(y, expected) < max(2e-4, 8 * torch.finfo(dtype).eps)


def test_decays_to_nothing_are_exact() -> None:
    query, key, value = qkv(100)
    log_decay = torch.where(noise(1, 2, 100, seed=9) > 1, -1e4, -0.1).double()
    expected = recurrence(query, key, value, log_decay.exp()[..., None])
    assert relative_error(decayed_linear(query, key, value, log_decay, 16), expected) < 1e-12
    beta = torch.ones(1, 2, 100).double()
    expected = recurrence(query, unit(key), value, log_decay.exp()[..., None], beta)
    assert relative_error(gated_delta_rule(query, unit(key), value, beta, log_decay, 16), expected) < 1e-11


def test_equal_keys_overwrite_each_other() -> None:
    """The worst case of the triangular inverse: a power series of it would cancel numbers beyond 1e17."""
    value = noise(1, 1, 64, 4)
    key = torch.ones(1, 1, 64, 1)
    y = delta_rule(key, key, value, torch.ones(1, 1, 64), chunk=64)
    torch.testing.assert_close(y, value)


@every_class
def test_a_later_token_changes_nothing_before_it(cls: Make) -> None:
    module = filled(cls(32, 2, chunk=16)).double()
    x = noise(1, 41, 32).double()
    changed = x.clone()
    changed[:, 20:] += 1
    before, after = module(x), module(changed)
    # Equal but for rounding: gla takes its decays from the middle of a block, which may lie ahead.
    assert relative_error(after[:, :20], before[:, :20]) < 1e-13
    assert not torch.allclose(before[:, 20:], after[:, 20:])


@every_class
def test_the_length_of_the_chunks_does_not_matter(cls: Make) -> None:
    x = noise(1, 70, 32).double()
    outputs = [filled(cls(32, 2, chunk=chunk)).double()(x) for chunk in (16, 32, 128)]
    for y in outputs[1:]:
        assert relative_error(y, outputs[0]) < 1e-12


@every_class
def test_a_long_input_in_bfloat16_stays_near_the_truth(cls: Make) -> None:
    """The states add up over 128 chunks: what is lost is a rounding of the parts, and does not grow with the length."""
    module, x = filled(cls(32, 2, chunk=16)), noise(1, 2048, 32)
    with torch.no_grad():
        expected = module.double()(x.double())
        y = module.bfloat16()(x.bfloat16())
    assert float((y.double() - expected).square().mean() / expected.square().mean()) ** 0.5 < 0.05


@every_class
def test_no_tensor_of_tokens_times_channels_times_width_is_formed(cls: Make) -> None:
    tokens, dim, heads = 4096, 64, 2
    with torch.device("meta"):
        module = cls(dim, heads)
        with Largest() as largest:
            module(torch.empty(1, tokens, dim)).sum().backward()
    assert largest.elements < tokens * dim * dim // heads


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Retention(30, 4), "dim=30 is not divisible by the number of heads, 4"),
        (lambda: Retention(36, 4), "a head has 9 channels, an odd number: they are turned in pairs"),
        (lambda: GatedLinearAttention(64, 4, chunk=40), "chunk=40 is no multiple of 16"),
        (lambda: GatedLinearAttention(20, 4), "dim=10 is not divisible by the number of heads, 4"),
        (lambda: SSD(64, 4, groups=3), "heads=4 is not divisible by groups=3"),
        (lambda: DeltaNet(64, 4, chunk=48), "chunk=48 is no power of two"),
        (lambda: GatedDeltaNet(64, 4, chunk=0), "chunk=0 is no power of two"),
        (lambda: LightningAttention(30, 4), "dim=30 is not divisible"),
        (lambda: Based(30, 4), "dim=30 is not divisible"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(make: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
