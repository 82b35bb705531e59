"""The table while a run goes on: its last rows, as many as a height allows, and drawn anew no oftener than needed."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.text import Text

from attnbench.core.record import Record
from attnbench.report.compare import Baselines
from attnbench.report.footnotes import Footnote
from attnbench.report.frame import Row
from attnbench.report.table import Sheet, drawn, fit, footnote_grid, sheet_of

__all__ = ["RunningTable"]

# No terminal is higher; what is further back is not kept here.
_MOST_ROWS = 200
# What is drawn takes time from what is measured: news wait so many seconds for each other.
_PAUSE = 1.0
# Doubts take what rows leave, and of that part of the height they may push rows out.
_DOUBTS_PART = 1 / 3

Lines = list[list[Segment]]


class RunningTable:
    """The records of a run as they come, from whatever thread; a row's baseline may be far above what is shown."""

    def __init__(self, baseline: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._baselines = Baselines(baseline)
        self._last: deque[Record] = deque(maxlen=_MOST_ROWS)
        self._statuses: Counter[str] = Counter()
        self._lock = Lock()
        self._clock = clock
        self._drawn: Lines = []
        self._drawn_for = (0, 0, 0)
        self._drawn_at = -_PAUSE

    def know(self, records: Iterable[Record]) -> None:
        """Records from before this run: no rows of it, but baselines."""
        with self._lock:
            for record in records:
                self._baselines.add(record)

    def add(self, record: Record) -> None:
        with self._lock:
            self._baselines.add(record)
            self._last.append(record)
            self._statuses[record.status] += 1

    def lines(self, console: Console, options: ConsoleOptions, height: int) -> Lines:
        """At most so many lines: the last rows, whose last doubts, and in a sentence what is not shown."""
        with self._lock:
            rows = [Row(record, self._baselines.of(record)) for record in self._last]
            statuses = dict(self._statuses)
        if not rows:
            return []
        wanted = sum(statuses.values()), options.max_width, height
        resized = wanted[1:] != self._drawn_for[1:]
        if resized or (wanted != self._drawn_for and self._clock() - self._drawn_at >= _PAUSE):
            self._drawn = _fitting(rows, statuses, console, options, height)
            self._drawn_for, self._drawn_at = wanted, self._clock()
        return self._drawn


def _fitting(
    rows: Sequence[Row], statuses: dict[str, int], console: Console, options: ConsoleOptions, height: int
) -> Lines:
    count = min(len(rows), height)
    while count > 0:
        sheet = fit(sheet_of(rows[-count:]), options.max_width)
        above = _lines(_table(sheet, statuses, options.max_width), console, options)
        room = max(int(height * _DOUBTS_PART), height - len(above))
        lines = above + _doubts(sheet.notes, console, options, room)
        if len(lines) <= height:
            return lines
        count -= min(count, len(lines) - height)
    return []


def _lines(what: RenderableType, console: Console, options: ConsoleOptions) -> Lines:
    return console.render_lines(what, options.update(height=None), pad=False)


def _table(sheet: Sheet, statuses: dict[str, int], width: int) -> RenderableType:
    so_far = sum(statuses.values())
    shown = len(sheet.rows)
    of = f"the last {shown} of {so_far:,} rows" if shown < so_far else f"{so_far:,} row{'s' if so_far > 1 else ''}"
    failed = [f"{count:,} {status}" for status, count in statuses.items() if status != "ok"]
    said = Text(" · ".join([f"{of} so far", *failed]), style="dim")
    return Group(Text(sheet.caption, style="italic"), said, Text(), drawn(sheet, width))


def _doubts(notes: Sequence[Footnote], console: Console, options: ConsoleOptions, room: int) -> Lines:
    """The last of the footnotes, which are the newest, in so many lines with an empty one above them."""
    found: Lines = []
    kept = 0
    for note in reversed(notes):
        lines = _lines(footnote_grid([note]), console, options)
        more = kept + 1 < len(notes)
        if 1 + more + len(found) + len(lines) > room:
            break
        found, kept = lines + found, kept + 1
    if kept < len(notes) and len(found) + 2 <= room:
        found = [[Segment(f"… and {len(notes) - kept} more, under the table at the end")], *found]
    return [[], *found] if found else []
