"""What a measured peak is made of: the arithmetic, modes and engines, the process's peak, a canned CUDA allocator."""

import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_cases import MODULE_MODES, module_subject
from metrics_subjects import subject_of, values
from torch import Tensor, nn

from attnbench.metrics import memory
from attnbench.metrics.footprint import measured, on_cpu, resident
from attnbench.metrics.footprint.measured import NOTHING_KEPT, Measured, followed_live
from attnbench.metrics.footprint.on_cuda import Peaks, measured_on_cuda, of_process
from attnbench.metrics.footprint.parts import Counted, Figure, Held, Live, Parts, Unknown, known, parted
from attnbench.metrics.footprint.resident import resident_peak
from attnbench.metrics.memory import measure_memory
from attnbench.metrics.metric import Options
from attnbench.metrics.subject import Subject

FLOAT, MIB = 4, 2**20
NO = Unknown("not here")

# 100 of weights, 20 of inputs and 30 of state; the step saves 200, and 70 more live at its peak. On the device a
# library keeps 1000, a kernel takes 5, and the allocator rounds all of it up by 9.
HELD = Held(100, 20, 30)
COUNTED = Counted(peak=1434, asked=1425, before=1150, between=1350, library=1000, live=Live(420, 350))


def total(held: Held, parts: Parts) -> int:
    return held.total + sum(map(known, (parts.saved, parts.temporary, parts.workspace, parts.rounding)))


def test_a_peak_is_told_apart() -> None:
    parts = parted(HELD, COUNTED)
    assert parts == Parts(saved=200, temporary=70, workspace=1005, rounding=9)
    assert total(HELD, parts) == COUNTED.peak


def test_without_a_backward_nothing_is_saved() -> None:
    counted = replace(COUNTED, between=NO, live=Live(420, NO))
    parts = parted(HELD, counted)
    assert parts == Parts(saved=NO, temporary=270, workspace=1005, rounding=9)
    assert total(HELD, parts) == counted.peak


def test_an_allocator_that_does_not_tell_what_it_rounds_is_believed() -> None:
    parts = parted(HELD, replace(COUNTED, asked=NO, peak=1425))
    assert parts == Parts(saved=200, temporary=70, workspace=1005, rounding=NO)


def test_what_autograd_saves_of_its_own_is_saved_and_no_scratch() -> None:
    """A number among the saved tensors, which no operator made: the allocator sees it, who follows tensors does not."""
    parts = parted(HELD, replace(COUNTED, peak=1442, asked=1433, between=1358))
    assert parts == Parts(saved=208, temporary=70, workspace=1005, rounding=9)


def test_what_else_was_alive_before_the_step_is_in_the_sum() -> None:
    counted = replace(COUNTED, peak=1434 + 50, asked=1425 + 50, before=1150 + 50, between=1350 + 50)
    parts = parted(HELD, counted)
    assert (parts.temporary, total(HELD, parts)) == (120, counted.peak)


@pytest.mark.parametrize("live", [NO, Live(440, 350)])
def test_where_tensors_were_not_followed_well_nothing_is_told_apart(live: Live | Unknown) -> None:
    parts = parted(HELD, replace(COUNTED, live=live))
    assert isinstance(parts.temporary, Unknown) and parts.temporary == parts.workspace
    assert (parts.saved, parts.rounding) == (200, 9)
    assert ("more at once" in parts.temporary.why) == (live is not NO)


def test_a_few_bytes_too_many_are_no_scratch_at_all() -> None:
    parts = parted(HELD, replace(COUNTED, live=Live(430, 350)))
    assert (parts.workspace, parts.temporary) == (1000, 75)
    assert total(HELD, parts) == COUNTED.peak


def figures(subject: Subject) -> dict[str, Any]:
    found, _ = values(measure_memory(subject, Options()))
    return {name.removeprefix("memory.").removesuffix("_bytes"): value for name, value in found.items()}


PARTS = ("weights", "inputs", "optimizer", "saved", "temporary", "workspace", "rounding")


