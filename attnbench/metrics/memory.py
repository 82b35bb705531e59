"""Peak memory of one step: predicted without running, and measured; weights, inputs and activations told apart."""

import gc
from collections.abc import Iterator

import torch

from attnbench.core.record import Note, Reading
from attnbench.metrics.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["measure_memory", "predict_memory"]

_LIVE = "live tensor bytes, followed operator by operator; scratch inside a kernel is not seen"
_SCRATCH = ("on the CPU the peak memory of a backward leaves out what kernels take and give back within one operator: "
            "the allocator was seen to need up to a third more")  # fmt: skip
_ALLOCATOR = "peak of the CUDA caching allocator (allocated, rounded to 512 bytes a block)"


@metric(name="predicted_memory", on="fake", fields=("static.predicted_peak_bytes",))
def predict_memory(subject: Subject, options: Options) -> Iterator[Finding]:
    """The peak of live tensor bytes in one step on fake tensors, which have sizes and lifetimes but no data."""
    peak, _ = _live_peak(subject)
    yield Reading("static.predicted_peak_bytes", peak, "bytes", "same", "Predicted peak")


@metric(name="memory", on="device", fields=("memory",))
def measure_memory(subject: Subject, options: Options) -> Iterator[Finding]:
    """The peak of one real step."""
    weights, inputs = storage_bytes(subject.weights), storage_bytes(subject.tensors)
    peak, saved = _cuda_peak(subject) if subject.case.device.startswith("cuda") else _live_peak(subject)
    yield Reading("memory.peak_bytes", peak, "bytes", "lower", "Peak memory")
    yield Reading("memory.weights_bytes", weights, "bytes", "lower")
    yield Reading("memory.inputs_bytes", inputs, "bytes", "lower")
    yield Reading("memory.activations_bytes", peak - weights - inputs, "bytes", "lower")
    if saved is not None:
        yield Reading("memory.saved_bytes", saved - weights - inputs, "bytes", "lower")
    else:
        yield Note("not_measured", "memory.saved_bytes: a forward alone keeps nothing for a backward")
    if subject.case.device.startswith("cuda"):
        yield Reading("memory.reserved_bytes", torch.cuda.max_memory_reserved(), "bytes", "lower")
        yield Reading("memory.method", _ALLOCATOR)
    else:
        yield Reading("memory.method", _LIVE)
        if subject.case.mode == "fwd_bwd":
            yield Note("scratch", _SCRATCH)
        yield Note("not_measured", "memory.reserved_bytes: the CPU's allocator reserves nothing that torch can see")


def _live_peak(subject: Subject) -> tuple[int, int | None]:
    """Peak of the step and, with a backward, what is alive between forward and backward; in bytes."""
    with LiveBytes([*subject.weights, *subject.tensors]) as live:
        if subject.case.mode == "fwd":
            subject.forward()
            return live.peak, None
        output = subject.module(*subject.inputs)
        kept = live.now
        subject.backward(output)
        return live.peak, kept


def _cuda_peak(subject: Subject) -> tuple[int, int | None]:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if subject.case.mode == "fwd":
        subject.forward()
        kept = None
    else:
        output = subject.module(*subject.inputs)
        kept = torch.cuda.memory_allocated()
        subject.backward(output)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), kept
