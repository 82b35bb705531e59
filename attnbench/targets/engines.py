"""How a Subject's step is run: as written, compiled, or as a recorded graph."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from attnbench.core.record import Note
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Subject
from attnbench.targets.compiled import Compiled
from attnbench.targets.recorded import Recorded

__all__ = ["Eager", "Engine", "engine_of"]


class Engine(Protocol):
    """Changes how a Subject's steps are run, before they are measured."""

    def prepared(self, subject: Subject) -> Iterator[Finding]:
        """Put what runs the steps into the subject, and say what that took.

        Raises:
            UnsupportedError: the engine cannot run this module, or not on this device; one sentence says why.
            IncorrectError: what it runs gives something else than the module as written.
        """
        ...

    def finished(self) -> Iterator[Finding]:
        """What is known of it only after measuring."""
        ...

    def close(self) -> None:
        """Leave nothing behind for the next case."""
        ...


class Eager:
    """The module as written."""

    def prepared(self, subject: Subject) -> Iterator[Finding]:
        yield Note("not_measured", "latency.compile_ms: it runs as written (--engine eager)")

    def finished(self) -> Iterator[Finding]:
        yield from ()

    def close(self) -> None:
        return


_ENGINES: Mapping[str, Callable[[], Engine]] = {"eager": Eager, "compile": Compiled, "cudagraph": Recorded}


@contextmanager
def engine_of(name: str) -> Iterator[Engine]:
    """The engine of that name, for as long as one case is measured."""
    engine = _ENGINES[name]()
    try:
        yield engine
    finally:
        engine.close()
