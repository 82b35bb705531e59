"""Peak memory of one step, predicted without running and measured; and what it is made of, told apart."""

from collections.abc import Iterator, Mapping

from attnbench.core.record import Note, Reading
from attnbench.metrics.footprint.measured import NOTHING_KEPT, Measured
from attnbench.metrics.footprint.on_cpu import measured_on_cpu
from attnbench.metrics.footprint.on_cuda import measured_on_cuda
from attnbench.metrics.footprint.parts import Figure, Unknown, parted
from attnbench.metrics.footprint.prediction import predict
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["measure_memory", "predict_memory"]

_OF_A_STEP = ("peak", "activations", "saved", "temporary", "workspace", "rounding", "live_peak")
_WHOLE = "; of the whole step, forward and backward, since a backward cannot be run alone"
_EAGER = ("the predicted peak is that of steps run operator by operator: what --engine {engine} saves or takes besides "
          "is not predicted")  # fmt: skip


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
        yield Note("not_measured", f"static.predicted_saved_bytes: {NOTHING_KEPT.why}")
    yield Reading("static.predicted_temporary_bytes", found.temporary, "bytes", "same")
    yield Reading("static.predicted_scratch_bytes", found.scratch, "bytes")
    yield Reading("static.predicted_method", found.method)
    yield from found.doubts
    if subject.case.engine != "eager":
        yield Note("assumed", _EAGER.format(engine=subject.case.engine))


@metric(name="memory", on="device", fields=("memory",))
def measure_memory(subject: Subject, options: Options) -> Iterator[Finding]:
    """The peak of a real step, told apart; in bytes.

    peak = weights + inputs + optimizer + saved + temporary + workspace + rounding, where what is null counts as 0.
    Workspace is what kernels and libraries take for themselves, rounding what the allocator gives beyond what was asked
    of it. The peak of live tensors, what the allocator reserved and the peak of the whole process stand beside it.
    """
    found = measured_on_cuda(subject) if subject.case.device.startswith("cuda") else measured_on_cpu(subject)
    reasons: dict[str, list[str]] = {}
    for name, figure in _figures(found).items():
        if isinstance(figure, Unknown):
            reasons.setdefault(figure.why, []).append(f"memory.{name}_bytes")
        else:
            yield Reading(f"memory.{name}_bytes", figure, "bytes", "lower", "Peak memory" if name == "peak" else "")
    for why, names in reasons.items():
        yield Note("not_measured", f"{', '.join(names)}: {why}")
    yield Reading("memory.method", found.method + (_WHOLE if subject.case.mode == "bwd" else ""))
    yield from found.notes


def _figures(found: Measured) -> Mapping[str, Figure]:
    """Every figure of the record, or why it is not there, by its name without `_bytes`."""
    held, counted = found.held, found.counted
    stand: dict[str, Figure] = {
        "weights": held.weights, "inputs": held.inputs, "optimizer": held.optimizer, "reserved": found.reserved,
        "process_peak": found.process,
    }  # fmt: skip
    if isinstance(counted, Unknown):
        return dict.fromkeys(_OF_A_STEP, counted) | stand
    parts = parted(held, counted)
    live = counted.live if isinstance(counted.live, Unknown) else counted.live.peak
    of_step = (counted.peak, counted.peak - held.total, parts.saved, parts.temporary, parts.workspace, parts.rounding,
               live)  # fmt: skip
    return dict(zip(_OF_A_STEP, of_step, strict=True)) | stand
