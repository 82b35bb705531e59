"""Live bytes against the CPU allocator's own events, against sums done by hand, and predicted against measured."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from attnbench.core.case import Case
from attnbench.metrics.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.memory import measure_memory, predict_memory
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.targets.build import build
from attnbench.targets.catalogue import catalogue
from attnbench.targets.resolve import resolve

MODULES = [spec.name for spec in catalogue() if spec.kind == "module"]
# The others take scratch inside a kernel (a flash backward, a convolution's backward, a sum that promotes its type),
# which live tensors cannot show: they may stay below the allocator by what one operator takes and gives back.
WITHOUT_SCRATCH = ("mha", "scaled_dot_product", "additive_attn", "pseudo_linear_attn", "linear_attn", "se")
FLOAT = 4


def case_of(name: str, side: int, mode: str) -> Case:
    return resolve(Case(name, height=side, width=side + 1, tokens=side * (side + 1), dim=64, batch_size=2, mode=mode))


def peak_of(subject: Subject) -> int:
    readings, _ = values(measure_memory(subject, Options()))
    peak: int = readings["memory.peak_bytes"]
    return peak


def allocator_events(step: Callable[[], Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(time, bytes) of each allocation (+) and release (-) on the CPU, and (start, end) of each operator."""
    step()  # caches of the libraries are filled
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = step()
        del output
    events = list(profiler.profiler.kineto_results.events())  # type: ignore[union-attr]
    memory = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    spans = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if e.name().startswith("aten::")]
    return sorted(memory, key=lambda event: event[0]), spans


def allocator_peak(memory: list[tuple[int, int]]) -> int:
    now = peak = 0
    for _, size in memory:
        now += size
        peak = max(peak, now)
    assert now == 0, "the profiler missed an event"
    return peak


def largest_scratch(memory: list[tuple[int, int]], spans: list[tuple[int, int]]) -> int:
    """The most that one operator takes beyond what stood before it and what it leaves."""
    found = 0
    for start, end in spans:
        inside = [size for time, size in memory if start <= time <= end]
        now = most = 0
        for size in inside:
            now += size
            most = max(most, now)
        found = max(found, most - max(0, now))
    return found


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("name", MODULES)
def test_the_peak_is_the_allocators(name: str, mode: str) -> None:
    subject = build(case_of(name, 10, mode), "cpu")
    held = storage_bytes([*subject.weights, *subject.tensors])
    memory, spans = allocator_events(subject.step)
    measured, allocated = peak_of(subject), allocator_peak(memory) + held
    assert measured <= allocated * 1.001, "live tensors that the allocator never made"
    if measured < 0.99 * allocated:
        assert name not in WITHOUT_SCRATCH
        assert allocated - measured <= largest_scratch(memory, spans), "more is missing than a kernel's scratch"


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("side", [5, 12])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_predicted_without_data_is_what_is_measured(name: str, side: int, mode: str) -> None:
    case = case_of(name, side, mode)
    with FakeTensorMode():
        predicted, _ = values(predict_memory(build(case, "fake"), Options()))
    assert predicted == {"static.predicted_peak_bytes": peak_of(build(case, "cpu"))}


def test_what_would_not_fit_is_predicted_without_its_memory() -> None:
    case = Case("scaled_dot_product", tokens=2**20, dim=64, batch_size=1)
    with FakeTensorMode():
        predicted, _ = values(predict_memory(build(resolve(case), "fake"), Options()))
    assert predicted["static.predicted_peak_bytes"] > 2**40 * FLOAT  # the map of 1M x 1M positions


SIZE = 1000 * FLOAT


def extra(function: Callable[..., Any], *shapes: tuple[int, ...], mode: str = "fwd") -> int:
    """The peak beyond the inputs."""
    subject = subject_of(function, *shapes, where="cpu", mode=mode)
    return peak_of(subject) - storage_bytes(subject.tensors)


def chain(x: Tensor) -> Tensor:
    for _ in range(10):
        x = x + 1
    return x


def keeps_all(x: Tensor) -> list[Tensor]:
    return [x + each for each in range(10)]


def in_place(x: Tensor) -> Tensor:
    x = x + 1
    return x.mul_(2).add_(1).relu_()


def views(x: Tensor) -> Tensor:
    return x.view(10, 100).T.reshape(100, 10)[3:].T.unsqueeze(0)  # `reshape` copies nothing here


