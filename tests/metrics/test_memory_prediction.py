"""The predicted peak against the allocator's events of a real step; its parts; sizes that nobody could run."""

import resource
import time
from typing import Any

import pytest
import torch
from allocator_events import allocated_peak
from memory_cases import LAYERS, PREDICTED, ROWS, has_weights, layer_subject, module_subject, with_optimizer
from metrics_subjects import subject_of, values
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode

from attnbench.core.case import Case
from attnbench.metrics.footprint.linear_bias import biases_in_place
from attnbench.metrics.footprint.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.footprint.prediction import Prediction, predict
from attnbench.metrics.memory import measure_memory, predict_memory
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject
from attnbench.targets.build import build
from attnbench.targets.fake import NEEDS_VALUES, fake_tensors
from attnbench.targets.resolve import resolve

FLOAT = 4
# Of `number * tensor` autograd keeps the number as a tensor of eight bytes, which no operator makes: six in one module.
NUMBERS = 48
RECURRENT = ("LSTM", "GRU")
RNG_STATE = 5056  # the generator's state, which checkpointing keeps for each call


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """With one thread other kernels run, whose scratch is nothing."""
    torch.set_num_threads(2)


def measured(subject: Subject) -> int:
    peak = allocated_peak(subject.step)  # after it the optimizer has its state
    return storage_bytes([*subject.weights, *subject.tensors, *subject.optimizer_state]) + peak


LAYER_MODES = [
    (name, mode)
    for name, layer in LAYERS.items()
    for mode in ("fwd", "fwd_bwd", "train")
    if name not in RECURRENT and (mode != "train" or has_weights(layer))
]


@pytest.mark.parametrize(("name", "mode", "dtype"), PREDICTED)
def test_the_predicted_peak_of_a_module_is_the_allocators(name: str, dtype: str, mode: str) -> None:
    with fake_tensors():
        found = predict(module_subject(name, 11, mode, dtype, "fake"))
    assert not found.doubts
    assert found.peak == pytest.approx(measured(module_subject(name, 11, mode, dtype, "cpu")), abs=NUMBERS)


@pytest.mark.parametrize(("name", "mode"), LAYER_MODES)
def test_the_predicted_peak_of_a_layer_is_the_allocators(name: str, mode: str) -> None:
    layer = LAYERS[name]
    with fake_tensors():
        found = predict(layer_subject(layer, layer.small, mode, "fp32", "fake"))
    real = measured(layer_subject(layer, layer.small, mode, "fp32", "cpu"))
    spare = RNG_STATE if "checkpoint" in name else 0
    assert found.peak == pytest.approx(real, rel=1e-4, abs=NUMBERS + spare)


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd", "train"])
@pytest.mark.parametrize("name", RECURRENT)
def test_what_cannot_be_predicted_is_said(name: str, mode: str) -> None:
    layer = LAYERS[name]
    with fake_tensors():
        _, notes = values(predict_memory(layer_subject(layer, layer.small, mode, "fp32", "fake"), Options()))
    assert any(note.kind == "scratch" and "recurrent" in note.text for note in notes)


def both(function: Any, *shapes: tuple[int, ...], parts: Any = (), mode: str = "fwd") -> tuple[Prediction, int]:
    with fake_tensors():
        found = predict(subject_of(function, *shapes, parts=parts, where="cpu", mode=mode))
    return found, measured(subject_of(function, *shapes, parts=parts, where="cpu", mode=mode))


def test_a_fused_layer_that_holds_the_map_inside_is_seen() -> None:
    """nn.MultiheadAttention in eval mode is one operator; inside it is a map of 2 x 4 x 300 x 300."""
    found, real = both(lambda m, x: m(x, x, x, need_weights=False)[0], (2, 300, 64),
                       parts=[lambda: nn.MultiheadAttention(64, 4, batch_first=True)])  # fmt: skip
    assert found.peak == real
    assert found.scratch > 2 * 4 * 300 * 300 * FLOAT