@pytest.mark.parametrize(("name", "mode"), MODULE_MODES)
def test_on_the_cpu_the_parts_of_every_module_add_up_in_every_mode(name: str, mode: str) -> None:
    subject = module_subject(name, 12, mode, "fp32", "cpu")
    found = figures(subject)
    assert sum(found.get(part, 0) for part in PARTS) == found["peak"]
    assert all(found[part] >= 0 for part in PARTS if part in found)
    assert ("saved" in found, "optimizer" in found) == (mode != "fwd", mode == "train")
    assert found["activations"] == found["peak"] - sum(found.get(part, 0) for part in PARTS[:3])
    spare = found["peak"] - found["live_peak"] - found["workspace"]
    assert 0 <= spare <= 48, "what is neither scratch nor a tensor is a number that autograd saved"
    assert found["process_peak"] > found["peak"]
    assert not any(tensor.grad is not None for tensor in subject.differentiated)


def test_scratch_by_hand() -> None:
    """A sum of truth values first makes them numbers of eight bytes."""
    shape = (300, 700)
    subject = subject_of(lambda x: (x > 0).sum(1), shape, where="cpu")
    found = figures(subject)
    truths, sums = 300 * 700, 300 * 8
    assert found["live_peak"] == truths * FLOAT + truths + sums
    assert (found["workspace"], found["temporary"]) == (truths * 8, truths + sums)


def test_a_backward_alone_is_that_of_the_whole_step_and_says_so() -> None:
    whole, alone = (figures(module_subject("se", 12, mode, "fp32", "cpu")) for mode in ("fwd_bwd", "bwd"))
    same = {*PARTS, "peak", "live_peak", "activations"}
    assert {name: whole.get(name) for name in same} == {name: alone.get(name) for name in same}
    assert "backward cannot be run alone" in alone["method"] and "alone" not in whole["method"]


def test_the_method_names_all_three_peaks() -> None:
    method = figures(subject_of(lambda x: x + 1, (10,), where="cpu"))["method"]
    assert all(word in method for word in ("allocator's own events", "live peak", "process's peak"))


def test_an_optimizer_without_state_holds_nothing_and_that_is_a_figure() -> None:
    subject = subject_of(lambda layer, x: layer(x), (2, 30), parts=[lambda: nn.Linear(30, 50)], where="cpu")
    subject.case = subject.case.with_(mode="train")
    subject.optimizer = torch.optim.SGD(subject.module.parameters(), lr=0.0)
    assert figures(subject)["optimizer"] == 0


def test_compiled_code_is_not_followed_and_keeps_its_peak() -> None:
    subject = subject_of(lambda x: (x.exp() * 2).sum(), (1000,), where="cpu", mode="fwd_bwd")
    eager, calls = figures(subject), []

    def compiled(x: Tensor) -> Any:
        calls.append(x)
        return subject.module(x)

    subject.compiled = compiled
    found = figures(subject)
    assert len(calls) == 2, "one step for the process's peak and one counted"
    assert not {"live_peak", "workspace", "temporary"} & set(found)
    assert {name: found[name] for name in ("peak", "saved")} == {name: eager[name] for name in ("peak", "saved")}
    reasons = [note.text for note in values(measure_memory(subject, Options()))[1]]
    assert any("memory.live_peak_bytes" in text and "compiled" in text for text in reasons)


class Refuses(nn.Module):
    """Stands for foreign code that cannot run under a dispatch mode."""

    def forward(self, x: Tensor) -> Tensor:
        if torch._C._len_torch_dispatch_stack() > 0:
            raise RuntimeError("not under a mode")
        return x.exp()


def test_a_module_that_cannot_be_followed_keeps_its_peak() -> None:
    subject = subject_of(lambda layer, x: layer(x), (1000,), parts=[Refuses], where="cpu", mode="fwd_bwd")
    found = followed_live(subject)
    assert isinstance(found, Unknown) and "not under a mode" in found.why
    assert figures(subject)["peak"] == (1000 + 1000 + 2 * 1000) * FLOAT


def test_tensors_that_seem_to_hold_more_than_there_was_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cpu, "followed_live", lambda subject: Live(10 * MIB, NO))
    readings, notes = values(measure_memory(subject_of(lambda x: x + 1, (1000,), where="cpu"), Options()))
    assert readings["memory.live_peak_bytes"] == 10 * MIB
    assert not {"memory.temporary_bytes", "memory.workspace_bytes"} & set(readings)
    assert any(note.text.startswith("memory.temporary_bytes, memory.workspace_bytes: its") for note in notes)


