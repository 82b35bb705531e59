"""The measured peak against the CPU allocator's own events, and live bytes against sums done by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from allocator_events import allocated_peak
from memory_cases import MODULE_MODES, module_subject
from metrics_subjects import subject_of, values
from torch import Tensor, nn

from attnbench.metrics.footprint.cpu_allocator import Account, _kineto_profiler, _light_profiler
from attnbench.metrics.footprint.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.memory import measure_memory
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject

FLOAT = 4


def peak_of(subject: Subject) -> int:
    readings, _ = values(measure_memory(subject, Options()))
    peak: int = readings["memory.peak_bytes"]
    return peak


@pytest.mark.parametrize(("name", "mode"), MODULE_MODES)
def test_the_measured_peak_is_the_allocators(name: str, mode: str) -> None:
    subject = module_subject(name, 10, mode, "fp32", "cpu")
    peak = peak_of(subject)
    held = storage_bytes([*subject.weights, *subject.tensors, *subject.optimizer_state])
    assert peak == held + allocated_peak(subject.step)


def test_both_profilers_tell_the_same_events() -> None:
    x = torch.zeros(2, 8, 30, 30)
    layer = nn.Conv2d(8, 8, 3)
    layer(x)
    accounts = []
    for profiler in (_light_profiler, _kineto_profiler):
        account = Account()
        with profiler(account):
            y = layer(x).exp()
            del y
        accounts.append((account.now, account.peak))
    assert accounts[0] == accounts[1]
    assert accounts[0][1] > 2 * 8 * 28 * 28 * FLOAT * 2  # both outputs, and what the convolution takes


def test_an_account_goes_on_over_several_blocks() -> None:
    account = Account()
    with _light_profiler(account):
        y = torch.zeros(1000)
    assert (account.now, account.peak) == (4000, 4000)
    with _light_profiler(account):
        del y
        torch.zeros(10)
    assert (account.now, account.peak) == (0, 4000)


SIZE = 1000 * FLOAT


def extra(function: Callable[..., Any], *shapes: tuple[int, ...], mode: str = "fwd") -> int:
    """The peak of live tensors beyond the inputs."""
    subject = subject_of(function, *shapes, where="cpu", mode=mode)
    with LiveBytes(subject.tensors) as live:
        subject.step()
    return live.peak - storage_bytes(subject.tensors)


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
    with LiveBytes(subject.tensors) as live:
        subject.step()
    assert live.peak - storage_bytes(subject.tensors) == pytest.approx(allocated_peak(subject.step), rel=0.01)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x @ x.mT).topk(8)[0],
        lambda x: x[torch.arange(50)] * 2,
        lambda x: x.gather(0, torch.zeros(5, 100, dtype=torch.long)),
        lambda x: x.index_select(0, torch.arange(50)),
    ],
)
def test_gradients_that_are_put_into_zeros_are_put_in_place(function: Any) -> None:
    subject = subject_of(function, (100, 100), where="cpu", mode="fwd_bwd")
    with LiveBytes(subject.tensors) as live:
        subject.step()
    assert live.peak - storage_bytes(subject.tensors) == pytest.approx(allocated_peak(subject.step), rel=0.01)


def test_an_add_of_the_forward_is_no_accumulation() -> None:
    assert extra(lambda x: (x + 1) + (x + 2), (1000,)) == 3 * SIZE


def test_tied_weights_and_views_of_inputs_count_once() -> None:
    weight = torch.zeros(1000)
    assert storage_bytes([weight, weight.view(10, 100), weight[:3], nn.Parameter(weight)]) == SIZE
    assert storage_bytes([]) == 0


def test_tensors_on_another_device_do_not_count() -> None:
    x = torch.zeros(1000)
    with LiveBytes([x], device="cpu") as live:
        y, elsewhere = x + 1, torch.empty(500, device="meta") * 2
        assert live.now == 2 * SIZE
    with LiveBytes([elsewhere], device="meta") as live:
        y, elsewhere = x + 1, elsewhere + elsewhere
        assert live.peak == SIZE  # two of half the length
    del y


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
    assert {note.kind for note in notes} == {"not_measured"}


def test_what_a_forward_does_not_have_is_said_and_not_zero() -> None:
    readings, notes = values(measure_memory(subject_of(lambda x: x + 1, (10,), where="cpu"), Options()))
    missing = ["memory.optimizer_bytes", "memory.reserved_bytes", "memory.rounding_bytes", "memory.saved_bytes"]
    assert not set(missing) & set(readings)
    assert sorted(note.text.split(":")[0] for note in notes) == missing
