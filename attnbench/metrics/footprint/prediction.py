"""Predicts the peak memory of a step on fake tensors, with the scratch of the kernels that would run."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnbench.core.record import Note
from attnbench.metrics.footprint.attention_kernels import Kernel, as_on_cuda
from attnbench.metrics.footprint.cuda_allocator import BLOCK, blas_workspace, keeps_workspace, kernel_scratch, uses_blas
from attnbench.metrics.footprint.linear_bias import biases_in_place
from attnbench.metrics.footprint.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.footprint.measured import step_in_two
from attnbench.metrics.footprint.parts import Unknown
from attnbench.metrics.footprint.scratch import scratch_of
from attnbench.metrics.subject import Subject

__all__ = ["Prediction", "predict"]

_LIVE = "live bytes of fake tensors, operator by operator; what kernels take for themselves was not asked for"
_CPU = ("live bytes of fake tensors, operator by operator, and the scratch of this machine's CPU kernels, each seen in "
        "one call alone or in smaller ones")  # fmt: skip
_CUDA = ("live bytes of fake tensors, operator by operator, in blocks of 512 bytes, with {workspace:,} bytes for "
         "cuBLAS and the scratch of attention kernels as their source has it; not measured on {device}")  # fmt: skip
_NOT_HERE = ("predicted for a CUDA device that is not here: compute capability 8.0 is assumed{attention}; "
             "on the device itself attnbench asks torch")  # fmt: skip
_ABSENT = (8, 0)
_CUDNN = "the predicted peak may be too low: cuDNN takes a workspace for convolutions that only the device tells"
_CUDNN_ATTENTION = "the predicted peak may be too low: what cuDNN's attention takes for itself is not known"
_RECURRENT = ("the predicted peak of a recurrent layer may be off by a tenth, since its steps reuse memory otherwise "
              "while they are watched, and with a backward far too low, since its workspace is not known")  # fmt: skip

# A kernel takes at most this many times what it reads and writes, or (an unfolded small image) this many bytes: what
# stays below the peak even so need not be looked at. Attention and whole layers in one operator are always looked at.
_REACH, _UNFOLDED = 4, 4 * 2**20
_LAYERS = ("attention", "_transformer_encoder_layer_fwd", "mkldnn_rnn_layer")

# Doubt is said where it may move the peak by more than this part of it.
_NEGLIGIBLE = 0.005


@dataclass(frozen=True, slots=True)
class Prediction:
    """Bytes: peak = weights + inputs + optimizer + saved + temporary + scratch; `saved` is None without a backward."""

    peak: int
    weights: int
    inputs: int
    optimizer: int
    saved: int | None
    scratch: int
    method: str
    doubts: tuple[Note, ...] = ()

    @property
    def temporary(self) -> int:
        """At the peak of live tensors, all but weights, inputs and what is saved for the backward."""
        return self.peak - self.scratch - self.weights - self.inputs - self.optimizer - (self.saved or 0)


def predict(subject: Subject, *, scratch: bool = True) -> Prediction:
    """The peak of one step of a Subject on fake tensors, for the case's device whether it is here or not.

    Without `scratch` it is that of live tensors alone.
    """
    cuda = subject.case.device.startswith("cuda")
    absent = cuda and not torch.cuda.is_available()
    block, device = BLOCK if cuda else 1, subject.case.device.partition(":")[0] if not absent else None
    _keep_state(subject, absent)
    state = _state(subject, cuda)
    held = [*subject.weights, *subject.tensors, *state]
    weights, inputs = storage_bytes(subject.weights, block), storage_bytes(subject.tensors, block)
    optimizer = storage_bytes(state, block)
    live = LiveBytes(held, block, device)
    with as_on_cuda() if absent else nullcontext(set[Kernel]()) as kernels, live, biases_in_place(live):
        between = step_in_two(subject, lambda: live.now)
    saved = None if isinstance(between, Unknown) else between - weights - inputs - optimizer
    if not scratch:
        return Prediction(live.peak, weights, inputs, optimizer, saved, 0, _LIVE)
    taken, method, doubts = _on_cuda(live, kernels, absent) if cuda else _on_cpu(live)
    if any(isinstance(part, nn.RNNBase) for part in subject.module.modules()):
        doubts.append(Note("scratch", _RECURRENT))
    return Prediction(live.peak + taken, weights, inputs, optimizer, saved, taken, method, tuple(doubts))


def _keep_state(subject: Subject, absent: bool) -> None:
    """In mode `train` run a first step: it makes the state that the optimizer keeps."""
    if subject.optimizer is None:
        return
    for group in subject.optimizer.param_groups if absent else ():
        group["capturable"] = False  # which torch refuses where fake tensors of a CUDA device live on the CPU
    subject.step()


def _state(subject: Subject, cuda: bool) -> list[Tensor]:
    """What the optimizer keeps on the case's device: beside CUDA, its count of steps stays on the host."""
    if subject.optimizer is None or not cuda:
        return subject.optimizer_state
    kept = (item for state in subject.optimizer.state.values() for item in state.items())
    host = () if subject.optimizer.param_groups[0]["capturable"] else ("step",)
    return [value for name, value in kept if isinstance(value, Tensor) and name not in host]


