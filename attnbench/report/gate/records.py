"""The rules of the gate for two sets of records: which readings got worse, and which cannot be judged.

Exact figures (parameters, MACs, predicted memory) are compared by equality, on whatever machines they were taken. A
latency is judged by its interval, and only where that comes from several processes: what differs from one process to
the next (memory layout, neighbours, clocks) lies outside the interval of a single one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.core.record import Reading, Record
from attnbench.report.compare import LATENCY, Ratio, ratio, verdict
from attnbench.report.facts import PLACES, label, varying_facts, visible
from attnbench.report.frame import MISSING, figure, unit_of
from attnbench.report.gate.pairing import by_case, pairs
from attnbench.report.gate.verdict import Outcome, Verdict
from attnbench.report.machines import fingerprint, is_another_unit, machine_names

__all__ = ["Tolerance", "equality", "exact", "judge"]

# Name of the case and of the reading -> by how much an exact figure may differ (0.01 is 1 %, 0 is not at all).
Tolerance = Callable[[str, str], float]

_PROCESSES = "latency.processes"
_FOLLOWS = ("latency.cold_ms", "latency.compile_ms", "energy.", "roofline.")
# What kernels take for themselves is another matter on each kind of CPU, and stands in the predicted peak.
_PREDICTED, _SCRATCH = "static.predicted_peak_bytes", "static.predicted_scratch_bytes"

# Counted, not sampled: the same twice on one machine, so that a figure without an interval can be judged.
_EXACT_UNITS = frozenset({"bytes", "count", "MAC", "FLOP"})

# Findings about a case, unlike a crash or a timeout, which are no measurement at all.
_FINDINGS = frozenset({"ok", "oom", "unsupported"})


def equality(case: str, reading: str) -> float:
    """The tolerance that allows none."""
    return 0.0


def judge(
    baseline: Sequence[Record], candidate: Sequence[Record], threshold: float = 0.05, tolerance: Tolerance = equality
) -> list[Verdict]:
    """A verdict for each reading with a title of each case, the cases in the baseline's order, new ones behind.

    Readings whose better direction is "same" are compared exactly (but for `tolerance`), on whatever machines they
    were taken; the others by their intervals against a band of `threshold` (0.05 is 5 %), and only between equal
    environments. Of several records of one case on one machine the last counts. A case is judged on each machine
    where both have it, and otherwise against the last that the baseline has; what it has of still other machines is
    for other candidates.
    """
    old, new = by_case(baseline), by_case(candidate)
    several = any(len(machines) > 1 for machines in (*old.values(), *new.values()))
    facts = [fact for fact in varying_facts([*baseline, *candidate]) if several or fact.title not in PLACES]
    machines = machine_names([*baseline, *candidate])
    verdicts: list[Verdict] = []
    for key in old | new:
        for before, after, lack in pairs(old.get(key, {}), new.get(key, {})):
            if before is not None and after is not None:
                pair = _Pair(key, label(before, facts), before, after, machines, threshold, tolerance)
                verdicts += _judge_case(pair)
            elif before is not None:
                verdicts.append(_alone(before, label(before, facts), "missing", lack))
            elif after is not None:
                verdicts.append(_alone(after, label(after, facts), "new", lack))
    return verdicts


def _alone(record: Record, name: str, outcome: Outcome, lack: str) -> Verdict:
    return Verdict(record.key, name, "", outcome, reason=lack, repro=record.repro)


def exact(
    before: Record, after: Record, tolerance: Tolerance = equality, *, name: str = "", also: Collection[str] = ()
) -> list[Verdict]:
    """The verdicts on what can be judged exactly of one case before and after a change: no latency, no statistics.

    How it ended where one of the two is not "ok", and each reading with a title whose better direction is "same". A
    difference within `tolerance` of `before` is "same". `also` are dotted names of readings in bytes to hold to the
    same rule (`memory.peak_bytes` on CUDA, where the allocator counts it); those have a direction, and so get better
    or worse. `name` is what the verdicts call the case.
    """
    case = name or label(before, ())
    pair = _Pair(before.key, case, before, after, machine_names([before, after]), 0.0, tolerance, frozenset(also))
    return [found for found in _judge_case(pair) if found.title == "Status" or pair.is_exact(found.reading)]


@dataclass(frozen=True, slots=True)
class _Pair:
    """One case in the baseline and in the candidate."""

    key: str
    name: str
    old: Record
    new: Record
    machines: Mapping[str, str]
    threshold: float
    tolerance: Tolerance
    also: Collection[str] = frozenset()

    @property
    def same_machine(self) -> bool:
        return fingerprint(self.old) == fingerprint(self.new)

    def is_exact(self, name: str) -> bool:
        """Whether the reading of that dotted name is held to its tolerance, and not to its interval."""
        reading = self.new.reading(name) or self.old.reading(name)
        return reading is not None and (reading.better == "same" or (name in self.also and reading.unit == "bytes"))

    def band(self, name: str) -> float:
        """The change that is looked for."""
        return self.tolerance(self.name, name) if self.is_exact(name) else self.threshold


def _judge_case(pair: _Pair) -> Iterator[Verdict]:
    if not (pair.old.ok and pair.new.ok):
        yield _judge_status(pair)
    titled = {reading.name: reading for record in (pair.new, pair.old) for reading in record.readings if reading.title}
    for reading in titled.values():
        if reading.better and not _restates_latency(reading, titled):
            yield from _judge_reading(pair, reading)


def _restates_latency(reading: Reading, titled: Collection[str]) -> bool:
    # Samples a second are the latency said the other way round, joules and per cent of the roof follow from it, and a
    # cold one stands beside the warm: one change is one verdict.
    return LATENCY in titled and (reading.unit == "1/s" or reading.name.startswith(_FOLLOWS))


def _judge_status(pair: _Pair) -> Verdict:
    old, new = pair.old, pair.new
    outcome: Outcome
    if old.ok != new.ok:
        outcome = "worse" if old.ok else "better"
    elif old.status != new.status:
        outcome = "changed"
    else:
        outcome = "same" if new.status in _FINDINGS else "undecided"
    reason = "" if outcome == "same" else " ".join((new if not new.ok else old).reason.split())
    return Verdict(pair.key, pair.name, "Status", outcome, old.status, new.status, None, visible(reason),
                   old.status, new.status, repro=new.repro or old.repro)  # fmt: skip


_Finding = tuple[Outcome, Ratio | None, str]


def _judge_reading(pair: _Pair, reading: Reading) -> Iterator[Verdict]:
    before, after = pair.old.value(reading.name), pair.new.value(reading.name)
    if before is None and after is None:
        return
    if before is not None and after is not None:
        finding = _comparison(pair, reading)
    elif pair.old.status == pair.new.status:
        finding = _presence(gone=after is None)
    else:
        return  # the verdict on the status has said it
    cells = _cells(reading, pair.old, pair.new, exactly=pair.is_exact(reading.name))
    yield Verdict(pair.key, pair.name, visible(reading.title), finding[0], before, after, *finding[1:], *cells,
                  reading=reading.name, repro=pair.new.repro or pair.old.repro,
                  threshold=pair.band(reading.name))  # fmt: skip


def _presence(*, gone: bool) -> _Finding:
    return ("missing", None, "the candidate did not measure it") if gone else ("new", None, "the baseline did not")


def _cells(reading: Reading, old: Record, new: Record, *, exactly: bool) -> tuple[str, str]:
    """Both figures with their unit; counts that differ only in digits that are not printed are written out."""
    values = [old.value(reading.name), new.value(reading.name)]
    cells = [figure(record, reading.name) for record in (old, new)]
    label = unit_of(reading.unit).label
    if exactly and cells[0] == cells[1] and values[0] != values[1]:
        cells, label = [f"{value:,}" if isinstance(value, int) else str(value) for value in values], ""
    before, after = (cell if cell == MISSING else visible(f"{cell} {label}".strip()) for cell in cells)
    return before, after


def _comparison(pair: _Pair, reading: Reading) -> _Finding:
    change = ratio(pair.new, pair.old, reading.name)
    if reading.better == "same":
        return _exact_outcome(pair, reading), change, ""
    obstacle = _obstacle(pair, reading)
    if obstacle:
        return "undecided", None, obstacle
    if pair.is_exact(reading.name):
        return _exact_outcome(pair, reading), change, ""
    if change is None:
        return "undecided", None, "there is no ratio to a figure that is not positive"
    outcome = verdict(change, pair.threshold, reading.better)
    across = f"the change's interval lies neither within ± {pair.threshold * 100:g} % nor beyond"
    return outcome, change, across if outcome == "undecided" else _doubt(pair, reading, outcome)


def _exact_outcome(pair: _Pair, reading: Reading) -> Outcome:
    old, new = (_counted(pair, reading.name, record) for record in (pair.old, pair.new))
    if old == new or _is_within(pair.band(reading.name), old, new):
        return "same"
    if reading.better == "same":
        return "changed"
    return "worse" if (new > old) == (reading.better == "lower") else "better"


def _is_within(tolerance: float, old: Any, new: Any) -> bool:
    numbers = all(isinstance(value, int | float) for value in (old, new))
    return numbers and bool(abs(new - old) <= tolerance * abs(old))


def _counted(pair: _Pair, name: str, record: Record) -> Any:
    """The value; of a predicted peak only what does not depend on the machine, where the two are of different ones."""
    value, scratch = record.value(name), record.value(_SCRATCH)
    if name != _PREDICTED or not isinstance(scratch, int) or pair.same_machine:
        return value
    return value - scratch


def _obstacle(pair: _Pair, reading: Reading) -> str:
    old, new = pair.old, pair.new
    if not pair.same_machine:
        names = [pair.machines[fingerprint(record)] for record in (old, new)]
        return visible(f"measured in different environments ({names[0]}; and {names[1]})")
    if reading.unit not in _EXACT_UNITS and not all(_has_interval(record, reading.name) for record in (old, new)):
        return "measured without an interval"
    if reading.name == LATENCY and 1 in (old.value(_PROCESSES), new.value(_PROCESSES)):
        # Its interval covers the samples of one process; what differs between processes is often more (pyperf).
        return "measured in one process: how much that differs from the next process is not known"
    return ""


def _doubt(pair: _Pair, reading: Reading, outcome: Outcome) -> str:
    if outcome == "same" or reading.unit in _EXACT_UNITS or not is_another_unit(pair.old, pair.new):
        return ""
    return "measured on two machines or GPUs of the same kind, which differ by some per cent: a change as small as " \
           "that may be theirs"  # fmt: skip


def _has_interval(record: Record, name: str) -> bool:
    reading = record.reading(name)
    return reading is not None and all(end and record.value(end) is not None for end in (reading.low, reading.high))
