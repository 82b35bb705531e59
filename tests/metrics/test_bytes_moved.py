"""The least bytes a step must move, each figure derived by hand from shapes; the union of views against a plain set."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_cases import MODULES, module_subject
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch.nn import functional as F

from attnbench.core.case import Case
from attnbench.metrics.bytes_moved import Traffic, count_bytes_moved, least_traffic
from attnbench.metrics.metric import Options, known
from attnbench.metrics.roof.regions import Regions, View
from attnbench.metrics.roof.touched import _seen
from attnbench.metrics.subject import Subject
from attnbench.targets.build import build
from attnbench.targets.fake import fake_tensors
from attnbench.targets.resolve import resolve

FLOAT, LONG = 4, 8
Parts = Sequence[Callable[[], nn.Module]]


def traffic(function: Callable[..., Any], *shapes: tuple[int, ...], parts: Parts = (), mode: str = "fwd") -> Traffic:
    with fake_tensors():
        return least_traffic(subject_of(function, *shapes, parts=parts, where="cpu", mode=mode))


def of_module(module: Callable[[], nn.Module], *inputs: Tensor, mode: str = "fwd") -> Traffic:
    """Inputs of any type, made fake."""
    with fake_tensors():
        fakes = tuple(torch.empty(each.shape, dtype=each.dtype) for each in inputs)
        fakes = tuple(each.requires_grad_(mode != "fwd" and each.is_floating_point()) for each in fakes)
        made = module().train(mode != "fwd")
        return least_traffic(Subject(Case("body", mode=mode), made, fakes, "fake"))


def test_a_linear_layer() -> None:
    """x (100, 50), W (60, 50), b (60) and y (100, 60)."""
    found = traffic(lambda layer, x: layer(x), (100, 50), parts=[lambda: nn.Linear(50, 60)])
    assert found == Traffic((5000 + 3000 + 60) * FLOAT, 0, 6000 * FLOAT)
    assert found.total == 14060 * FLOAT


def test_a_linear_layer_with_its_backward_leaves_three_gradients() -> None:
    found = traffic(lambda layer, x: layer(x), (100, 50), parts=[lambda: nn.Linear(50, 60)], mode="fwd_bwd")
    inputs, weights, outputs = 5000 * FLOAT, 3060 * FLOAT, 6000 * FLOAT
    assert found == Traffic(inputs + weights, 0, outputs, gradients=inputs + weights)


def test_the_batch_moves_the_weights_once() -> None:
    one, eight = (traffic(lambda layer, x: layer(x), (batch, 50), parts=[lambda: nn.Linear(50, 60, bias=False)])
                  for batch in (1, 8))  # fmt: skip
    assert eight.total - one.total == 7 * (50 + 60) * FLOAT
    assert one.total == (3000 + 110) * FLOAT


def test_a_convolution() -> None:
    """x (2, 3, 10, 12), W (8, 3, 3, 3), b (8), y (2, 8, 8, 10)."""
    found = traffic(lambda layer, x: layer(x), (2, 3, 10, 12), parts=[lambda: nn.Conv2d(3, 8, 3)])
    assert found.total == (2 * 3 * 120 + 8 * 27 + 8 + 2 * 8 * 80) * FLOAT


def test_a_convolution_that_strides_over_pixels_reads_those_it_meets() -> None:
    """1x1 with stride 2 on 9 x 9: 5 x 5 places; a 3x3 with stride 3 on 10 x 10 leaves out the last row and column."""
    point = traffic(lambda layer, x: layer(x), (1, 4, 9, 9), parts=[lambda: nn.Conv2d(4, 4, 1, stride=2, bias=False)])
    assert point == Traffic((4 * 25 + 16) * FLOAT, 0, 4 * 25 * FLOAT)
    patch = traffic(lambda layer, x: layer(x), (1, 1, 10, 10), parts=[lambda: nn.Conv2d(1, 1, 3, 3, bias=False)])
    assert patch == Traffic((81 + 9) * FLOAT, 0, 9 * FLOAT)


def test_pools_read_what_lies_under_their_windows() -> None:
    assert traffic(lambda x: F.max_pool2d(x, 2), (1, 3, 7, 9)).read == 3 * 6 * 8 * FLOAT
    assert traffic(lambda x: F.avg_pool2d(x, 1, stride=4), (1, 1, 8, 8)).read == 4 * FLOAT
    assert traffic(lambda x: F.max_pool2d(x, 3, 2, padding=1), (2, 1, 8, 8)).read == 2 * 64 * FLOAT


def test_attention_of_given_maps_moves_four_of_them() -> None:
    """However the kernel holds the scores inside."""
    shape = (2, 4, 100, 16)
    found = traffic(F.scaled_dot_product_attention, shape, shape, shape)
    assert found == Traffic(3 * 2 * 4 * 100 * 16 * FLOAT, 0, 2 * 4 * 100 * 16 * FLOAT)


def test_the_sdpa_module() -> None:
    """x and y (1, N, C), a projection to 3 C and one back, each with a bias or not: its parameters once."""
    with fake_tensors():
        subject = build(resolve(Case("sdpa", height=8, width=8, tokens=64, dim=32, batch_size=3)), "fake")
        found = least_traffic(subject)
        parameters = sum(parameter.numel() for parameter in subject.module.parameters())
    assert parameters >= 4 * 32 * 32
    assert found.total == (parameters + 2 * 3 * 64 * 32) * FLOAT


def test_an_embedding_takes_its_rows_and_not_the_table() -> None:
    tokens = torch.zeros(2, 7, dtype=torch.long)
    found = of_module(lambda: nn.Embedding(1000, 16), tokens)
    assert found == Traffic(14 * 16 * FLOAT + 14 * LONG, 0, 14 * 16 * FLOAT)


def test_a_table_that_is_shorter_than_what_is_looked_up_is_read_once() -> None:
    found = of_module(lambda: nn.Embedding(10, 16), torch.zeros(3, 100, dtype=torch.long))
    assert found.read == 10 * 16 * FLOAT + 300 * LONG


def test_the_gradient_of_a_table_is_the_whole_table() -> None:
    found = of_module(lambda: nn.Embedding(1000, 16), torch.zeros(2, 7, dtype=torch.long), mode="fwd_bwd")
    assert found.gradients == 1000 * 16 * FLOAT


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (lambda x, i: x[i], 7 * 20),
        (lambda x, i: x[i, i], 7),
        (lambda x, i: x[:, :5][i], 7 * 5),
        (lambda x, i: x.index_select(1, i), 50 * 7),
        (lambda x, i: x.gather(0, i.unsqueeze(1)), 7),
        (lambda x, i: torch.take(x, i), 7),
        (lambda x, i: F.embedding_bag(i.unsqueeze(0), x), 7 * 20),
        (lambda x, i: x[i] + x.sum(), 50 * 20),
    ],
)
def test_looking_up_takes_what_comes_out(function: Callable[..., Any], rows: int) -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor, i: Tensor) -> Any:
            return function(x, i)

    found = of_module(Looks, torch.zeros(50, 20), torch.zeros(7, dtype=torch.long))
    assert found.read == rows * FLOAT + 7 * LONG


def test_sampling_takes_no_more_than_it_gives() -> None:
    found = traffic(lambda x, grid: F.grid_sample(x, grid, align_corners=False), (1, 4, 32, 32), (1, 3, 5, 2))
    assert found == Traffic((4 * 15 + 30) * FLOAT, 0, 4 * 15 * FLOAT)
    halved = traffic(lambda x: F.interpolate(x, scale_factor=0.25), (1, 4, 32, 32))
    assert halved == Traffic(4 * 64 * FLOAT, 0, 4 * 64 * FLOAT)


class Tied(nn.Module):
    """A linear layer, its weight used twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(30, 30, bias=False), nn.Linear(30, 30, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_shared_weight_is_read_once_and_has_one_gradient() -> None:
    assert of_module(Tied, torch.zeros(5, 30)).total == (900 + 150 + 150) * FLOAT
    assert of_module(Tied, torch.zeros(5, 30), mode="fwd_bwd").gradients == (900 + 150) * FLOAT


def test_a_weight_that_nobody_uses_moves_nothing() -> None:
    def uses_one(used: nn.Module, unused: nn.Linear, x: Tensor) -> Tensor:
        return used(x) * unused.weight.shape[0]

    parts: Parts = [lambda: nn.Linear(50, 60, bias=False), lambda: nn.Linear(999, 999)]
    assert traffic(uses_one, (1, 50), parts=parts).read == (3000 + 50) * FLOAT
    step = traffic(uses_one, (1, 50), parts=parts, mode="fwd_bwd")
    assert (step.read, step.gradients) == (3050 * FLOAT, 3050 * FLOAT)


def test_of_a_weight_only_the_views_that_are_used_are_read() -> None:
    part: Parts = [lambda: nn.Linear(50, 90, bias=False)]
    top = traffic(lambda layer, x: F.linear(x, layer.weight[:30]), (1, 50), parts=part)
    assert top.read == (30 * 50 + 50) * FLOAT
    left = traffic(lambda layer, x: F.linear(x, layer.weight[:, :20]), (1, 20), parts=part)
    assert left.read == (90 * 20 + 20) * FLOAT
    both = traffic(lambda layer, x: F.linear(x, layer.weight[:30]) + F.linear(x, layer.weight[20:50]), (1, 50),
                   parts=part)  # fmt: skip
    assert both.read == (50 * 50 + 50) * FLOAT  # rows 0 to 49, ten of them twice
    assert traffic(lambda layer, x: layer.weight.t().reshape(-1) + x, (4500,), parts=part).read == 9000 * FLOAT


def test_its_gradient_is_whole_all_the_same() -> None:
    part: Parts = [lambda: nn.Linear(50, 90, bias=False)]
    found = traffic(lambda layer, x: F.linear(x, layer.weight[:30]), (1, 50), parts=part, mode="fwd_bwd")
    assert found.gradients == (90 * 50 + 50) * FLOAT


def test_views_move_nothing() -> None:
    assert traffic(lambda x: x, (10, 20)).total == 0
    assert traffic(lambda x: x.t()[3:].unsqueeze(0).expand(7, -1, -1), (10, 20)).total == 0
    assert traffic(lambda layer, x: layer.weight.t(), (1,), parts=[lambda: nn.Linear(5, 6)]).total == 0


def test_what_is_asked_of_a_size_moves_nothing() -> None:
    found = traffic(lambda x: torch.zeros_like(x) + torch.ones(x.shape[0], 1) * x.numel() + x.new_zeros(20), (10, 20))
    assert found == Traffic(0, 0, 200 * FLOAT)


def test_a_tuple_of_outputs_each_once() -> None:
    def several(x: Tensor) -> Any:
        y = x * 2
        return y, {"again": y, "part": y[:3]}, x.view(-1), [x.sum()]

    assert traffic(several, (10, 20)) == Traffic(200 * FLOAT, 0, (200 + 1) * FLOAT)


def test_of_an_output_that_is_a_part_only_the_part_is_written() -> None:
    assert traffic(lambda x: (x * 2)[:, :5], (10, 20)).outputs == 50 * FLOAT
    assert traffic(lambda x: x.sum().expand(100), (10, 20)).outputs == FLOAT


def test_an_input_that_is_expanded_has_only_its_own_bytes() -> None:
    with fake_tensors():
        row = torch.empty(1, 20).expand(1000, 20)
        found = least_traffic(Subject(Case("body"), nn.Softmax(-1), (row,), "fake"))
    assert found == Traffic(20 * FLOAT, 0, 20000 * FLOAT)


def test_what_is_done_in_place_is_read_and_written() -> None:
    assert traffic(lambda x: x.relu_(), (10, 20)) == Traffic(200 * FLOAT, 200 * FLOAT, 0)
    assert traffic(lambda x: x.fill_(1.0), (10, 20)) == Traffic(0, 200 * FLOAT, 0)
    assert traffic(lambda x, y: x[2:5].copy_(y), (10, 20), (3, 20)) == Traffic(60 * FLOAT, 60 * FLOAT, 0)
    assert traffic(lambda x, y: torch.add(y, 1, out=x), (10, 20), (10, 20)) == Traffic(200 * FLOAT, 200 * FLOAT, 0)


def test_a_batch_norm_in_eval_reads_four_vectors_and_in_training_counts_up() -> None:
    layer: Parts = [lambda: nn.BatchNorm2d(8)]
    assert traffic(lambda m, x: m(x), (2, 8, 3, 3), parts=layer) == Traffic((144 + 4 * 8) * FLOAT, 0, 144 * FLOAT)
    step = traffic(lambda m, x: m(x), (2, 8, 3, 3), parts=layer, mode="fwd_bwd")
    assert step.written == LONG  # num_batches_tracked
    assert step.gradients == (144 + 2 * 8) * FLOAT


@pytest.mark.parametrize(("dtype", "bytes_each"), [("fp32", 4), ("bf16", 2), ("fp16", 2)])
def test_half_the_width_moves_half_the_bytes(dtype: str, bytes_each: int) -> None:
    case = Case("sdpa", height=8, width=8, tokens=64, dim=32, dtype=dtype)
    with fake_tensors():
        subject = build(resolve(case), "fake")
        elements = sum(each.numel() for each in subject.weights) + 2 * 64 * 32
        assert least_traffic(subject).total == elements * bytes_each


def test_training_moves_what_the_optimizer_keeps() -> None:
    """AdamW: two moments a weight, read and written, and the weight written; the rest is that of fwd_bwd."""
    case = Case("self_attn", height=4, width=4, tokens=16, dim=32, mode="train")
    with fake_tensors():
        train = least_traffic(build(resolve(case), "fake"))
        plain = least_traffic(build(resolve(case.with_(mode="fwd_bwd")), "fake"))
        weights = sum(each.numel() for each in build(resolve(case), "fake").module.parameters()) * FLOAT
    assert plain.optimizer == 0
    assert (train.read, train.outputs, train.gradients) == (plain.read, plain.outputs, plain.gradients)
    assert train.optimizer == 2 * 2 * weights + weights


def test_a_backward_alone_is_counted_with_its_forward() -> None:
    case = Case("sdpa", height=4, width=4, tokens=16, dim=32, mode="bwd")
    with fake_tensors():
        alone, both = (least_traffic(build(resolve(each), "fake")) for each in (case, case.with_(mode="fwd_bwd")))
    assert alone == both


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("name", MODULES)
def test_a_built_in_module_moves_at_most_what_is_there_and_at_least_its_maps(name: str, mode: str) -> None:
    with fake_tensors():
        subject = module_subject(name, 5, mode, "fp32", "fake")
        found = least_traffic(subject)
        held = Regions()
        for tensor in [*subject.weights, *subject.tensors]:
            held.add(tensor)
        inputs = sum(each.numel() for each in subject.tensors) * FLOAT
    assert inputs <= found.read <= held.bytes
    assert found.outputs > 0
    assert found.total > 2 * inputs * (mode == "fwd_bwd")


def test_the_instrument_gives_the_total_without_a_column() -> None:
    assert (known()["bytes_moved"].on, known()["bytes_moved"].fields) == ("fake", ("static.bytes_moved",))
    with fake_tensors():
        (reading,) = count_bytes_moved(subject_of(lambda x: x + 1, (10, 20), where="cpu"), Options())
        found, notes = values(iter([reading]))
    assert (found, notes) == ({"static.bytes_moved": 400 * FLOAT}, [])
    assert (reading.unit, reading.title) == ("bytes", "")


@pytest.mark.parametrize(
    ("size", "windows", "taps", "stride", "padding", "dilation", "seen"),
    [(10, 8, 3, 1, 0, 1, 10), (10, 5, 1, 2, 0, 1, 5), (10, 2, 3, 4, 1, 1, 5), (9, 3, 2, 2, 0, 4, 5),
     (5, 5, 5, 1, 2, 1, 5), (4, 1, 9, 1, 3, 1, 4)],
)  # fmt: skip
def test_places_under_windows(
    size: int, windows: int, taps: int, stride: int, padding: int, dilation: int, seen: int
) -> None:
    """Nine places, three windows of two taps 4 apart, stride 2: 0 4, 2 6 and 4 8 are five places."""
    places = {w * stride - padding + t * dilation for w in range(windows) for t in range(taps)} & set(range(size))
    assert _seen(size, windows, taps, stride, padding, dilation) == len(places) == seen


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_union_of_views_is_that_of_their_elements(data: st.DataObject) -> None:
    storage = torch.zeros(60)
    regions, elements = Regions(), set[int]()
    for _ in range(data.draw(st.integers(1, 3))):
        rank = data.draw(st.integers(0, 3))
        shape = data.draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank))
        stride = data.draw(st.lists(st.integers(0, 5), min_size=rank, max_size=rank))
        start = data.draw(st.integers(0, 10))
        view = storage.as_strided(shape, stride, start)
        regions.add(view)
        own = set(torch.arange(60).as_strided(shape, stride, start).flatten().tolist())
        assert View.of(view).least <= len(own) * FLOAT
        elements |= own
    assert regions.bytes == len(elements) * FLOAT


def test_very_many_runs_are_bounded_from_below() -> None:
    with fake_tensors():
        regions = Regions()
        rows = torch.empty(2**21, 64)
        regions.add(rows[:, :16])
        regions.add(rows[:, 32:40])
        assert regions.bytes == 2**21 * 16 * FLOAT
