"""A crew: lanes that share out Questions, one at a time to each; every Question gets one Record, whatever happens."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Record
from attnbench.engine.executors.executor import Lane, LaneLost
from attnbench.engine.neighbours import Neighbours, placed
from attnbench.engine.post import Greeting, Post
from attnbench.engine.question import Question

__all__ = ["Crew", "TellLane"]

# Hears the name of a lane, and what it does: nothing when it is done with a case.
TellLane = Callable[[str, str], None]
# So many machines may be lost under a Case before it is taken to be the reason.
_MOST_LOST = 2

_Given = TypeVar("_Given")


def _unseen(lane: str, what: str) -> None:
    """Nobody watches."""


class Crew:
    """Lanes that are open; `close` it in the end. `timeout` is the silence in seconds that is borne of any of them."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        timeout: float | None = None,
        tell: TellLane = _unseen,
        *,
        each_fresh: bool = False,
    ) -> None:
        self._posts = [Post(lane, timeout, each_fresh=each_fresh) for lane in lanes]
        self._tell = tell
        self._known: dict[Case, Case | Record] = {}
        self._neighbours = Neighbours()

    def settled(self, questions: Sequence[Question]) -> tuple[list[Question], list[frozenset[str]]]:
        """The Questions with `--device auto` decided, and the fingerprints of the environments each may be answered in.

        Raises:
            UsageError: a device is not there, or has not those dtypes.
            CannotJudgeError: no lane can be opened.
        """
        self._of_each(Post.open)  # all of them before one is asked, so that they load torch at the same time
        greetings = self._of_each(lambda post: post.greet(questions))
        lane = self._posts[0].lane
        decided = [replace(each, case=_on(each, lane, greetings[0])) for each in questions]
        prints: dict[tuple[str, int | None], set[str]] = {}
        for greeting in greetings:
            for pair, (_, env) in greeting.items():
                prints.setdefault(pair, set()).add(env.get("fingerprint", ""))
        return decided, [frozenset(prints[lane.device or each.case.device, each.options.threads]) for each in questions]

    def _of_each(self, act: Callable[[Post], _Given]) -> list[_Given]:
        """What each gives; one that is lost over it is left out."""
        given: list[_Given] = []
        lost: list[str] = []
        for post in list(self._posts):
            try:
                given.append(act(post))
            except LaneLost as loss:
                lost.append(str(loss))
                self._posts.remove(post)
        if not given:
            raise CannotJudgeError(f"nothing can be measured: {'; '.join(dict.fromkeys(lost)) or 'there is no lane'}.")
        return given

    def check(self, questions: Sequence[Question]) -> None:
        """See that each target is there and can be built in at least one of its Cases.

        Raises:
            UsageError: it is not, or cannot: then the question itself is wrong.
        """
        by_name: dict[str, list[Case]] = {}
        for each in questions:
            by_name.setdefault(each.case.name, []).append(each.case)
        for cases in by_name.values():
            self._buildable(cases)

    def _buildable(self, cases: Sequence[Case]) -> None:
        for case in cases:
            answer = self._known[case] = self._resolved(case)
            if isinstance(answer, Case):
                return
        first = self._known[cases[0]]
        assert isinstance(first, Record)
        raise UsageError(f"{first.reason}.")

    def _resolved(self, case: Case) -> Case | Record:
        for lost in range(1, _MOST_LOST + 1):
            post = self._posts[lost % len(self._posts)]
            try:
                return post.resolve(case)
            except LaneLost as loss:
                post.lost()
                if lost == _MOST_LOST:
                    return _fatal(case, post, loss)
        raise AssertionError("it was resolved or was fatal")

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Record]]:
        """Each Question with its Record, as they come.

        Raises:
            CannotJudgeError: all lanes are lost; what was yielded before holds.
        """
        if len(self._posts) == 1:
            yield from self._one_by_one(questions)
        else:
            yield from self._side_by_side(questions)

    def _one_by_one(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Record]]:
        """In this thread, which debuggers and Ctrl-C know."""
        (post,) = self._posts
        for done, question in enumerate(questions):
            task, record = _Task(question), None
            while record is None:
                if loss := _unopened(post):
                    raise _nobody(len(questions) - done, loss)
                record = self._attempt(post, task)
            yield question, record

    def _attempt(self, post: Post, task: "_Task") -> Record | None:
        """The Record, or None where the machine was lost, through no fault of the Case as far as one knows."""
        try:
            record = self._answered(post, task.question)
        except LaneLost as loss:
            post.lost()
            task.lost += 1
            return _fatal(task.question.case, post, loss) if task.lost == _MOST_LOST else None
        return record if not task.lost else replace(record, env={**record.env, "machines_lost": task.lost})

    def _side_by_side(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Record]]:
        waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        for question in questions:
            waiting.put(_Task(question))
        for post in self._posts:
            threading.Thread(target=self._serve, args=(post, waiting, ended), daemon=True).start()
        try:
            yield from self._as_they_end(len(questions), ended)
        except KeyboardInterrupt:
            yield from _finished(ended)  # they are done: to drop them would be a pity
            raise
        finally:
            _drain(waiting)
            for _ in self._posts:
                waiting.put(None)

    def _as_they_end(self, count: int, ended: "queue.SimpleQueue[_Ended]") -> Iterator[tuple[Question, Record]]:
        lost = 0
        while count:
            what = ended.get()
            if isinstance(what, LaneLost):
                lost += 1
                if lost == len(self._posts):
                    raise _nobody(count, what)
            elif isinstance(what, BaseException):
                raise what
            else:
                count -= 1
                yield what

    def _serve(
        self, post: Post, waiting: "queue.SimpleQueue[_Task | None]", ended: "queue.SimpleQueue[_Ended]"
    ) -> None:
        """One lane's thread: takes a Question at a time, and gives one back that was not its fault to lose."""
        try:
            while not (loss := _unopened(post)) and (task := waiting.get()) is not None:
                record = self._attempt(post, task)
                if record is None:
                    waiting.put(task)
                else:
                    ended.put((task.question, record))
                self._tell(post.lane.name, "")
            if loss:
                ended.put(loss)
        except BaseException as error:  # a fault of ours: it belongs to whoever reads
            ended.put(error)

    def _answered(self, post: Post, question: Question) -> Record:
        lane, name = post.lane, question.case.name
        self._tell(lane.name, name)
        running = self._neighbours.begin(lane.host)
        try:
            record = post.record(question, self._known, lambda what: self._tell(lane.name, f"{name}, {what}"))
        finally:
            neighbours = self._neighbours.end(running)
        return record if len(self._posts) == 1 and not lane.facts else placed(record, lane, neighbours)

    def close(self) -> None:
        """Let go of all lanes, whatever they are doing."""
        for post in self._posts:
            post.close()


