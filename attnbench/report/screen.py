"""What a person sees while a run goes on: the last rows, what is being measured where, a bar; on a pipe, nothing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from attnbench.core.record import Record
from attnbench.report.facts import visible
from attnbench.report.running import RunningTable

__all__ = ["Screen", "watched"]

# The time left is told from the cases of the last hour: one of them may take minutes.
_HOUR = 3600.0
_DAY = 86_400
# Of this part of the height each lane has a line of its own, and of more lanes the number is told.
_LANES_PART = 5


class Screen:
    """The last rows and the bar, redrawn a few times a second whatever comes in between, from whatever thread.

    All of it goes when the run is over, and the final table is printed in its place.
    """

    def __init__(self, console: Console, total: int, baseline: str | None = None) -> None:
        self._table = RunningTable(baseline)
        self._lanes = {"": "loading torch"}
        self._progress = Progress(
            BarColumn(bar_width=None), MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Times(table_column=Column(no_wrap=True)), console=console, expand=True, speed_estimate_period=_HOUR,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total)
        self.live = Live(self, console=console, transient=True, vertical_overflow="crop")

    def starting(self, name: str, lane: str = "") -> None:
        """Say which case is being measured, or what of it, and where."""
        self._lanes.pop("" if lane else lane, None)
        self._lanes[lane] = name

    def resting(self, lane: str) -> None:
        """Nothing is being measured there any more."""
        self._lanes.pop(lane, None)

    def skipped(self, count: int) -> None:
        """So many are there already."""
        # Not `advance`: what took no time says nothing of the time that is left.
        self._progress.tasks[0].completed += count

    def kept(self, records: Iterable[Record]) -> None:
        """These are there already, and new rows may be set against them."""
        known = list(records)
        self._table.know(known)
        self.skipped(len(known))

    def add(self, record: Record) -> None:
        """Show one more record."""
        self._table.add(record)
        self._progress.advance(self._task)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The cursor stands on a line of its own.
        height = options.size.height - 1
        bar = console.render_lines(self._progress.get_renderable(), options.update(height=None), pad=False)
        doing = self._doing(max(1, height // _LANES_PART), options.max_width)
        left = height - len(doing) - len(bar) - 1
        table = self._table.lines(console, options, left)
        lines = [*table, *([[]] if table else []), *([Segment(text)] for text in doing), *bar]
        for line in lines[-height:]:
            yield from line
            yield Segment.line()

    def _doing(self, most: int, width: int) -> list[str]:
        """A line for each lane, up to so many, and what the others are in one."""
        lanes = list(self._lanes.items())
        shown = lanes if len(lanes) <= most else lanes[: max(1, most - 1)]
        longest = max((len(lane) for lane, _ in shown), default=0)
        texts = [f"{lane:{longest}}  {name}" if lane else name for lane, name in shown]
        more = len(lanes) - len(shown)
        return [_cut(visible(text), width) for text in (*texts, *([f"and {more:,} more"] if more else []))]


def _cut(text: str, width: int) -> str:
    line = Text(text)
    line.truncate(width, overflow="ellipsis")
    return line.plain


class _Times(ProgressColumn):
    """`0:12:33 so far, about 4 d 20 h left`."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The time left is told once two cases were measured."""
        left = task.time_remaining
        about = "" if left is None or task.finished else f", about {_span(left)} left"
        return Text(f"{_span(task.elapsed or 0)} so far{about}")


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), _DAY)
    return f"{days} d {rest // 3600} h" if days else str(timedelta(seconds=rest))


@contextmanager
def watched(console: Console, total: int, *, quiet: bool, baseline: str | None = None) -> Iterator[Screen]:
    """A screen that is drawn on a terminal and stays silent everywhere else."""
    screen = Screen(console, total, baseline)
    if quiet or not console.is_terminal:
        yield screen
        return
    with screen.live:
        yield screen
