"""One lane at work: a channel that is opened, greeted and asked, and opened again when its machine was lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.engine.asking import greeted, replicated, resolution
from attnbench.engine.batch import at_best_batch
from attnbench.engine.executors.executor import Lane
from attnbench.engine.processes import as_kept
from attnbench.engine.question import Question
from attnbench.engine.workers.channels import Channel

__all__ = ["Greeting", "Post"]

# The device that is meant, and the environment there.
Greeting = tuple[str, dict[str, Any]]


class Post:
    """One lane at work. With `each_fresh` every Question is answered by a process that has answered nothing yet."""

    def __init__(self, lane: Lane, timeout: float | None, *, each_fresh: bool) -> None:
        self.lane, self._timeout, self._each_fresh = lane, timeout, each_fresh
        self._channel: Channel | None = None
        self._greeted: tuple[str, int | None] | None = None
        # The environment that it was last greeted in.
        self.env: dict[str, Any] = {}

    @property
    def there(self) -> bool:
        """Whether it has a channel, which may be lost but was not found so."""
        return self._channel is not None

    def open(self) -> Channel:
        """What answers, started if it is not there. LaneLost where it cannot be started any more."""
        if self._channel is None:
            self._channel, self._greeted = self.lane.open(), None
        return self._channel

    def greet(self, questions: Sequence[Question]) -> dict[tuple[str, int | None], Greeting]:
        """For each device and number of threads that is asked for, what is meant by it and its environment."""
        pairs = dict.fromkeys((self._here(each.case).device, each.options.threads) for each in questions)
        return {pair: self._greet(*pair, questions) for pair in pairs}

    def _greet(self, device: str, threads: int | None, questions: Sequence[Question]) -> Greeting:
        mine = [each for each in questions if each.options.threads == threads]
        dtypes = sorted({each.case.dtype for each in mine})
        metrics = tuple(sorted({name for each in mine for name in each.options.metrics}))
        found = greeted(self.open(), device, dtypes, replace(mine[0].options, metrics=metrics))
        self._greeted, self.env = (device, threads), found[1]
        return found

    def _here(self, case: Case) -> Case:
        return case.with_(device=self.lane.device) if self.lane.device else case

    def resolve(self, case: Case) -> Case | Record:
        """As `resolution`, on this lane's device."""
        return resolution(self._here(case), self.open(), self._timeout)

    def record(self, question: Question, known: Mapping[Case, Case | Record], tell: Callable[[str], None]) -> Record:
        """The Question's Record; what is wrong with the Question itself is one too, since others wait behind it."""
        channel, options = self.open(), question.options
        case = self._here(question.case)
        try:
            if self._each_fresh:
                channel.fresh()
            if self._greeted != (case.device, options.threads):
                self._greet(case.device, options.threads, [Question(case, options)])
            answer = known.get(case) or resolution(case, channel, self._timeout)
            if isinstance(answer, Record):
                return answer
            measure = at_best_batch if options.best_batch else replicated
            return as_kept(measure(answer, channel, options, self._timeout, tell), options)
        except UsageError as error:
            return Record(case, "error", str(error).rstrip("."), repro=case.command())

    def lost(self) -> None:
        """Forget what does not answer any more."""
        self._channel = None

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
