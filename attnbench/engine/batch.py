"""`--batch-size auto`: the smallest batch whose throughput is as good as any that fits into memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from attnbench.core.case import Case
from attnbench.core.record import Note, Record
from attnbench.core.units import significant
from attnbench.engine.asking import Tell, measured, replicated
from attnbench.engine.workers.channels import Channel
from attnbench.metrics.metric import Options

__all__ = ["Trial", "at_best_batch", "best", "trials"]

# What rates differ by from one short look to the next: a flat optimum is no reason for a larger batch.
_SAME = 0.03
_LARGEST = 2**20
# Seconds of sampling, at most, for a look at one batch. What disturbs a look makes it slower, so that the fastest
# counts, and two that agree are enough.
_LOOK = 1.0
_LOOKS = 3
# Rates that differ by more from one look to the next are no ground for a choice.
_UNSTEADY = 0.1

_RATE = "throughput.samples_per_s"


@dataclass(frozen=True, slots=True)
class Trial:
    """One batch that was tried: samples a second, or None and how it ended instead (`oom`, `unsupported` ...).

    `apart` is by how much of itself the rate differed from one look to another.
    """

    batch: int
    rate: float | None
    status: str = "ok"
    apart: float = 0.0

    def __str__(self) -> str:
        return f"{self.batch}: {self.status if self.rate is None else significant(self.rate) + '/s'}"


def trials(attempt: Callable[[int], Trial]) -> list[Trial]:
    """The batches 1, 2, 4 ... while they run and pay, then one and a half times the best, in the order of their size.

    Doubling ends at the first batch that does not run, where two doublings have brought less than 3 %, or at 2^20.
    """
    found = list(_doublings(attempt))
    top = max((trial for trial in found if trial.rate is not None), key=_rate, default=None)
    if top is not None and 1 < top.batch < _LARGEST:
        found.append(attempt(top.batch * 3 // 2))
    return sorted(found, key=lambda trial: trial.batch)


def _doublings(attempt: Callable[[int], Trial]) -> Iterator[Trial]:
    rates: list[float] = []
    batch = 1
    while batch <= _LARGEST:
        trial = attempt(batch)
        yield trial
        if trial.rate is None:
            return
        rates.append(trial.rate)
        if len(rates) > 2 and max(rates[-2:]) <= (1 + _SAME) * max(rates[:-2]):
            return
        batch *= 2


def best(found: Sequence[Trial]) -> int:
    """The smallest batch whose rate is within 3 % of the highest; 1 where none has a rate."""
    enough = (1 - _SAME) * max(map(_rate, found), default=0.0)
    return min((trial.batch for trial in found if trial.rate is not None and trial.rate >= enough), default=1)


def _rate(trial: Trial) -> float:
    return trial.rate or 0.0


def at_best_batch(
    case: Case, channel: Channel, options: Options, timeout: float | None = None, tell: Tell = lambda what: None
) -> Record:
    """The record of a resolved Case at the batch of its best throughput, with a note on what was tried.

    What runs back to back may still be too large for another instrument: then the best of the smaller ones is taken.
    """
    look = replace(options, metrics=("throughput",), max_time=min(options.max_time, _LOOK))

    def attempt(batch: int) -> Trial:
        tell(f"batch {batch}")
        return _tried(batch, lambda: measured(case.with_(batch_size=batch), channel, look, timeout))

    def in_full(batch: int) -> Record:
        tell(f"batch {batch}")
        return replicated(
            case.with_(batch_size=batch), channel, options, timeout, lambda what: tell(f"batch {batch}, {what}")
        )

    found = trials(attempt)
    record = in_full(best(found))
    while record.status == "oom" and record.case.batch_size > 1:
        batch = record.case.batch_size
        found = [*(trial for trial in found if trial.batch < batch), Trial(batch, None, "oom")]
        record = in_full(best(found))
    return replace(record, notes=(*record.notes, _note(found, record), *_doubt(found, record)))


def _tried(batch: int, look: Callable[[], Record]) -> Trial:
    """The fastest of two looks that agree, or of three."""
    rates: list[float] = []
    while len(rates) < 2 or (len(rates) < _LOOKS and _apart(rates) > _SAME):
        record = look()
        rate = record.value(_RATE)
        if not record.ok or rate is None:
            return Trial(batch, None, "not measured" if record.ok else record.status)
        rates.append(rate)
    return Trial(batch, max(rates), apart=_apart(rates))


def _apart(rates: Sequence[float]) -> float:
    """By how much the fastest is faster than the second."""
    second, first = sorted(rates)[-2:]
    return first / second - 1


def _note(found: Sequence[Trial], record: Record) -> Note:
    tried = ", ".join(map(str, found))
    if any(trial.rate is not None for trial in found):
        return Note("batch", f"batch {record.case.batch_size} found: {tried}")
    # Where the record is no better, its own reason says enough; beside figures it is a doubt.
    return Note("no_batch" if record.ok else "batch", f"no best batch was found, since none runs: {tried}")


def _doubt(found: Sequence[Trial], record: Record) -> Iterator[Note]:
    """Looks that did not agree, with each other or with the record, may have led to another batch than the best."""
    rate, batch = record.value(_RATE), record.case.batch_size
    sought = [trial.rate for trial in found if trial.batch == batch and trial.rate is not None]
    again = [] if rate is None else [_apart((rate, each)) for each in sought]
    if max([*again, *(trial.apart for trial in found)]) > _UNSTEADY:
        yield Note("unsteady", f"the throughputs that the batch was chosen by differed by more than {_UNSTEADY:.0%} "
                               "from one look to the next: another batch may be better; quiet the machine")  # fmt: skip