# The process's own peak.


def linux(folder: Path, status: str) -> Path:
    (folder / "clear_refs").write_text("")
    (folder / "status").write_text(status)
    return folder


def test_the_processs_peak_is_reset_before_the_step_and_read_after_it(tmp_path: Path) -> None:
    proc = linux(tmp_path, "Name:\tpython\nVmHWM:\t  999 kB\n")

    def step() -> None:
        assert (proc / "clear_refs").read_text() == "5"
        (proc / "status").write_text("Name:\tpython\nVmPeak:\t 77 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1000 kB\n")

    found = resident_peak(step, proc)
    assert found.peak == 1234 * 1024
    assert "reset" in found.method and "VmHWM" in found.method


@pytest.mark.parametrize("status", ["", "VmHWM:\n", "VmHWM:\tmany kB\n"])
def test_a_status_that_cannot_be_read_leaves_the_peak_of_the_whole_life(tmp_path: Path, status: str) -> None:
    found = resident_peak(lambda: None, linux(tmp_path, status))
    assert isinstance(found.peak, int) and found.peak > MIB
    assert "cannot be reset" in found.method


def test_where_nothing_can_be_reset_it_is_the_peak_of_the_whole_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    found = resident_peak(lambda: ran.append(1), tmp_path / "nowhere")
    assert ran == [1] and "cannot be reset" in found.method
    monkeypatch.setattr(resident, "_of_whole_life", lambda: None)
    assert isinstance(resident_peak(lambda: None, tmp_path / "nowhere").peak, Unknown)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_of_the_whole_life_is_in_bytes_everywhere(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"ru_maxrss": 5000})
    monkeypatch.setattr("resource.getrusage", lambda who: usage)
    monkeypatch.setattr(resident.sys, "platform", platform)
    assert resident._of_whole_life() == 5000 * unit


@pytest.mark.skipif(not resident._reset(Path("/proc/self")), reason="this system cannot reset a process's peak")
def test_a_step_is_not_charged_with_what_came_before_it() -> None:
    def takes(size: int) -> Callable[[], None]:
        return lambda: torch.ones(size, dtype=torch.uint8).sum().item() and None

    small, large, again = (resident_peak(takes(size)).peak for size in (MIB, 300 * MIB, MIB))
    assert isinstance(small, int) and isinstance(large, int) and isinstance(again, int)
    assert large - small > 290 * MIB
    assert large - again > 290 * MIB


# A CUDA device that is not here: its allocator canned, its tensors on the CPU.


