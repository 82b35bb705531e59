"""What can be measured: the list of abilities, and how each is tried on a CPU and on a GPU."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from attnbench.core.errors import named
from attnbench.metrics.trials import anywhere, on_cpu, on_cuda
from attnbench.metrics.trials.answer import Answer, Trial, no

__all__ = ["ABILITIES", "Ability", "abilities"]


@dataclass(frozen=True, slots=True)
class Ability:
    """Something that can be measured or not; what stands in place of a trial is the answer for every CPU.

    `on_cpu_quick` is tried in its place where there is no time.
    """

    name: str
    on_cpu: Trial | Answer
    on_cuda: Trial
    on_cpu_quick: Trial | None = None

    def trial(self, device: str, *, quick: bool) -> Trial | Answer:
        """What finds out about it on that torch device."""
        if device.startswith("cuda"):
            return self.on_cuda
        return self.on_cpu_quick if quick and self.on_cpu_quick is not None else self.on_cpu


ABILITIES = (
    Ability("latency", on_cpu.host_clock, on_cuda.device_events),
    Ability("cold latency", no("needs a GPU: a CPU's caches are not flushed"), on_cuda.l2_flush),
    Ability("launch-bound", no("needs a GPU: on a CPU host and device are one"), on_cuda.full_queue),
    Ability("kernel list", no("needs a GPU: CUPTI lists what runs there"), on_cuda.kernels),
    Ability("clocks, throttling", anywhere.conditions, anywhere.conditions),
    Ability("other load", on_cpu.host_load, on_cuda.gpu_load),
    Ability("peak memory", on_cpu.allocator_events, on_cuda.caching_allocator),
    Ability("process memory", on_cpu.resident, on_cuda.gpu_process),
    Ability("energy", anywhere.energy, anywhere.energy),
    Ability("roofline", anywhere.roof, anywhere.roof),
    Ability("engine compile", anywhere.compiled, anywhere.compiled, on_cpu.compiler),
    Ability("engine cudagraph", no("needs a GPU"), on_cuda.recorded_graph),
    Ability("memory guard", anywhere.free_memory, anywhere.free_memory),
)


def abilities(device: str, done: Sequence[str] = (), *, quick: bool = False) -> Iterator[tuple[str, Answer | None]]:
    """Tries one after the other on the torch device, but for those that are `done`.

    Of each there is first the name and None, since trying it may take long or end the process, then name and answer.
    """
    for ability in ABILITIES:
        if ability.name not in done:
            yield ability.name, None
            yield ability.name, _answer(ability.trial(device, quick=quick), device)


def _answer(trial: Trial | Answer, device: str) -> Answer:
    if isinstance(trial, Answer):
        return trial
    try:
        with warnings.catch_warnings(), torch.cuda.device(device) if device.startswith("cuda") else nullcontext():
            warnings.simplefilter("ignore")  # what torch says of itself is no answer
            return trial(device)
    except Exception as error:  # torch, its compilers, NVIDIA's libraries: whatever they raise is why not
        return no(f"trying it fails: {named(error)}")
