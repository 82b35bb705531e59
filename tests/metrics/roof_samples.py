"""Peaks with round figures, as if they had been measured."""

from dataclasses import replace
from typing import Any

from attnbench.core.units import KIB, MIB
from attnbench.metrics.roof.peaks import Peaks, Rung

__all__ = ["CACHE", "LADDER", "PEAKS", "peaks_of"]

CACHE = 8 * MIB


def peaks_of(*rungs: Rung, **changes: Any) -> Peaks:
    peaks = Peaks("cpu", "fp32", "abc", 2e11, "matrix product of 512 x 512", rungs, CACHE, 2, False,
                  "2026-01-02T03:04:05+00:00")  # fmt: skip
    return replace(peaks, **changes)


LADDER = (Rung(KIB, 40e9, 90e9, 30e9), Rung(MIB, 99e9, 50e9, 30e9), Rung(32 * MIB, 9e9, 10e9, 8e9))
PEAKS = peaks_of(*LADDER)
