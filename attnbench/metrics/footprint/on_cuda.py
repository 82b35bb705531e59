"""Measures the memory of a step on a CUDA device: by the caching allocator's statistics, its tensors, and NVML."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from attnbench.core.record import Note
from attnbench.core.units import human_bytes
from attnbench.metrics.footprint.measured import Measured, followed_live, held_by, step_in_two
from attnbench.metrics.footprint.parts import Counted, Figure, Held, Unknown
from attnbench.metrics.hardware import release_memory
from attnbench.metrics.nvml import gpu_of
from attnbench.metrics.subject import Subject

__all__ = ["Allocator", "Peaks", "measured_on_cuda", "of_process"]

_METHOD = ("peak: of the CUDA caching allocator (allocated) over a step from an empty cache, after one that let "
           "libraries take the workspaces that they keep; live peak: the most that tensors held at once, followed at "
           "torch's dispatcher in a step of its own; the process's peak: all that NVML sees of it after the step, its "
           "CUDA context and what the allocator reserved")  # fmt: skip
_REPLAYED = ("reserved: all that the CUDA caching allocator holds while the recorded step is replayed, the memory of "
             "everything that was recorded for this case among it; the process's peak: all that NVML sees of it")
_RECORDED = Unknown("a recorded step took its memory when it was recorded, and a replay takes none: reserved_bytes "
                    "holds it")  # fmt: skip
_NO_NVML = Unknown("NVML does not see this device")
_NOT_TOLD = Unknown("NVML does not tell what a single process holds here")
_ELSE = ("{other} that are neither weights nor inputs were alive before the step, and the peak memory holds them: a "
         "cache of the module, or what something else left there")  # fmt: skip

# What is alive beside weights, inputs, state and workspaces is worth a doubt above this part of the peak.
_NOTABLE = 0.005


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most at once since the last reset, in bytes: given to tensors, asked for, and reserved on the device."""

    allocated: int
    asked: Figure
    reserved: int


class Allocator(Protocol):
    """What is asked of a caching allocator."""

    def now(self) -> int:
        """Bytes that were asked for and not given back."""

    def reset(self) -> None:
        """Hand what is cached back to the device, and forget the peaks."""

    def peaks(self) -> Peaks:
        """Once the device has done all that it was asked."""

    def drop_workspaces(self) -> None:
        """Take from cuBLAS the workspaces that it keeps."""


class _Torch:
    """torch's own. Its other backend, cudaMallocAsync, leaves the statistics of what was asked for at zero."""

    def __init__(self) -> None:
        self._backend = torch.cuda.get_allocator_backend()

    def now(self) -> int:
        kind = "requested" if self._backend == "native" else "allocated"
        return int(torch.cuda.memory_stats()[f"{kind}_bytes.all.current"])

    def reset(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> Peaks:
        torch.cuda.synchronize()
        found = torch.cuda.memory_stats()
        silent = Unknown(f"the allocator {self._backend} does not tell what was asked of it")
        asked = int(found["requested_bytes.all.peak"]) if self._backend == "native" else silent
        return Peaks(torch.cuda.max_memory_allocated(), asked, torch.cuda.max_memory_reserved())

    def drop_workspaces(self) -> None:
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()


def measured_on_cuda(subject: Subject, allocator: Allocator | None = None,
                     process: Callable[[str], Figure] | None = None) -> Measured:  # fmt: skip
    """Three steps: one that takes the workspaces that libraries keep, one counted, one followed.

    A workspace that was there before a step is there at its peak, wherever in the step its first product is; so the
    parts add up to the peak. That of a step which was recorded must stay where the recording saw it.
    """
    allocator, process = allocator or _Torch(), process or of_process
    if subject.replays:
        return _replayed(subject, allocator, process)
    release_memory()
    subject.step()
    allocator.reset()
    held, before = held_by(subject), allocator.now()
    between = step_in_two(subject, allocator.now)
    peaks, seen = allocator.peaks(), process(subject.case.device)
    kept = allocator.now()
    allocator.drop_workspaces()
    library = kept - allocator.now()
    live = peaks.asked if isinstance(peaks.asked, Unknown) else followed_live(subject)
    counted = Counted(peaks.allocated, peaks.asked, before, between, library, live)
    return Measured(held, counted, peaks.reserved, seen, _METHOD, tuple(_doubts(held, counted)))


def _replayed(subject: Subject, allocator: Allocator, process: Callable[[str], Figure]) -> Measured:
    allocator.reset()
    subject.step()
    peaks = allocator.peaks()
    return Measured(held_by(subject), _RECORDED, peaks.reserved, process(subject.case.device), _REPLAYED)


def _doubts(held: Held, counted: Counted) -> list[Note]:
    other = counted.before - held.total - counted.library
    if other <= _NOTABLE * counted.peak:
        return []
    return [Note("held", _ELSE.format(other=human_bytes(other)))]


def of_process(device: str) -> Figure:
    """All bytes that this process holds on the GPU, as NVML sees it."""
    gpu = gpu_of(device)
    if gpu is None:
        return _NO_NVML
    own = gpu.own_bytes(os.getpid())
    return _NOT_TOLD if own is None else own
