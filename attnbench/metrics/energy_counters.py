"""The energy counters of devices: a GPU's through NVML, a CPU's through RAPL; or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from attnbench.metrics.nvml import Gpu, gpu_of

__all__ = ["Counter", "NvmlCounter", "RaplCounter", "counter_of", "nvml_counter", "rapl_counter"]

_POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """A count of energy that never goes back; `how` says whose, `period_s` how long it stands still at most."""

    @property
    def how(self) -> str: ...

    @property
    def period_s(self) -> float: ...

    def read(self) -> float | None:
        """Joules since some moment; None where it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class NvmlCounter:
    """A GPU's own: everything on its board since the driver was loaded.

    NVIDIA does not say how often it moves; on the GPUs that people have looked at it does so every 10 to 100 ms.
    """

    gpu: Gpu
    how: str = "NVML's total energy counter"
    period_s: float = 0.1

    def read(self) -> float | None:
        return self.gpu.energy_joules()


class RaplCounter:
    """The CPU's own (RAPL), all packages together; the memory modules are not in it.

    A package counts up to its `max_energy_range_uj` and begins anew: a reading under the last one is beyond that.
    It moves about every millisecond (Intel's manual of its architectures, volume 3, RAPL interfaces).
    """

    how, period_s = "RAPL, all CPU packages", 0.001

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = {path: int((path / "max_energy_range_uj").read_text()) for path in packages}
        self._last = self._raw()
        self._total = 0

    def read(self) -> float | None:
        try:
            now = self._raw()
        except (OSError, ValueError):
            return None
        for path, most in self._packages.items():
            rise = now[path] - self._last[path]
            self._total += rise if rise >= 0 else rise + most
        self._last = now
        return self._total / 1e6

    def _raw(self) -> dict[Path, int]:
        return {path: int((path / "energy_uj").read_text()) for path in self._packages}


def counter_of(device: str) -> Counter | str:
    """The device's energy counter, or why it has none."""
    return nvml_counter(gpu_of(device)) if device.startswith("cuda") else rapl_counter()


def nvml_counter(gpu: Gpu | None) -> Counter | str:
    """The counter of that GPU, or why it has none of its own."""
    if gpu is None:
        return "NVML cannot be read, or does not know this device"
    if gpu.is_slice():
        return "this is a slice of a GPU (MIG), and only the energy of the whole GPU is counted"
    if gpu.energy_joules() is None:
        return "this GPU counts no energy (those before Volta do not, nor do some that are not the host's own)"
    return NvmlCounter(gpu)


def rapl_counter(root: Path | None = None) -> Counter | str:
    """The counter of the CPU, or why there is none.

    Of what RAPL counts only the packages: their parts (core, uncore) and the platform (psys) are the same energy again.
    """
    root = root or _POWERCAP
    try:
        packages = [path for path in sorted(root.glob("intel-rapl:*"))
                    if (path / "name").read_text().startswith("package")]  # fmt: skip
        return RaplCounter(packages) if packages else "this system shows no energy counter of its CPU (RAPL)"
    except PermissionError:
        return f"the energy counter of this CPU (RAPL) is for root alone (sudo chmod a+r {root}/*/*energy*_uj)"
    except (OSError, ValueError) as error:
        return f"the energy counter of this CPU (RAPL) cannot be read ({error})"
