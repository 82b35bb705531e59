"""The watch over clocks, power, heat and neighbours, with a clock that moves when told and canned system files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_nvml import READINGS, FakeGpu, FakeNvml, install, process
from metrics_subjects import values

from attnbench.core.record import Note, Reading
from attnbench.metrics import conditions
from attnbench.metrics.conditions import CpuWatch, Paced, watch
from attnbench.metrics.metric import Finding

GIB = 2**30


class Hands:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """Eyes that count how often they are looked through; each look lasts `cost` seconds."""

    def __init__(self, clock: Hands, cost: float = 0.0) -> None:
        self.looks, self._clock, self._cost = 0, clock, cost

    def look(self) -> tuple[str, ...]:
        self.looks += 1
        self._clock.now += self._cost
        return (f"look {self.looks}",)

    def findings(self) -> Iterator[Finding]:
        yield Reading("env.clocks", {"looks": self.looks})


def test_the_first_look_is_real_and_the_next_20_ms_later() -> None:
    clock = Hands()
    eyes = Counted(clock)
    paced = Paced(eyes, clock)
    for since, seen in ((0.0, 1), (0.005, 1), (0.019, 1), (0.021, 2), (0.03, 2), (0.0415, 3)):
        clock.now = 100 + since
        assert paced.look() == (f"look {seen}",)
    assert list(paced.findings()) == [Reading("env.clocks", {"looks": 3})]


@pytest.mark.parametrize(("cost", "most"), [(0.0001, 501), (0.005, 101), (0.05, 11)])
def test_looking_takes_a_twentieth_of_the_time_at_most(cost: float, most: int) -> None:
    clock = Hands()
    eyes = Counted(clock, cost)
    paced = Paced(eyes, clock)
    while clock.now < 110:
        paced.look()
        clock.now += 0.0005
    assert 0.9 * most < eyes.looks <= most
    assert eyes.looks * cost <= (clock.now - 100) / 20 + cost


def told(monkeypatch: pytest.MonkeyPatch, looks: int = 1, **changed: Any) -> tuple[dict[str, Any], list[Note]]:
    """What a watch over the canned GPU found in so many looks; readings that are None are not supported."""
    readings = {name: value for name, value in (READINGS | changed).items() if value is not None}
    install(monkeypatch, FakeNvml(FakeGpu(readings=readings)))
    clock = Hands()
    watching = watch("cuda", clock)
    for _ in range(looks):
        watching.look()
        clock.now += 1
    return values(watching.findings())


def kinds(notes: list[Note]) -> list[str]:
    return [note.kind for note in notes]


def test_a_healthy_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes = told(monkeypatch, looks=3)
    assert found["env.clocks"] == {
        "sm_mhz_median": 1755, "sm_mhz_min": 1755, "max_sm_mhz": 1980, "memory_mhz": 2619,
        "power_watts_median": 612.345, "temperature_c_max": 54, "looks": 3,
    }  # fmt: skip
    assert found["env.throttle_reasons"] == []
    assert notes == []


def test_medians_and_extremes_are_those_of_all_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([1980, 1900, 1755, 1200, 1890])
    powers = iter([100_000, 700_000, 690_000, 650_000, 710_000])
    heats = iter([40, 50, 83, 60, 55])
    found, _ = told(
        monkeypatch,
        looks=5,
        nvmlDeviceGetClockInfo=lambda: {1: next(clocks, 0), 2: 2619},
        nvmlDeviceGetPowerUsage=lambda: next(powers),
        nvmlDeviceGetTemperature=lambda: {0: next(heats)},
    )
    seen = found["env.clocks"]
    assert (seen["sm_mhz_median"], seen["sm_mhz_min"]) == (1890, 1200)
    assert (seen["power_watts_median"], seen["temperature_c_max"], seen["looks"]) == (690.0, 83, 5)


@pytest.mark.parametrize(
    ("masks", "reasons", "advice"),
    [
        ([0x1, 0x2, 0x3], [], ""),
        ([0x4, 0x0, 0x4], ["sw_power_cap"], "lock its clock lower"),
        ([0x0, 0x8 | 0x40, 0x4], ["hw_slowdown", "hw_thermal", "sw_power_cap"], "cool it"),
        ([0x20, 0x0, 0x0], ["sw_thermal"], "cool it"),
        ([0x80, 0x0, 0x0], ["hw_power_brake"], "lock its clock lower"),
        ([0x10, 0x100, 0x0], ["display_clocks", "sync_boost"], "nvidia-smi -q"),
    ],
)
def test_what_held_the_clock_down(
    monkeypatch: pytest.MonkeyPatch, masks: list[int], reasons: list[str], advice: str
) -> None:
    left = iter(masks)
    found, notes = told(monkeypatch, looks=3, nvmlDeviceGetCurrentClocksEventReasons=lambda: next(left))
    assert found["env.throttle_reasons"] == reasons
    assert kinds(notes) == (["throttled"] if reasons else [])
    assert all(advice in note.text and reasons[0] in note.text for note in notes)


def test_each_look_says_what_holds_the_clock_down_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = iter([0x4, 0x0, 0x40 | 0x20])
    gpu = FakeGpu(readings={**READINGS, "nvmlDeviceGetCurrentClocksEventReasons": lambda: next(masks)})
    install(monkeypatch, FakeNvml(gpu))
    clock = Hands()
    watching = watch("cuda", clock)
    seen = []
    for _ in range(3):
        seen.append(watching.look())
        clock.now += 1
    assert seen == [("sw_power_cap",), (), ("sw_thermal", "hw_thermal")]


def test_a_gpu_that_says_nothing_is_not_called_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes = told(monkeypatch, looks=2, **dict.fromkeys(READINGS))
    assert found == {}
    assert kinds(notes) == ["not_measured", "not_measured"]
    assert [note.text.partition(":")[0] for note in notes] == ["env.clocks", "env.throttle_reasons"]


def test_of_a_gpu_that_says_little_that_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dict.fromkeys(READINGS) | {"nvmlDeviceGetTemperature": {0: 44}}
    found, notes = told(monkeypatch, **changed)
    seen = {name: value for name, value in found["env.clocks"].items() if value is not None}
    assert seen == {"temperature_c_max": 44, "looks": 1}
    assert "env.throttle_reasons" not in found
    assert kinds(notes) == ["not_measured"]


def test_without_a_look_a_cpu_is_not_called_cool(machine: "Machine") -> None:
    machine.heated(0, 7)
    found, notes = values(machine.watch(0).findings())
    assert found == {}
    assert kinds(notes) == ["not_measured", "not_measured"]


def test_without_a_look_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes = told(monkeypatch, looks=0)
    assert found == {}
    assert [note.text for note in notes] == [
        "env.clocks: nothing was sampled", "env.throttle_reasons: nothing was sampled"
    ]  # fmt: skip


def test_without_nvml_the_watch_is_blind_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(init_error=OSError("no driver")))
    watching = watch("cuda")
    assert watching.look() == ()
    found, (note,) = values(watching.findings())
    assert found == {}
    assert note.kind == "not_measured"
    assert note.text.startswith("env.clocks, env.throttle_reasons: ")


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ([], None),
        ([(os.getpid(), 5 * GIB)], None),
        ([(9_000_001, 5 * GIB)], None),  # in a container this is us under the host's number
        ([(os.getpid(), GIB), (9_000_001, 3 * GIB // 2)], "another process is on this GPU with 1.5 GiB, "),
        ([(os.getpid(), GIB), (9_000_001, None)], "another process is on this GPU, "),
        ([(os.getpid(), GIB), (9_000_001, GIB), (9_000_002, GIB)], "2 other processes are on this GPU with 2.0 GiB, "),
        ([(9_000_001, GIB), (9_000_002, GIB)], "another process is on this GPU, "),
    ],
)
def test_others_on_the_gpu_are_said(
    monkeypatch: pytest.MonkeyPatch, compute: list[tuple[int, int | None]], said: str | None
) -> None:
    _, notes = told(monkeypatch, nvmlDeviceGetComputeRunningProcesses=[process(*each) for each in compute])
    assert kinds(notes) == ([] if said is None else ["busy"])
    assert all(said and note.text.startswith(said) for note in notes)


def test_who_was_there_at_the_beginning_only_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    own = process(os.getpid(), GIB)
    lists = iter([[own, process(9_000_001, GIB)], [own]])
    _, notes = told(monkeypatch, nvmlDeviceGetComputeRunningProcesses=lambda: next(lists))
    assert kinds(notes) == ["busy"]


class Machine:
    """A folder in the place of /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, cpu: int, name: str, value: object) -> None:
        path = self.root / f"devices/system/cpu/cpu{cpu}/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def heated(self, cpu: int, times: int, kind: str = "core") -> None:
        self.put(cpu, f"thermal_throttle/{kind}_throttle_count", times)

    def watch(self, *cpus: int, here: int | None = 0) -> CpuWatch:
        return CpuWatch(self.root, cpus, lambda: here)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_heat_is_a_count_that_rises(machine: Machine) -> None:
    machine.heated(0, 7)
    machine.heated(1, 40)
    watching = machine.watch(0, 1)
    assert watching.look() == ()
    machine.heated(1, 41)
    assert watching.look() == ("thermal",)
    assert watching.look() == ()
    found, notes = values(watching.findings())
    assert found["env.throttle_reasons"] == ["thermal"]
    assert "throttled" in kinds(notes)
    assert "cool it" in next(note.text for note in notes if note.kind == "throttled")


