"""A Record: a Case, how it ended, what was read, what to doubt, and on what machine; one JSON line of schema 1."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from attnbench.core.case import Case

__all__ = ["SCHEMA", "SECTIONS", "STATUSES", "Better", "Note", "Reading", "Record"]

SCHEMA = 1
STATUSES = ("ok", "oom", "unsupported", "incorrect", "error", "timeout", "crashed", "skipped")

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


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one Case. `key` is the Case's key, `asked` what a sweep asked, before anything was tried."""

    case: Case
    status: str
    reason: str = ""
    readings: tuple[Reading, ...] = ()
    notes: tuple[Note, ...] = ()
    env: Mapping[str, Any] = field(default_factory=dict)
    kernels: tuple[Mapping[str, Any], ...] | None = None
    repro: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.case.key

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def reading(self, name: str) -> Reading | None:
        """The reading of that dotted name, or None when it was not measured."""
        return next((reading for reading in self.readings if reading.name == name), None)

    def value(self, name: str) -> Any:
        """The value of that dotted name, or None when it was not measured."""
        reading = self.reading(name)
        return None if reading is None else reading.value

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of schema 1: every contract field is there, null when it was not measured."""
        sections = {section: dict.fromkeys(names) for section, names in SECTIONS.items()}
        for reading in self.readings:
            section, _, name = reading.name.partition(".")
            sections.setdefault(section, {})[name] = reading.value
        return {
            "schema": SCHEMA,
            "key": self.key,
            "status": self.status,
            "reason": self.reason,
            "case": self.case.to_dict(),
            **sections,
            "kernels": None if self.kernels is None else [dict(kernel) for kernel in self.kernels],
            "notes": [{"kind": note.kind, "text": note.text} for note in self.notes],
            "readings": [reading.describe() for reading in self.readings],
            "env": dict(self.env),
            "repro": self.repro,
            "asked": dict(self.asked) or None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Record":
        """The Record of a JSON object.

        Raises:
            ValueError: the object is not a record of a schema that this version reads.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(f"not a record of schema {SCHEMA} (found {found!r})")
        try:
            return cls(
                case=Case.from_dict(data["case"]),
                status=data["status"],
                reason=data.get("reason", ""),
                readings=tuple(_readings(data)),
                notes=tuple(Note(note["kind"], note["text"]) for note in data.get("notes", ())),
                env=data.get("env") or {},
                kernels=None if data.get("kernels") is None else tuple(data["kernels"]),
                repro=data.get("repro", ""),
                asked=data.get("asked") or {},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a record with a field missing or misshapen ({error!r})") from error


def _readings(data: Mapping[str, Any]) -> Iterable[Reading]:
    for described in data.get("readings", ()):
        section, _, name = described["name"].partition(".")
        yield Reading(value=data[section][name], **described)
