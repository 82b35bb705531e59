"""A Fit: the largest size, or batch, of a target whose predicted memory stays within a limit, and what came next."""

from dataclasses import dataclass
from typing import Any, Literal

from attnbench.core.case import Case
from attnbench.core.record import Record

__all__ = ["PEAK", "Asked", "Fit", "Verdict"]

PEAK = "static.predicted_peak_bytes"

Asked = Literal["size", "batch"]
# found: the next larger one does not fit · all: none up to the search's end was too large · only: it runs at one size
# ceiling: the next larger one is refused · at_least: the next larger one cannot be predicted
# none: even the smallest does not fit · unknown: nothing could be predicted
Verdict = Literal["found", "all", "only", "ceiling", "at_least", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer to "how large can it be in `memory` bytes": the records of the largest and of the next larger one.

    `case` is the question, at the size that the search began with; `step` the distance between two sizes that the
    module accepts, 0 where no second one was found; `trials` the number of sizes that were predicted.
    """

    asked: Asked
    memory: int
    case: Case
    largest: Record | None
    beyond: Record | None
    step: int
    trials: int

    @property
    def verdict(self) -> Verdict:
        too_large = self.beyond is not None and self.beyond.value(PEAK) is not None
        if self.largest is None:
            return "none" if too_large else "unknown"
        if self.beyond is None:
            return "all" if self.step else "only"
        if too_large:
            return "found"
        return "ceiling" if self.beyond.status == "unsupported" else "at_least"

    @property
    def peak(self) -> int | None:
        """Predicted peak bytes of the largest one."""
        return None if self.largest is None else int(self.largest.value(PEAK))

    @property
    def excess(self) -> int | None:
        """By how many bytes the next larger one is too large."""
        peak = None if self.beyond is None else self.beyond.value(PEAK)
        return None if peak is None else int(peak) - self.memory

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON, for scripts."""
        return {
            "asked": self.asked,
            "verdict": self.verdict,
            "memory_bytes": self.memory,
            "step": self.step,
            "trials": self.trials,
            "largest": None if self.largest is None else _told(self.largest),
            "beyond": None if self.beyond is None else _told(self.beyond),
        }


def _told(record: Record) -> dict[str, Any]:
    return {
        "case": record.case.to_dict(),
        "predicted_peak_bytes": None,
        **{reading.name.removeprefix("static."): reading.value for reading in record.readings},
        "status": record.status,
        "reason": record.reason,
        "notes": [{"kind": note.kind, "text": note.text} for note in record.notes],
        "repro": record.repro,
    }
