"""The measured exponent of the latency in N, over the sizes at which it is more than the cost of launching a step."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.core.record import Record
from attnbench.core.scaling import Slope, log_slope
from attnbench.core.stats import Estimate
from attnbench.report.facts import visible
from attnbench.report.growth import side_of
from attnbench.report.machines import is_another_unit, machine_names

__all__ = ["Measured", "measured"]

# A step that takes less than this many times the smallest map's is mostly the fixed cost of launching it.
_OVERHEAD = 4
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """The exponent of the latency in N between two sides, or the sentence that says why there is none.

    `scattered` where several machines of one kind took part, which differ a little.
    """

    slope: Slope | None
    smallest: int = 0
    largest: int = 0
    why_not: str = ""
    scattered: bool = False

    def __str__(self) -> str:
        if self.slope is None:
            return f"no exponent of latency: {self.why_not}"
        low, high = self.slope.low, self.slope.high
        sides = f"{self.smallest}x{self.smallest} to {self.largest}x{self.largest}"
        doubt = ", on several machines or GPUs of one kind" if self.scattered else ""
        return f"latency N^{self.slope.value:.2f} ({low:.2f} to {high:.2f}) from {sides}{doubt}"


def measured(records: Sequence[Record]) -> Measured:
    """The exponent over the sides at which a step takes several times what the smallest side takes, on one machine."""
    timed = [record for record in records if record.value("latency.median_ms")]
    machines = machine_names(timed)
    if len(machines) > 1:
        return Measured(None, why_not=f"measured on different machines ({visible('; '.join(machines.values()))})")
    known = {side_of(record): _estimate(record) for record in timed}
    if len(known) < _FEWEST:
        return Measured(None, why_not=next((record.reason for record in records if record.reason), "nothing ran"))
    floor = _OVERHEAD * known[min(known)].median
    sides = [side for side in sorted(known) if known[side].median >= floor]
    if len(sides) < _FEWEST:
        return Measured(None, why_not=f"up to {max(known)}x{max(known)} a step is mostly fixed overhead")
    slope = log_slope([side**2 for side in sides], [known[side] for side in sides])
    scattered = any(is_another_unit(record, timed[0]) for record in timed)
    return Measured(slope, sides[0], sides[-1], scattered=scattered)


def _estimate(record: Record) -> Estimate:
    median, low, high = (record.value(f"latency.{name}_ms") for name in ("median", "ci_low", "ci_high"))
    return Estimate(median, low, high)
