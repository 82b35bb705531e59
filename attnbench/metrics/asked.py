"""How to measure, read from text and checked value by value, for the command line and for suites."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.metrics.metric import Options

__all__ = ["fraction", "measuring"]


def fraction(text: str) -> float:
    """`1%` or `0.01`, as a number between 0 and 1; UsageError otherwise."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{text!r} is no fraction: write 1% or 0.01.") from None
    if not 0 < value < 1:
        raise UsageError(f"{text} is out of range: write 1% or 0.01.")
    return value


def measuring(
    metrics: Sequence[str], precision: str, max_time: float, timeout: float, threads: int | None
) -> "Options":
    """How to measure, every value checked; UsageError names the option that is wrong."""
    from attnbench.metrics.metric import Options, chosen

    names = tuple(metrics) or ("all",)
    chosen(names)
    for option, value in (("--max-time", max_time), ("--timeout", timeout)):
        if not 0 < value < 10**7:
            raise UsageError(f"{option} {value:g} is out of range: give seconds above 0.")
    if threads is not None and not 0 < threads <= 4096:
        raise UsageError(f"--threads {threads} is out of range: give 1 or more.")
    try:
        target = fraction(precision)
    except UsageError as error:
        raise UsageError(f"--precision-target {error}") from None
    return Options(names, target, max_time, threads)
