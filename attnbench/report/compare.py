"""Records against each other: baselines, ratios with their intervals, verdicts against noise, means of speed-ups."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from attnbench.core.errors import UsageError
from attnbench.core.record import Better, Record
from attnbench.core.registry import did_you_mean
from attnbench.core.stats import Estimate, geometric_mean
from attnbench.report.facts import label, varying_facts, visible
from attnbench.report.machines import fingerprint, machine_names

__all__ = ["ATTENTION_ALONE", "LATENCY", "PEAK_MEMORY", "Answer", "Baselines", "Mean", "Ratio", "attention_speedup",
           "baselines", "cell", "interval", "mean_speedups", "memory_ratio", "ratio", "require_baseline",
           "speedup", "verdict"]  # fmt: skip

LATENCY, PEAK_MEMORY = "latency.median_ms", "memory.peak_bytes"
ATTENTION_ALONE = "attention.alone_ms"

Answer = Literal["better", "same", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two figures, and the interval that surely holds it if both figures lie in theirs."""

    value: float
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Half the interval's width as a fraction of the value."""
        return (self.high - self.low) / 2 / self.value

    @property
    def inverse(self) -> "Ratio":
        """The same comparison, asked the other way round."""
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low)


def interval(record: Record, name: str) -> Estimate | None:
    """The reading of that name with its 95 % interval; one that has none is its own interval.

    None when it was not measured, or is not a positive number: no ratio can be formed with it.
    """
    reading = record.reading(name)
    if reading is None:
        return None
    ends = [record.value(end) if end else None for end in (reading.low, reading.high)]
    low, high = (reading.value if end is None else end for end in ends)
    figures = (reading.value, low, high)
    if not all(isinstance(figure, int | float) and math.isfinite(figure) and figure > 0 for figure in figures):
        return None
    return Estimate(*figures)


def ratio(record: Record, base: Record, name: str) -> Ratio | None:
    """`record`'s reading divided by `base`'s, with the widest interval that both intervals allow."""
    over, under = interval(record, name), interval(base, name)
    if over is None or under is None:
        return None
    return Ratio(over.median / under.median, over.low / under.high, over.high / under.low)


def speedup(record: Record, base: Record) -> Ratio | None:
    """How many times faster `record` is than `base`; None when one of them has no latency."""
    return ratio(base, record, LATENCY)


def attention_speedup(record: Record, base: Record) -> Ratio | None:
    """How many times faster the attentions of `record` alone are than those of `base`.

    None where one has no such time, or has them at more places than the other: a sum of twelve against one of five.
    """
    if record.value("attention.places") != base.value("attention.places"):
        return None
    return ratio(base, record, ATTENTION_ALONE)


def memory_ratio(record: Record, base: Record) -> Ratio | None:
    """`record`'s peak memory as a multiple of `base`'s; None when one of them has none."""
    return ratio(record, base, PEAK_MEMORY)


def verdict(change: Ratio, noise: float, better: Better = "lower") -> Answer:
    """What new / old means when changes up to `noise` (0.05 is 5 %) mean nothing.

    Only an interval that lies wholly beyond the band is a change, only one wholly inside it is none.
    """
    costs = change.inverse if better == "higher" else change
    if costs.low > 1 + noise:
        return "worse"
    if costs.high < 1 - noise:
        return "better"
    return "same" if 1 - noise <= costs.low and costs.high <= 1 + noise else "undecided"