def widened(look: Any) -> Any:
    """A wide linear layer of rows that are looked at so: the mean of its rows, which keeps nothing of it."""
    return lambda layer, x: layer(look(x)).flatten(0, -2).mean(0)


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", ROWS)
def test_a_linear_layer_takes_what_it_takes_unwatched(rows: str, bias: bool, mode: str) -> None:
    shape, look = ROWS[rows]
    parts = [lambda: nn.Linear(16, 64, bias=bias)]
    found, real = both(widened(look), shape, parts=parts, mode=mode)
    assert found.peak == real
    followed, _ = values(measure_memory(subject_of(widened(look), shape, parts=parts, where="cpu", mode=mode),
                                        Options()))  # fmt: skip
    assert (followed["memory.live_peak_bytes"], followed["memory.workspace_bytes"]) == (real - found.scratch,
                                                                                      found.scratch)  # fmt: skip


class Own(TorchDispatchMode):
    """A mode that a module works under, watched or not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def under_a_mode(layer: nn.Module, x: Tensor) -> Tensor:
    with Own():  # type: ignore[no-untyped-call]
        return layer(x.mT)


def in_half(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(x.mT)


OTHERWISE: dict[str, Any] = {
    "a product and a sum": lambda layer, x: x.mT @ layer.weight.mT + layer.bias,
    "by its own name": lambda layer, x: linear(x.mT, layer.weight, bias=layer.bias),
    "under a mode": under_a_mode,
    "in vmap": lambda layer, x: torch.vmap(layer)(x.mT.unflatten(1, (5, -1))),
    "in autocast": in_half,
    "two layers": lambda layer, x: layer(layer(x.mT)[..., :16]),
    "changed in place": lambda layer, x: F.relu_(layer(x.mT)),
}


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("how", OTHERWISE)
def test_a_bias_is_added_in_place_where_torch_does_it_and_nowhere_else(how: str, mode: str) -> None:
    found, real = both(OTHERWISE[how], (2, 16, 50), parts=[lambda: nn.Linear(16, 64)], mode=mode)
    assert found.peak == real


def test_what_a_followed_layer_computes_is_right() -> None:
    layer, x = nn.Linear(16, 64), torch.randn(2, 16, 50)
    own = F.linear
    plain = torch.autograd.grad(layer(x.mT).square().sum(), layer.parameters())
    with LiveBytes([]) as live, biases_in_place(live):
        followed = torch.autograd.grad(layer(x.mT).square().sum(), layer.parameters())
    assert all(torch.equal(one, other) for one, other in zip(plain, followed, strict=True))
    assert F.linear is own is linear


def test_attention_is_predicted_by_the_kernel_that_runs_and_not_by_the_map() -> None:
    tokens = 1500
    found, real = both(lambda q: F.scaled_dot_product_attention(q, q, q), (1, 2, tokens, 32), mode="fwd_bwd")
    assert found.peak == real
    assert found.peak < 2 * tokens * tokens * FLOAT


def test_the_parts_add_up_to_the_peak_and_are_those_of_the_measured_step() -> None:
    subject = module_subject("efficient_attn", 20, "train", "fp32", "cpu")
    real, _ = values(measure_memory(subject, Options()))
    with fake_tensors():
        fake = module_subject("efficient_attn", 20, "train", "fp32", "fake")
        found, notes = values(predict_memory(fake, Options()))
    parts = {name.removeprefix("static.predicted_"): value for name, value in found.items()}
    same = ("weights_bytes", "inputs_bytes", "optimizer_bytes", "saved_bytes", "temporary_bytes", "peak_bytes")
    told = (*same[:-1], "scratch_bytes")
    assert sum(parts[name] for name in told) == parts["peak_bytes"]
    assert all(parts[name] > 0 for name in told)
    assert {name: parts[name] for name in same} == {name: real[f"memory.{name}"] for name in same}
    assert parts["scratch_bytes"] == real["memory.workspace_bytes"]
    assert "fake tensors" in parts["method"]
    assert notes == []


def test_parts_by_hand() -> None:
    """y = exp(W x): saved are y and nothing else; at the peak live y, the gradient of ones, its product, and dW."""

    def step(layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x).exp()

    with fake_tensors():
        found = predict(subject_of(step, (100, 50), parts=[lambda: nn.Linear(50, 60, bias=False)], where="cpu",
                                   mode="fwd_bwd"))  # fmt: skip
    assert (found.weights, found.inputs, found.saved) == (3000 * FLOAT, 5000 * FLOAT, 6000 * FLOAT)
    # The gradient of ones lives until the end, and grad * y while dx (100 x 50) and dW (60 x 50) are made.
    assert found.temporary == (6000 + 6000 + 5000 + 3000) * FLOAT
    assert found.scratch == 0
    assert found.peak == (3000 + 5000 + 6000 + 20000) * FLOAT


def wide(where: str) -> Subject:
    """One row through a wide layer, in mode train: what the optimizer does is more than what the step does."""
    subject = subject_of(lambda layer, x: layer(x), (1, 300), parts=[lambda: nn.Linear(300, 500, bias=False)],
                         where="cpu")  # fmt: skip
    subject.case, subject.where = subject.case.with_(mode="train"), where
    return with_optimizer(subject)


def test_the_optimizers_step_by_hand() -> None:
    """AdamW keeps two moments and a count; while it works live the gradient, the root of the second moment, and what
    the root is divided into."""
    with fake_tensors():
        found = predict(wide("fake"))
    weights, row, column = 300 * 500 * FLOAT, 300 * FLOAT, 500 * FLOAT
    assert (found.weights, found.inputs, found.optimizer) == (weights, row, 2 * weights + FLOAT)
    assert found.saved == column
    assert found.temporary == 3 * weights
    assert found.peak == measured(wide("cpu"))


def test_the_marks_that_an_optimizer_sets_for_profilers_take_nothing() -> None:
    with fake_tensors():
        assert predict(wide("fake")).doubts == ()


def test_what_another_engine_takes_is_not_predicted_and_said() -> None:
    notes = {}
    for engine in ("eager", "compile"):
        with fake_tensors():
            subject = subject_of(lambda x: x + 1, (10,), where="cpu")
            subject.case = subject.case.with_(engine=engine)
            _, found = values(predict_memory(subject, Options()))
        notes[engine] = [note.text for note in found if note.kind == "assumed"]
    assert notes["eager"] == []
    assert len(notes["compile"]) == 1 and "--engine compile" in notes["compile"][0]


def test_a_forward_alone_says_that_it_saves_nothing() -> None:
    with fake_tensors():
        found, notes = values(predict_memory(subject_of(lambda x: x + 1, (10,), where="cpu"), Options()))
    assert "static.predicted_saved_bytes" not in found
    assert [note.text.split(":")[0] for note in notes] == ["static.predicted_saved_bytes"]


@pytest.mark.parametrize("mode", ["fwd", "fwd_bwd"])
@pytest.mark.parametrize("name", ["scaled_dot_product", "sdpa", "self_attn", "cbam", "efficient_attn"])
def test_a_million_tokens_are_predicted_without_their_memory(name: str, mode: str) -> None:
    case = resolve(Case(name, height=1024, width=1024, tokens=2**20, dim=64, mode=mode))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with fake_tensors():
        found = predict(build(case, "fake"))
    seconds = time.process_time() - begin
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert not found.doubts
    assert grown < 150 * 1024, "KiB taken for a prediction"
    assert seconds < 5, "a case should take half a second on a quiet machine"
    tokens = 2**20
    linear = name in ("sdpa", "cbam", "efficient_attn")
    assert found.peak < 64 * 64 * tokens * FLOAT if linear else found.peak > tokens**2 * FLOAT


def test_what_needs_values_is_not_measured_and_not_guessed() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with fake_tensors(), pytest.raises(NEEDS_VALUES):
        predict(subject_of(lambda layer, x: layer(x), (10,), parts=[Looks], where="cpu"))


def test_the_prediction_leaves_the_random_state_alone() -> None:
    before = []

    def drops(x: Tensor) -> Tensor:
        before.append(torch.random.default_generator.get_state())
        return F.dropout(x, 0.3)

    with fake_tensors():
        predict(subject_of(drops, (77, 5), where="cpu", mode="fwd_bwd"))
    assert torch.equal(torch.random.default_generator.get_state(), before[0])
