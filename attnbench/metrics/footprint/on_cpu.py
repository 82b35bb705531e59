"""Measures the memory of a step on the CPU: by the allocator's events, by its tensors, and by the process."""

from attnbench.metrics.footprint.cpu_allocator import Account, followed
from attnbench.metrics.footprint.measured import Measured, followed_live, forward_of, held_by, nothing_between
from attnbench.metrics.footprint.parts import Counted, Figure, Held, Unknown
from attnbench.metrics.footprint.resident import resident_peak
from attnbench.metrics.hardware import release_memory
from attnbench.metrics.subject import Subject

__all__ = ["measured_on_cpu"]

_METHOD = ("peak: the CPU allocator's own events, every block taken and given back, scratch inside kernels too; "
           "live peak: the most that tensors held at once, followed at torch's dispatcher in a step of its own; ")
_ROUNDING = Unknown("torch's CPU allocator does not tell what malloc rounds up to")
_RESERVED = Unknown("the CPU's allocator reserves nothing that torch can see")


def measured_on_cpu(subject: Subject) -> Measured:
    """Three steps: one for the process's peak from an allocator that holds nothing, one counted, one followed."""
    release_memory()
    resident = resident_peak(subject.step)
    held = held_by(subject)
    account, kept = _counted(subject, held)
    counted = Counted(held.total + account.peak, _ROUNDING, held.total, kept, 0, followed_live(subject))
    return Measured(held, counted, _RESERVED, resident.peak, _METHOD + resident.method)


def _counted(subject: Subject, held: Held) -> tuple[Account, Figure]:
    """The allocator's account of a step, and what is alive between its forward and its backward; in bytes."""
    account, nothing = Account(), nothing_between(subject)
    if nothing is not None:
        with followed(account):
            subject.forward()
        return account, nothing
    with followed(account):
        output = forward_of(subject)
    kept = held.total + account.now
    with followed(account):
        subject.finish(output)
    return account, kept
