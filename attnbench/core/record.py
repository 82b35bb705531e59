"""A Record: a Case, how it ended, what was read, what to doubt, and on what machine; one JSON line of schema 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbench.core.case import Case
from attnbench.core.parts import Parts, mapping, shown, text
from attnbench.core.reading import SECTIONS, Better, Note, Reading

__all__ = ["SCHEMA", "SECTIONS", "STATUSES", "Better", "Note", "Reading", "Record"]

SCHEMA = 1
STATUSES = ("ok", "oom", "unsupported", "incorrect", "error", "timeout", "crashed", "skipped")


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
        for reading in self.readings:  # tables ask a million times: no generator
            if reading.name == name:
                return reading
        return None

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
    def from_dict(cls, data: Mapping[str, Any], parts: Parts | None = None) -> "Record":
        """The Record of a JSON object; one `parts` for many records lets them share what is equal in them.

        Raises:
            ValueError: the object is not a record of a schema that this version reads, or a field is not what it
                has to be. Whoever has a Record need not ask again.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(f"not a record of schema {SCHEMA} (found {shown(found)})")
        try:
            return cls._of(data, parts or Parts())
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a record with a field missing or misshapen ({error!r})") from error

    @classmethod
    def _of(cls, data: Mapping[str, Any], parts: Parts) -> "Record":
        status = data["status"]
        if status not in STATUSES:
            raise ValueError(f"a record whose status {shown(status)} is none of {', '.join(STATUSES)}")
        kernels = data.get("kernels")
        return cls(
            case=Case.from_dict(mapping(data, "case")),
            status=parts.shared(status),
            reason=text(data, "reason"),
            readings=parts.readings(data),
            notes=parts.notes(data),
            env=parts.about(data, "env", "fingerprint", "device_name"),
            kernels=None if kernels is None else tuple(parts.plain(mapping(each), "kernels") for each in kernels),
            repro=text(data, "repro"),
            asked=parts.about(data, "asked"),
        )