def _on_cpu(live: LiveBytes) -> tuple[int, str, list[Note]]:
    """By how much kernels raise the peak above that of live tensors; how that is known; and what is not known."""
    peak, unknown, guessed, odd = live.peak, set[str](), set[str](), set[str]()
    for call, moment in sorted(live.calls.items(), key=lambda item: item[1], reverse=True):
        reached = moment.before + moment.made
        most = _REACH * (call.bytes + moment.made) + _UNFOLDED
        if reached + most <= peak and not any(layer in call.name for layer in _LAYERS):
            continue
        found = scratch_of(call)
        if found is None:
            unknown.add(call.name)
            continue
        if found.kept is not None and found.kept - moment.made > _NEGLIGIBLE * peak:
            odd.add(call.name)
        if found.guessed and found.taken > _NEGLIGIBLE * peak:
            guessed.add(call.name)
        peak = max(peak, reached + found.taken, moment.before + (found.kept or 0) + found.taken)
    return peak - live.peak, _CPU, list(_cpu_doubts(unknown, guessed, odd))


def _cpu_doubts(unknown: set[str], guessed: set[str], odd: set[str]) -> Iterator[Note]:
    if unknown:
        yield Note("scratch", f"the predicted peak may be too low: what {_list(unknown)} takes for itself is not known "
                              "at this size")  # fmt: skip
    if guessed:
        yield Note("scratch", f"the predicted peak may be off: what {_list(guessed)} takes for itself is carried on "
                              "from smaller batches, where another kernel may run")  # fmt: skip
    if odd:
        yield Note("scratch", f"the predicted peak may be too low: {_list(odd)} keeps more for the backward than fake "
                              "tensors say")  # fmt: skip


def _on_cuda(live: LiveBytes, kernels: set[Kernel], absent: bool) -> tuple[int, str, list[Note]]:
    workspace = blas_workspace(_ABSENT if absent else torch.cuda.get_device_capability())
    # A backward runs in a thread of its own, which has a cuBLAS of its own.
    threads = len({backward for name, backward in live.phases if uses_blas(name)})
    kept = workspace * threads if keeps_workspace() else 0
    passing = 0 if keeps_workspace() else workspace
    reached = (moment.before + moment.made + kernel_scratch(call) + passing * uses_blas(call.name)
               for call, moment in live.calls.items())  # fmt: skip
    scratch = max(live.peak, *reached, 0) - live.peak + kept
    device = "such a device" if absent else "this device"
    blas = kept or passing * min(threads, 1)
    return scratch, _CUDA.format(workspace=blas, device=device), list(_cuda_doubts(live, kernels, absent))


def _cuda_doubts(live: LiveBytes, kernels: set[Kernel], absent: bool) -> Iterator[Note]:
    if absent:
        by = f" and attention by the {_list(set(kernels))} kernel" if kernels else ""
        yield Note("assumed", _NOT_HERE.format(attention=by))
    if "cudnn" in kernels:
        yield Note("scratch", _CUDNN_ATTENTION)
    if any("convolution" in call.name for call in live.calls):
        yield Note("scratch", _CUDNN)


def _list(names: set[str]) -> str:
    return ", ".join(sorted(name.removeprefix("aten.") for name in names))
