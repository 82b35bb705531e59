"""A Forecast: what measuring one Case would take, told before anything is run; and an Outlook on all of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from attnbench.core.fit import PEAK
from attnbench.core.record import Record

__all__ = ["Forecast", "Outlook", "Verdict"]

# fits, too_large: its predicted peak against the limit · unknown: there is no predicted peak, or no limit
# refused: it cannot be built, or breaks while it is counted · stored: its record is there
# runs_nothing: what was asked for needs no device
Verdict = Literal["fits", "too_large", "unknown", "refused", "stored", "runs_nothing"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a Case before it is measured.

    `record` has what was predicted, or how that ended; of a Case that is `stored`, what was measured. The predicted
    peak, or what the `weights` alone need where there is none, is held against `limit` if something is to run (`live`),
    all in bytes; `limited_by` says in a few words where the limit is from. No step can take less than `least_ms`.
    `seconds` are those that the Case is guessed to occupy a worker, and `start` those that a fresh worker needs to be
    ready. What could not be told is among the notes of the record.
    """

    record: Record
    live: bool = True
    weights: int = 0
    limit: int | None = None
    limited_by: str = ""
    least_ms: float | None = None
    seconds: float | None = None
    stored: bool = False
    start: float = 0.0

    @property
    def peak(self) -> int | None:
        """Predicted peak bytes."""
        value = self.record.value(PEAK)
        return None if value is None else int(value)

    @property
    def verdict(self) -> Verdict:
        if self.stored:
            return "stored"
        if not self.record.ok:
            return "refused"
        if not self.live:
            return "runs_nothing"
        if self.limit is not None and (self.weights if self.peak is None else self.peak) > self.limit:
            return "too_large"
        return "unknown" if self.peak is None or self.limit is None else "fits"

    def to_dict(self) -> dict[str, Any]:
        """The forecast as JSON, for scripts."""
        return {
            "key": self.record.key,
            "case": self.record.case.to_dict(),
            "verdict": self.verdict,
            "status": self.record.status,
            "reason": self.record.reason,
            "predicted_peak_bytes": self.peak,
            "limit_bytes": self.limit,
            "limited_by": self.limited_by,
            "least_ms": self.least_ms,
            "seconds": self.seconds,
            "notes": [{"kind": note.kind, "text": note.text} for note in self.record.notes],
            "repro": self.record.repro,
        }


@dataclass(frozen=True, slots=True)
class Outlook:
    """Forecasts in the order of the plan; they are fewer than the `planned` Cases where somebody lost patience.

    The Cases are shared out among `lanes`.
    """

    forecasts: Sequence[Forecast]
    planned: int
    lanes: int = 1

    @property
    def left(self) -> list[Forecast]:
        """Those that are still to be measured."""
        return [each for each in self.forecasts if not each.stored]

    @property
    def start(self) -> float:
        """Seconds until the workers are ready."""
        return max((each.start for each in self.forecasts), default=0.0)

    @property
    def seconds(self) -> float:
        """Of all that is left, the lanes side by side; what nobody can tell is left out."""
        if not self.left:
            return 0.0
        busy = [each.seconds or 0.0 for each in self.left]
        # The last ones to end are not shared out any more.
        return self.start + max(sum(busy) / self.lanes, max(busy))

    def counted(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.forecasts)

    def to_dict(self) -> dict[str, Any]:
        """The outlook as JSON, for scripts."""
        return {
            "planned": self.planned,
            "seconds": self.seconds,
            "start_seconds": self.start,
            "lanes": self.lanes,
            "cases": [each.to_dict() for each in self.forecasts],
        }
