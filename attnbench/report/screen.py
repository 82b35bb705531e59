"""What a person sees while a run goes on: a bar, and the table so far; on a pipe, nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from attnbench.core.record import Record
from attnbench.report.table import render

__all__ = ["Screen", "watched"]


class Screen:
    """The bar and the table so far; both go when the run is over, and the final table is printed in their place."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._records: list[Record] = []
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("loading torch", total=total)
        self.live = Live(self._progress, console=console, transient=True, vertical_overflow="ellipsis")

    def starting(self, name: str, lane: str = "") -> None:
        """Say which case is being measured, and where."""
        self._progress.update(self._task, description=name.replace("[", "\\["))

    def skipped(self, count: int) -> None:
        """So many are there already."""
        self._progress.advance(self._task, count)

    def add(self, record: Record) -> None:
        """Show one more record."""
        self._records.append(record)
        self._progress.advance(self._task)
        self.live.update(Group(render(self._records, self._console.width), self._progress))


@contextmanager
def watched(console: Console, total: int, *, quiet: bool) -> Iterator[Screen]:
    """A screen that is drawn on a terminal and stays silent everywhere else."""
    screen = Screen(console, total)
    if quiet or not console.is_terminal:
        yield screen
        return
    with screen.live:
        yield screen
