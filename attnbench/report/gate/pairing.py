"""Which records of two sets are compared with each other: those of one case, on one machine where both have it."""

from collections.abc import Iterator, Mapping, Sequence

from attnbench.core.record import Record
from attnbench.report.machines import fingerprint

__all__ = ["ByMachine", "by_case", "pairs"]

# The fingerprint of a machine -> the record that counts of one case.
ByMachine = Mapping[str, Record]


def by_case(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """The last record of each case on each machine, the machine that came last behind the others."""
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        machines = found.setdefault(record.key, {})
        machines.pop(fingerprint(record), None)
        machines[fingerprint(record)] = record
    return found


def pairs(old: ByMachine, new: ByMachine) -> Iterator[tuple[Record | None, Record | None, str]]:
    """What is to be compared of one case, and where one of the two is not there, in which words it is lacking."""
    if not new:
        yield _last(old), None, "the candidate has no record of this case"
    shared = old.keys() & new.keys()
    for machine, record in new.items():
        if machine in shared or (old and not shared):
            yield old.get(machine) or _last(old), record, ""
        else:
            yield None, record, f"the baseline has no record of this case{' on that machine' if old else ''}"


def _last(records: ByMachine) -> Record:
    return records[next(reversed(list(records)))]
