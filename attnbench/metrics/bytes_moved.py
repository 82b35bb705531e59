"""The least bytes that one step must move, from shapes alone: what a roof needs, and no kernel can go below."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attnbench.core.record import Reading
from attnbench.metrics.counters.quiet import flex_by_its_parts
from attnbench.metrics.metric import Finding, Options, metric
from attnbench.metrics.roof.regions import Regions
from attnbench.metrics.roof.touched import Touched
from attnbench.metrics.subject import Subject, tensors_in

__all__ = ["Traffic", "count_bytes_moved", "least_traffic"]


@metric(name="bytes_moved", on="fake", fields=("static.bytes_moved",))
def count_bytes_moved(subject: Subject, options: Options) -> Iterator[Finding]:
    """Inputs, weights and outputs once each; with a backward the gradients, with an optimizer what it keeps.

    It is what a device whose caches held all else would move: the compulsory traffic of the roofline model (Williams,
    Waterman and Patterson 2009, Roofline, doi:10.1145/1498765.1498785). In mode `bwd` it is that of the whole step.
    """
    yield Reading("static.bytes_moved", least_traffic(subject).total, "bytes", "same")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a step must move.

    `read` are weights and inputs as far as an operator reads them, `written` what it writes into them in place,
    `outputs` what it returns and did not get, `gradients` those of weights and inputs, `optimizer` the reading and
    writing of what the optimizer keeps and the writing of the weights.
    """

    read: int
    written: int
    outputs: int
    gradients: int = 0
    optimizer: int = 0

    @property
    def total(self) -> int:
        return self.read + self.written + self.outputs + self.gradients + self.optimizer


def least_traffic(subject: Subject) -> Traffic:
    """The compulsory traffic of one step of a Subject on fake tensors (or on real ones).

    Raises:
        Exception: whatever the module raises where it cannot run.
    """
    if subject.optimizer is not None:
        subject.step()  # its first step makes the state that it keeps
    touched = Touched([*subject.weights, *subject.tensors])
    if not subject.case.differentiates:
        with flex_by_its_parts(), touched:
            output = subject.forward()
        return Traffic(touched.read.bytes, touched.written.bytes, _new_bytes(output, touched))
    with flex_by_its_parts(), touched:
        output = subject.module(*subject.inputs)
    outputs = _new_bytes(output, touched)
    gradients, updated = _gradient_bytes(subject, output), _updated(subject)
    for weight in updated:
        touched.read.add(weight)  # whole, also where the forward reads a part
    optimizer = 2 * _bytes_of(_kept(subject)) + _bytes_of(updated)
    return Traffic(touched.read.bytes, touched.written.bytes, outputs, gradients, optimizer)


def _new_bytes(output: Any, touched: Touched) -> int:
    return _bytes_of([tensor for tensor in tensors_in(output) if not touched.holds(tensor)])


def _gradient_bytes(subject: Subject, output: Any) -> int:
    """Bytes of the gradients that the backward leaves with weights and inputs, as they are when it is over."""
    left: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> None:
        if tensor.grad is not None:
            left[id(tensor)] = tensor.grad

    leaves = subject.differentiated
    hooks = [leaf.register_post_accumulate_grad_hook(keep) for leaf in leaves]  # type: ignore[no-untyped-call]
    try:
        subject.backward(output)
    finally:
        for hook in hooks:
            hook.remove()
    return _bytes_of(left.values())


def _updated(subject: Subject) -> list[Tensor]:
    return [] if subject.optimizer is None else list(subject.optimizer.state)


def _kept(subject: Subject) -> list[Tensor]:
    """The optimizer's state but for its counts of steps, single numbers that may live on the host."""
    return [tensor for tensor in subject.optimizer_state if tensor.dim() > 0]


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    regions = Regions()
    for tensor in tensors:
        regions.add(tensor)
    return regions.bytes
