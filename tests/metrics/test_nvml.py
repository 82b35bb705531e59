"""The door to NVML: every reading from a canned GPU, none where one is not supported, and the right GPU of many."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_nvml import OTHER_UUID, READINGS, UUID, FakeGpu, FakeNvml, NVMLError, install, process

from attnbench.metrics.nvml import SLOWING, Gpu, driver, gpu_of

GIB = 2**30

# Each method and what it says of the canned GPU.
TOLD: list[tuple[str, Any]] = [
    ("sm_clock_mhz", 1755),
    ("max_sm_clock_mhz", 1980),
    ("memory_clock_mhz", 2619),
    ("power_watts", 612.345),
    ("power_limit_watts", 700.0),
    ("temperature_c", 54),
    ("energy_joules", 123_456.789),
    ("throttle_reasons", ()),
    ("processes", []),
    ("ecc", True),
    ("mig", False),
    ("persistence", True),
    ("is_slice", False),
    ("driver", "570.133.20"),
]
METHODS = [name for name, _ in TOLD]


def gpu_with(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> Gpu:
    """The canned GPU with other readings; those that are None are not supported."""
    readings = {name: value for name, value in (READINGS | changed).items() if value is not None}
    install(monkeypatch, FakeNvml(FakeGpu(readings=readings)))
    found = gpu_of("cuda")
    assert found is not None
    return found


@pytest.mark.parametrize(("method", "told"), TOLD)
def test_every_reading_of_a_healthy_gpu(monkeypatch: pytest.MonkeyPatch, method: str, told: Any) -> None:
    assert getattr(gpu_with(monkeypatch), method)() == told


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("is_slice", "driver")])
@pytest.mark.parametrize("error", [NVMLError(3), NVMLError(15), OSError("the library is gone")])
def test_what_is_not_supported_is_none(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    assert getattr(gpu_with(monkeypatch, **dict.fromkeys(READINGS, error)), method)() is None


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("is_slice", "driver")])
def test_a_gpu_that_answers_nothing_gives_nothing(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    assert getattr(gpu_with(monkeypatch, **dict.fromkeys(READINGS)), method)() is None


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("is_slice", "driver")])
def test_bindings_without_a_function_give_none(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    install(monkeypatch, FakeNvml(FakeGpu(), missing=tuple(READINGS)))
    found = gpu_of("cuda")
    assert found is not None
    assert getattr(found, method)() is None


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, ()),
        (0x1, ()),  # idle
        (0x2, ()),  # clocks that somebody set
        (0x3, ()),
        (0x4, ("sw_power_cap",)),
        (0x8, ("hw_slowdown",)),
        (0x10, ("sync_boost",)),
        (0x20, ("sw_thermal",)),
        (0x40, ("hw_thermal",)),
        (0x80, ("hw_power_brake",)),
        (0x100, ("display_clocks",)),
        (0x200, ("board_limit",)),
        (0x400, ()),  # the voltage at which a boost ends
        (0x8000, ()),  # not known to anybody yet
        (0x48, ("hw_slowdown", "hw_thermal")),
        (0x1 | 0x4 | 0x20, ("sw_power_cap", "sw_thermal")),
    ],
)
def test_the_reasons_of_a_mask(monkeypatch: pytest.MonkeyPatch, mask: int, words: tuple[str, ...]) -> None:
    assert gpu_with(monkeypatch, nvmlDeviceGetCurrentClocksEventReasons=mask).throttle_reasons() == words


def test_the_bits_are_those_of_pynvml_under_both_names() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = {"sw_power_cap": "SwPowerCap", "hw_slowdown": "HwSlowdown", "sync_boost": "SyncBoost",
             "sw_thermal": "SwThermalSlowdown", "hw_thermal": "HwThermalSlowdown",
             "hw_power_brake": "HwPowerBrakeSlowdown", "display_clocks": "DisplayClockSetting",
             "board_limit": "BoardLimit"}  # fmt: skip
    assert set(SLOWING.values()) == set(names)
    for bit, word in SLOWING.items():
        for era in ("Event", "Throttle"):
            # The newest bit has one name only, and older bindings do not have it at all.
            assert getattr(pynvml, f"nvmlClocks{era}Reason{names[word]}", bit) == bit
    assert pynvml.nvmlClocksThrottleReasonHwSlowdown == 0x8


@pytest.mark.parametrize("era", ["bindings", "driver"])
def test_the_old_name_of_the_reasons_is_asked_where_the_new_one_is_not_there(
    monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    new, old = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    readings = {**READINGS, old: 0x40, new: NVMLError(13)}
    install(monkeypatch, FakeNvml(FakeGpu(readings=readings), missing=(new,) if era == "bindings" else ()))
    found = gpu_of("cuda")
    assert found is not None
    assert found.throttle_reasons() == ("hw_thermal",)


def test_newest_bindings_know_the_temperature_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"nvmlDeviceGetTemperature": None, "nvmlDeviceGetTemperatureV": {0: 61}}
    assert gpu_with(monkeypatch, **changed).temperature_c() == 61


def running(compute: list[Any] | None, graphics: list[Any] | None = None) -> dict[str, Any]:
    return {"nvmlDeviceGetComputeRunningProcesses": compute, "nvmlDeviceGetGraphicsRunningProcesses": graphics}


@pytest.mark.parametrize(
    ("compute", "graphics", "found", "own", "others"),
    [
        ([(1, 5)], [], [(1, 5)], 5, (0, 0)),
        ([(1, 5), (2, 7)], [(3, 9)], [(1, 5), (2, 7), (3, 9)], 5, (2, 16)),
        ([(1, 5), (2, None)], None, [(1, 5), (2, None)], 5, (1, None)),
        ([(1, None)], [(1, 8)], [(1, 8)], 8, (0, 0)),  # computes and draws: one process
        ([(1, 8)], [(1, 8)], [(1, 8)], 8, (0, 0)),
        (None, [(2, 7)], [(2, 7)], None, (0, None)),  # in a container this may be us
        ([(7001, 5), (7002, 6)], None, [(7001, 5), (7002, 6)], None, (1, None)),
        ([], [], [], None, (0, None)),
    ],
)
def test_who_is_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, compute: Any, graphics: Any, found: Any, own: int | None, others: Any
) -> None:
    lists = [None if each is None else [process(*one) for one in each] for each in (compute, graphics)]
    gpu = gpu_with(monkeypatch, **running(*lists))
    assert gpu.processes() == found
    assert gpu.own_bytes(1) == own
    assert gpu.others(1) == others


def test_where_nobody_tells_who_is_there_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = gpu_with(monkeypatch, **running(None))
    assert (gpu.processes(), gpu.own_bytes(1), gpu.others(1)) == (None, None, None)


def test_an_older_driver_knows_the_older_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = running(None) | {"nvmlDeviceGetComputeRunningProcesses_v2": [process(4, 2 * GIB)]}
    assert gpu_with(monkeypatch, **changed).processes() == [(4, 2 * GIB)]


@pytest.mark.parametrize(("name", "method"), [("EccMode", "ecc"), ("MigMode", "mig")])
def test_modes_are_those_of_now_and_not_those_after_the_next_boot(
    monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    for now, then in ((0, 1), (1, 0)):
        assert getattr(gpu_with(monkeypatch, **{f"nvmlDeviceGet{name}": [now, then]}), method)() is bool(now)


def test_torchs_second_device_is_found_by_its_number_and_not_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES=1,0: torch's list is NVML's backwards."""
    first, second = FakeGpu(), FakeGpu(uuid=f"GPU-{OTHER_UUID}")
    install(monkeypatch, FakeNvml(first, second), SimpleNamespace(uuid=OTHER_UUID), SimpleNamespace(uuid=UUID))
    for device, gpu in (("cuda:0", second), ("cuda:1", first), ("cuda", second)):
        found = gpu_of(device)
        assert found is not None
        assert found.handle is found.whole is gpu


