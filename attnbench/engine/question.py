"""A Question: a Case as it is asked, and how it is to be measured; what a sweep, a suite or a script plans."""

import shlex
from dataclasses import dataclass

from attnbench.core.case import Case
from attnbench.metrics.metric import Options

__all__ = ["Question", "command"]

_USUAL = Options()


@dataclass(frozen=True, slots=True)
class Question:
    """`case` may leave open what is found by trying (`--device auto`, the layout, the heads)."""

    case: Case
    options: Options


def command(case: Case, options: Options) -> str:
    """The command line that measures this Case again, in the same way."""
    words = []
    for option, value, usual in (
        ("--metrics", ",".join(options.metrics), ",".join(_USUAL.metrics)),
        ("--precision-target", options.precision_target, _USUAL.precision_target),
        ("--max-time", options.max_time, _USUAL.max_time),
        ("--processes", options.processes, _USUAL.processes),
        ("--threads", options.threads, _USUAL.threads),
        ("--mem-limit", options.mem_limit, _USUAL.mem_limit),
    ):
        if value != usual:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    words += ["--keep-samples"] if options.keep_samples else []
    words += ["--subtract-idle"] if options.subtract_idle else []
    return " ".join([case.command(), *map(shlex.quote, words)])
