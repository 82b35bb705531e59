"""The Python API: what the command line is made of, for scripts and notebooks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attnbench.core.case import Case
from attnbench.core.errors import AttnbenchError, UsageError
from attnbench.core.record import Note, Reading, Record
from attnbench.core.store import Store, load
from attnbench.engine.batch import at_best_batch
from attnbench.engine.channels import InlineChannel, WorkerChannel
from attnbench.engine.processes import check
from attnbench.engine.session import on_device, replicated, resolved, run
from attnbench.engine.sweep import Sweep
from attnbench.metrics.metric import Options
from attnbench.report.exporters import export
from attnbench.report.frame import to_frame

__all__ = ["AttnbenchError", "Case", "Note", "Options", "Reading", "Record", "Sweep", "UsageError", "benchmark",
           "export", "load", "to_frame"]  # fmt: skip


def benchmark(
    cases: Sweep | Sequence[Case],
    options: Options | None = None,
    *,
    out: Path | str | None = None,
    isolate: bool = True,
    timeout: float = 600.0,
) -> Iterator[Record]:
    """Measure Cases one after the other; each Record is appended to `out` (JSON lines), if given, before it is yielded.

    With `isolate` a worker process measures, so that a crash is a Record; without, this process does. `timeout` is the
    silence in seconds, beyond that of sampling, after which a case is given up.

    Raises:
        UsageError: a target is not there, or the device is not.
    """
    options = options or Options()
    check(options, isolate=isolate)
    questions = cases.at_first_batch().cases() if isinstance(cases, Sweep) else cases
    measure = at_best_batch if isinstance(cases, Sweep) and cases.seeks_batch else replicated
    store = None if out is None else Store(Path(out))
    channel = WorkerChannel() if isolate else InlineChannel()
    try:
        ready = resolved(on_device(questions, channel, options), channel, timeout)
        yield from run(ready, channel, options, store, timeout, measure)
    finally:
        channel.close()
