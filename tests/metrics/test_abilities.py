"""What can be measured: each trial on a machine that can, on one that cannot, and on one that can only in part."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import FakeCuda
from fake_nvml import READINGS, UUID, FakeGpu, FakeNvml, install, process

from attnbench.core.case import Case
from attnbench.core.units import MIB
from attnbench.metrics import abilities as module
from attnbench.metrics.abilities import ABILITIES, Ability, abilities
from attnbench.metrics.conditions import Blind, CpuWatch, GpuWatch
from attnbench.metrics.footprint.parts import Unknown
from attnbench.metrics.footprint.resident import Resident, resident_peak
from attnbench.metrics.kernels import Activity, kernel_findings
from attnbench.metrics.nvml import Gpu
from attnbench.metrics.subject import Subject
from attnbench.metrics.timing.timers import EventTimer
from attnbench.metrics.trials import anywhere, on_cpu, on_cuda
from attnbench.metrics.trials.answer import no, yes

needs_gpu = pytest.mark.gpu
skip_without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


# The list


def test_every_ability_on_this_cpu_is_tried_without_a_fault() -> None:
    found = list(abilities("cpu", quick=True))
    names = [ability.name for ability in ABILITIES]
    assert [name for name, answer in found if answer is None] == names
    assert [name for name, answer in found if answer is not None] == names
    answers = {name: answer for name, answer in found if answer is not None}
    assert not [name for name, answer in answers.items() if "trying it fails" in answer.how]
    assert {name for name, answer in answers.items() if answer.how.startswith("needs a GPU")} == {
        "cold latency", "launch-bound", "kernel list", "engine cudagraph"}  # fmt: skip
    assert answers["latency"].can == answers["peak memory"].can == "yes"


def test_what_is_done_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(module, "ABILITIES", [Ability(name, _trial(name, tried), _trial("", [])) for name in "abc"])
    assert [name for name, _ in abilities("cpu", ["a", "b"])] == ["c", "c"]
    assert tried == ["c"]


def _trial(name: str, tried: list[str]) -> Callable[[str], Any]:
    def trial(device: str) -> Any:
        tried.append(name)
        return yes(f"{name} on {device}")

    return trial


def test_whatever_a_trial_raises_is_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> Any:
        raise RuntimeError("no such thing\nand much more")

    monkeypatch.setattr(module, "ABILITIES", (Ability("x", broken, broken),))
    assert list(abilities("cpu")) == [("x", None), ("x", no("trying it fails: RuntimeError: no such thing"))]


def test_a_gpu_is_never_tried_quickly() -> None:
    """Only the CPU's compiler takes long; what stands in for it says nothing of a GPU's."""
    each = Ability("x", _trial("cpu", []), _trial("cuda", []), _trial("quick", []))
    asked = [each.trial(device, quick=quick) for device in ("cpu", "cuda:1") for quick in (False, True)]
    assert [trial("d").how for trial in asked if callable(trial)] == [
        "cpu on d", "quick on d", "cuda on d", "cuda on d"]  # fmt: skip


# The host's clock


def ticking(step_ns: int, reads_a_step: int = 1) -> Callable[[], int]:
    """A clock that moves by so much at every so-and-so-many-th read."""
    count = 0

    def clock_ns() -> int:
        nonlocal count
        count += 1
        return count // reads_a_step * step_ns

    return clock_ns


def test_a_fine_clock_is_told_with_what_a_read_costs() -> None:
    answer = on_cpu.host_clock("cpu", ticking(50))
    assert (answer.can, answer.figures) == ("yes", {"step_ns": 50, "read_ns": 50.0})
    assert "it moves by 50 ns or less, and a read takes 50 ns or less" in answer.how


def test_the_least_step_counts_and_not_the_mean() -> None:
    assert on_cpu.host_clock("cpu", ticking(100, 4)).figures["step_ns"] == 100
    assert on_cpu.host_clock("cpu", ticking(100, 4)).figures["read_ns"] == pytest.approx(25, rel=0.01)


def test_a_clock_of_15_ms_is_coarse_and_tells_no_cost() -> None:
    answer = on_cpu.host_clock("cpu", ticking(15_000_000, 2500))
    assert (answer.can, answer.figures) == ("partly", {"step_ns": 15_000_000})
    assert "15,000,000 ns" in answer.how
    assert "--max-time" in answer.advice


def test_a_clock_that_stands_still_measures_nothing() -> None:
    assert on_cpu.host_clock("cpu", lambda: 7) == no("the host's clock was not seen to move")


# The load of others, memory and compilers of the host


@pytest.mark.parametrize(
    ("cores", "own", "can", "words"),
    [
        (1.26, 8, "yes", "others keep 1.3 of 8 CPUs busy now"),
        (1.26, 2, "partly", "this process may use 2 of them"),
        (None, 8, "no", "/proc/stat"),
    ],
)
def test_the_load_of_others(
    monkeypatch: pytest.MonkeyPatch, cores: float | None, own: int, can: str, words: str
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(on_cpu, "OtherLoad", lambda: SimpleNamespace(cores=lambda: cores if waited else 99.0))
    monkeypatch.setattr(on_cpu, "own_cpus", lambda: tuple(range(own)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    answer = on_cpu.host_load("cpu", waited.append)
    assert answer.can == can
    assert words in answer.how
    assert answer.figures == ({} if cores is None else {"other_cores": cores})


def test_an_allocator_that_tells_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def silent(account: Any) -> Iterator[Any]:
        yield account

    assert on_cpu.allocator_events("cpu").can == "yes"
    monkeypatch.setattr(on_cpu, "followed", silent)
    assert on_cpu.allocator_events("cpu").can == "no"


def test_the_process_peak_with_and_without_a_reset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "clear_refs").write_text("")
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  1024 kB\n")
    none = tmp_path / "none"
    for proc, can, words in ((tmp_path, "yes", "reset before a step"), (none, "partly", "cannot be reset")):
        monkeypatch.setattr(on_cpu, "resident_peak", lambda step, proc=proc: resident_peak(step, proc))
        answer = on_cpu.resident("cpu")
        assert answer.can == can
        assert words in answer.how
    monkeypatch.setattr(on_cpu, "resident_peak", lambda step: Resident(Unknown("not told"), "none"))
    assert on_cpu.resident("cpu") == no("not told")


def compiler_that(tmp_path: Path, script: str) -> str:
    path = tmp_path / "cxx"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="the compiler is a shell script")
def test_a_compiler_is_run_and_not_only_found(tmp_path: Path) -> None:
    assert on_cpu.builds(compiler_that(tmp_path, 'grep -q "return 1" "$3" && touch "$5"')).can == "yes"
    broken = on_cpu.builds(compiler_that(tmp_path, "echo 'cannot find crti.o' >&2; echo more >&2; exit 1"))
    assert broken.can == "no"
    assert broken.how.endswith("does not compile: cannot find crti.o")


def test_a_compiler_that_was_switched_off_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off torch.compile gives the function back: its result is right, and nothing was compiled."""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    answer = anywhere.compiled("cpu")
    assert answer.can == "no"
    assert "switched off" in answer.how