def test_the_package_has_a_count_of_its_own(machine: Machine) -> None:
    machine.heated(0, 7)
    machine.heated(0, 2, "package")
    watching = machine.watch(0)
    machine.heated(0, 3, "package")
    assert watching.look() == ("thermal",)


def test_the_heat_of_cpus_that_are_not_ours_is_not_ours(machine: Machine) -> None:
    machine.heated(0, 7)
    machine.heated(1, 7)
    watching = machine.watch(0)
    machine.heated(1, 9)
    assert watching.look() == ()
    found, _ = values(watching.findings())
    assert found["env.throttle_reasons"] == []


def test_a_cpu_without_counts_is_not_called_cool(machine: Machine) -> None:
    watching = machine.watch(0, 1)
    assert watching.look() == ()
    found, notes = values(watching.findings())
    assert found == {}
    assert kinds(notes) == ["not_measured", "not_measured"]


def test_the_clock_is_that_of_the_core_this_thread_runs_on(machine: Machine) -> None:
    machine.put(1, "cpufreq/scaling_cur_freq", 800_000)
    machine.put(2, "cpufreq/cpuinfo_max_freq", 4_200_000)
    watching = machine.watch(1, 2, here=2)
    for khz in (3_600_000, 2_400_000, 3_400_000):
        machine.put(2, "cpufreq/scaling_cur_freq", khz)
        watching.look()
    found, notes = values(watching.findings())
    assert found["env.clocks"] == {"mhz_median": 3400, "mhz_min": 2400, "max_mhz": 4200, "looks": 3}
    assert kinds(notes) == ["not_measured"]  # throttle_reasons


