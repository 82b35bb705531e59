"""The engine `compile`: the module through torch.compile, what that took, and where it gave up."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from traceback import FrameSummary
from typing import Any

import torch

from attnbench.core.errors import CaseError, IncorrectError, UnsupportedError, named
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding
from attnbench.metrics.subject import Subject
from attnbench.targets.agreement import AsWritten, as_written, difference, finite, outcome

__all__ = ["Compiled"]

Clock = Callable[[], float]

# Dynamo compiles a function anew 8 times before it gives up; a step of several parts may need more rounds.
_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Traced:
    """What torch.compile did since its counters were cleared.

    `breaks` are the places where it could not go on and began another graph, `reason` is that of the first; `refused`
    are the functions that it gave up on.
    """

    graphs: int
    breaks: int
    reason: str
    refused: int

    @classmethod
    def now(cls) -> "Traced":
        """Read dynamo's counters. A branch on a value breaks a graph and is not counted among the breaks."""
        from torch._dynamo.utils import counters, graph_break_reasons

        graphs, frames, breaks = counters["stats"]["unique_graphs"], counters["frames"], counters["graph_break"]
        reasons = [*breaks, *(each.reason for each in graph_break_reasons)]
        places = [each.user_stack[-1] for each in graph_break_reasons if each.user_stack]
        return cls(graphs, max(sum(breaks.values()), graphs - 1), _sentence(reasons, places),
                   frames["total"] - frames["ok"])  # fmt: skip


def _sentence(reasons: Sequence[str], places: Sequence[FrameSummary]) -> str:
    """The first reason, and the first place in the user's own code, as far as torch tells."""
    reason = reasons[0].strip().split("\n", 1)[0].rstrip(".") if reasons else "torch gives no reason"
    reason = "a branch on the value of a tensor" if reason.startswith("generic_jump") else reason
    inside = str(Path(torch.__file__).parent)
    own = next((place for place in places if not place.filename.startswith(inside)), None)
    return reason + (f", {Path(own.filename).name}, line {own.lineno}" if own else "")


class Compiled:
    """torch.compile with its defaults, and fixed shapes, on the module alone: an optimizer's step runs as written.

    Each case is compiled from nothing: dynamo is reset, its counters are cleared, and the caches on disk are those of
    an empty folder of its own, so that neither an earlier case nor an earlier run makes compiling look cheap.
    """

    def __init__(self, backend: Any = "inductor", clock: Clock = time.perf_counter) -> None:
        self._backend = backend
        self._clock = clock
        self._stack = ExitStack()
        self._settled: Traced | None = None

    def prepared(self, subject: Subject) -> Iterator[Finding]:
        """Compile it, settle, and compare with the module as written."""
        written = as_written(subject)
        _usable(self._backend, subject.case.device)
        self._stack.enter_context(_from_nothing(self._backend))
        with _refusals():
            subject.compiled = torch.compile(subject.module, backend=self._backend, dynamic=False)
            first_ms = self._timed(subject)
            first = Traced.now()
            later_ms = self._settling(subject)
        if not first.graphs:
            raise UnsupportedError(f"torch.compile compiles nothing of it ({first.reason}); use --engine eager")
        yield Reading("latency.compile_ms", first_ms - later_ms, "ms", "lower", "Compile")
        yield from _compared(subject, written)
        self._settled = Traced.now()
        yield from _doubts(first, self._settled)

    def _settling(self, subject: Subject) -> float:
        """Milliseconds of the steps once the same input makes torch compile no more."""
        for _ in range(_MOST_ROUNDS):
            graphs = Traced.now().graphs
            self._timed(subject)
            if Traced.now().graphs == graphs:
                break
        return self._timed(subject)

    def _timed(self, subject: Subject) -> float:
        subject.synchronize()
        start = self._clock()
        for what in subject.parts:
            subject.repeat(1, what)
        subject.synchronize()
        return (self._clock() - start) * 1000

    def finished(self) -> Iterator[Finding]:
        """Whether torch compiled anew while it was measured."""
        more = Traced.now().graphs - self._settled.graphs if self._settled else 0
        if more > 0:
            yield Note("recompiled", f"torch.compile compiled it {_times(more)} more while it was measured: its "
                                     "figures hold some of that")  # fmt: skip

    def close(self) -> None:
        """Forget what was compiled."""
        self._stack.close()


@cache
def _usable(backend: Any, device: str) -> None:
    """Compile next to nothing: finds out whether there is a compiler, and pays what only the first compilation does."""
    try:
        with _quiet():
            torch.compile(_next_to_nothing, backend=backend)(torch.ones(8, device=device))
    except Exception as error:
        raise UnsupportedError(f"torch.compile cannot be used here: {named(_cause(error))}") from error


@contextmanager
def _refusals() -> Iterator[None]:
    """The steps in it have run as written: what fails now is the compiler, and its reason is one sentence."""
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, CaseError | torch.OutOfMemoryError | MemoryError):
            raise cause from None
        raise UnsupportedError(f"torch.compile fails on it: {named(cause)}") from error


def _next_to_nothing(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def _cause(error: Exception) -> Exception:
    """What the backend raised, without what dynamo wraps around it."""
    inner = getattr(error, "inner_exception", None)
    return inner if isinstance(inner, Exception) else error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's advice to developers: what matters of it becomes notes."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch._dynamo", "torch._inductor")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _from_nothing(backend: Any) -> Iterator[None]:
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    caches = ExitStack()
    # With errors suppressed, torch would run as written what it cannot compile, and say nothing.
    caches.enter_context(torch._dynamo.config.patch(suppress_errors=False))
    if backend == "inductor":
        caches.enter_context(_empty_caches())
    caches.enter_context(_quiet())
    try:
        yield
    finally:
        torch.compiler.reset()
        caches.close()  # and not an exception through it, upon which inductor keeps its folder


def _empty_caches() -> Any:
    from torch._inductor import utils

    return (getattr(utils, "fresh_cache", None) or utils.fresh_inductor_cache)()  # its name up to torch 2.7


def _compared(subject: Subject, written: AsWritten) -> Iterator[Finding]:
    assert subject.compiled is not None
    found = outcome(subject, subject.compiled)
    if not finite(found.outputs):
        raise IncorrectError("compiled, its output holds NaN or infinity")
    if not written.repeatable:
        yield Note("method", "its output is not the same twice, so what was compiled is not compared with it")
    elif (off := difference(subject, found, written.outcome)) is not None:
        raise IncorrectError(f"compiled, {off}")


def _doubts(first: Traced, settled: Traced) -> Iterator[Finding]:
    """What was broken, compiled anew or given up."""
    if first.breaks:
        yield Note("graph_break", f"torch.compile breaks it {_times(first.breaks)}, and what lies between its "
                                  f"compiled parts runs as written (first: {first.reason})")  # fmt: skip
    if (more := settled.graphs - first.graphs) > 0:
        end = ", and then gave up: it, or a part of it, runs as written" if settled.refused else ""
        yield Note("recompiled", f"torch.compile compiled it {_times(more)} more for the same input{end}")
    elif settled.refused:
        yield Note("graph_break", "torch.compile gave up on a part of it, which runs as written")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
