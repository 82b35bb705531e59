"""What a step has to compute and to move, from what was counted of it, and how long that takes at measured peaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.core.errors import UnsupportedError
from attnbench.metrics.roof.peaks import Peaks

__all__ = ["Work", "at_peaks", "work_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs that a step's contractions and FFTs need, and the least bytes that it moves."""

    flops: int
    bytes: int
    convolves: bool = False


def work_of(mode: str, readings: Mapping[str, Any]) -> Work:
    """The work of a step of that mode, from what the counters read.

    Raises:
        UnsupportedError: it was not counted in full, so that there is no roof; the message says why.
    """
    if mode == "bwd":
        raise UnsupportedError("what a backward alone must move depends on what its forward left in the caches")
    macs, moved = readings.get("static.macs"), readings.get("static.bytes_moved")
    uncounted = sorted(readings.get("static.uncounted_ops") or {})
    if macs is None:
        raise UnsupportedError("its MACs were not counted")
    if uncounted:
        raise UnsupportedError(f"its MACs are a lower bound, for want of {', '.join(uncounted)}")
    if moved is None:
        raise UnsupportedError("the bytes that it must move were not counted")
    if not moved:
        raise UnsupportedError("a step that must move nothing has no roof")
    useful = readings.get("static.useful_macs", macs)
    total = useful + (0 if mode == "fwd" else _backward(readings, masked=macs - useful))
    flops = 2 * total + (readings.get("static.fft_flops") or 0)
    return Work(flops, moved, "convolution" in (readings.get("static.macs_by_op") or {}))


def _backward(readings: Mapping[str, Any], masked: int) -> int:
    """MACs of the gradients, without those of pairs that a causal flag masks: two for each of the forward's."""
    backward = readings.get("static.backward_macs")
    if backward is None:
        raise UnsupportedError("the MACs of its backward were not counted")
    if uncounted := sorted(readings.get("static.backward_uncounted_ops") or {}):
        raise UnsupportedError(f"the MACs of its backward are a lower bound, for want of {', '.join(uncounted)}")
    return max(0, int(backward) - 2 * masked)


def at_peaks(work: Work, peaks: Peaks) -> tuple[float, float]:
    """Milliseconds that the arithmetic takes at the least, and those that the traffic takes."""
    return 1e3 * work.flops / peaks.flops_per_s, 1e3 * work.bytes / peaks.bandwidth(work.bytes)