def test_without_a_compiler_there_is_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    class WrappedError(Exception):
        inner_exception = FileNotFoundError("no g++")

    def failing(function: Any) -> Any:
        raise WrappedError("backend='inductor' raised")

    monkeypatch.setattr(torch, "compile", failing)
    answer = anywhere.compiled("cpu")
    assert (answer.can, answer.how) == ("no", "torch.compile cannot be used here: FileNotFoundError: no g++")
    assert "CXX" in answer.advice


# Clocks and energy


def test_what_a_watch_over_a_gpu_sees() -> None:
    gpu = FakeGpu()
    eyes = GpuWatch(Gpu(FakeNvml(gpu), gpu, gpu))
    eyes.look()
    answer = anywhere.seen(eyes, "NVML")
    assert answer == yes("NVML: 1755 of at most 1980 MHz, 54 °C, 612 W, held down by nothing now")


def test_a_gpu_that_does_not_tell_why_it_is_slow() -> None:
    gpu = FakeGpu(readings={**READINGS, "nvmlDeviceGetCurrentClocksEventReasons": RuntimeError("not supported"),
                            "nvmlDeviceGetPowerUsage": RuntimeError("not supported")})  # fmt: skip
    eyes = GpuWatch(Gpu(FakeNvml(gpu), gpu, gpu))
    eyes.look()
    answer = anywhere.seen(eyes, "NVML")
    assert answer.can == "partly"
    assert answer.how.startswith("NVML: 1755 of at most 1980 MHz, 54 °C; ")
    assert "what holds this GPU's clock down" in answer.how


