"""How many samples a second: steps back to back, without a synchronisation between them."""

import time
from collections.abc import Iterator

from attnbench.core.record import Note, Reading
from attnbench.core.stats import median_estimate
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["measure_throughput"]

# Runs of steps, each with one synchronisation at its end: so many seconds in all, a fifth of --max-time at most.
_SECONDS = 0.4
_RUNS = 10
_FEWEST_RUNS = 2
# An interval of fewer says nothing.
_FEWEST_FOR_INTERVAL = 5


@metric(name="throughput", on="device", fields=("throughput",))
def measure_throughput(subject: Subject, options: Options) -> Iterator[Finding]:
    """Samples a second of the case's batch, and tokens a second of a module."""
    if subject.case.mode == "bwd":
        yield Note("not_measured", "throughput: a backward alone cannot be run back to back")
        return
    seconds = min(_SECONDS, options.max_time / 5)
    steps = _steps_of_a_run(subject, seconds / _RUNS)
    runs = _runs(subject, steps, seconds)
    estimate, samples = median_estimate([runs]), subject.case.batch_size * steps
    rate = samples / estimate.median
    ends = ("throughput.ci_low_per_s", "throughput.ci_high_per_s") if len(runs) >= _FEWEST_FOR_INTERVAL else ("", "")
    yield Reading("throughput.samples_per_s", rate, "1/s", "higher", "Throughput", *ends)
    if all(ends) and estimate.low > 0:
        yield Reading(ends[0], samples / estimate.high, "1/s", "higher")
        yield Reading(ends[1], samples / estimate.low, "1/s", "higher")
    else:
        yield Note("not_measured", "throughput.ci_low_per_s, throughput.ci_high_per_s: a few runs of long steps, or "
                                   "wildly different ones, have no interval")  # fmt: skip
    if subject.case.tokens is not None:
        yield Reading("throughput.tokens_per_s", rate * subject.case.tokens, "1/s", "higher")
    else:
        yield Note("not_measured", "throughput.tokens_per_s: a network's input is images, not tokens")


def _steps_of_a_run(subject: Subject, seconds: float) -> int:
    """So many steps that a run of them takes that long."""
    subject.repeat(1)
    subject.synchronize()
    steps = 1
    while (taken := _back_to_back(subject, steps)) < seconds:
        steps = max(steps * 2, round(steps * 1.2 * seconds / max(taken, 1e-9)))
    return steps


def _runs(subject: Subject, steps: int, seconds: float) -> list[float]:
    runs: list[float] = []
    while len(runs) < _RUNS and (len(runs) < _FEWEST_RUNS or sum(runs) < seconds):
        runs.append(_back_to_back(subject, steps))
    return runs


def _back_to_back(subject: Subject, steps: int) -> float:
    """Seconds of that many steps."""
    start = time.perf_counter()
    subject.repeat(steps)
    subject.synchronize()
    return time.perf_counter() - start
