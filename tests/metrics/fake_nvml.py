"""A `pynvml` without a GPU: what each canned GPU answers, and the errors of everything that it does not."""

import sys
from ctypes import c_uint
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

UUID = "ffc79498-8ff3-c2dc-3b0d-fafd804516ae"
OTHER_UUID = "00000000-1111-2222-3333-444444444444"

# What a healthy H100 under load answers; the clocks by their kind (SM 1, memory 2).
READINGS: dict[str, Any] = {
    "nvmlDeviceGetClockInfo": {1: 1755, 2: 2619},
    "nvmlDeviceGetMaxClockInfo": {1: 1980, 2: 2619},
    "nvmlDeviceGetPowerUsage": 612_345,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetTemperature": {0: 54},
    "nvmlDeviceGetTotalEnergyConsumption": 123_456_789,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetComputeRunningProcesses": [],
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetPersistenceMode": 1,
}


class NVMLError(Exception):
    """As pynvml raises them, by number; not supported is 3, not found is 6."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML Error with code {value}")


@dataclass(eq=False)
class FakeGpu:
    """A handle and what NVML answers for it; a reading that is not there is not supported."""

    uuid: str = f"GPU-{UUID}"
    pci: str = "00000000:41:00.0"
    readings: dict[str, Any] = field(default_factory=lambda: dict(READINGS))
    parent: "FakeGpu | None" = None


def process(pid: int, memory: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


class FakeNvml(ModuleType):
    """The module; `missing` are functions that these bindings do not have, `init_error` what nvmlInit raises."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *gpus: FakeGpu, missing: tuple[str, ...] = (), init_error: Exception | None = None) -> None:
        super().__init__("pynvml")
        self.gpus, self.init_error = gpus, init_error
        self.asked: list[str] = []
        names = {*READINGS, "nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksThrottleReasons",
                 "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v2"}  # fmt: skip
        for name in names - set(missing):
            setattr(self, name, lambda gpu, *key, name=name: self._read(gpu, name, *key))

    def _read(self, gpu: FakeGpu, name: str, *key: int) -> Any:
        self.asked.append(name)
        if name not in gpu.readings:
            raise NVMLError(3)
        answer = gpu.readings[name]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        return answer[key[0]] if key else answer

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error is not None:
            raise self.init_error

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.133.20"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802
        return self._found(lambda gpu: gpu.uuid == uuid)

    def nvmlDeviceGetHandleByPciBusId(self, pci: str) -> FakeGpu:  # noqa: N802
        return self._found(lambda gpu: gpu.pci == pci and gpu.parent is None)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        raise AssertionError("an index of NVML's list is not one of torch's")

    def _found(self, fits: Any) -> FakeGpu:
        for gpu in self.gpus:
            if fits(gpu):
                return gpu
        raise NVMLError(6)

    def nvmlDeviceIsMigDeviceHandle(self, gpu: FakeGpu) -> c_uint:  # noqa: N802
        return c_uint(gpu.parent is not None)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, gpu: FakeGpu) -> FakeGpu:  # noqa: N802
        if gpu.parent is None:
            raise NVMLError(2)
        return gpu.parent


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, *properties: SimpleNamespace) -> None:
    """Put it in the place of pynvml, and these in the place of what torch says of `cuda:0`, `cuda:1` ..."""
    shown = properties or (SimpleNamespace(uuid=UUID),)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties",
                        lambda device: shown[int(str(device).partition(":")[2] or 0)])  # fmt: skip
