"""Tells a measured peak apart into what it is made of: arithmetic on what an allocator counted, and nothing else."""

from dataclasses import dataclass

from attnbench.core.units import human_bytes

__all__ = ["Counted", "Figure", "Held", "Live", "Parts", "Unknown", "known", "parted"]

# Tensors that seem to take more than the allocator gave: below this part of the peak it is taken for nothing.
_NEGLIGIBLE = 0.005


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands where a figure would: why there is none."""

    why: str


# Bytes, or why they are not known.
Figure = int | Unknown


def known(figure: Figure) -> int:
    """The figure in a sum: 0 where it is not known."""
    return 0 if isinstance(figure, Unknown) else figure


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that live before the step and after it."""

    weights: int
    inputs: int
    optimizer: Figure

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.inputs + known(self.optimizer)


@dataclass(frozen=True, slots=True)
class Live:
    """What the tensors of a step held, in bytes: the most at once, and between its forward and its backward."""

    peak: int
    between: Figure


@dataclass(frozen=True, slots=True)
class Counted:
    """What an allocator counted over one step, in bytes; `live` is what was seen of tensors in another.

    `peak` and `asked` are the most that it gave, and that it was asked for, at once; where `asked` is not known it
    gives what it is asked for, as far as it can tell. `before` was asked for before the step, and `between` until
    between its forward and its backward. `library` is what libraries took from it and keep from call to call.
    """

    peak: int
    asked: Figure
    before: int
    between: Figure
    library: int
    live: Live | Unknown


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes: peak = held + saved + temporary + workspace + rounding, with 0 for those that are not known.

    Where `temporary` and `workspace` could not be told apart, neither is known, and the sum does not hold.
    """

    saved: Figure
    temporary: Figure
    workspace: Figure
    rounding: Figure


def parted(held: Held, counted: Counted) -> Parts:
    """The parts of the peak.

    Rounding is the allocator's peak less the peak of what was asked of it. That is exact where both peaks are at one
    moment; where they are not, it lies between the rounding at the one moment and at the other.

    Workspace is what libraries keep, and the buffers that kernels take and give back: by how much the step grew beyond
    its tensors, from what it saved (or, without a backward, from its start) to its peak. All of it counts as alive at
    the peak. Temporary is the rest.
    """
    asked = counted.peak if isinstance(counted.asked, Unknown) else counted.asked
    rounding = counted.asked if isinstance(counted.asked, Unknown) else counted.peak - asked
    saved = counted.between if isinstance(counted.between, Unknown) else counted.between - counted.before
    scratch = _scratch(held, counted, asked)
    if isinstance(scratch, Unknown):
        return Parts(saved, scratch, scratch, rounding)
    temporary = asked - held.total - counted.library - known(saved) - scratch
    return Parts(saved, temporary, counted.library + scratch, rounding)


def _scratch(held: Held, counted: Counted, asked: int) -> Figure:
    """Counted from what is saved on, since autograd saves things of its own (a number, a generator's state), too."""
    if isinstance(counted.live, Unknown):
        return counted.live
    start = counted.before if isinstance(counted.between, Unknown) else counted.between
    tensors = held.total if isinstance(counted.live.between, Unknown) else counted.live.between
    beyond = (asked - start) - (counted.live.peak - tensors)
    if beyond < -_NEGLIGIBLE * counted.peak:
        return Unknown(f"its tensors seemed to hold {human_bytes(-beyond)} more at once than was asked for: some live "
                       "longer while they are followed, and kernels' own buffers are lost in that")  # fmt: skip
    return max(0, beyond)
