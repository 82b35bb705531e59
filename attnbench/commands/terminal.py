"""What commands share of a terminal: the console they draw on, and the files of records they read."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from attnbench.core.record import Record

__all__ = ["CANNOT_JUDGE", "INTERRUPTED", "USAGE", "interruptible", "loaded", "new_console", "say_set_aside",
           "telling"]  # fmt: skip

# Exit codes; 0 is done, and 1 a regression or a false claim.
USAGE, CANNOT_JUDGE, INTERRUPTED = 2, 3, 130
_NARROWEST = 20
# Seconds between two lines in a log: enough to see that it goes on.
_IN_A_LOG = 30.0


def new_console() -> "Console":
    """One that is as wide as the terminal, or as COLUMNS says, but never too narrow for a table."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError  # rich would exit with 1, which is a regression here

    console = Ours(highlight=False, soft_wrap=False)
    if console.width < _NARROWEST:
        console.width = _NARROWEST
    return console


def loaded(path: Path) -> "tuple[Record, ...]":
    """The records of a file; lines that are none are named on standard error."""
    from attnbench.core.store import load

    loaded = load(path)
    say_set_aside(path, loaded.set_aside)
    return loaded.records


def say_set_aside(path: Path | None, sentences: Sequence[str]) -> None:
    """Name the lines of a file that are no record on standard error."""
    for sentence in sentences:
        typer.echo(f"{path}: {sentence}", err=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """A polite request to end (SIGTERM, as schedulers send it before they kill) is heard like Ctrl-C."""

    def interrupted(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def telling(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says on standard error what is being done: on a terminal in a line that changes, in a log in one now and then."""
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet, highlight=False, markup=False)
    with console.status("loading torch") as status:
        yield status.update if console.is_terminal else _now_and_then(console)


def _now_and_then(console: "Console") -> Callable[[str], None]:
    last = time.monotonic()

    def tell(what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _IN_A_LOG:
            last = time.monotonic()
            console.print(what, soft_wrap=True)

    return tell
