"""What a measurement of a step's memory gives on any device; and the step whose tensors are followed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from attnbench.core.errors import named
from attnbench.core.record import Note
from attnbench.metrics.counters.quiet import flex_by_its_parts
from attnbench.metrics.footprint.linear_bias import biases_in_place
from attnbench.metrics.footprint.live_bytes import LiveBytes, storage_bytes
from attnbench.metrics.footprint.parts import Counted, Figure, Held, Live, Unknown
from attnbench.metrics.subject import Subject

__all__ = ["NOTHING_KEPT", "Measured", "followed_live", "forward_of", "held_by", "nothing_between", "step_in_two"]

NOTHING_KEPT = Unknown("a forward alone keeps nothing for a backward")
_COMPILED = Unknown("compiled code does not pass torch's dispatcher, where tensors are followed")


@dataclass(frozen=True, slots=True)
class Measured:
    """A step's memory in bytes. `counted` is not known where no allocator had a step to count."""

    held: Held
    counted: Counted | Unknown
    reserved: Figure
    process: Figure
    method: str
    notes: tuple[Note, ...] = field(default=())


def held_by(subject: Subject) -> Held:
    """What lives on the case's device from step to step; the optimizer's state is there after its first."""
    state = storage_bytes(_on_device(subject, subject.optimizer_state))
    none = Unknown(f"there is no optimizer in mode {subject.case.mode}")
    return Held(
        storage_bytes(_on_device(subject, subject.weights)),
        storage_bytes(_on_device(subject, subject.tensors)),
        none if subject.optimizer is None else state,
    )


def nothing_between(subject: Subject) -> Unknown | None:
    """Why nothing is kept between the forward and the backward; None where there are both."""
    return None if subject.case.differentiates else NOTHING_KEPT


def forward_of(subject: Subject) -> Any:
    """The forward of a step that goes on with its backward."""
    run = subject.module if subject.compiled is None else subject.compiled
    return run(*subject.inputs)


def step_in_two(subject: Subject, look: Callable[[], int]) -> Figure:
    """Run a step, each operator by itself; what `look` gives between its forward and its backward."""
    nothing = nothing_between(subject)
    with flex_by_its_parts():
        if nothing is not None:
            subject.forward()
            return nothing
        output = forward_of(subject)
        seen = look()
        subject.finish(output)
        return seen


def followed_live(subject: Subject) -> Live | Unknown:
    """What the tensors of a step hold on its device, weights and inputs among them."""
    if subject.compiled is not None:
        return _COMPILED
    held = [*subject.weights, *subject.tensors, *subject.optimizer_state]
    live = LiveBytes(_on_device(subject, held), device=_kind(subject))
    try:
        with live, biases_in_place(live):
            between = step_in_two(subject, lambda: live.now)
    except Exception as error:  # foreign code may refuse to be watched, and watched it takes more memory
        return Unknown(f"the step does not run while its tensors are followed ({named(error)})")
    finally:
        for tensor in subject.differentiated:
            tensor.grad = None
    return Live(live.peak, between)


def _on_device(subject: Subject, tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.device.type == _kind(subject)]


def _kind(subject: Subject) -> str:
    return subject.case.device.partition(":")[0]