@dataclass(slots=True)
class _Task:
    question: Question
    lost: int = 0


_Ended = tuple[Question, Record] | BaseException


def _on(question: Question, lane: Lane, greetings: Mapping[tuple[str, int | None], Greeting]) -> Case:
    asked = lane.device or question.case.device
    return question.case.with_(device=greetings[asked, question.options.threads][0])


def _unopened(post: Post) -> LaneLost | None:
    """Why a lane that was lost cannot be opened any more."""
    if not post.there:
        try:
            post.open()
        except LaneLost as loss:
            return loss
    return None


def _nobody(left: int, loss: LaneLost) -> CannotJudgeError:
    return CannotJudgeError(f"{left} cases are left, and nobody to measure them: {loss}. What was measured is kept; "
                            "--resume goes on.")  # fmt: skip


def _fatal(case: Case, post: Post, loss: LaneLost) -> Record:
    """Of the environment that the last of them had, so that a sweep that goes on later does not lose two more."""
    return Record(case, "crashed", f"{_MOST_LOST} machines were lost while they measured it: {loss}",
                  env=post.env, repro=case.command())  # fmt: skip


def _finished(ended: "queue.SimpleQueue[_Ended]") -> Iterator[tuple[Question, Record]]:
    while not ended.empty():
        what = ended.get()
        if not isinstance(what, BaseException):
            yield what


def _drain(waiting: "queue.SimpleQueue[_Task | None]") -> None:
    while not waiting.empty():
        waiting.get()