def test_throttling_now_is_said() -> None:
    gpu = FakeGpu(readings={**READINGS, "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x20})
    eyes = GpuWatch(Gpu(FakeNvml(gpu), gpu, gpu))
    eyes.look()
    assert "held down by sw_power_cap, sw_thermal now" in anywhere.seen(eyes, "NVML").how


def test_what_a_watch_over_a_cpu_sees(tmp_path: Path) -> None:
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text("3400123\n")
    (folder / "cpuinfo_max_freq").write_text("3700000\n")
    eyes = CpuWatch(tmp_path, [0], lambda: 0)
    eyes.look()
    answer = anywhere.seen(eyes, "/sys")
    assert answer.can == "partly"
    assert answer.how == "/sys: 3400 of at most 3700 MHz; this system does not tell whether heat holds its CPU down"


def test_a_blind_watch_is_no_watch() -> None:
    assert anywhere.seen(Blind("NVML cannot be read"), "NVML") == no("NVML cannot be read")


class Count:
    """An energy counter that gives these readings, and time that goes by only by waiting."""

    how, period_s = "a counter", 0.1

    def __init__(self, *readings: float | None) -> None:
        self._readings = [*readings]
        self.now = 0.0

    def read(self) -> float | None:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("readings", "can", "words"),
    [
        ((5.0, 5.0, 5.0, 5.1), "yes", "was seen to move"),
        ((5.0,), "no", "was not seen to move in 0.5 s"),
        ((5.0, None), "no", "was not seen to move"),
        ((None,), "no", "cannot be read"),
    ],
)
def test_an_energy_counter_has_to_move(readings: tuple[float | None, ...], can: str, words: str) -> None:
    counter = Count(*readings)
    answer = anywhere.moved(counter, counter.clock, counter.wait)
    assert answer.can == can
    assert words in answer.how
    assert counter.now <= 0.51


# The roof


def test_a_roof_is_kept_where_it_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    answer = anywhere.roof("cpu")
    assert answer.can == "yes"
    assert answer.how.endswith(f"kept in {tmp_path / 'kept' / 'attnbench'}")
    assert answer.figures["dtypes"][0] == "fp32"
    assert "tf32" not in answer.figures["dtypes"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    answer = anywhere.roof("cpu")
    assert answer.can == "partly"
    assert "XDG_CACHE_HOME" in answer.advice


def test_a_dtype_that_does_not_multiply_has_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anywhere, "_multiplies", lambda device, dtype: dtype == "bf16")
    assert anywhere.roof("cpu").figures["dtypes"] == ["bf16"]
    monkeypatch.setattr(anywhere, "_multiplies", lambda device, dtype: False)
    assert anywhere.roof("cpu").can == "no"


# A GPU that is simulated


@pytest.fixture
def device() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def timer(device: FakeCuda) -> EventTimer:
    return device.timer()


def test_host_time_beside_device_time(device: FakeCuda, timer: EventTimer) -> None:
    answer = on_cuda.full_queue("cuda", timer, device.steps(0.004, 0.0015))
    assert answer.can == "yes"
    assert answer.figures["host_us"] == pytest.approx(4.0, rel=0.01)
    assert answer.figures["device_us"] == pytest.approx(1.5, rel=0.01)


def test_a_queue_that_cannot_be_kept_full(device: FakeCuda, timer: EventTimer) -> None:
    def waiting(steps: int) -> None:
        for _ in range(steps):
            device.launch(0.004, 0.0015)
            device.synchronize()

    assert on_cuda.full_queue("cuda", timer, waiting).can == "no"


def test_the_flush_needs_the_size_of_the_cache(
    device: FakeCuda, timer: EventTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([50 * MIB, 0])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=next(sizes)))
    flushed = on_cuda.l2_flush("cuda", timer, device.steps(0.004, 0.0015, 0.01))
    assert flushed == yes("50.0 MiB of L2 cache are overwritten before each step", l2_bytes=50 * MIB)
    assert on_cuda.l2_flush("cuda", timer, device.steps(0.004, 0.0015)).can == "no"


