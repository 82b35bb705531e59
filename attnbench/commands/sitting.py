"""One run of `attnbench run`: what it is to do, what came of it so far, and the measuring itself."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.commands.terminal import new_console, say_set_aside

if TYPE_CHECKING:
    from attnbench.core.record import Record
    from attnbench.core.store import Store
    from attnbench.engine.crew import Crew, TellLane
    from attnbench.engine.executors.executor import Lane, Wanted
    from attnbench.engine.question import Question
    from attnbench.report.screen import Screen

__all__ = ["Sitting", "measure", "screen_of", "teller"]


@dataclass(slots=True)
class Sitting:
    """`records_to` is the file that records are appended to, None for a new one; `exports` are written at the end.

    Of what a resumed file holds, rows whose status is in `retry` are measured again. `kept` counts the records that
    were there before, `finished` tells whether nothing is left to measure.
    """

    questions: "Sequence[Question]"
    executor: str
    wanted: "Wanted"
    timeout: float
    records_to: Path | None = None
    exports: Sequence[Path] = ()
    format: str = "table"
    baseline: str | None = None
    resume: bool = False
    retry: tuple[str, ...] = ()
    quiet: bool = False
    records: "list[Record]" = field(default_factory=list)
    kept: int = 0
    store: "Store | None" = None
    finished: bool = False

    @property
    def resumed(self) -> Path | None:
        """The file whose records are not to be measured again."""
        return self.records_to if self.resume else None


def measure(sitting: Sitting) -> None:
    """Take one record after the other; Ctrl-C drops only the cases under way."""
    from attnbench.core.store import Store
    from attnbench.core.writers import writing
    from attnbench.engine.executors.executor import EXECUTORS
    from attnbench.engine.session import prepared

    session = None
    with ExitStack() as stack:
        try:
            if sitting.records_to is not None:
                stack.enter_context(writing(sitting.records_to, alone=sitting.resume))
            screen = stack.enter_context(screen_of(sitting))
            lanes = stack.enter_context(EXECUTORS[sitting.executor](sitting.wanted))
            crew = stack.enter_context(_crew(lanes, sitting, screen))
            session = prepared(sitting.questions, crew, sitting.resumed, sitting.retry)
            say_set_aside(sitting.records_to, session.set_aside)
            sitting.store = Store(sitting.records_to or _fresh(Path("results")))
            sitting.records += session.kept
            sitting.kept = len(session.kept)
            screen.kept(session.kept)
            for record in session.records(crew, sitting.store):
                sitting.records.append(record)
                screen.add(record)
            sitting.finished = True
        except KeyboardInterrupt:
            pass
        finally:
            if session is not None:
                sitting.records = session.ordered(sitting.records)


def _fresh(folder: Path) -> Path:
    """A name in the folder that no earlier run has taken."""
    stem = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    names = (folder / f"{stem}{suffix}.jsonl" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in names if not path.exists())


def screen_of(sitting: Sitting) -> "AbstractContextManager[Screen]":
    """The screen of its cases; silent on a pipe."""
    from attnbench.report.screen import watched

    return watched(new_console(), len(sitting.questions), quiet=sitting.quiet, baseline=sitting.baseline)


def teller(lanes: "Sequence[Lane]", screen: "Screen") -> "TellLane":
    """Shows on the screen what the lanes do; a single one needs no name."""

    def tell(lane: str, what: str) -> None:
        lane = lane if len(lanes) > 1 else ""
        if what:
            screen.starting(what, lane)
        else:
            screen.resting(lane)

    return tell


def _crew(lanes: "Sequence[Lane]", sitting: Sitting, screen: "Screen") -> "AbstractContextManager[Crew]":
    from attnbench.engine.crew import Crew

    fresh = sitting.wanted.isolation == "case"
    return closing(Crew(lanes, sitting.timeout, teller(lanes, screen), each_fresh=fresh))