class Canned:
    """A caching allocator that rounds to 512 bytes, and a library that keeps a workspace once it has taken one."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.kept: list[int] = []
        self.did: list[str] = []
        self.reset()

    def take(self, size: int) -> None:
        self.asked.append(size)
        self._look()

    def give(self, size: int) -> None:
        self.asked.remove(size)

    def product(self, workspace: int) -> None:
        if not self.kept:
            self.kept.append(workspace)
            self._look()

    def _look(self) -> None:
        blocks = [*self.asked, *self.kept]
        self._most_asked = max(self._most_asked, sum(blocks))
        self._most_given = max(self._most_given, sum(-(-each // 512) * 512 for each in blocks))

    def now(self) -> int:
        return sum(self.asked) + sum(self.kept)

    def reset(self) -> None:
        self.did.append("reset")
        self._most_asked = self._most_given = 0
        self._look()

    def peaks(self) -> Peaks:
        return Peaks(self._most_given, self._most_asked, self._most_given + MIB)

    def drop_workspaces(self) -> None:
        self.did.append("drop")
        self.kept.clear()


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    """The CPU's tensors stand for the device's."""
    monkeypatch.setattr(measured, "_kind", lambda subject: "cpu")
    yield Canned()


def canned_step(allocator: Canned, scratch: int) -> Callable[[Tensor], Tensor]:
    """x (1000 numbers) -> y, by a product whose kernel takes `scratch` and gives it back; y is given back with y."""

    def step(x: Tensor) -> Tensor:
        allocator.take(1000 * FLOAT)
        allocator.product(700)
        allocator.take(scratch)
        y = x + 1
        allocator.give(scratch)
        weakref.finalize(y.untyped_storage(), allocator.give, 1000 * FLOAT)
        return y

    return step


def counted_on_cuda(allocator: Canned, *, process: Figure = NO) -> Measured:
    subject = subject_of(canned_step(allocator, 300), (1000,), where="cpu")
    subject.case = subject.case.with_(device="cuda")
    allocator.take(1000 * FLOAT)  # x itself
    return measured_on_cuda(subject, allocator, lambda device: process)


def test_on_cuda_each_part_is_found(canned: Canned) -> None:
    found = counted_on_cuda(canned, process=123)
    assert isinstance(found.counted, Counted)
    parts = parted(found.held, found.counted)
    assert found.held.total == 4000
    assert parts.temporary == 4000
    assert parts.workspace == 700 + 300
    assert found.counted.peak == 4096 + 4096 + 1024 + 512
    assert parts.rounding == 96 + 96 + 324 + 212
    assert total(found.held, parts) == found.counted.peak
    assert (found.reserved, found.process, found.notes) == (found.counted.peak + MIB, 123, ())


def test_on_cuda_the_workspace_is_there_before_the_step_that_counts(canned: Canned) -> None:
    """Then it is there at the peak too, even where the first product comes after the peak."""
    found = counted_on_cuda(canned)
    assert isinstance(found.counted, Counted)
    assert found.counted.before == 4000 + 700
    assert canned.did == ["reset", "reset", "drop"]


def test_on_cuda_what_nobody_accounts_for_is_said(canned: Canned) -> None:
    canned.take(3 * MIB)
    found = counted_on_cuda(canned)
    assert [note.kind for note in found.notes] == ["held"]
    assert "3.0 MiB" in found.notes[0].text


def test_an_allocator_that_does_not_tell_what_was_asked_gives_no_rounding(
    canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = canned.peaks
    monkeypatch.setattr(canned, "peaks", lambda: replace(told(), asked=NO))
    found = counted_on_cuda(canned)
    assert isinstance(found.counted, Counted)
    parts = parted(found.held, found.counted)
    assert parts == Parts(NOTHING_KEPT, NO, NO, NO)


class Recorded:
    output = torch.zeros(3)

    def replay(self) -> None:
        pass


def test_what_was_recorded_is_left_where_it_is_and_has_no_peak(
    canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(canned_step(canned, 300), (1000,), where="cpu")
    subject.case, subject.replays = subject.case.with_(device="cuda"), {"forward": Recorded()}
    monkeypatch.setattr(memory, "measured_on_cuda", lambda each: measured_on_cuda(each, canned, lambda device: 77))
    readings, notes = values(measure_memory(subject, Options()))
    assert set(readings) == {f"memory.{name}" for name in (
        "weights_bytes", "inputs_bytes", "reserved_bytes", "process_peak_bytes", "method")}  # fmt: skip
    assert readings["memory.process_peak_bytes"] == 77
    assert any("memory.peak_bytes" in note.text and "reserved_bytes" in note.text for note in notes)
    assert "drop" not in canned.did, "the recording writes into the workspace that it saw"


class FakeGpu:
    """NVML's view of a GPU, by process."""

    def __init__(self, held: dict[int, int]) -> None:
        self.own_bytes = held.get


@pytest.mark.parametrize(
    ("gpu", "found"),
    [(FakeGpu({os.getpid(): 5 * MIB, 1: MIB}), 5 * MIB), (FakeGpu({1: MIB}), Unknown), (None, Unknown)],
)
def test_nvml_tells_what_this_process_holds_or_nothing(
    gpu: FakeGpu | None, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("attnbench.metrics.footprint.on_cuda.gpu_of", lambda device: asked.append(device) or gpu)
    seen = of_process("cuda:1")
    assert seen == found or (found is Unknown and isinstance(seen, Unknown) and "NVML" in seen.why)
    assert asked == ["cuda:1"]
