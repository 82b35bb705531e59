"""A channel whose answers are made by hand: what was asked of it, and how often it was made fresh, can be read off."""

from collections.abc import Callable, Iterator

from attnbench.core.record import Note, Reading
from attnbench.engine.workers.channels import Event, WorkerDied

Finding = Note | Reading
# What a request gives: findings and then ok, or a status with its reason, or the death of the worker.
Answer = list[Finding] | tuple[str, str] | WorkerDied


class Canned:
    def __init__(self, answer: Callable[[Event], Answer]) -> None:
        self.answer = answer
        self.log: list[Event | str] = []

    @property
    def asked(self) -> list[Event]:
        return [each for each in self.log if not isinstance(each, str)]

    def fresh(self) -> None:
        self.log.append("fresh")

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.log.append(request)
        given = self.answer(request)
        yield {"event": "env", "env": {"fingerprint": "f"}}
        if isinstance(given, WorkerDied):
            raise given
        if isinstance(given, tuple):
            yield {"event": "done", "status": given[0], "reason": given[1]}
            return
        for finding in given:
            if isinstance(finding, Note):
                yield {"event": "note", "kind": finding.kind, "text": finding.text}
            else:
                yield {"event": "reading", "value": finding.value, **finding.describe()}
        yield {"event": "done", "status": "ok", "reason": ""}

    def close(self) -> None:
        return


def each_in_turn(answers: list[Answer]) -> Canned:
    """Answers with these, one after the other."""
    left = iter(answers)
    return Canned(lambda request: next(left))
