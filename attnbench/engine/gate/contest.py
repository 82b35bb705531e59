"""A contest: many duels decided round by round, each round in a fresh process, and suspicions confirmed by others."""

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from attnbench.core.sequential import (
    ALPHA,
    Decision,
    Leaning,
    Told,
    chance,
    evidence,
    leaning,
    rejected,
    runner_spread,
)
from attnbench.engine.gate.duel import Duel, Failed, Launch, Launcher

__all__ = ["Contest", "Course", "Limits"]

Tell = Callable[[str], None]
Clock = Callable[[], float]

_SUSPICIONS: Final[tuple[Leaning, ...]] = ("worse", "better")
_INTERRUPTED: Final = "it was interrupted before this was decided"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many processes may be asked about a duel, and for how many seconds.

    Of `fewest` to `most` the answer is sought; a suspicion goes to others, and is looked at when so many of them have
    been asked as `looks` say. `max_time` is of each duel alone, with its part of the time that processes take to start;
    a process under way is not cut short, and a suspicion has its first look in any case. Where so many as `hopeless`
    says were disturbed, and not one was calm, no others are asked.
    """

    fewest: int = 3
    most: int = 12
    looks: tuple[int, ...] = (2, 4, 8, 12)
    hopeless: int = 4
    max_time: float = 60.0


@dataclass(slots=True)
class Course:
    """How a duel went so far."""

    duel: Duel
    launches: list[Launch] = field(default_factory=list)
    confirming: list[Launch] = field(default_factory=list)
    disturbed: list[Launch] = field(default_factory=list)
    spent: float = 0.0
    suspicion: Leaning | None = None
    answer: Leaning | None = None
    reason: str = ""
    failed: Failed | None = None

    @property
    def told(self) -> list[Told]:
        return [launch.told for launch in self.launches]

    @property
    def confirming_told(self) -> list[Told]:
        return [launch.told for launch in self.confirming]

    @property
    def every(self) -> list[Told]:
        """What all processes say, whatever they were asked for."""
        return [*self.told, *self.confirming_told]

    @property
    def times(self) -> tuple[float, float] | None:
        """Milliseconds of a step of the baseline and of the candidate: medians over the processes."""
        heard = [*self.launches, *self.confirming]
        if not heard:
            return None
        return (statistics.median(launch.baseline_ms for launch in heard),
                statistics.median(launch.candidate_ms for launch in heard))  # fmt: skip

    @property
    def broken(self) -> bool:
        """Whether a side of it cannot be run, so that there is no latency to judge."""
        return self.failed is not None and self.failed.which is not None

    @property
    def open(self) -> bool:
        """Whether it is still to be decided."""
        return self.answer is None and not self.reason

    def decision(self, spread: float) -> Decision:
        """What is known in the end, or so far."""
        found = evidence(self.every, spread) if self.every else None
        reason = _INTERRUPTED if self.open else self.reason
        return Decision(self.answer or "undecided", found, tuple(self.told), tuple(self.confirming_told), reason)


def _silent(what: str) -> None:
    """Nobody watches."""


class Contest:
    """Decides `duels` through `launcher`. The `control` is a duel of equals, fought in each round: what its two sides
    seem to differ by is the noise of this runner."""

    def __init__(
        self,
        duels: Sequence[Duel],
        control: Duel | None,
        launcher: Launcher,
        limits: Limits | None = None,
        tell: Tell = _silent,
        clock: Clock = time.perf_counter,
        seed: int = 0,
    ) -> None:
        self.courses = [Course(duel) for duel in duels]
        self.control = Course(control) if control else None
        self._launcher, self._limits, self._tell, self._clock = launcher, limits or Limits(), tell, clock
        self._rng = random.Random(seed)
        self._rounds = 0

    @property
    def spread(self) -> float:
        """What twins of the same code differ by from process to process here, as far as is known."""
        return runner_spread(self.control.every if self.control else [])

    @property
    def noise(self) -> Decision:
        """What is known of the control."""
        return self.control.decision(self.spread) if self.control else Decision("undecided", None)

    @property
    def decisions(self) -> list[Decision]:
        """One for each duel, in their order; those that were not decided say so."""
        return [course.decision(self.spread) for course in self.courses]

    def run(self) -> None:
        """Decide all of them; Ctrl-C leaves what is decided as it is."""
        while sought := [course for course in self.courses if course.open and course.suspicion is None]:
            self._round(sought, harder=False)
            for course in sought:
                self._look(course)
        for look in self._limits.looks:
            while suspects := [course for course in self.courses if self._to_be_asked(course, look)]:
                self._round(suspects, harder=True)
            self._confirm()
        for course in self.courses:
            if course.open:
                self._unconfirmed(course)
        self._distrust()

    def _to_be_asked(self, course: Course, look: int) -> bool:
        """Whether another process is needed before this look at a suspicion, and there is time for it."""
        ended = self._disturbed(course) if look == self._limits.looks[0] else self._over(course)
        return course.open and len(course.confirming) < look and not ended

    def _round(self, courses: Sequence[Course], *, harder: bool) -> None:
        """One process's word on each of them, and on the control."""
        if not courses:
            return
        self._rounds += 1
        begin = self._clock()
        self._launcher.fresh()
        everyone = [*courses, *([self.control] if self.control and not self.control.failed else [])]
        # Another order in each process: who comes first finds another memory than who comes last.
        for number, course in enumerate(self._rng.sample(everyone, len(everyone)), 1):
            self._tell(f"{'confirming' if harder else 'round'} {self._rounds}: {course.duel.name} "
                       f"({number} of {len(everyone)})")  # fmt: skip
            self._launch(course, harder=harder)
            end = self._clock()
            course.spent += end - begin
            begin = end

    def _launch(self, course: Course, *, harder: bool) -> None:
        found = self._launcher.launch(course.duel, self._rng.getrandbits(32), harder=harder)
        if isinstance(found, Failed):
            course.failed, course.reason = found, f"{found.status}: {found.reason}"
        elif found.disturbed:
            course.disturbed.append(found)
        else:
            (course.confirming if harder else course.launches).append(found)

    def _look(self, course: Course) -> None:
        limit = self._limits
        last = len(course.told) >= limit.most or self._over(course)
        if not course.open or (len(course.told) < limit.fewest and not last):
            return
        if len(course.told) < limit.fewest:
            course.reason = self._undecided(course)
            return
        found = self._leaning(course, course.told, last=last)
        if found in ("worse", "better"):
            course.suspicion = found
        elif found is not None:
            course.answer = found
        elif last:
            course.reason = self._undecided(course)

    def _over(self, course: Course) -> bool:
        """Whether no more processes are asked: its time is over, or they are always disturbed."""
        return course.spent >= self._limits.max_time or self._disturbed(course)

    def _disturbed(self, course: Course) -> bool:
        """Whether so many processes were disturbed that the next ones will be as well."""
        count, limit = len(course.disturbed), self._limits
        return count >= limit.most or (count >= limit.hopeless and not course.every)

    def _undecided(self, course: Course) -> str:
        limit, heard, threshold = self._limits, len(course.every), course.duel.threshold
        if course.disturbed and len(course.disturbed) >= heard:
            why = ", ".join(dict.fromkeys(launch.disturbed for launch in course.disturbed))
            return f"{len(course.disturbed)} of {len(course.disturbed) + heard} processes were disturbed: {why}"
        if heard < limit.fewest:
            return (f"--max-time {limit.max_time:g} was over after {heard} of the {limit.fewest} processes that it "
                    "takes at least; give it more")  # fmt: skip
        over, advice = f"--max-time {limit.max_time:g}", "give it more --max-time"
        if heard >= limit.most:
            over, advice = f"{heard} processes", "allow a larger --threshold"
        return (f"not decided within {over}: this runner is too noisy to tell {_percent(threshold.margin)} "
                f"from {_percent(threshold.tolerance)}; quiet it, or {advice}")  # fmt: skip

    def _confirm(self) -> None:
        """A look at what the confirming processes alone say, of all suspicions of a kind together.

        The looks share the error: each may confirm what is not so in a part of the cases that all of them may.
        """
        for suspicion in _SUSPICIONS:
            suspects = [each for each in self.courses if each.open and each.suspicion == suspicion and each.confirming]
            chances = [
                chance(evidence(each.confirming_told, self.spread), suspicion, each.duel.threshold.margin)
                for each in suspects
            ]
            fallen = sum(each.answer == suspicion for each in self.courses)
            falls = rejected(chances, len(self.courses) - fallen, ALPHA / len(self._limits.looks))
            for course, falls_now in zip(suspects, falls, strict=True):
                if falls_now:
                    course.answer = suspicion

    def _unconfirmed(self, course: Course) -> None:
        """A suspicion that was not confirmed: all that was heard may acquit it; else it cannot be judged."""
        faster = course.suspicion == "better" and not course.duel.both_ways
        found = self._leaning(course, course.every, last=faster)
        if found == "same" or (faster and found == "better"):
            course.answer = "same"
        elif self._disturbed(course):
            course.reason = self._undecided(course)
        else:
            way = "slower" if course.suspicion == "worse" else "faster"
            course.reason = f"it seems {way}, but {len(course.confirming)} more processes did not prove it"

    def _leaning(self, course: Course, told: Sequence[Told], *, last: bool) -> Leaning | None:
        threshold, both_ways = course.duel.threshold, course.duel.both_ways
        found = evidence(told, self.spread)
        return leaning(found, threshold.margin, threshold.tolerance, last=last, both_ways=both_ways)

    def _distrust(self) -> None:
        """Where equals differ on this runner, nobody can be said to differ on it."""
        if self.control is None or not self.control.every:
            return
        # Held against what runners are known to differ by: its own spread is as large as what it is off by.
        found = evidence(self.control.every)
        least = min(course.duel.threshold.margin for course in self.courses)
        if leaning(found, least, 1.0, last=True) in (None, "same"):
            return
        for course in self.courses:
            if course.answer in ("worse", "better"):
                course.answer = None
                course.reason = (f"the same code twice seems to differ by {_percent(math.expm1(found.log_ratio))} on "
                                 "this runner")  # fmt: skip


def _percent(value: float) -> str:
    return f"{value * 100:.2g} %"
