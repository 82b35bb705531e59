"""`attnbench run --dry-run`: the cases, and the memory and the time they would take; nothing is run or written."""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from attnbench.commands.terminal import INTERRUPTED, interruptible, new_console, say_set_aside
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.core.forecast import Outlook
    from attnbench.engine.executors.executor import Lane, Wanted
    from attnbench.engine.question import Question

__all__ = ["dry_run"]


class Planned(Protocol):
    """What a run is to do."""

    questions: "Sequence[Question]"
    executor: str
    wanted: "Wanted"
    records_to: Path | None
    timeout: float
    resume: bool
    quiet: bool


def dry_run(planned: Planned, format_: str) -> int:
    """Print what the run would take; the exit code."""
    if format_ not in ("table", "json"):
        raise UsageError(f"--dry-run prints a table or --format json; {format_} is for what was measured.")
    with interruptible():
        outlook = _foreseen(planned)
    if format_ == "json":
        typer.echo(json.dumps(outlook.to_dict(), indent=2, ensure_ascii=False))
    elif outlook.forecasts:
        _print(outlook, planned.records_to)
    if len(outlook.forecasts) == outlook.planned:
        return 0
    typer.echo("attnbench: interrupted; not every case was looked at.", err=True)
    return INTERRUPTED


def _foreseen(planned: Planned) -> "Outlook":
    """What is foreseen of each case; Ctrl-C leaves out those that were not reached."""
    from attnbench.core.forecast import Forecast, Outlook
    from attnbench.engine.crew import Crew
    from attnbench.engine.executors.executor import EXECUTORS
    from attnbench.engine.forecast import foreseen, runs
    from attnbench.engine.scout import scouted
    from attnbench.engine.session import prepared
    from attnbench.report.screen import watched

    found: dict[int, Forecast] = {}
    lanes: Sequence[Lane] = ()
    with ExitStack() as stack:
        try:
            screen = stack.enter_context(watched(new_console(), len(planned.questions), quiet=planned.quiet))
            lanes = stack.enter_context(EXECUTORS[planned.executor](planned.wanted))
            several = len(lanes) > 1
            scouts = scouted(lanes, live=any(map(runs, planned.questions)))
            crew = Crew(scouts, planned.timeout, lambda lane, what: screen.starting(what, lane if several else ""))
            stack.enter_context(closing(crew))
            session = prepared(planned.questions, crew, planned.records_to if planned.resume else None)
            say_set_aside(planned.records_to, session.set_aside)
            fresh = planned.wanted.isolation == "case"
            for place, forecast in foreseen(planned.questions, session, crew, each_fresh=fresh):
                found[place] = forecast
                screen.skipped(1) if forecast.stored else screen.add(forecast.record)
        except KeyboardInterrupt:
            pass
    return Outlook([found[place] for place in sorted(found)], len(planned.questions), max(1, len(lanes)))


def _print(outlook: "Outlook", store: Path | None) -> None:
    from attnbench.report.forecast_table import render_outlook

    console = new_console()
    console.print(render_outlook(outlook, console.width, store=store))
