"""`attnbench run --dry-run`: the cases, and the memory and the time they would take; nothing is run or written."""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from attnbench.commands.sitting import Sitting, screen_of, teller
from attnbench.commands.terminal import INTERRUPTED, interruptible, new_console, say_set_aside
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.core.forecast import Outlook
    from attnbench.engine.executors.executor import Lane

__all__ = ["dry_run"]


def dry_run(sitting: Sitting) -> int:
    """Print what the run would take; the exit code."""
    if sitting.format not in ("table", "json"):
        raise UsageError(f"--dry-run prints a table or --format json; {sitting.format} is for what was measured.")
    with interruptible():
        outlook = _foreseen(sitting)
    if sitting.format == "json":
        typer.echo(json.dumps(outlook.to_dict(), indent=2, ensure_ascii=False))
    elif outlook.forecasts:
        _print(outlook, sitting.records_to)
    if len(outlook.forecasts) == outlook.planned:
        return 0
    typer.echo("attnbench: interrupted; not every case was looked at.", err=True)
    return INTERRUPTED


def _foreseen(sitting: Sitting) -> "Outlook":
    """What is foreseen of each case; Ctrl-C leaves out those that were not reached."""
    from attnbench.core.forecast import Forecast, Outlook
    from attnbench.engine.crew import Crew
    from attnbench.engine.executors.executor import EXECUTORS
    from attnbench.engine.forecasts.forecast import foreseen, runs
    from attnbench.engine.forecasts.scout import scouted
    from attnbench.engine.session import prepared

    found: dict[int, Forecast] = {}
    lanes: Sequence[Lane] = ()
    with ExitStack() as stack:
        try:
            screen = stack.enter_context(screen_of(sitting))
            lanes = stack.enter_context(EXECUTORS[sitting.executor](sitting.wanted))
            scouts = scouted(lanes, live=any(map(runs, sitting.questions)))
            crew = stack.enter_context(closing(Crew(scouts, sitting.timeout, teller(lanes, screen))))
            session = prepared(sitting.questions, crew, sitting.resumed, sitting.retry)
            say_set_aside(sitting.records_to, session.set_aside)
            fresh = sitting.wanted.isolation == "case"
            for place, forecast in foreseen(sitting.questions, session, crew, each_fresh=fresh):
                found[place] = forecast
                screen.skipped(1) if forecast.stored else screen.add(forecast.record)
        except KeyboardInterrupt:
            pass
    return Outlook([found[place] for place in sorted(found)], len(sitting.questions), max(1, len(lanes)))


def _print(outlook: "Outlook", store: Path | None) -> None:
    from attnbench.report.forecast_table import render_outlook

    console = new_console()
    console.print(render_outlook(outlook, console.width, store=store))