def test_events_are_read(device: FakeCuda) -> None:
    assert on_cuda.device_events("cuda", device).figures == {"nothing_us": 0.0}


def activities(*names: str) -> Callable[..., list[Activity]]:
    """A profiler that saw these kernels in each step, between the marks."""

    def profiler(subject: Subject, parts: Any, steps: int) -> list[Activity]:
        seen = ["spin_kernel", *names] * steps + ["spin_kernel"] if names else []
        return [Activity(name, float(start), 0.5) for start, name in enumerate(seen)]

    return profiler


def test_the_kernels_of_a_step_have_to_be_seen() -> None:
    """What the instrument itself says of canned activities, with and without any."""
    relu = Subject(Case("relu"), torch.nn.ReLU(), (torch.ones(4),), "cpu")
    seen = on_cuda.seen_kernels(kernel_findings(relu, activities("vectorized_elementwise_kernel")))
    assert seen == yes("torch's profiler (CUPTI) saw 1 kernel of a ReLU")
    nothing = on_cuda.seen_kernels(kernel_findings(relu, activities()))
    assert nothing.can == "no"
    assert nothing.how.startswith("the profiler saw no kernel of steps that ran: CUPTI is missing")


@pytest.mark.parametrize(
    ("listed", "can", "words"),
    [
        ([process(7, MIB)], "yes", "NVML: no other processes on it now"),
        ([process(7, MIB), process(8, 3 * MIB)], "yes", "1 other process on it now with 3.0 MiB"),
        ([process(7, MIB), process(8, None), process(9, MIB)], "yes", "2 other processes on it now"),
        ([process(900, MIB), process(901, MIB)], "partly", "1 other process on it now; it does not know this process"),
        (RuntimeError("not supported"), "no", "does not list"),
    ],
)
def test_who_else_is_on_the_gpu(listed: Any, can: str, words: str) -> None:
    readings = {**READINGS, "nvmlDeviceGetComputeRunningProcesses": listed,
                "nvmlDeviceGetGraphicsRunningProcesses": listed}  # fmt: skip
    gpu = FakeGpu(readings=readings)
    answer = on_cuda._listed(Gpu(FakeNvml(gpu), gpu, gpu), 7)
    assert answer.can == can
    assert words in answer.how


@pytest.mark.parametrize(
    ("rise", "backend", "can"),
    [(MIB, "native", "yes"), (2 * MIB, "cudaMallocAsync", "partly"), (0, "native", "no")],
)
def test_the_allocators_peak_has_to_rise(monkeypatch: pytest.MonkeyPatch, rise: int, backend: str, can: str) -> None:
    canned = {"memory_allocated": 5 * MIB, "reset_peak_memory_stats": None, "max_memory_allocated": 5 * MIB + rise,
              "get_allocator_backend": backend}  # fmt: skip
    for name, value in canned.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert on_cuda.caching_allocator("cpu").can == can


def test_what_the_process_holds_or_why_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, answer in ((Unknown("a slice"), no("a slice")), (MIB, "yes")):
        monkeypatch.setattr(on_cuda, "of_process", lambda device, found=found: found)
        assert on_cuda.gpu_process("cpu") == answer or on_cuda.gpu_process("cpu").can == answer


def test_a_replay_has_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    for after, can in ((1.0, "yes"), (0.0, "no")):
        monkeypatch.setattr(on_cuda, "_replayed", lambda number, after=after: after)
        assert on_cuda.recorded_graph("cpu").can == can


def test_without_nvml_nobody_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(init_error=RuntimeError("no driver")), SimpleNamespace(uuid=UUID))
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    assert on_cuda.gpu_load("cuda").can == "no"
    assert anywhere.energy("cuda").can == "no"
    assert anywhere.conditions("cuda").can == "no"


@needs_gpu
@skip_without_gpu
def test_every_ability_on_this_gpu_is_tried_without_a_fault() -> None:
    answers = {name: answer for name, answer in abilities("cuda") if answer is not None}
    assert not [(name, answer) for name, answer in answers.items() if "trying it fails" in answer.how]
    assert {answers[name].can for name in ("latency", "cold latency", "launch-bound", "engine cudagraph")} == {"yes"}
    assert answers["kernel list"].can == "yes" or "from CUDA 12.6 on" in answers["kernel list"].how
