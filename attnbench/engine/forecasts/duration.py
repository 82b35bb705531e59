"""Guesses how long it will take to measure a Case: the steps that each instrument runs, and the seconds of a step.

The guess is for planning, and no reading: `tests/bench/bench_forecast.py` sets it beside measured runs. It mirrors what
the instruments do on a step of a known length; that length is itself guessed, from what was counted and the peaks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attnbench.core.case import Case
from attnbench.engine.processes import latency_only
from attnbench.metrics.metric import Options, chosen
from attnbench.metrics.roof.peaks import Peaks

__all__ = [
    "ESTIMATE",
    "INSTRUMENTS",
    "ITEM_BYTES",
    "Length",
    "counting_metrics",
    "lasting",
    "live_seconds",
    "step_seconds",
]

# Of the peak of products so much is reached by those of an attention; an elementwise operation goes through memory
# three times (two operands and an output), and a reduction, most of all a softmax, twice. Medians over the catalogue.
_OF_PEAK, _PASSES, _READS = 0.33, 3, 2
# A backward goes through what the forward went through, about twice.
_WITH_BACKWARD = 3
# The host's own time for a step, whatever is in it.
_LEAST_STEP = 3e-5
ITEM_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}

# Seconds, on a CPU of 2025: collecting garbage in a process that has torch loaded; estimating an interval, look by
# look; drawing a weight at random; torch.compile of a module, cold; a session of CUDA's profiler.
_COLLECT, ESTIMATE, _WEIGHT, _COMPILE, _PROFILER = 0.12, 0.12, 1.5e-8, 15.0, 0.5
_TO_GUESS = {"params", "predicted_memory", "macs", "backward_macs", "bytes_moved"}
# The search for the best batch: so many batches, and looks at each.
_BATCHES, _LOOKS, _LOOK = 6, 2.5, 1.0


@dataclass(frozen=True, slots=True)
class Length:
    """The seconds of a step, and what is at hand for guessing how long a Case lasts.

    `counting` are the seconds that everything took which needs no device; `start` those until a fresh process is as
    far. `attends` tells that the Case is a network with attentions in it.
    """

    step: float
    counting: float
    start: float
    weights: int = 0
    attends: bool = False


def counting_metrics(options: Options) -> tuple[str, ...]:
    """The instruments that need no device: those asked for, and where something runs those that it is guessed from."""
    asked = {each.name for each in chosen(options.metrics) if not each.live}
    live = any(each.live for each in chosen(options.metrics))
    return tuple(sorted(asked | (_TO_GUESS if live else set())))


def step_seconds(case: Case, readings: Mapping[str, Any], peaks: Peaks) -> float:
    """A guess at how long a step takes; within a factor of two for most of the catalogue."""

    def count(name: str) -> int:
        return int(readings.get(f"static.{name}") or 0)

    backward = case.differentiates
    flops = 2 * (count("macs") + count("backward_macs")) + count("fft_flops") * (_WITH_BACKWARD if backward else 1)
    passes = _PASSES * count("elementwise") + _READS * count("reductions")
    moved = passes * ITEM_BYTES[case.dtype] * (_WITH_BACKWARD if backward else 1) + count("bytes_moved")
    used = count("predicted_peak_bytes")
    rung = next((each for each in peaks.ladder if each.footprint >= used), peaks.ladder[-1])
    return _LEAST_STEP + flops / peaks.flops_per_s / _OF_PEAK + moved / rung.copy


def lasting(case: Case, options: Options, length: Length) -> float:
    """Seconds that a worker is occupied with a Case, without the start of the worker itself."""
    live = live_seconds(case, options, length)
    if not live:
        return length.counting
    others = options.processes - 1
    if not others:
        return _search(case, options, length) + length.counting + live
    again = live_seconds(case, latency_only(options), length)
    return _search(case, options, length) + options.processes * (length.start + length.counting) + live + others * again


def live_seconds(case: Case, options: Options, length: Length) -> float:
    """Of one process: to build the Case, and for all instruments that run it; 0 where none does."""
    live = [each.name for each in chosen(options.metrics) if each.live]
    if not live:
        return 0.0
    seconds = (
        _COLLECT
        + length.weights / ITEM_BYTES[case.dtype] * _WEIGHT
        + length.step
        + (_COMPILE if case.engine == "compile" else 0.0)
    )
    return seconds + sum(INSTRUMENTS[name](case, options, length) for name in live if name in INSTRUMENTS)


def _latency(case: Case, options: Options, length: Length) -> float:
    """Warm-up and samples, which are taken to need all of --max-time; five steps are the least, however long."""
    cuda = case.device.startswith("cuda")
    step = length.step * (4 / 3 if case.mode == "bwd" else 1)  # and the forward that is taken off
    warm = max(2 * step, min(options.max_time / 5, 11 * max(step, 1e-3))) * (2 if case.mode == "bwd" or cuda else 1)
    return warm + max(options.max_time, (10 if cuda else 5) * step) + ESTIMATE


def _throughput(case: Case, options: Options, length: Length) -> float:
    """A step, runs that grow, and then from two to ten of them."""
    if case.mode == "bwd":
        return 0.0
    seconds = min(0.4, options.max_time / 5)
    run = max(length.step, 0.12 * seconds)
    return 2 * length.step + run + run * min(10.0, max(2.0, seconds / run))


def _memory(case: Case, options: Options, length: Length) -> float:
    return _COLLECT + 3 * length.step


def _share(case: Case, options: Options, length: Length) -> float:
    """The attentions of a network alone, all together in the time of one."""
    if not length.attends or case.mode not in ("fwd", "fwd_bwd") or case.engine != "eager":
        return length.step if case.kind == "network" else 0.0
    return length.step + _latency(case, options, replace(length, step=length.step / 3))


def _energy(case: Case, options: Options, length: Length) -> float:
    """A GPU's counter is watched for a good second; few hosts let anybody read that of the CPU."""
    if case.mode == "bwd" or not case.device.startswith("cuda"):
        return 0.0
    return max(1.3, 2 * length.step) * (2 if options.subtract_idle else 1)


def _kernels(case: Case, options: Options, length: Length) -> float:
    return _PROFILER + 5 * length.step if case.device.startswith("cuda") else 0.0


def _attention(case: Case, options: Options, length: Length) -> float:
    return length.step


INSTRUMENTS: Mapping[str, Callable[[Case, Options, Length], float]] = {
    "latency": _latency, "throughput": _throughput, "memory": _memory, "share": _share, "energy": _energy,
    "kernels": _kernels, "attention": _attention,
}  # fmt: skip


def _search(case: Case, options: Options, length: Length) -> float:
    """For the best batch: looks at batches 1, 2, 4 ..., each twice or three times; how many nobody knows."""
    if not options.best_batch:
        return 0.0
    look = replace(options, metrics=("throughput",), max_time=min(options.max_time, _LOOK))
    seconds = 0.0
    for doubled in range(_BATCHES):
        larger = replace(length, step=length.step * 2**doubled)
        seconds += _LOOKS * (length.counting + live_seconds(case, look, larger))
    return seconds
