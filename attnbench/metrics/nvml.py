"""The door to NVML: what NVIDIA's management library says of one GPU, and None for what it does not say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["SLOWING", "Gpu", "driver", "gpu_of"]

# The bits are the same under their old names (nvmlClocksThrottleReason...) and their new (nvmlClocksEventReason...).
# Left out is what slows nothing down: idleness (0x1), clocks that somebody chose (0x2), the voltage at which every
# boost ends (reliability, 0x400), and bits that later drivers may add.
SLOWING: Mapping[int, str] = {
    0x004: "sw_power_cap", 0x008: "hw_slowdown", 0x010: "sync_boost", 0x020: "sw_thermal", 0x040: "hw_thermal",
    0x080: "hw_power_brake", 0x100: "display_clocks", 0x200: "board_limit",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one slice of it (MIG); each method reads NVML anew and gives None where NVML does not tell.

    `handle` is what torch computes on, `whole` the GPU it is on: clocks, power, heat and energy exist only there.
    """

    nvml: Any
    handle: Any
    whole: Any

    def sm_clock_mhz(self) -> int | None:
        return self._number("nvmlDeviceGetClockInfo", self.nvml.NVML_CLOCK_SM)

    def max_sm_clock_mhz(self) -> int | None:
        return self._number("nvmlDeviceGetMaxClockInfo", self.nvml.NVML_CLOCK_SM)

    def memory_clock_mhz(self) -> int | None:
        return self._number("nvmlDeviceGetClockInfo", self.nvml.NVML_CLOCK_MEM)

    def power_watts(self) -> float | None:
        """What it draws; from Ampere on (but for the A100) the mean over the last second."""
        return _thousandths(self._number("nvmlDeviceGetPowerUsage"))

    def power_limit_watts(self) -> float | None:
        """The limit in force, the lowest of all that are set."""
        return _thousandths(self._number("nvmlDeviceGetEnforcedPowerLimit"))

    def temperature_c(self) -> int | None:
        sensor = self.nvml.NVML_TEMPERATURE_GPU
        found = self._number("nvmlDeviceGetTemperature", sensor)  # on its way out of the newest bindings
        return self._number("nvmlDeviceGetTemperatureV", sensor) if found is None else found

    def energy_joules(self) -> float | None:
        """Energy since the driver was loaded, counted from Volta on; it moves every 10 to 100 ms."""
        return _thousandths(self._number("nvmlDeviceGetTotalEnergyConsumption"))

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """What holds the clocks down now, in the words of SLOWING; empty when nothing does.

        As slowing count power (`sw_power_cap`, `hw_power_brake`, `board_limit`), heat (`sw_thermal`, `hw_thermal`),
        either of them or the power supply (`hw_slowdown`), and a bond with something slower (`sync_boost`,
        `display_clocks`). An idle GPU and clocks set on purpose (`nvidia-smi -ac`, `-lgc`) are not slowed down.
        """
        # New bindings over an old driver know the new name and do not find it.
        mask = self._number("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:
            mask = self._number("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if mask is None else tuple(word for bit, word in SLOWING.items() if mask & bit)

    def processes(self) -> list[tuple[int, int | None]] | None:
        """Process numbers and bytes of all that compute or draw on it; in a container the numbers are the host's."""
        lists = [self._running(kind) for kind in ("Compute", "Graphics")]
        if all(found is None for found in lists):
            return None
        held: dict[int, int | None] = {}
        for each in (process for found in lists for process in found or ()):
            sizes = [size for size in (held.get(each.pid), each.usedGpuMemory) if size is not None]
            held[each.pid] = max(sizes, default=None)  # one that computes and draws stands in both lists
        return sorted(held.items())

    def _running(self, kind: str) -> list[Any] | None:
        # The plain name wants what the newest drivers have.
        for version in ("", "_v2"):
            name = f"nvmlDeviceGet{kind}RunningProcesses{version}"
            found: list[Any] | None = _asked(self.nvml, name, self.handle)
            if found is not None:
                return found
        return None

    def own_bytes(self, pid: int) -> int | None:
        """What NVML counts for that process; None too where it knows it under another number, as in a container."""
        return dict(self.processes() or ()).get(pid)

    def others(self, pid: int) -> tuple[int, int | None] | None:
        """How many processes but `pid` are on it, and how many bytes they hold.

        Where `pid` is not among them, it is there under a number it does not know itself: then one of them is it,
        and nobody knows which.
        """
        found = self.processes()
        if found is None:
            return None
        if pid not in dict(found):
            return max(0, len(found) - 1), None
        sizes = [size for number, size in found if number != pid]
        known = [size for size in sizes if size is not None]
        return len(sizes), sum(known) if len(known) == len(sizes) else None

    def ecc(self) -> bool | None:
        """Whether errors in its memory are corrected, which costs bandwidth."""
        modes = self._ask("nvmlDeviceGetEccMode")
        return None if modes is None else bool(modes[0])

    def mig(self) -> bool | None:
        """Whether the GPU is cut into slices."""
        modes = self._ask("nvmlDeviceGetMigMode")
        return None if modes is None else bool(modes[0])

    def is_slice(self) -> bool:
        """Whether torch computes on a slice: a GPU that is cut can be used in slices only."""
        return _is_slice(self.nvml, self.handle) or bool(self.mig())

    def persistence(self) -> bool | None:
        """Whether the driver stays loaded while nobody uses it."""
        mode = self._ask("nvmlDeviceGetPersistenceMode")
        return None if mode is None else bool(mode)

    def driver(self) -> str | None:
        return driver()

    def _number(self, name: str, *arguments: Any) -> int | None:
        found = self._ask(name, *arguments)
        return None if found is None else int(found)

    def _ask(self, name: str, *arguments: Any) -> Any:
        return _asked(self.nvml, name, self.whole, *arguments)


def gpu_of(device: str) -> Gpu | None:
    """The GPU that torch calls `cuda` or `cuda:1`, or None where NVML cannot be read or does not know it.

    It is found by what names it everywhere and never by its place in a list, since CUDA_VISIBLE_DEVICES and
    CUDA_DEVICE_ORDER change torch's list and not NVML's.
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    nvml = _library()
    if nvml is None:
        return None
    for function, name in _names(device):
        handle = _asked(nvml, function, name)
        if handle is not None:
            parent = _asked(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
            return Gpu(nvml, handle, parent if parent is not None and _is_slice(nvml, handle) else handle)
    return None


def driver() -> str | None:
    """The version of NVIDIA's driver."""
    nvml = _library()
    found = None if nvml is None else _asked(nvml, "nvmlSystemGetDriverVersion")
    return None if found is None else str(found)


def _names(device: str) -> Iterator[tuple[str, str]]:
    """By which NVML might know the device, the surest first; CUDA tells the number of a slice without its prefix."""
    found: Any = torch.cuda.get_device_properties(device)
    if getattr(found, "uuid", None) is not None:
        yield from (("nvmlDeviceGetHandleByUUID", f"{kind}-{found.uuid}") for kind in ("GPU", "MIG"))
    if getattr(found, "pci_bus_id", None) is not None:
        place = f"{found.pci_domain_id:08X}:{found.pci_bus_id:02X}:{found.pci_device_id:02X}.0"
        yield "nvmlDeviceGetHandleByPciBusId", place


def _library() -> Any | None:
    """pynvml, ready to be asked; asking twice for readiness costs next to nothing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, no permission: there is no GPU to ask, and nothing else to say
        return None
    return pynvml


def _asked(nvml: Any, name: str, *arguments: Any) -> Any:
    try:
        return getattr(nvml, name)(*arguments)
    except Exception:  # not supported on this GPU, not known to this driver or to these bindings
        return None


def _is_slice(nvml: Any, handle: Any) -> bool:
    found = _asked(nvml, "nvmlDeviceIsMigDeviceHandle", handle)
    return bool(getattr(found, "value", found))  # some versions of pynvml give a C number


def _thousandths(value: int | None) -> float | None:
    return None if value is None else value / 1000