class Baselines:
    """What records are set against, as they come: one of the same shape, on the same machine, themselves perhaps.

    That is the first one named `named` if a name is given. Else, for a module, the first that claims N^2; for a
    network, the same network with nothing inserted or swapped, or failing that the first of its forms.
    """

    def __init__(self, named: str | None = None) -> None:
        self._named = named
        self._found: dict[Hashable, Record] = {}
        self._forms: dict[Hashable, Record] = {}

    def add(self, record: Record) -> None:
        """Take the record into account for those before it and after it."""
        if self._named is not None:
            fits = record.case.name == self._named
        elif record.case.kind == "network":
            fits = not record.case.insert and not record.case.swap
            self._forms.setdefault(self._question(record), record)
        else:
            fits = record.value("static.claimed_complexity") == "N^2"
        if fits:
            self._found.setdefault(self._question(record), record)

    def of(self, record: Record) -> Record | None:
        """The baseline of the record, of all that were added."""
        question = self._question(record)
        return self._found.get(question) or self._forms.get(question)

    def _question(self, record: Record) -> Hashable:
        alone = self._named is None and record.case.kind == "network"
        return cell(record), record.case.target if alone else None


def baselines(records: Sequence[Record], baseline: str | None = None) -> list[Record | None]:
    """The baseline of each record among all of them."""
    found = Baselines(baseline)
    for record in records:
        found.add(record)
    return list(map(found.of, records))


def require_baseline(records: Sequence[Record], baseline: str) -> None:
    """Refuse a baseline that no record is named after.

    Raises:
        UsageError: with the nearest name there is.
    """
    names = dict.fromkeys(record.case.name for record in records)
    if baseline not in names:
        known = visible(", ".join(names))
        raise UsageError(f"no record is named {baseline!r}, so nothing can be compared with it."
                         f"{did_you_mean(baseline, names)} There are: {known}.")  # fmt: skip


def cell(record: Record) -> Hashable:
    """Equal for two records of which a ratio says something about their targets: of one shape, on one machine."""
    return record.case.shape_key, fingerprint(record)


@dataclass(frozen=True, slots=True)
class Mean:
    """The geometric mean of a target's speed-ups over `cells` shapes; `lost` names each shape left out, and why.

    `machine` says on which it is, where there are several. `value` is None when no shape is left.
    """

    name: str
    value: float | None
    cells: int
    lost: tuple[str, ...]
    machine: str = ""


def mean_speedups(records: Sequence[Record], baseline: str | None = None) -> list[Mean]:
    """One mean for each name that is not itself the baseline, over the shapes where both were measured.

    Each machine has means of its own. A mean over fewer shapes than there are answers another question; `lost` says
    so.
    """
    machines: dict[str, list[Record]] = {}
    for record in records:
        machines.setdefault(fingerprint(record), []).append(record)
    names = machine_names(records) if len(machines) > 1 else dict.fromkeys(machines, "")
    return [mean for mark, chosen in machines.items() for mean in _means(chosen, baseline, names[mark])]


def _means(records: Sequence[Record], baseline: str | None, machine: str) -> Iterator[Mean]:
    table: dict[str, dict[Hashable, tuple[Record, Record | None]]] = {}
    shapes: dict[Hashable, str] = {}
    facts = varying_facts(records)
    for record, base in zip(records, baselines(records, baseline), strict=True):
        shape = cell(record)
        if shape not in shapes:
            shapes[shape] = label(record, facts, name=False)
        table.setdefault(record.case.name, {}).setdefault(shape, (record, base))
    for name, cells in table.items():
        if any(base is not None and base is not record for record, base in cells.values()):
            yield _mean(name, cells, shapes, machine)


def _mean(
    name: str, cells: dict[Hashable, tuple[Record, Record | None]], shapes: dict[Hashable, str], machine: str
) -> Mean:
    ratios, lost = [], []
    for shape, words in shapes.items():
        found = _speedup_or_loss(*cells[shape]) if shape in cells else "not run"
        if isinstance(found, str):
            lost.append(f"{words} ({found})")
        else:
            ratios.append(found.value)
    return Mean(name, geometric_mean(ratios) if ratios else None, len(ratios), tuple(lost), machine)


def _speedup_or_loss(record: Record, base: Record | None) -> Ratio | str:
    if base is None:
        return "no baseline"
    found = speedup(record, base)
    if found is not None:
        return found
    if interval(record, LATENCY) is None:
        return "no latency" if record.ok else record.status
    return "baseline without latency" if base.ok else f"baseline {base.status}"