def copied(x: Tensor) -> Tensor:
    return x.view(10, 100).T.contiguous()


def expanded(x: Tensor) -> Tensor:
    return x.expand(50, 1000)


def into_given(x: Tensor) -> Tensor:
    out = x.new_empty(0)
    torch.add(x, 1, out=out)
    return out


def part_of_a_storage(x: Tensor) -> Tensor:
    return (x + 1)[:1] + 0  # the whole storage lives as long as its first element is looked at


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + 1, SIZE),
        (lambda x: x, 0),
        (chain, 2 * SIZE),  # the step before lives until the next is there
        (keeps_all, 10 * SIZE),
        (in_place, SIZE),
        (views, 0),
        (copied, SIZE),
        (expanded, 0),
        (into_given, SIZE),
        (part_of_a_storage, SIZE + FLOAT),
        (lambda x: x.double(), 2 * SIZE),
        (lambda x: x > 0, SIZE // 4),
        (lambda x: (x + 1, (x + 1).sum())[1], 2 * SIZE + FLOAT),
        (lambda x: x.split(100), 0),
    ],
)
def test_the_peak_of_a_few_operators_by_hand(function: Any, expected: int) -> None:
    assert extra(function, (1000,)) == expected


def test_gradients_that_are_added_up_are_added_in_place() -> None:
    """x is used three times: its gradient is one tensor, and each further share is added to it and dropped."""
    subject = subject_of(lambda x: (x.exp(), x.sin(), x.cos())[0] * 1 + x.sin() * 1 + x.cos() * 1, (1000,),
                         where="cpu", mode="fwd_bwd")  # fmt: skip
    memory, _ = allocator_events(subject.step)
    assert peak_of(subject) - storage_bytes(subject.tensors) == pytest.approx(allocator_peak(memory), rel=0.01)


def test_an_add_of_the_forward_is_no_accumulation() -> None:
    assert extra(lambda x: (x + 1) + (x + 2), (1000,)) == 3 * SIZE


def test_tied_weights_and_views_of_inputs_count_once() -> None:
    weight = torch.zeros(1000)
    assert storage_bytes([weight, weight.view(10, 100), weight[:3], nn.Parameter(weight)]) == SIZE
    assert storage_bytes([]) == 0


class Leaking(nn.Module):
    def __init__(self, leaks: bool) -> None:
        super().__init__()
        self.leaks, self.kept = leaks, []

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        if self.leaks:
            self.kept.append(y)
        return y.sum()


@pytest.mark.parametrize("leaks", [True, False])
def test_a_module_that_keeps_a_tensor_is_seen(leaks: bool) -> None:
    subject = subject_of(lambda layer, x: layer(x), (1000,), parts=[lambda: Leaking(leaks)], where="cpu")
    with LiveBytes(subject.tensors) as live:
        levels = []
        for _ in range(3):
            subject.forward()
            levels.append(live.now - SIZE)
    assert levels == ([SIZE, 2 * SIZE, 3 * SIZE] if leaks else [0, 0, 0])
    assert live.peak == SIZE + (3 * SIZE if leaks else SIZE) + FLOAT


def test_the_parts_add_up_and_the_saved_tensors_stand_apart() -> None:
    subject = subject_of(lambda layer, x: layer(x).exp().sum(), (8, 100), parts=[lambda: nn.Linear(100, 50)],
                         where="cpu", mode="fwd_bwd")  # fmt: skip
    readings, notes = values(measure_memory(subject, Options()))
    assert readings["memory.weights_bytes"] == (100 * 50 + 50) * FLOAT
    assert readings["memory.inputs_bytes"] == 800 * FLOAT
    assert readings["memory.activations_bytes"] == (
        readings["memory.peak_bytes"] - readings["memory.weights_bytes"] - readings["memory.inputs_bytes"]
    )
    assert readings["memory.saved_bytes"] == 8 * 50 * FLOAT + FLOAT  # what exp gives, and the sum
    assert [note.kind for note in notes] == ["scratch", "not_measured"]


def test_what_a_forward_does_not_have_is_said_and_not_zero() -> None:
    readings, notes = values(measure_memory(subject_of(lambda x: x + 1, (10,), where="cpu"), Options()))
    assert "memory.saved_bytes" not in readings
    assert "memory.reserved_bytes" not in readings
    assert sorted(note.text.split(":")[0] for note in notes) == ["memory.reserved_bytes", "memory.saved_bytes"]