def test_where_no_thread_tells_its_core_there_is_no_clock(machine: Machine) -> None:
    machine.put(0, "cpufreq/scaling_cur_freq", 800_000)
    watching = machine.watch(0, here=None)
    watching.look()
    assert "env.clocks" not in values(watching.findings())[0]


@pytest.mark.parametrize(
    ("stat", "cpu"),
    [
        ("5 (python) R " + " ".join(str(number) for number in range(4, 53)), 39),
        ("5 (a b) c) R " + " ".join(str(number) for number in range(4, 53)), 39),
        ("5 (python) R 1 2 3", None),
        ("", None),
    ],
)
def test_the_core_of_this_thread_is_field_39(monkeypatch: pytest.MonkeyPatch, stat: str, cpu: int | None) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: stat)
    assert conditions._this_cpu() == cpu


def test_on_this_machine_a_watch_over_the_cpu_looks_and_tells() -> None:
    watching = watch("cpu")
    assert set(watching.look()) <= {"thermal"}
    found, notes = values(watching.findings())
    said = {*found, *(name for note in notes for name in note.text.partition(":")[0].split(", "))}
    assert {"env.clocks", "env.throttle_reasons"} <= said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_watch_sees_a_working_clock() -> None:
    x = torch.randn(4096, 4096, device="cuda")
    watching = watch("cuda")
    for _ in range(20):
        for _ in range(20):
            y = x @ x
        watching.look()
        torch.cuda.synchronize()
    del y
    found, _ = values(watching.findings())
    seen = found["env.clocks"]
    assert seen["looks"] >= 1
    assert seen["sm_mhz_median"] > 100
    assert seen["sm_mhz_min"] <= seen["sm_mhz_median"] <= seen["max_sm_mhz"]
    assert seen["power_watts_median"] is None or 1 < seen["power_watts_median"] < 2000
    assert isinstance(found.get("env.throttle_reasons", []), list)
