"""How large can it be: asks the worker for predicted peaks, nothing is run and no memory is taken."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.fit import PEAK, Asked, Fit
from attnbench.core.record import Record
from attnbench.engine.asking import measured, resolved
from attnbench.engine.fit_search import Trial, search
from attnbench.engine.room import MARGIN
from attnbench.engine.workers.channels import Channel
from attnbench.metrics.metric import Options

__all__ = ["PREDICTION", "fit", "free_memory", "in_tokens", "most_memory", "starting_case"]

PREDICTION = Options(metrics=("predicted_memory",))
LIVE = replace(PREDICTION, scratch=False)

# Sizes, tokens and batches end where 32-bit indices do.
_LARGEST = 2**31 - 1
_LARGEST_SIDE = 46_340
# Beyond this, a size that is too large could not even be written down as a number of bytes.
_LARGEST_MEMORY = 2**50
# Where a target refuses the usual size: what windows, patches and powers of two divide, common first.
_SIDES = (64, 56, 28, 16, 14, 128, 112, 224, 256, 7, 8, 48, 96, 30, 60, 384, 448, 512)
_TOKENS = (4096, 784, 196, 197, 256, 512, 2048, 49, 64, 3136)
# Neither a square nor odd, and a multiple of 64: what runs with it reads tokens, and no map in disguise.
_PLAIN_TOKENS = 1088
_MAPS = ("bchw", "bhwc")


def most_memory(memory: int) -> int:
    """The limit, checked.

    Raises:
        UsageError: nothing fits into it, or no machine has it.
    """
    if not 0 < memory <= _LARGEST_MEMORY:
        raise UsageError(f"--memory is out of range: give more than 0 B and at most {_LARGEST_MEMORY // 2**40} TiB.")
    return memory


def free_memory(device: str, channel: Channel) -> int:
    """Bytes that a run could take on the device now.

    Raises:
        CannotJudgeError: the system does not tell.
    """
    for event in channel.ask({"do": "free", "device": device}):
        if event["event"] == "free" and event["bytes"] is not None:
            return int(event["bytes"] * (1 - MARGIN))
    raise CannotJudgeError(f"how much memory is free on {device} cannot be told here: say it with --memory 80GiB.")


def starting_case(case: Case, channel: Channel, *, fixed: bool, timeout: float | None = None) -> Case:
    """The Case resolved, at a size that the target accepts: its own, or unless that is `fixed` another usual one.

    Raises:
        UsageError: it accepts none of them; the message is about the first.
    """
    return _accepted([case], channel, timeout, [] if fixed else _others(case))


def in_tokens(cases: Sequence[Case], channel: Channel, timeout: float | None = None) -> list[Case]:
    """The resolved Cases asked for a number of tokens instead of a map, if each of them reads plain tokens.

    Where one of them needs a map all keep theirs, so that what stands side by side has one unit.
    """
    if any(case.kind == "network" or case.height is None or case.layout in _MAPS for case in cases):
        return list(cases)
    plain = [case.with_(height=None, width=None, tokens=_PLAIN_TOKENS) for case in cases]
    # Beside Cases that are accepted, one that is refused is a record; alone it would be a wrong question.
    answers = resolved([*cases, *plain], channel, timeout)[len(cases) :]
    return list(cases) if any(isinstance(answer, Record) for answer in answers) else plain


def _accepted(cases: Sequence[Case], channel: Channel, timeout: float | None, others: Sequence[Case]) -> Case:
    try:
        return next(each for each in resolved(cases, channel, timeout) if isinstance(each, Case))
    except UsageError as first:
        try:
            if others:
                return _accepted(others, channel, timeout, [])
        except UsageError:
            pass
        raise first


def _others(case: Case) -> list[Case]:
    if case.height is None:
        return [case.with_(tokens=tokens) for tokens in _TOKENS]
    return [_sized(case, side) for side in _SIDES]


def _sized(case: Case, size: int) -> Case:
    """The Case on a square map of that side, or with so many tokens where it has no map."""
    if case.height is None:
        return case.with_(tokens=size)
    return case.with_(height=size, width=size, tokens=None if case.kind == "network" else size * size)


def fit(case: Case, asked: Asked, memory: int, channel: Channel, timeout: float | None = None) -> Fit:
    """The largest size of a resolved Case whose predicted peak is at most `memory` bytes; or its largest batch.

    It is searched by live tensors alone, which takes no time, and from there on with what kernels take for themselves.
    """

    def attempts(options: Options) -> Callable[[int], Trial[Record]]:
        def attempt(number: int) -> Trial[Record]:
            question = case.with_(batch_size=number) if asked == "batch" else _sized(case, number)
            return _tried(number, question, case, channel, options, timeout)

        return attempt

    start, limit = _range(case, asked)
    rough = search(attempts(LIVE), memory, start, limit)
    found = search(attempts(PREDICTION), memory, rough.largest.size if rough.largest else start, limit)
    largest, beyond = (None if trial is None else trial.told for trial in (found.largest, found.beyond))
    return Fit(asked, memory, case, largest, beyond, found.step, rough.trials + found.trials)


def _range(case: Case, asked: Asked) -> tuple[int, int]:
    """Where the search begins, and where it ends in any case."""
    if asked == "batch":
        return case.batch_size, _LARGEST
    if case.height is None:
        return case.tokens or 1, _LARGEST
    return case.height, _LARGEST_SIDE


def _tried(
    number: int, question: Case, accepted: Case, channel: Channel, options: Options, timeout: float | None
) -> Trial[Record]:
    record = measured(question, channel, options, timeout)
    peak = record.value(PEAK)
    if peak is None:
        record = _explained(record, accepted, channel, timeout)
    return Trial(number, peak, refused=record.status == "unsupported", told=record)


def _explained(record: Record, accepted: Case, channel: Channel, timeout: float | None) -> Record:
    """Why there is no prediction: the target refuses this size, which is another matter than that it cannot be told."""
    if not record.ok:
        return record
    _, answer = resolved([accepted, record.case], channel, timeout)
    if isinstance(answer, Record):
        return answer
    said = [note.text for note in record.notes if PEAK in note.text and ": " in note.text]
    why = said[-1].partition(": ")[2] if said else "its peak memory was not predicted"
    return replace(record, status="skipped", reason=f"{record.case.name} {why}" if said else why)
