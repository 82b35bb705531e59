"""A Reading and a Note: one figure, one doubt; and the figures that every record of schema 1 names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["SECTIONS", "Better", "Note", "Reading"]

Better = Literal["lower", "higher", "same", ""]

# The figures that every record names. One that was not measured is null, never zero and never left out.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "static": ("params", "trainable_params", "buffers", "macs", "flops", "macs_by_op", "macs_by_module", "useful_macs",
               "elementwise", "reductions", "fft_flops", "backward_macs", "recomputed_macs", "uncounted_ops",
               "backward_uncounted_ops", "counters", "verified", "counted_on", "claimed_complexity", "bytes_moved",
               "predicted_peak_bytes", "predicted_weights_bytes", "predicted_inputs_bytes",
               "predicted_optimizer_bytes", "predicted_saved_bytes", "predicted_temporary_bytes",
               "predicted_scratch_bytes", "predicted_method", "swapped", "inserted"),
    "latency": ("median_ms", "ci_low_ms", "ci_high_ms", "mean_ms", "p95_ms", "min_ms", "processes", "samples",
                "set_aside", "warmup_ms", "compile_ms", "cold_ms", "cold_low_ms", "cold_high_ms", "kernel_ms",
                "host_ms", "launch_bound", "other_cores", "samples_ms", "method"),
    "attention": ("kernel", "operators", "places", "alone_ms", "alone_low_ms", "alone_high_ms", "share"),
    "throughput": ("samples_per_s", "ci_low_per_s", "ci_high_per_s", "tokens_per_s"),
    "memory": ("peak_bytes", "weights_bytes", "inputs_bytes", "optimizer_bytes", "activations_bytes", "saved_bytes",
               "temporary_bytes", "workspace_bytes", "rounding_bytes", "live_peak_bytes", "reserved_bytes",
               "process_peak_bytes", "method"),
    "energy": ("joules_per_step", "joules_per_sample", "watts", "idle_watts", "method"),
    "roofline": ("intensity", "bound", "percent_of_roof", "roof_ms", "cold_percent_of_roof", "cold_roof_ms",
                 "flops_per_s", "bytes_per_s", "peak_flops_per_s", "peak_bytes_per_s", "method"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure that says itself what it is, so that tables, exporters and the gate need no list of metrics.

    `name` is the dotted field of the record (`latency.median_ms`), `unit` one of core.units (`ms`, `bytes`, `count`,
    `MAC`, `1/s`, or nothing for words), `better` the direction that is good (`same` where any change is news).
    A `title` puts it into tables, under that heading. `low` and `high` name the fields of its 95 % interval.
    """

    name: str
    value: Any
    unit: str = ""
    better: Better = ""
    title: str = ""
    low: str = ""
    high: str = ""

    def describe(self) -> dict[str, str]:
        """Everything but the value."""
        return {"name": self.name, "unit": self.unit, "better": self.better, "title": self.title,
                "low": self.low, "high": self.high}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """A doubt worth saying, with advice: `kind` is one word for machines, `text` a sentence for people."""

    kind: str
    text: str
