"""The watch over a device while it is measured: clocks, power, heat, what holds a clock down, and who else is there."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attnbench.core.record import Note, Reading
from attnbench.core.units import human_bytes
from attnbench.metrics.hardware import own_cpus
from attnbench.metrics.metric import Finding
from attnbench.metrics.nvml import Gpu, gpu_of

__all__ = ["Watch", "sharing", "watch"]

Clock = Callable[[], float]

# A look lasts from microseconds to several milliseconds: it is taken at most every 20 ms, and for a twentieth of the
# time at most.
_EVERY_S = 0.02
_SHARE = 20
_SYS = Path("/sys")
_NO_LOOK = "nothing was sampled"

_HEAT = frozenset({"thermal", "sw_thermal", "hw_thermal"})
_POWER = frozenset({"sw_power_cap", "hw_power_brake", "board_limit"})


class Watch(Protocol):
    """Eyes on a device: looked through between samples, asked at the end what they saw."""

    def look(self) -> tuple[str, ...]:
        """Why the clock is held down now; empty when it is not, and where nothing tells."""
        ...

    def findings(self) -> Iterator[Finding]:
        """`env.clocks`, `env.throttle_reasons`, and notes on what may have disturbed the samples."""
        ...


def watch(device: str, clock: Clock = time.perf_counter) -> Watch:
    """A Watch over the torch device `device`; it begins now."""
    if not device.startswith("cuda"):
        return Paced(CpuWatch(), clock)
    gpu = gpu_of(device)
    return Blind("NVML cannot be read, or does not know this device") if gpu is None else Paced(GpuWatch(gpu), clock)


class Paced:
    """A Watch that looks anew only when enough time has gone by, and says the last answer between."""

    def __init__(self, eyes: Watch, clock: Clock) -> None:
        self._eyes, self._clock = eyes, clock
        self._last: tuple[str, ...] = ()
        self._next = clock()

    def look(self) -> tuple[str, ...]:
        begin = self._clock()
        if begin >= self._next:
            self._last = self._eyes.look()
            end = self._clock()
            self._next = begin + max(_EVERY_S, _SHARE * (end - begin))
        return self._last

    def findings(self) -> Iterator[Finding]:
        yield from self._eyes.findings()


class Blind:
    """A Watch that sees nothing and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def look(self) -> tuple[str, ...]:
        return ()

    def findings(self) -> Iterator[Finding]:
        yield Note("not_measured", f"env.clocks, env.throttle_reasons: {self._reason}")


