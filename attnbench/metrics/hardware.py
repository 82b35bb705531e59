"""What machine this is: the environment of a record, and the memory that is free."""

import ctypes
import gc
import hashlib
import os
import platform
import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from attnbench import __version__
from attnbench.core import control_group
from attnbench.core.commit import git_commit
from attnbench.core.units import KIB
from attnbench.metrics.nvml import driver, gpu_of

__all__ = ["OtherLoad", "best_device", "environment", "flags", "free_bytes", "malloc_state", "own_cpus",
           "release_memory"]  # fmt: skip

_CPUS = Path("/sys/devices/system/cpu")


def best_device() -> str:
    """`cuda` where torch can use one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def free_bytes(device: str) -> int | None:
    """Bytes that can still be taken on the device or the host; None where the system does not tell.

    On the host it is what is available without swapping, or what a container's limit leaves.
    """
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [value for value in (_available_host_bytes(), control_group.left()) if value is not None]
    return min(limits, default=None)


def _available_host_bytes() -> int | None:
    """MemAvailable: what can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def release_memory() -> None:
    """Give back what earlier cases left in the allocators, so that the next one starts from a clean one."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch._C._cuda_clearCublasWorkspaces()  # which are kept from the first product on
    torch.cuda.empty_cache()  # does nothing where CUDA was never used
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def malloc_state() -> str:
    """`warm` where the host's allocator was told, before this process began, to keep large blocks; else `default`."""
    return "warm" if os.environ.get("MALLOC_MMAP_MAX_") == "0" else "default"


def environment(device: str) -> dict[str, Any]:
    """The `env` object of a record. Two runs may be compared when their fingerprints are equal.

    What is null could not be read, or is nothing that this device has. `l2_bytes` and `l3_bytes` are of one cache of
    the CPU, `affinity` is the number of CPUs that this process may use.
    """
    facts = dict(_lasting_facts(device), threads=torch.get_num_threads())
    gpu_facts = _gpu_facts(device)
    # What changes what a GPU can do is part of what it is.
    named = facts | {name: gpu_facts[name] for name in ("ecc", "mig") if gpu_facts[name] is not None}
    text = "\n".join(f"{name}={named[name]}" for name in sorted(named))
    return {
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
        **facts,
        **gpu_facts,
        **_cpu_facts(),
        "flags": flags(),
        "git_commit": git_commit(),
        "clocks": None,
        "throttle_reasons": None,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "attnbench": __version__,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class OtherLoad:
    """How many cores other processes keep busy between two moments, where the system tells."""

    def __init__(self) -> None:
        self._before = self._busy_seconds()

    def cores(self) -> float | None:
        """Cores that others used since the beginning."""
        after = self._busy_seconds()
        if self._before is None or after is None:
            return None
        wall, everyone, own = (late - early for early, late in zip(self._before, after, strict=True))
        return max(0.0, (everyone - own) / wall) if wall > 0 else None

    @staticmethod
    def _busy_seconds() -> tuple[float, float, float] | None:
        """Wall time, busy time of all processes over all cores (stolen time too), and our own."""
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        idle = ticks[3] + ticks[4]
        times = os.times()
        own = times.user + times.system
        return times.elapsed, (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), own


@cache
def _lasting_facts(device: str) -> dict[str, Any]:
    cuda = device.startswith("cuda")
    return {
        "device_name": _cuda_name(device) if cuda else _cpu_name(),
        "driver": driver() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "malloc": malloc_state(),
    }


def _cuda_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else f"{device} (not here)"


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu_facts(device: str) -> dict[str, Any]:
    here = device.startswith("cuda") and torch.cuda.is_available()
    gpu = gpu_of(device)
    capability = torch.cuda.get_device_capability(device) if here else None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None) if here else None
    return {
        "device_uuid": None if uuid is None else str(uuid),
        "ecc": None if gpu is None else gpu.ecc(),
        "mig": None if gpu is None else gpu.mig(),
        "persistence": None if gpu is None else gpu.persistence(),
        "cudnn": torch.backends.cudnn.version() if here else None,  # type: ignore[no-untyped-call]
        "compute_capability": None if capability is None else "{}.{}".format(*capability),
    }


def _cpu_facts() -> dict[str, Any]:
    """What the system tells of the CPU's settings; Linux alone tells much, and of a virtual machine less."""
    cpus = own_cpus()
    governors = {_line(_CPUS / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus} - {None}
    return {
        "governor": ", ".join(sorted(str(each) for each in governors)) or None,
        "smt": {"0": False, "1": True}.get(_line(_CPUS / "smt/active") or ""),
        "affinity": len(cpus) or None,
        **_caches(cpus[0] if cpus else 0),
    }


def own_cpus() -> tuple[int, ...]:
    """The numbers of the CPUs that this process may use; empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _caches(cpu: int) -> dict[str, int | None]:
    """Bytes of the second- and third-level cache that this CPU uses, alone or with others."""
    sizes: dict[str | None, int] = {}
    for place in (_CPUS / f"cpu{cpu}/cache/index{index}" for index in range(8)):
        size = re.fullmatch(r"(\d+)K", _line(place / "size") or "")
        if size is not None:
            sizes[_line(place / "level")] = int(size[1]) * KIB
    return {"l2_bytes": sizes.get("2"), "l3_bytes": sizes.get("3")}


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def flags() -> dict[str, Any]:
    """What torch was told about exactness and speed, now; null where its old and its new switches contradict."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "allow_tf32_matmul": _told(lambda: cuda.matmul.allow_tf32),
        "allow_tf32_cudnn": _told(lambda: cudnn.allow_tf32),
        "float32_matmul_precision": _told(torch.get_float32_matmul_precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": cudnn.benchmark,
    }


def _told(switch: Callable[[], Any]) -> Any:
    """The switch, which raises where both ways of setting it were used, and may warn that it is an old one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return switch()
        except RuntimeError:
            return None