def test_by_its_place_on_the_bus_where_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(uuid="GPU-unknown", pci="00000000:C1:00.0")
    place = {"pci_domain_id": 0, "pci_bus_id": 0xC1, "pci_device_id": 0}
    for properties in (SimpleNamespace(uuid=UUID, **place), SimpleNamespace(**place)):
        install(monkeypatch, FakeNvml(FakeGpu(uuid="GPU-another"), gpu), properties)
        found = gpu_of("cuda")
        assert found is not None
        assert found.handle is gpu


@pytest.mark.parametrize("properties", [SimpleNamespace(uuid=OTHER_UUID), SimpleNamespace()])
def test_a_gpu_that_nvml_does_not_know_is_none_and_not_another(
    monkeypatch: pytest.MonkeyPatch, properties: SimpleNamespace
) -> None:
    install(monkeypatch, FakeNvml(FakeGpu()), properties)
    assert gpu_of("cuda") is None


def sliced() -> tuple[FakeGpu, FakeGpu]:
    whole = FakeGpu(readings={**READINGS, "nvmlDeviceGetMigMode": [1, 1]})
    own = running([process(1, 5)], [])
    return whole, FakeGpu(uuid=f"MIG-{OTHER_UUID}", pci=whole.pci, readings=own, parent=whole)


def test_a_slice_has_processes_of_its_own_and_the_clocks_of_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = sliced()
    install(monkeypatch, FakeNvml(whole, part), SimpleNamespace(uuid=OTHER_UUID))
    found = gpu_of("cuda")
    assert found is not None
    assert (found.handle, found.whole, found.is_slice(), found.mig()) == (part, whole, True, True)
    assert (found.sm_clock_mhz(), found.own_bytes(1)) == (1755, 5)


def test_a_slice_is_known_as_one_where_cuda_tells_the_number_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, part = sliced()
    install(monkeypatch, FakeNvml(whole, part), SimpleNamespace(uuid=UUID))
    found = gpu_of("cuda")
    assert found is not None
    assert (found.handle, found.is_slice()) == (whole, True)


def test_without_a_driver_there_is_no_gpu_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(FakeGpu(), init_error=NVMLError(12)))
    assert (gpu_of("cuda"), driver()) == (None, None)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert (gpu_of("cuda"), driver()) == (None, None)


def test_what_is_no_cuda_device_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(FakeGpu())
    install(monkeypatch, nvml)
    assert gpu_of("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_of("cuda") is None
    assert nvml.asked == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_reading_is_plausible_or_none() -> None:
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(50):
        x = x @ x / 4096
    torch.cuda.synchronize()
    gpu = gpu_of("cuda")
    assert gpu is not None, "NVML does not know the GPU that torch computes on"
    ranges = {"sm_clock_mhz": (100, 5000), "max_sm_clock_mhz": (500, 5000), "memory_clock_mhz": (100, 20_000),
              "power_watts": (1, 2000), "power_limit_watts": (5, 2000), "temperature_c": (1, 120),
              "energy_joules": (0, 1e12)}  # fmt: skip
    for method, (least, most) in ranges.items():
        value = getattr(gpu, method)()
        assert value is None or least <= value <= most, f"{method}: {value}"
    assert (gpu.sm_clock_mhz() or 0) <= (gpu.max_sm_clock_mhz() or 5000)
    assert set(gpu.throttle_reasons() or ()) <= set(SLOWING.values())
    assert gpu.driver()
    used = torch.cuda.memory_reserved()
    own = gpu.own_bytes(os.getpid())
    assert own is None or own >= used
