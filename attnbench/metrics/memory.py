"""Peak memory of one step: predicted without running, and measured; weights, inputs and activations told apart."""

import gc
from collections.abc import Iterator

import torch

from attnbench.core.record import Note, Reading
from attnbench.metrics.footprint.cpu_allocator import Account, followed
from attnbench.metrics.footprint.live_bytes import storage_bytes
from attnbench.metrics.footprint.prediction import predict
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["measure_memory", "predict_memory"]

_EVENTS = "the CPU allocator's own events: every block taken and given back, scratch inside kernels too"
_ALLOCATOR = "peak of the CUDA caching allocator (allocated, rounded to 512 bytes a block)"
_NOTHING_SAVED = "a forward alone keeps nothing for a backward"


@metric(name="predicted_memory", on="fake",
        fields=("static.predicted_peak_bytes", "static.predicted_weights_bytes", "static.predicted_inputs_bytes",
                "static.predicted_optimizer_bytes", "static.predicted_saved_bytes", "static.predicted_temporary_bytes",
                "static.predicted_scratch_bytes", "static.predicted_method"))  # fmt: skip
def predict_memory(subject: Subject, options: Options) -> Iterator[Finding]:
    """The peak of one step on fake tensors, which have sizes and lifetimes but no data, and what it is made of.

    peak = weights + inputs + optimizer state + saved + temporary + scratch, all in bytes. Saved is what lives between
    forward and backward beside those before it (only where there is a backward). Scratch is by how much kernels' own
    buffers raise the peak above that of live tensors; temporary is the rest at that peak.
    """
    found = predict(subject, scratch=options.scratch)
    yield Reading("static.predicted_peak_bytes", found.peak, "bytes", "same", "Predicted peak")
    yield Reading("static.predicted_weights_bytes", found.weights, "bytes", "same")
    yield Reading("static.predicted_inputs_bytes", found.inputs, "bytes", "same")
    yield Reading("static.predicted_optimizer_bytes", found.optimizer, "bytes", "same")
    if found.saved is not None:
        yield Reading("static.predicted_saved_bytes", found.saved, "bytes", "same")
    else:
        yield Note("not_measured", f"static.predicted_saved_bytes: {_NOTHING_SAVED}")
    yield Reading("static.predicted_temporary_bytes", found.temporary, "bytes", "same")
    yield Reading("static.predicted_scratch_bytes", found.scratch, "bytes")
    yield Reading("static.predicted_method", found.method)
    yield from found.doubts


@metric(name="memory", on="device", fields=("memory",))
def measure_memory(subject: Subject, options: Options) -> Iterator[Finding]:
    """The peak of one real step."""
    weights, inputs = storage_bytes(subject.weights), storage_bytes(subject.tensors)
    cuda = subject.case.device.startswith("cuda")
    peak, saved = _cuda_peak(subject) if cuda else _cpu_peak(subject, weights + inputs)
    yield Reading("memory.peak_bytes", peak, "bytes", "lower", "Peak memory")
    yield Reading("memory.weights_bytes", weights, "bytes", "lower")
    yield Reading("memory.inputs_bytes", inputs, "bytes", "lower")
    yield Reading("memory.activations_bytes", peak - weights - inputs, "bytes", "lower")
    if saved is not None:
        yield Reading("memory.saved_bytes", saved - weights - inputs, "bytes", "lower")
    else:
        yield Note("not_measured", f"memory.saved_bytes: {_NOTHING_SAVED}")
    yield Reading("memory.method", _ALLOCATOR if cuda else _EVENTS)
    if cuda:
        yield Reading("memory.reserved_bytes", torch.cuda.max_memory_reserved(), "bytes", "lower")
    else:
        yield Note("not_measured", "memory.reserved_bytes: the CPU's allocator reserves nothing that torch can see")


def _cpu_peak(subject: Subject, held: int) -> tuple[int, int | None]:
    """Peak of the step and, with a backward, what is alive between forward and backward; in bytes."""
    account = Account()
    if not subject.case.differentiates:
        with followed(account):
            subject.forward()
        return held + account.peak, None
    with followed(account):
        output = subject.module(*subject.inputs)
    kept = account.now
    with followed(account):
        subject.finish(output)
    return held + account.peak, held + kept


def _cuda_peak(subject: Subject) -> tuple[int, int | None]:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if not subject.case.differentiates:
        subject.forward()
        kept = None
    else:
        output = subject.module(*subject.inputs)
        kept = torch.cuda.memory_allocated()
        subject.finish(output)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), kept
