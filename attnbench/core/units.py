"""Numbers as people read them and type them: counts, bytes, times; the unit always stands in the heading."""

import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from attnbench.core.errors import UsageError

__all__ = ["KIB", "MIB", "GIB", "UNITS", "Unit", "human_bytes", "parse_bytes", "significant"]  # noqa: RUF022

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024 * GIB,
          "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}  # fmt: skip


def significant(value: float, digits: int = 4) -> str:
    """`value` with `digits` significant digits and no exponent where it can be read without: 1.229, 224.6, 0.5631."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    text = f"{value:#.{digits}g}"
    if "e" in text:  # %g turns to exponents once the integer part is longer than the digits asked for
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.0f}"  # 4-digit figures never take a comma
    return text.rstrip(".")


def human_bytes(value: int) -> str:
    """Bytes with the binary unit that suits: `512 B`, `64.0 MiB`, `9.4 GiB`."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def parse_bytes(text: str) -> int:
    """`80GiB`, `512M`, `1.5 GB` or plain bytes as an integer.

    Raises:
        UsageError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _BYTES:
        raise UsageError(f"{text!r} is not a size in memory: write it like 80GiB or 512MiB.")
    return round(Fraction(match[1]) * _BYTES[match[2].lower()])


class Unit:
    """How a unit is printed: the heading's suffix, the factor from the stored value, and the cell's text."""

    def __init__(self, label: str, divisor: float, cell: Callable[[float], str]) -> None:
        self.label, self.divisor, self._cell = label, divisor, cell

    def heading(self, title: str) -> str:
        """`Latency` -> `Latency (ms)`."""
        return f"{title} ({self.label})" if self.label else title

    def scale(self, value: float) -> float:
        """The stored value in the printed unit."""
        return value / self.divisor

    def cell(self, value: float) -> str:
        """The stored value as the text of a table cell, without its unit."""
        return self._cell(self.scale(value))


def _integer(value: float) -> str:
    return f"{value:,.0f}"


# Stored unit -> printed unit.
UNITS: Mapping[str, Unit] = {
    "ms": Unit("ms", 1, significant),
    "bytes": Unit("MiB", MIB, significant),
    "count": Unit("", 1, _integer),
    "MAC": Unit("GMAC", 10**9, significant),
    "FLOP": Unit("GFLOP", 10**9, significant),
    "1/s": Unit("1/s", 1, significant),
    "J": Unit("mJ", 1e-3, significant),
    "W": Unit("W", 1, significant),
    "FLOP/s": Unit("GFLOP/s", 10**9, significant),
    "B/s": Unit("GB/s", 10**9, significant),
    "FLOP/B": Unit("FLOP/B", 1, significant),
    # Of something that its title names; a share of a measured roof is not known to more digits.
    "percent": Unit("", 1, lambda value: significant(value, 3 if value >= 10 else 2)),
    "x": Unit("×", 1, lambda value: significant(value, 3)),
    "": Unit("", 1, significant),
}
