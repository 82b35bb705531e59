"""What kernels take for themselves: a call alone against the public profiler, and carried on against the real one."""

from typing import Any

import pytest
import torch
from allocator_events import allocated_peak
from torch import Tensor

from attnbench.metrics.footprint.alone import SMALL, alone
from attnbench.metrics.footprint.calls import Call, TensorSpec, described
from attnbench.metrics.footprint.scratch import _PLAIN, scratch_of

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """With one thread other kernels run, whose scratch is nothing."""
    torch.set_num_threads(2)


def spec(*shape: int, dtype: torch.dtype = torch.float32, identity: int = 0) -> TensorSpec:
    return TensorSpec(shape, torch.empty(shape, device="meta").stride(), dtype, identity)


def turned(*shape: int, identity: int = 0) -> TensorSpec:
    """The last two dimensions lie the other way round in memory."""
    stride = torch.empty(shape, device="meta").transpose(-1, -2).contiguous().transpose(-1, -2).stride()
    return TensorSpec(shape, stride, torch.float32, identity)


def convolution(batch: int, channels: int, out: int, rows: int, columns: int, kernel: int, stride: int = 1) -> Call:
    return Call(aten.convolution.default, (
        spec(batch, channels, rows, columns), spec(out, channels, kernel, kernel, identity=1), spec(out, identity=2),
        (stride, stride), (kernel // 2, kernel // 2), (1, 1), False, (0, 0), 1), ())  # fmt: skip


def convolution_backward(batch: int, channels: int, out: int, rows: int, columns: int, kernel: int,
                         stride: int = 1) -> Call:  # fmt: skip
    data = torch.empty(batch, channels, rows, columns, device="meta")
    weight = torch.empty(out, channels, kernel, kernel, device="meta")
    settings = ((stride, stride), (kernel // 2, kernel // 2), (1, 1), False, (0, 0), 1)
    grad = aten.convolution(data, weight, None, *settings)
    return Call(aten.convolution_backward.default, (
        spec(*grad.shape), spec(*data.shape, identity=1), spec(*weight.shape, identity=2), (out,), *settings,
        (True, True, True)), ())  # fmt: skip


def flash(batch: int, heads: int, tokens: int, dim: int, dtype: torch.dtype, *, backward: bool) -> Call:
    each = [spec(batch, heads, tokens, dim, dtype=dtype, identity=index) for index in range(5)]
    if not backward:
        return Call(aten._scaled_dot_product_flash_attention_for_cpu.default, tuple(each[:3]), ())
    sums = spec(batch, heads, tokens, identity=5)
    return Call(aten._scaled_dot_product_flash_attention_for_cpu_backward.default, (*each, sums, 0.0, True), ())


def fused_attention(tokens: int) -> Call:
    x = spec(2, tokens, 64)
    return Call(aten._native_multi_head_attention.default, (
        x, x, x, 64, 4, spec(192, 64, identity=1), spec(192, identity=2), spec(64, 64, identity=3),
        spec(64, identity=4), None, False), ())  # fmt: skip


LARGE: dict[str, Call] = {
    "1x1 convolution": convolution(1, 64, 64, 256, 250, 1),
    "3x3 convolution of a batch": convolution(2, 32, 64, 160, 160, 3),
    "3x3 convolution with stride": convolution(1, 64, 64, 256, 256, 3, 2),
    "backward of a 1x1 convolution": convolution_backward(1, 64, 64, 200, 200, 1),
    "backward of a convolution with stride": convolution_backward(2, 32, 64, 200, 160, 3, 2),
    "flash attention": flash(2, 3, 2500, 32, torch.float32, backward=False),
    "flash attention in bf16": flash(2, 4, 2500, 64, torch.bfloat16, backward=False),
    "backward of flash attention": flash(2, 3, 2500, 32, torch.float32, backward=True),
    "backward of flash attention, one head": flash(1, 1, 4000, 64, torch.float32, backward=True),
    "backward of flash attention in bf16": flash(1, 2, 2500, 64, torch.bfloat16, backward=True),
    "the fused attention layer": fused_attention(1900),
    "backward of a softmax that is turned": Call(
        aten._softmax_backward_data.default,
        (turned(1, 1600, 1600), spec(1, 1600, 1600, identity=1), -1, torch.float32), ()),
    "sum of truth values": Call(aten.sum.dim_IntList, (spec(2, 64, 512, 256, dtype=torch.bool), (1,)), ()),
    "Fourier transform along the tokens": Call(aten._fft_r2c.default, (spec(2, 40000, 64), (1,), 0, False), ()),
    "rolled windows": Call(aten.roll.default, (spec(2, 64, 200, 100), (3, 3), (2, 3)), ()),
    "product with a mask": Call(aten.mul.Tensor, (
        spec(2, 1, 300, 400), spec(2, 16, 300, 400, dtype=torch.bool, identity=1)), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_what_is_carried_on_from_smaller_calls_is_what_the_call_takes(name: str) -> None:
    call = LARGE[name]
    assert not SMALL.covers(call), "it would be made, not carried on"
    found, real = scratch_of(call), alone(call)
    assert found is not None and real is not None
    assert found.taken == real.taken
    assert real.taken > 0


@pytest.mark.parametrize("name", ["1x1 convolution", "flash attention", "backward of a softmax that is turned"])
def test_a_call_made_alone_is_the_public_profilers(name: str) -> None:
    run = LARGE[name].ready()
    found = alone(LARGE[name])
    assert found is not None and found.kept is not None
    assert found.taken + found.kept == allocated_peak(run)


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "masked_fill": (spec(300, 40), spec(300, 40, dtype=torch.bool, identity=1), 1.0),
    "masked_fill_": (spec(300, 40), spec(300, 40, dtype=torch.bool, identity=1), 1.0),
}


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("name", sorted(_PLAIN))
def test_plain_operators_take_nothing_but_a_number(name: str, turn: bool) -> None:
    """Those that are not looked at when they are large, at a size at which they can be."""
    a = turned(30, 300, 40) if turn else spec(30, 300, 40)
    b = turned(30, 300, 40, identity=1) if turn else spec(30, 300, 40, identity=1)
    square, other = (turned(400, 400) if turn else spec(400, 400)), spec(400, 400, identity=1)
    tries: list[tuple[str, tuple[Any, ...]]] = [
        ("Tensor", (a, b)), ("default", (a,)), ("default", (a, b)), ("Scalar", (a, 2.0)), ("Tensor_Scalar", (a, 2.0)),
        ("default", (a, b, 1.0)), ("grad_input", (a, b)), ("default", ((a, b), 1)), ("dim_IntList", (a, (1,))),
        ("dim", (a, (1,))), ("default", (a, (1,))), ("default", (a, 1)), ("default", (square, other)),
        ("default", (spec(30, 40, 50), spec(30, 50, 60, identity=1))),
        ("default", (spec(400, identity=2), square, other)),
        ("default", (a, -1, False)), ("float", (a, 0.5)), ("default", (a, (360000,))), ("default", (a, (300, 1200))),
        ("default", (a, (40,), spec(40, identity=1), spec(40, identity=2), 1e-5)), ("Scalar", (a, 1.0)),
        ("default", (spec(2, 64, 30, 30), spec(64, identity=1), spec(64, identity=2), 2, 64, 900, 8, 1e-5)),
        ("default", ((300, 40),)), ("memory_format", ((300, 40),)), ("default", ((300, 40), 1.0)),
        ("default", (a, (30, 300, 40), 1.0)),
        ("default", (a, 1.0, 1.0, 1.0, False, b)), ("default", (a, 0.0)), ("default", (a, 0.0, 1.0)),
        ("self", (spec(30, 300, 40, dtype=torch.bool, identity=2), a, b)), ("Scalar", ARGUMENTS.get(name, (a, 1.0))),
    ]  # fmt: skip
    packet, made = getattr(aten, name), 0
    for overload, arguments in tries:
        if overload in packet.overloads():
            found = alone(Call(getattr(packet, overload), arguments, ()))
            made += found is not None
            assert found is None or found.taken <= 64, (overload, arguments)
    assert made, "no way was found to call it"


class Foreign:
    """Stands for another package's operator, which may do anything."""

    overloadpacket = "mine.operator"

    def __call__(self, x: Tensor) -> Tensor:
        raise AssertionError("it was called")


def test_other_peoples_operators_are_not_called() -> None:
    assert scratch_of(Call(Foreign(), (spec(10),), ())) is None


def test_a_call_is_described_by_shapes_strides_types_and_which_operands_are_one() -> None:
    x, y = torch.zeros(3, 4), torch.zeros(3, 4)
    same, other = described(aten.mul.Tensor, (x, x), {}), described(aten.mul.Tensor, (x, y), {})
    assert same != other
    assert same == described(aten.mul.Tensor, (y, y), {})
    assert len({same, other, described(aten.mul.Tensor, (x.T, x.T), {})}) == 3
    assert (same.bytes, other.bytes) == (48, 96)


def test_a_shrunk_call_keeps_how_its_operands_lie_in_memory() -> None:
    heads = torch.empty(2, 500, 3, 64, device="meta").transpose(1, 2)[..., :32]  # (2, 3, 500, 32)
    small = described(aten.exp.default, (heads,), {}).resized(500, 100).arguments[0]
    wanted = torch.empty(2, 100, 3, 64, device="meta").transpose(1, 2)[..., :32]
    assert (small.shape, small.stride) == (tuple(wanted.shape), wanted.stride())


def test_an_expanded_operand_takes_what_it_has_and_not_what_it_shows() -> None:
    assert described(aten.exp.default, (torch.empty(1, 10).expand(1000, 10),), {}).bytes == 40
