"""fvcore as a counter: a trace of the forward, our own handles, and a closed world."""

from collections import Counter
from unittest import mock

import torch
from torch import Tensor

from attnbench.core.errors import UnsupportedError
from attnbench.metrics.counters.handles import HANDLES, UNSURE
from attnbench.metrics.counters.harmless import HARMLESS
from attnbench.metrics.counters.quiet import quiet
from attnbench.metrics.counters.tracing import Rooted, Traceable, compiled_parts_as_written
from attnbench.metrics.subject import Subject

__all__ = ["fvcore_macs"]

# What a person calls an operator, where it has a name of its own in a trace.
_NAMES = {"_convolution": "convolution", "_convolution_mode": "convolution",
          "_scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention"}  # fmt: skip


def fvcore_macs(subject: Subject) -> tuple[Counter[str], Counter[str]]:
    """MACs by operator from a trace of the forward, and the operators that nobody counted with their calls.

    The world is closed: an operator that has no handle and is not known to be harmless is named, never passed over.
    The module is left as it was, and so is torch, whether or not the trace succeeds.

    Raises:
        UnsupportedError: the subject lives on fake tensors.
        Exception: whatever the module raises, or the tracer where it cannot record the forward.
    """
    if subject.where == "fake":
        raise UnsupportedError("its tracer cannot record fake tensors")  # it would end the process
    # A module that asks whether it is traced is to do what it does when it is run.
    as_run = mock.patch.object(torch.jit, "is_tracing", lambda: False)
    with quiet(), compiled_parts_as_written(subject.module), torch.no_grad(), subject.constants(), as_run:
        return _traced(subject)


def _traced(subject: Subject) -> tuple[Counter[str], Counter[str]]:
    from fvcore.nn import FlopCountAnalysis

    with Traceable(subject.where == "meta") as traceable:
        root = Rooted(subject.module, subject.inputs, traceable.kept)
        analysis = FlopCountAnalysis(root, tuple(each for each in subject.inputs if isinstance(each, Tensor)))
        analysis.clear_op_handles().set_op_handle(**HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        found = analysis.by_operator()
    by_op: Counter[str] = Counter()
    missed = Counter({name: calls for name, calls in analysis.unsupported_ops().items() if name not in HARMLESS})
    for name, figure in found.items():
        if name.startswith(UNSURE):
            missed[name.removeprefix(UNSURE)] += int(figure)
        else:
            by_op[_NAMES.get(name, name.rstrip("_"))] += int(figure)
    return +by_op, missed
