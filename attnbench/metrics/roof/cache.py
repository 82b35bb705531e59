"""Keeps the measured peaks of this environment in the user's cache folder, and measures those that are not there."""

import json
import os
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from attnbench.core.errors import UnsupportedError, named
from attnbench.metrics.hardware import OtherLoad, environment
from attnbench.metrics.nvml import gpu_of
from attnbench.metrics.roof.bench import cpu_bench, cuda_bench, in_tf32
from attnbench.metrics.roof.peaks import Found, Peaks, find_peaks
from attnbench.metrics.timing.disturbance import crowded

__all__ = ["cache_folder", "measured_peaks", "no_peak"]

_SCHEMA = 1
# On a machine that is never quiet each process would measure.
_MOST_TIMES = 3
# Of one core: what others use less often misses the fastest round.
_OTHERS = 0.5
_TENSOR_CORES_WITH_TF32 = (8, 0)

# What this process knows, also where the folder cannot be written.
_known: dict[tuple[str, str], Peaks] = {}


def measured_peaks(device: str, dtype: str, *, fresh: bool = False) -> Peaks:
    """The peaks of the device (`cpu`, `cuda`, `cuda:1`) in that dtype: kept ones, or measured now, in about 2 seconds.

    `fresh` measures anew whatever is kept. What was measured while other processes used the device is measured
    again by the next processes, until it is quiet but three times at the most, and the best figures are kept.

    Raises:
        UnsupportedError: the device has no such dtype, or cannot run what it is measured with.
    """
    reason = no_peak(device, dtype)
    if reason:
        raise UnsupportedError(reason)
    fingerprint = str(environment(device)["fingerprint"])
    if not fresh and (fingerprint, dtype) in _known:
        return _known[fingerprint, dtype]
    kept = None if fresh else _read(fingerprint).get(dtype)
    if kept is None or (kept.disturbed and kept.times < _MOST_TIMES):
        now = _measure(device, dtype, fingerprint)
        kept = now if kept is None else now.joined(kept)
        _write(fingerprint, kept)
    _known[fingerprint, dtype] = kept
    return kept


def no_peak(device: str, dtype: str) -> str:
    """Why there is no peak to measure; empty where there is one."""
    if not device.startswith("cuda"):
        if device != "cpu":
            return f"no peak is measured on {device}"
        return "a CPU does not compute in tf32, so that there is no peak to hold it against" if dtype == "tf32" else ""
    if not torch.cuda.is_available():
        return f"{device} is not here"
    if dtype == "tf32" and torch.cuda.get_device_capability(device) < _TENSOR_CORES_WITH_TF32:
        return "this GPU has no tf32, so that there is no peak to hold it against"
    return ""


def _measure(device: str, dtype: str, fingerprint: str) -> Peaks:
    others, cuda = OtherLoad(), device.startswith("cuda")
    try:
        found = _found(device, dtype)
    except (RuntimeError, NotImplementedError) as error:  # out of memory too
        raise UnsupportedError(f"the peak of {dtype} on {device} cannot be measured ({named(error)})") from error
    finally:
        if cuda:
            torch.cuda.empty_cache()
    disturbed = _shared(device) if cuda else crowded(others.cores() or 0.0, _OTHERS)
    return Peaks(device, dtype, fingerprint, found.flops_per_s, found.product, found.ladder, found.cache_bytes,
                 None if cuda else torch.get_num_threads(), disturbed,
                 datetime.now(UTC).isoformat(timespec="seconds"))  # fmt: skip


def _shared(device: str) -> bool:
    gpu = gpu_of(device)
    return gpu is not None and (gpu.others(os.getpid()) or (0, None))[0] > 0


def _found(device: str, dtype: str) -> Found:
    if not device.startswith("cuda"):
        return find_peaks(cpu_bench(dtype))
    with torch.cuda.device(device), in_tf32(dtype == "tf32"):
        return find_peaks(cuda_bench(device, dtype))


def cache_folder() -> Path:
    """Where this user's programs keep what they can make anew.

    Raises:
        RuntimeError: the user has no home.
    """
    told = os.environ.get("XDG_CACHE_HOME", "")
    if Path(told).is_absolute():  # the XDG base directory specification: a relative path is to be ignored
        return Path(told) / "attnbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "attnbench" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "attnbench"


def _file(fingerprint: str) -> Path:
    return cache_folder() / f"roof-{fingerprint}.json"


def _read(fingerprint: str) -> dict[str, Peaks]:
    """The kept peaks by dtype; none where the file is not there or is not what it should be."""
    try:
        data = json.loads(_file(fingerprint).read_text(encoding="utf-8"))
        if data["schema"] != _SCHEMA:
            return {}
        found = [Peaks.from_dict(each) for each in data["peaks"]]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return {}
    return {each.dtype: each for each in found if each.fingerprint == fingerprint}


def _write(fingerprint: str, peaks: Peaks) -> None:
    """Keep them beside those of other dtypes; where nothing can be written nothing is kept."""
    every = {**_read(fingerprint), peaks.dtype: peaks}
    data = {"schema": _SCHEMA, "peaks": [each.to_dict() for each in every.values()]}
    with suppress(OSError, RuntimeError):
        _replace(_file(fingerprint), data)


def _replace(path: Path, data: Any) -> None:
    """Write beside it and rename, so that who reads at the same time reads the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
