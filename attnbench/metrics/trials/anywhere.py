"""Tries on any device: clocks, energy, products for a roof, a compiler, and how much memory is free."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnbench.core.case import DTYPES
from attnbench.core.record import Note, Reading
from attnbench.core.units import human_bytes, significant
from attnbench.metrics.conditions import Watch, watch
from attnbench.metrics.energy_counters import Counter, counter_of
from attnbench.metrics.hardware import free_bytes
from attnbench.metrics.roof.cache import cache_folder, no_peak
from attnbench.metrics.trials.answer import Answer, no, partly, yes
from attnbench.metrics.trials.on_cpu import no_compiler

__all__ = ["compiled", "conditions", "energy", "free_memory", "moved", "roof", "seen"]

Clock = Callable[[], float]

# An energy counter moves every 1 to 100 ms, also on an idle device.
_COUNTER_S, _COUNTER_LOOK_S = 0.5, 0.005
_TORCH_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def conditions(device: str) -> Answer:
    """What a watch over the device sees in one look."""
    eyes = watch(device)
    eyes.look()
    return seen(eyes, "NVML" if device.startswith("cuda") else "/sys")


def seen(eyes: Watch, where: str) -> Answer:
    """The answer of a watch that was looked through once."""
    found = list(eyes.findings())
    read: dict[str, Any] = {each.name: each.value for each in found if isinstance(each, Reading)}
    silent = [each.text.partition(": ")[2] for each in found if isinstance(each, Note) and each.kind == "not_measured"]
    words = []
    if "env.clocks" in read:
        words.append(_speed(read["env.clocks"]))
    if "env.throttle_reasons" in read:
        words.append(f"held down by {', '.join(read['env.throttle_reasons']) or 'nothing'} now")
    if not words:
        return no("; ".join(silent))
    told = f"{where}: {', '.join(words)}"
    return partly("; ".join([told, *silent])) if silent else yes(told)


def _speed(clocks: Mapping[str, Any]) -> str:
    """`1755 of at most 1980 MHz, 54 °C, 612 W`."""
    now = clocks.get("sm_mhz_median", clocks.get("mhz_median"))
    most = clocks.get("max_sm_mhz", clocks.get("max_mhz"))
    words = [] if now is None else [f"{now:.0f} MHz" if most is None else f"{now:.0f} of at most {most:.0f} MHz"]
    for name, unit in (("temperature_c_max", "°C"), ("power_watts_median", "W")):
        if clocks.get(name) is not None:
            words.append(f"{clocks[name]:.0f} {unit}")
    return ", ".join(words) or "no clock now"


def energy(device: str) -> Answer:
    """Whether there is an energy counter, and it moves."""
    counter = counter_of(device)
    return no(counter) if isinstance(counter, str) else moved(counter)


def moved(counter: Counter, clock: Clock = time.perf_counter, wait: Callable[[float], None] = time.sleep) -> Answer:
    """The answer of a counter that is looked at until it moves, or for half a second."""
    first, end = counter.read(), clock() + _COUNTER_S
    if first is None:
        return no(f"{counter.how} cannot be read")
    while clock() < end:
        wait(_COUNTER_LOOK_S)
        now = counter.read()
        if now is not None and now > first:
            return yes(f"{counter.how}, which was seen to move")
    return no(f"{counter.how} was not seen to move in {_COUNTER_S:g} s")


def roof(device: str) -> Answer:
    """In which dtypes the device multiplies, and whether its peaks can be kept."""
    dtypes = [dtype for dtype in DTYPES if not no_peak(device, dtype) and _multiplies(device, dtype)]
    if not dtypes:
        return no("no matrix product runs on it")
    how = f"matrix products in {', '.join(dtypes)} and streams through memory, each about 2 s"
    folder = _kept_in()
    if folder is None:
        return partly(f"{how}; measured anew by each process, since they cannot be kept",
                      "give XDG_CACHE_HOME a folder that can be written", dtypes=dtypes)  # fmt: skip
    return yes(f"{how}; kept in {folder}", dtypes=dtypes)


def _multiplies(device: str, dtype: str) -> bool:
    small = torch.ones(16, 16, dtype=_TORCH_DTYPES[dtype], device=device)
    try:
        return bool((small @ small)[0, 0].item() == 16)
    except (RuntimeError, NotImplementedError):
        return False


def _kept_in() -> Path | None:
    """The folder of what is kept, if a file can be made there."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        return None


def compiled(device: str, clock: Clock = time.perf_counter) -> Answer:
    """Whether torch.compile compiles an addition, from nothing."""
    from torch._dynamo.utils import counters

    number, before = torch.ones(8, device=device), counters["stats"]["unique_graphs"]
    begin = clock()
    try:
        with _empty_caches():
            result = torch.compile(_plus_one)(number)
    except Exception as error:  # whatever a compiler raises
        return no_compiler(error)
    took = clock() - begin
    if counters["stats"]["unique_graphs"] == before:
        return no("torch.compile is switched off here, and runs everything as written", "TORCH_COMPILE_DISABLE=1 and "
                  "TORCHDYNAMO_DISABLE=1 do that")  # fmt: skip
    if not bool((result == 2).all()):
        return no("torch.compile makes of 1 + 1 something else than 2")
    return yes(f"torch.compile (inductor) compiled an addition in {significant(took, 2)} s", seconds=took)


@contextmanager
def _empty_caches() -> Iterator[None]:
    """What an earlier run compiled would hide that the compiler is gone."""
    from torch._inductor import utils

    torch.compiler.reset()
    try:
        with (getattr(utils, "fresh_cache", None) or utils.fresh_inductor_cache)():  # its name up to torch 2.7
            yield
    finally:
        torch.compiler.reset()


def _plus_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def free_memory(device: str) -> Answer:
    """How much memory is free."""
    free = free_bytes(device)
    if free is None:
        return no("this system does not tell how much memory is free: what does not fit is started all the same")
    if device.startswith("cuda"):
        return yes(f"{human_bytes(free)} are free on it; what does not fit is refused by CUDA, and is a row", free=free)
    return yes(f"{human_bytes(free)} are free; what is predicted to take more than 95 % of that is not started",
               free=free)  # fmt: skip
