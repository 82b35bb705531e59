"""Tries on a GPU: events, a full queue, a flushed L2 cache, the kernels, the allocator, a recorded graph."""

import os
import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from attnbench.core.case import Case
from attnbench.core.record import Note, Reading
from attnbench.core.units import MIB, human_bytes, significant
from attnbench.metrics.footprint.on_cuda import of_process
from attnbench.metrics.footprint.parts import Unknown
from attnbench.metrics.kernels import measure_kernels
from attnbench.metrics.metric import Finding, Options
from attnbench.metrics.nvml import Gpu, gpu_of
from attnbench.metrics.subject import Subject
from attnbench.metrics.timing.timers import EventTimer, Run
from attnbench.metrics.trials.answer import Answer, no, partly, yes

__all__ = ["caching_allocator", "device_events", "full_queue", "gpu_load", "gpu_process", "kernels", "l2_flush",
           "recorded_graph"]  # fmt: skip

_NO_NVML = "NVML cannot be read, or does not know this device"
_PAIRS, _STEPS, _COLD_STEPS = 100, 200, 20


def device_events(device: str, cuda: Any = torch.cuda) -> Answer:
    """What two events around nothing read."""
    pairs = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(_PAIRS)]
    for start, stop in pairs:
        start.record()
        stop.record()
    cuda.synchronize()
    nothing_us = statistics.median(float(start.elapsed_time(stop)) * 1e3 for start, stop in pairs)
    return yes(f"CUDA events around blocks of steps; two around nothing are {significant(nothing_us, 2)} us apart",
               nothing_us=nothing_us)  # fmt: skip


def full_queue(device: str, timer: EventTimer | None = None, run: Run | None = None) -> Answer:
    """Whether a block can be queued while the device is held, and what the host and the device take for a launch."""
    timer = timer or EventTimer()
    block = timer.warm(run or _additions(device))
    block(_STEPS)
    device_us = block(_STEPS) * 1e3
    if timer.gaps or not timer.hosts:
        return no("the device's queue could not be kept full: its times hold the gaps between launches")
    host_us = timer.hosts[-1] * 1e3
    return yes(f"host time beside device time: queueing a small kernel takes {significant(host_us, 2)} us, running it "
               f"{significant(device_us, 2)} us", host_us=host_us, device_us=device_us)  # fmt: skip


def l2_flush(device: str, timer: EventTimer | None = None, run: Run | None = None) -> Answer:
    """Whether the L2 cache is known and can be overwritten between steps."""
    size = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
    if not size:
        return no("torch does not tell the size of this GPU's L2 cache")
    timer = timer or EventTimer()
    timer.cold(run or _additions(device), size)(_COLD_STEPS)
    how = f"{human_bytes(size)} of L2 cache are overwritten before each step"
    if timer.gaps:
        return partly(f"{how}, but the queue could not be kept full: the times hold gaps", l2_bytes=size)
    return yes(how, l2_bytes=size)


def _additions(device: str) -> Run:
    small = torch.zeros(1024, device=device)

    def run(steps: int) -> None:
        for _ in range(steps):
            small.add_(1.0)

    return run


def kernels(device: str) -> Answer:
    """What the instrument for kernels finds of a small step."""
    subject = Subject(Case("relu", device=device), torch.nn.ReLU(), (torch.ones(1024, device=device),), device)
    return seen_kernels(measure_kernels(subject, Options()))


def seen_kernels(findings: Iterable[Finding]) -> Answer:
    """The answer where that instrument found this."""
    found = list(findings)
    listed = next((each.value for each in found if isinstance(each, Reading) and each.name == "kernels"), None)
    if listed:
        return yes(f"torch's profiler (CUPTI) saw {len(listed)} kernel{'' if len(listed) == 1 else 's'} of a ReLU")
    why = [each.text.partition(": ")[2] for each in found if isinstance(each, Note) and each.kind == "not_measured"]
    return no("; ".join(why))


def gpu_load(device: str) -> Answer:
    """Who else is on the GPU."""
    torch.zeros(1, device=device)  # so that this process is there, too
    gpu = gpu_of(device)
    return no(_NO_NVML) if gpu is None else _listed(gpu, os.getpid())


def _listed(gpu: Gpu, pid: int) -> Answer:
    listed = gpu.processes()
    count, held = gpu.others(pid) or (0, None)
    if listed is None:
        return no("NVML does not list the processes on this GPU")
    memory = f" with {human_bytes(held)}" if held is not None and count else ""
    how = f"NVML: {count or 'no'} other process{'' if count == 1 else 'es'} on it now{memory}"
    if pid in dict(listed):
        return yes(how, others=count)
    return partly(f"{how}; it does not know this process by its number, as in a container, and takes one of those that "
                  "it lists for it", others=count)  # fmt: skip


def caching_allocator(device: str) -> Answer:
    """Whether the allocator's peak rises by what is taken."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    block = torch.empty(MIB, dtype=torch.uint8, device=device)
    rise = torch.cuda.max_memory_allocated() - before
    del block
    backend = torch.cuda.get_allocator_backend()
    if rise < MIB:
        return no(f"the statistics of the allocator {backend} did not show a block of 1 MiB")
    if backend == "native":
        return yes("the CUDA caching allocator's statistics: a block of 1 MiB was seen in its peak")
    return partly(f"the statistics of the allocator {backend}, which does not tell what was asked of it",
                  "with the native one (PYTORCH_CUDA_ALLOC_CONF=backend:native) rounding is known too")  # fmt: skip


def gpu_process(device: str) -> Answer:
    """Whether NVML knows what this process holds on the GPU."""
    torch.zeros(1, device=device)
    found = of_process(device)
    if isinstance(found, Unknown):
        return no(found.why)
    return yes(f"NVML: {human_bytes(found)} of this process now, its CUDA context among them", bytes=found)


def recorded_graph(device: str) -> Answer:
    """Whether an addition can be recorded, and its replay adds."""
    number = torch.zeros(1, device=device)
    after = _replayed(number)
    return yes("an addition was recorded as a CUDA graph, and its replay added") if after == 1.0 else no(
        f"the replay of a recorded addition of 1 to 0 gave {after}")  # fmt: skip


def _replayed(number: Tensor) -> float:
    """What is in it after the replay of an addition of 1; it begins as 0."""
    stream = torch.cuda.Stream(number.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(number.device))
    with torch.cuda.stream(stream):
        number.add_(1.0)  # the first launch of a kernel loads it, which cannot be recorded
        number.zero_()
    torch.cuda.current_stream(number.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        number.add_(1.0)
    graph.replay()
    torch.cuda.synchronize()
    return float(number.item())
