"""Counts parameters and multiply-accumulates without running anything, by three counters that share nothing.

fvcore traces the module on the meta device with our own handles for what it does not know; torch's FlopCounterMode
watches the operators that the dispatcher sees; the module's own formula, where it has one, is plain arithmetic. The
figure is `verified` when those that could count agree as integers.
"""

from collections import Counter
from collections.abc import Iterator

from attnbench.core.errors import named
from attnbench.core.record import Note, Reading
from attnbench.metrics.counters.flop_counter import torch_macs
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.subject import Subject

__all__ = ["count_macs", "count_parameters"]


@metric(name="params", on="meta", fields=("static.params", "static.trainable_params", "static.claimed_complexity"))
def count_parameters(subject: Subject, options: Options) -> Iterator[Finding]:
    """Parameters, each counted once however often it is shared."""
    parameters = list(subject.module.parameters())
    yield Reading("static.params", sum(p.numel() for p in parameters), "count", "same", "Params")
    yield Reading("static.trainable_params", sum(p.numel() for p in parameters if p.requires_grad), "count", "same")
    if subject.complexity is not None:
        yield Reading("static.claimed_complexity", subject.complexity)


@metric(name="macs", on="meta", fields=("static.macs", "static.flops", "static.macs_by_op", "static.uncounted_ops",
                                        "static.counters", "static.verified"))  # fmt: skip
def count_macs(subject: Subject, options: Options) -> Iterator[Finding]:
    """Contraction multiply-accumulates of one forward of the whole batch; FLOPs are twice that."""
    counts: dict[str, int | None] = {"fvcore": None, "torch": None, "formula": None}
    by_op: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    try:
        by_op, uncounted = fvcore_macs(subject)
        counts["fvcore"] = sum(by_op.values())
    except Exception as error:  # the module is foreign code, and tracing it may fail in any way
        yield Note("uncounted", f"fvcore cannot trace it ({named(error)})")
    try:
        counts["torch"] = torch_macs(subject)
    except Exception as error:
        yield Note("uncounted", f"torch's counter cannot run it ({named(error)})")
    if subject.expected is not None:
        counts["formula"] = subject.expected.macs
    yield from _macs_readings(counts, by_op, uncounted)


def _macs_readings(counts: dict[str, int | None], by_op: Counter[str], uncounted: Counter[str]) -> Iterator[Finding]:
    voices = {name: count for name, count in counts.items() if count is not None}
    yield Reading("static.counters", counts)
    if not voices:
        yield Note("uncounted", "no counter could count its MACs: the column is empty, not zero")
        return
    # Of two lower bounds the greater is the better one.
    macs = max(voices.values()) if uncounted else next(iter(voices.values()))
    yield Reading("static.macs", macs, "MAC", "same", "MACs")
    yield Reading("static.flops", 2 * macs, "FLOP", "same", "FLOPs")
    if counts["fvcore"] is not None:  # otherwise nobody knows what was passed over, which is not the same as nothing
        yield Reading("static.macs_by_op", dict(by_op))
        yield Reading("static.uncounted_ops", dict(uncounted))
    yield Reading("static.verified", len(voices) > 1 and len(set(voices.values())) == 1 and not uncounted)
    if uncounted:
        yield Note("uncounted", f"MACs are a lower bound: not counted are {_named(uncounted)}")
    if len(set(voices.values())) > 1:
        each = ", ".join(f"{name} {count:,}" for name, count in voices.items())
        yield Note("unverified", f"the counters disagree on the MACs: {each}")


def _named(operators: Counter[str]) -> str:
    return ", ".join(f"{name} ({calls}x)" for name, calls in sorted(operators.items()))
