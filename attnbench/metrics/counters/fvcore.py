"""fvcore as a counter: a trace of the forward, our own handles, and a closed world."""

from collections import Counter

import torch

from attnbench.metrics.counters.handles import HANDLES, HARMLESS
from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.counters.tracing import TraceableConvolutions
from attnbench.metrics.subject import Subject

__all__ = ["fvcore_macs"]

_PLAIN = {"_convolution": "convolution", "_convolution_mode": "convolution"}


def fvcore_macs(subject: Subject) -> tuple[Counter[str], Counter[str]]:
    """MACs by operator from a trace of the forward, and the operators that nobody counted with their calls.

    The world is closed: an operator that has no handle and is not known to be harmless is named, never passed over.
    """
    from fvcore.nn import FlopCountAnalysis

    with quiet(), torch.no_grad(), subject.constants(), TraceableConvolutions(subject.where == "meta"):
        analysis = FlopCountAnalysis(subject.module, subject.inputs)
        analysis.clear_op_handles().set_op_handle(**HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_op: Counter[str] = Counter()
        for name, macs in analysis.by_operator().items():
            by_op[_PLAIN.get(name, name)] += int(macs)
        missed = Counter({name: calls for name, calls in analysis.unsupported_ops().items() if name not in HARMLESS})
    return +by_op, missed
