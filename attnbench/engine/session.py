"""A session: leaves out what is stored already, has the rest measured, keeps every record as soon as it is there."""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from attnbench import __version__
from attnbench.core.case import Case
from attnbench.core.record import Record
from attnbench.core.store import Store, read
from attnbench.engine.crew import Crew
from attnbench.engine.question import Question, command
from attnbench.targets.names import split

__all__ = ["Session", "asked", "device_of", "files_of", "prepared", "targets_of"]

# What does not change the figures, but only whether they are taken, or that nobody can ask for.
_NO_QUESTION = ("mem_limit", "scratch", "dry")


@dataclass(frozen=True, slots=True)
class Session:
    """What is left to measure, and the records of what is not; in the order of the Questions.

    `set_aside` has a sentence for each line of the file that is no record, such as one that a crash cut short.
    """

    kept: tuple[Record, ...]
    left: tuple[Question, ...]
    set_aside: tuple[str, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict, repr=False)

    def ordered(self, records: Iterable[Record]) -> list[Record]:
        """Records in the order of the Questions, whichever lane was the first to be done."""
        return sorted(records, key=lambda record: self.places.get(_identity(record.asked), len(self.places)))

    def records(self, crew: Crew, store: Store | None) -> Iterator[Record]:
        """The records of what is left, as they come; each is in the store before it is yielded."""
        for question, answer in crew.answers(self.left):
            record = replace(answer, asked=asked(question), repro=command(answer.case, question.options))
            if store is not None:
                store.append(record)
            yield record


def prepared(
    questions: Sequence[Question], crew: Crew, resume: Path | None = None, retry: Container[str] = ()
) -> Session:
    """The Session of these Questions; what stands in the file `resume`, measured in the same environment, is kept,
    unless its status is one to `retry`.

    Raises:
        UsageError: a target or a device is not there.
    """
    decided, prints = crew.settled(questions)
    stored, set_aside = _stored(resume)
    identities = [_identity(asked(question)) for question in decided]
    kept, left = [], []
    for question, identity, fingerprints in zip(decided, identities, prints, strict=True):
        found = next((stored[identity, each] for each in sorted(fingerprints) if (identity, each) in stored), None)
        if found is None or found.status in retry:
            left.append(question)
        else:
            kept.append(found)
    names = {record.case.name for record in kept}
    crew.check([question for question in left if question.case.name not in names])
    places = {identity: place for place, identity in enumerate(identities)}
    return Session(tuple(kept), tuple(left), set_aside, places)


def asked(question: Question) -> dict[str, Any]:
    """What a record answers: the Case's key before anything was found by trying, how it was to be measured, and what
    stood in the user's files (as a digest: a file that was edited since is another question).
    """
    how = {name: value for name, value in asdict(question.options).items() if name not in _NO_QUESTION}
    return {"key": question.case.key, **how, "metrics": sorted(question.options.metrics),
            "files": {path: _digest(path) for path in files_of([question.case])}, "attnbench": __version__}  # fmt: skip


def files_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """The user's files that the Cases are about, as they were typed."""
    parts = map(split, targets_of(cases))
    return tuple(dict.fromkeys(place for source, place, _ in parts if source == "file"))


def targets_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """The names of all that the Cases are about: targets, and what is put into them."""
    return tuple(dict.fromkeys(name for case in cases for name in case.targets))


def device_of(cases: Iterable[Case]) -> str:
    """The device that the Cases are for; where they are for several, all of them: `cpu and cuda`."""
    return " and ".join(sorted({case.device for case in cases}))


@cache
def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()[:16]
    except OSError:  # whoever builds it will say so
        return None


def _identity(what: Mapping[str, Any]) -> str:
    return json.dumps(what, sort_keys=True, separators=(",", ":"))


def _stored(path: Path | None) -> tuple[dict[tuple[str, str], Record], tuple[str, ...]]:
    """The records of a file by what they answer and where, the latest of several; and what is said of other lines."""
    if path is None or not path.exists():
        return {}, ()
    found = read(path)
    answers = {(_identity(each.asked), str(each.env.get("fingerprint"))): each for each in found.records if each.asked}
    return answers, found.set_aside
