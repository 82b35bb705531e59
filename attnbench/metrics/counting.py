"""Counts parameters and multiply-accumulates without running anything, by three counters that share nothing.

fvcore traces the module on the meta device with our own handles for what it does not know; torch's FlopCounterMode
watches the operators that the dispatcher sees; the module's own formula, where it has one, is plain arithmetic. The
figure is `verified` when those that could count agree as integers.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from attnbench.core.errors import named
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.operators import HANDLES, HARMLESS
from attnbench.metrics.subject import Subject
from attnbench.metrics.tracing import TraceableConvolutions

_PLAIN = {"_convolution": "convolution", "_convolution_mode": "convolution"}

__all__ = ["count_macs", "count_parameters", "fvcore_macs", "torch_macs"]


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


def fvcore_macs(subject: Subject) -> tuple[Counter[str], Counter[str]]:
    """MACs by operator from a trace of the forward, and the operators that nobody counted with their calls.

    The world is closed: an operator that has no handle and is not known to be harmless is named, never passed over.
    """
    from fvcore.nn import FlopCountAnalysis

    with _quiet(), torch.no_grad(), subject.constants(), TraceableConvolutions(subject.where == "meta"):
        analysis = FlopCountAnalysis(subject.module, subject.inputs)
        analysis.clear_op_handles().set_op_handle(**HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_op: Counter[str] = Counter()
        for name, macs in analysis.by_operator().items():
            by_op[_PLAIN.get(name, name)] += int(macs)
        missed = Counter({name: calls for name, calls in analysis.unsupported_ops().items() if name not in HARMLESS})
    return +by_op, missed


def torch_macs(subject: Subject) -> int:
    """What torch's own counter says of the forward: its FLOPs are two for each multiply-accumulate."""
    with _quiet(), FlopCounterMode(display=False) as counter:
        subject.forward()
    return int(counter.get_total_flops()) // 2


@contextmanager
def _quiet() -> Iterator[Any]:
    """Count with nn.MultiheadAttention's fused path off: both counters take it for zero. No warnings meanwhile."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