class GpuWatch:
    """Through NVML; the clocks of a slice (MIG) are those of the GPU that it is cut from."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._sm: list[int | None] = []
        self._power: list[float | None] = []
        self._heat: list[int | None] = []
        self._reasons: set[str] | None = None
        self._looks = 0
        self._shared = sharing(gpu)

    def look(self) -> tuple[str, ...]:
        reasons = self._gpu.throttle_reasons()
        if reasons is not None:
            self._reasons = (self._reasons or set()) | set(reasons)
        self._sm.append(self._gpu.sm_clock_mhz())
        self._power.append(self._gpu.power_watts())
        self._heat.append(self._gpu.temperature_c())
        self._looks += 1
        return reasons or ()

    def findings(self) -> Iterator[Finding]:
        yield _clocks({
            "sm_mhz_median": _median(self._sm), "sm_mhz_min": _least(self._sm),
            "max_sm_mhz": self._gpu.max_sm_clock_mhz(), "memory_mhz": self._gpu.memory_clock_mhz(),
            "power_watts_median": _median(self._power), "temperature_c_max": max(_known(self._heat), default=None),
        }, self._looks, "NVML tells neither clock nor power nor temperature of this GPU")  # fmt: skip
        yield from _throttling("GPU", self._reasons, self._looks, "NVML does not tell what holds this GPU's clock down")
        shared = sharing(self._gpu) or self._shared
        if shared is not None:
            yield shared


class CpuWatch:
    """Through /sys, which only Linux has, and of which a virtual machine has little.

    The clock is that of the core on which this thread runs: the others may be idle, and slow because of it.
    """

    def __init__(self, sys: Path = _SYS, cpus: Sequence[int] | None = None,
                 here: Callable[[], int | None] | None = None) -> None:  # fmt: skip
        self._root = sys / "devices/system/cpu"
        self._here = here or _this_cpu
        self._counters = self._throttle_counters(own_cpus() if cpus is None else cpus)
        self._count = self._throttled()
        self._mhz: list[float | None] = []
        self._max_mhz: float | None = None
        self._reasons: set[str] | None = None if self._count is None else set()
        self._looks = 0

    def look(self) -> tuple[str, ...]:
        before, self._count = self._count, self._throttled()
        self._looks += 1
        here = self._here()
        if here is not None:
            self._mhz.append(_mhz(self._root / f"cpu{here}/cpufreq/scaling_cur_freq"))
            self._max_mhz = self._max_mhz or _mhz(self._root / f"cpu{here}/cpufreq/cpuinfo_max_freq")
        if before is None or self._count is None or self._count <= before:
            return ()
        self._reasons = {"thermal"}
        return ("thermal",)

    def findings(self) -> Iterator[Finding]:
        speeds = {"mhz_median": _median(self._mhz), "mhz_min": _least(self._mhz), "max_mhz": self._max_mhz}
        yield _clocks(speeds, self._looks, "this system does not tell the clock of its CPU")
        yield from _throttling("CPU", self._reasons, self._looks,
                               "this system does not tell whether heat holds its CPU down")  # fmt: skip

    def _throttle_counters(self, cpus: Sequence[int]) -> list[Path]:
        """Of each core, and once of the package, which has a count of its own."""
        folders = [self._root / f"cpu{cpu}/thermal_throttle" for cpu in cpus]
        files = [folder / "core_throttle_count" for folder in folders]
        files += [folder / "package_throttle_count" for folder in folders[:1]]
        return [path for path in files if _integer(path) is not None]

    def _throttled(self) -> int | None:
        """How often heat has held the clock down since the system started."""
        counts = [count for count in map(_integer, self._counters) if count is not None]
        return sum(counts) if counts else None


def sharing(gpu: Gpu) -> Note | None:
    """That others are on the GPU too, with how much memory; None where nobody is, or nobody tells."""
    count, held = gpu.others(os.getpid()) or (0, None)
    if not count:
        return None
    one = count == 1
    who = "another process is" if one else f"{count} other processes are"
    memory = "" if held is None else f" with {human_bytes(held)}"
    theirs, them = ("it runs", "it") if one else ("they run", "them")
    return Note("busy", f"{who} on this GPU{memory}, and what {theirs} there is in these figures: end {them}, or take "
                        "another GPU with CUDA_VISIBLE_DEVICES")  # fmt: skip


def _clocks(seen: dict[str, int | float | None], looks: int, silent: str) -> Finding:
    if looks == 0 or all(value is None for value in seen.values()):
        return Note("not_measured", f"env.clocks: {silent if looks else _NO_LOOK}")
    return Reading("env.clocks", {**seen, "looks": looks})


def _throttling(what: str, reasons: set[str] | None, looks: int, silent: str) -> Iterator[Finding]:
    if looks == 0 or reasons is None:
        yield Note("not_measured", f"env.throttle_reasons: {silent if looks else _NO_LOOK}")
        return
    yield Reading("env.throttle_reasons", sorted(reasons))
    if not reasons:
        return
    if reasons & _HEAT:
        advice = "cool it, or let it rest between runs"
    elif reasons & _POWER:
        advice = "lock its clock lower (nvidia-smi -lgc), where it can stay"
    else:
        advice = "nvidia-smi -q -d PERFORMANCE tells more"
    yield Note("throttled", f"the {what}'s clock was held down meanwhile ({', '.join(sorted(reasons))}): {advice}")


def _this_cpu() -> int | None:
    """The number of the CPU on which this thread ran last: field 39 of proc(5)'s stat."""
    try:
        # Field 2 is a name in brackets, in which there may be anything.
        return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None


def _integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _mhz(path: Path) -> float | None:
    value = _integer(path)
    return None if value is None else value / 1000  # the system tells kHz


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _least(values: Sequence[float | None]) -> float | None:
    return min(_known(values), default=None)


def _median(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return statistics.median(known) if known else None
