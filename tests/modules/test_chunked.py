"""Causal linear attention in chunks is the sum over all tokens before, costs what it says, and forms nothing large."""

import math

import pytest
import torch
from module_numerics import noise, relative_error
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from attnbench.modules.parts.chunked import causal_linear

# B, h, N, d, e, chunk: one token, less than a chunk, exactly one, several, with and without a rest, chunks of one.
SIZES = [
    (1, 1, 1, 3, 2, 64),
    (2, 3, 7, 4, 5, 64),
    (1, 2, 16, 4, 4, 16),
    (2, 2, 48, 5, 3, 16),
    (1, 2, 35, 4, 6, 8),
    (1, 1, 5, 2, 3, 1),
]


def qkv(batch: int, heads: int, tokens: int, d: int, e: int) -> tuple[Tensor, Tensor, Tensor]:
    widths = (d, d, e)
    query, key, value = (noise(batch, heads, tokens, width, seed=i).double() for i, width in enumerate(widths))
    return query, key, value


def recurrent(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    state = torch.zeros(*query.shape[:2], query.shape[3], value.shape[3], dtype=torch.float64)
    outputs = []
    for i in range(query.shape[2]):
        state = state + key[:, :, i, :, None] * value[:, :, i, None, :]
        outputs.append((query[:, :, i, :, None] * state).sum(2))
    return torch.stack(outputs, 2)


def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    tokens = query.shape[2]
    seen = torch.arange(tokens)[:, None] >= torch.arange(tokens)
    return torch.einsum("bhid,bhjd,ij,bhje->bhie", query, key, seen.double(), value)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("truth", [recurrent, dense])
def test_chunks_are_the_sum_over_the_tokens_before(size: tuple[int, ...], truth: object) -> None:
    *sizes, chunk = size
    x = [each.requires_grad_() for each in qkv(*sizes)]
    actual, expected = causal_linear(*x, chunk=chunk), truth(*x)  # type: ignore[operator]
    assert relative_error(actual, expected) < 1e-12
    weight = noise(*expected.shape, seed=9).double()
    for ours, theirs in zip(*(torch.autograd.grad(y, x, weight) for y in (actual, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [*SIZES, (2, 4, 100_001, 16, 8, 64)])
def test_the_macs_are_the_formula_of_the_docstring(size: tuple[int, ...]) -> None:
    batch, heads, tokens, d, e, chunk = size
    x = [torch.empty(batch, heads, tokens, width, device="meta") for width in (d, d, e)]
    with FlopCounterMode(display=False) as counter:
        causal_linear(*x, chunk=chunk)
    c = min(chunk, tokens)
    padded = math.ceil(tokens / c) * c
    assert counter.get_total_flops() == 2 * batch * heads * (padded * c * (d + e) + 2 * padded * d * e)


class Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor that any operator gave."""

    elements = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:  # type: ignore[type-arg]
        out = func(*args, **(kwargs or {}))  # type: ignore[operator]
        self.elements = max([self.elements, *(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))])
        return out


def test_no_tensor_of_tokens_times_state_is_formed() -> None:
    tokens, d, e, chunk = 4096, 32, 32, 64
    x = [torch.empty(1, 1, tokens, width, device="meta").requires_grad_() for width in (d, d, e)]
    with Largest() as largest:
        causal_linear(*x, chunk=chunk).backward(torch.empty(1, 1, tokens, e, device="meta"))
    assert largest.elements == tokens * chunk  # the scores; the state of every token would be tokens * d * e


def test_it_works_on_fake_tensors() -> None:
    with FakeTensorMode():
        x = [torch.empty(1, 2, 35, 4, requires_grad=True) for _ in range(3)]
        y = causal_linear(*x, chunk=8)
        y.backward(torch.ones_like(y))
    assert y.shape == (1, 2, 35, 4)


def test_long_sums_keep_growing_in_bfloat16() -> None:
    ones = torch.ones(1, 1, 1024, 1, dtype=torch.bfloat16)
    y = causal_linear(ones, ones, ones, chunk=1)
    assert y[0, 0, -1, 0] == 1024
    assert y.dtype == torch.bfloat16
