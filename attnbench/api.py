"""The Python API: what the command line is made of, for scripts and notebooks."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from attnbench.core.case import Case
from attnbench.core.errors import AttnbenchError, UsageError
from attnbench.core.record import Note, Reading, Record
from attnbench.core.store import Store, load
from attnbench.core.writers import writing
from attnbench.engine.crew import Crew
from attnbench.engine.executors.executor import EXECUTORS, Isolation, Wanted
from attnbench.engine.executors.local import spelled_out
from attnbench.engine.processes import check
from attnbench.engine.question import Question
from attnbench.engine.session import device_of, prepared, targets_of
from attnbench.engine.suite import load_suite
from attnbench.engine.sweep import Sweep
from attnbench.metrics.metric import Options
from attnbench.report.exporters import export
from attnbench.report.frame import to_frame

__all__ = ["AttnbenchError", "Case", "Note", "Options", "Question", "Reading", "Record", "Sweep", "UsageError",
           "benchmark", "export", "load", "load_suite", "to_frame"]  # fmt: skip


def benchmark(
    cases: Sweep | Sequence[Case | Question],
    options: Options | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    retry: Sequence[str] = (),
    isolate: bool | Isolation = True,
    timeout: float = 600.0,
    executor: str = "local",
    devices: Sequence[str] = (),
    address: str | None = None,
) -> Iterator[Record]:
    """Measure Cases; each Record is appended to `out` (JSON lines), if given, before it is yielded.

    A Question brings options of its own, a Case is measured as `options` say. With `isolate` a worker process measures,
    so that a crash is a Record ("case": a fresh one for each); without, this process does. `timeout` is the silence in
    seconds, beyond that of sampling, after which a case is given up. With `resume` what `out` holds already of the same
    environment comes first, and is not measured again unless its status is in `retry`. `executor` ("local", "ray" with
    its `address`) and `devices` ("cuda:0-3") are those of the command line; with several lanes records come in the
    order in which they are done. The questions of a suite are `load_suite("quick").questions()`.

    Raises:
        UsageError: a target is not there, or a device is not.
    """
    questions = _questions(cases, options or Options())
    isolation: Isolation = isolate if isinstance(isolate, str) else "worker" if isolate else "none"
    for each in dict.fromkeys(question.options for question in questions):
        check(each, isolate=isolation != "none")
    if resume and out is None:
        raise UsageError("resume=True goes on with a file of records: name it with out=.")
    asked = [question.case for question in questions]
    wanted = Wanted(spelled_out(devices), device_of(asked), address, isolation, targets_of(asked))
    store = None if out is None else Store(Path(out))
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(writing(Path(out), alone=resume))
        lanes = stack.enter_context(EXECUTORS[executor](wanted))
        crew = stack.enter_context(closing(Crew(lanes, timeout, each_fresh=isolation == "case")))
        session = prepared(questions, crew, Path(out) if resume and out is not None else None, retry)
        yield from session.kept
        yield from session.records(crew, store)


def _questions(cases: Sweep | Sequence[Case | Question], options: Options) -> list[Question]:
    found: Sequence[Case | Question] = cases.at_first_batch().cases() if isinstance(cases, Sweep) else cases
    sought = replace(options, best_batch=isinstance(cases, Sweep) and cases.seeks_batch)
    return [each if isinstance(each, Question) else Question(each, sought) for each in found]
