"""What a run would take, found out in the lanes that would measure it: everything is counted and nothing is run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnbench.core.errors import UnsupportedError
from attnbench.core.fit import PEAK
from attnbench.core.forecast import Forecast
from attnbench.core.record import Note, Record
from attnbench.engine.crew import Crew
from attnbench.engine.forecasts.duration import ITEM_BYTES, Length, counting_metrics, lasting, step_seconds
from attnbench.engine.forecasts.scout import FREE, NO_PEAKS, PEAKS, SECONDS, START
from attnbench.engine.question import Question, command
from attnbench.engine.room import MARGIN, room
from attnbench.engine.session import Session
from attnbench.metrics.metric import Options, chosen
from attnbench.metrics.roof.peaks import Peaks
from attnbench.metrics.roof.work import at_peaks, work_of

__all__ = ["foreseen", "runs"]

# Doubts of the counters that are about what a forecast tells; the others are for those who measure.
_DOUBTS = ("scratch", "assumed")
_BATCH = "with --batch-size auto the peak is that of batch 1, where the search begins, and how far it goes is a guess"
# What a network multiplies in its layers alone; it has attentions if there is more.
_LAYERS = {"convolution", "linear", "embedding"}


def foreseen(
    questions: Sequence[Question], session: Session, crew: Crew, *, each_fresh: bool = False
) -> Iterator[tuple[int, Forecast]]:
    """The place of each Question in the plan, and what is foreseen of it, as they come; what is stored comes first.

    The lanes of the crew are `scouted`, and the session is that of the questions. With `each_fresh` the run would
    start a process for each.
    """
    stored, left = _places(questions, session)
    for place, record in stored.items():
        yield place, Forecast(record, stored=True, least_ms=record.value("roofline.roof_ms"), seconds=0.0)
    by_count: dict[Question, list[int]] = {}
    for place, question in left.items():
        by_count.setdefault(_counting(question), []).append(place)
    for asked, answer in crew.answers(list(by_count)):
        for place in by_count[asked]:
            yield place, _Foreseen.of(answer).forecast(left[place], each_fresh=each_fresh)


def runs(question: Question) -> bool:
    """Whether something that was asked for has to run."""
    return any(each.live for each in chosen(question.options.metrics))


def _places(questions: Sequence[Question], session: Session) -> tuple[dict[int, Record], dict[int, Question]]:
    """Where in the plan the records of a session stand, and its questions; both have kept their order."""
    kept, left = iter(session.kept), list(reversed(session.left))
    stored: dict[int, Record] = {}
    open_: dict[int, Question] = {}
    for place, each in enumerate(questions):
        if left and _alike(left[-1], each):
            open_[place] = left.pop()
        else:
            stored[place] = next(kept)
    return stored, open_


def _alike(decided: Question, asked: Question) -> bool:
    """Whether they are the same but for the device that was decided on."""
    return decided.options == asked.options and decided.case.with_(device=asked.case.device) == asked.case


def _counting(question: Question) -> Question:
    options = question.options
    return Question(question.case, Options(counting_metrics(options), threads=options.threads,
                                           mem_limit=options.mem_limit, dry=True))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """An answer of a scouted lane, taken apart: the record as anybody's, and what the scout added."""

    record: Record
    added: Mapping[str, Any]

    @classmethod
    def of(cls, answer: Record) -> "_Foreseen":
        added = {each.name: each.value for each in answer.readings if each.name.startswith("forecast.")}
        readings = tuple(each for each in answer.readings if each.name not in added)
        return cls(replace(answer, readings=readings), added)

    def forecast(self, question: Question, *, each_fresh: bool) -> Forecast:
        record, live = self.record, runs(question)
        limit, origin = self._limit(question) if live else (None, "")
        least, why = self._least() if live else (None, "")
        found = Forecast(record, live, self._weights(), limit, origin, least, start=self.added.get(START) or 0.0)
        doubts = (why if found.verdict in ("fits", "unknown") else "", *_doubts(found, question))
        notes = tuple(note for note in record.notes if note.kind in _DOUBTS)
        said = (*notes, *(Note("forecast", text) for text in doubts if text))
        kept = tuple(each for each in record.readings if each.name == PEAK)  # of ten thousand cases the rest is much
        record = replace(record, readings=kept, notes=said, repro=command(record.case, question.options))
        return replace(found, record=record, seconds=self._seconds(question, found, each_fresh))

    def _limit(self, question: Question) -> tuple[int | None, str]:
        """What the case may take, and where that is from."""
        device, most = self.record.case.device, question.options.mem_limit
        limit = room(device, self.added.get(FREE), most)
        free = "free" if device.startswith("cuda") else f"{1 - MARGIN:.0%} of what is free".replace("%", " %")
        return limit, "--mem-limit" if limit == most else free

    def _least(self) -> tuple[float | None, str]:
        """What no step can take less than, in ms; or why that is not known."""
        if not self.record.ok:
            return None, ""
        try:
            work = work_of(self.record.case.mode, self._readings)
            compute, memory = at_peaks(work, self._peaks())
        except UnsupportedError as error:
            return None, f"there is no least time of a step: {error}"
        # What is compiled may skip products that a mask hides; its operands it reads all the same.
        return (memory if self.record.case.engine == "compile" else max(compute, memory)), ""

    @property
    def _readings(self) -> dict[str, Any]:
        return {each.name: each.value for each in self.record.readings}

    def _peaks(self) -> Peaks:
        if PEAKS not in self.added:
            raise UnsupportedError(str(self.added.get(NO_PEAKS, "the peaks of the device are not known")))
        more = ("bytes_per_s", "beyond_caches")  # which are figures of the others
        return Peaks.from_dict({name: value for name, value in self.added[PEAKS].items() if name not in more})

    def _seconds(self, question: Question, found: Forecast, each_fresh: bool) -> float | None:
        """Those of a worker; what will not fit, or does not run, ends with the counting."""
        counting = self.added.get(SECONDS)
        if counting is None:
            return None
        fresh = found.start if each_fresh else 0.0
        if found.verdict not in ("fits", "unknown"):
            return float(counting) + fresh
        length = Length(self._step(), counting, found.start, self._weights(), self._attends())
        return fresh + lasting(self.record.case, question.options, length)

    def _step(self) -> float:
        try:
            return step_seconds(self.record.case, self._readings, self._peaks())
        except UnsupportedError:  # then it is counted as none
            return 0.0

    def _weights(self) -> int:
        """Bytes of the parameters."""
        found = self._readings
        counted = found.get("static.params", 0) * ITEM_BYTES[self.record.case.dtype]
        return int(found.get("static.predicted_weights_bytes", counted))

    def _attends(self) -> bool:
        """Whether it is a network with attentions in it."""
        found = self._readings
        if self.record.case.kind != "network":
            return False
        put_in = found.get("static.inserted") or found.get("static.swapped")
        return bool(put_in or set(found.get("static.macs_by_op") or ()) - _LAYERS)


def _doubts(found: Forecast, question: Question) -> Iterator[str]:
    if found.verdict == "unknown":
        yield _unknown(found)
    if question.options.best_batch and found.record.ok:
        yield _BATCH


def _unknown(found: Forecast) -> str:
    if found.peak is not None:
        return f"it cannot be told how much memory is free on {found.record.case.device}"
    said = [note.text for note in found.record.notes if PEAK in note.text and ": " in note.text]
    return f"its peak cannot be predicted: {said[-1].partition(': ')[2]}" if said else "its peak was not predicted"
