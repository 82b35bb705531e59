"""How the figures of one target grow with its size: exact polynomials in the side s = sqrt(N), or local exponents."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from attnbench.core.order import Order
from attnbench.core.polynomial import Polynomial, fit_exact, fit_tail
from attnbench.core.record import Record
from attnbench.report.machines import fingerprint

__all__ = ["FEWEST_SIDES", "PERIOD", "Growth", "blocks", "growths", "nearest_order", "side_of", "unproved"]

# Sides are tried as they are, and then those that windows of 2, 3, 4, 6, 7, 8, 12, 14, 16, 24, 28 or 32 fit into.
PERIOD = 672
# Four coefficients' worth of N^1.5 and a spare point; with fewer, every growth looks like some polynomial.
FEWEST_SIDES = 5

_POWERS, _MULTIPLES = "a power of two", f"a multiple of {PERIOD}"

Points = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure as a function of the side s of a square map, N = s^2.

    `order` is proved where `polynomial` is there, or where `n_log_n` says how (the `a` and `b` of
    a N log2 N + b N); for memory it may be the nearest half of the local exponent. `exponent` is that of N between
    the two largest sides, told where nothing exact was found. `lattice` says which sides alone fit: `a power of two`,
    `a multiple of 672`, or nothing for all from `since` on.
    """

    name: str
    order: Order | None
    polynomial: Polynomial | None = None
    n_log_n: tuple[Fraction, Fraction] | None = None
    exponent: float | None = None
    sides: tuple[int, ...] = ()
    since: int | None = None
    lattice: str = ""

    @property
    def exact(self) -> bool:
        return self.polynomial is not None or self.n_log_n is not None

    @property
    def text(self) -> str:
        """`72 s⁴ + 9216 s²`, `320 N log N + 64 N`, or `~N^1.07`."""
        if self.polynomial is not None:
            return self.polynomial.text()
        if self.n_log_n is not None:
            a, b = self.n_log_n
            return f"{a} N log N" + (f" {'+' if b > 0 else '-'} {abs(b)} N" if b else "")
        return "?" if self.exponent is None else f"~N^{self.exponent:.2f}"


def side_of(record: Record) -> int:
    """The side of the square map or image."""
    return record.case.height or math.isqrt(record.case.tokens or 0)


def growths(records: Sequence[Record]) -> list[Growth]:
    """The growth of every figure that the records hold, except work of a kind that the target has none of."""
    found = []
    for name, of in (("MACs", _macs), ("elementwise work", _elementwise), ("FFT work", _fft)):
        points = _points(records, of)
        if points and (name == "MACs" or any(value for _, value in points)):
            found.append(_counted(name, points))
    one_machine = len(set(map(fingerprint, records))) == 1
    if points := _points(records, _memory if one_machine else _memory_anywhere):
        found.append(_remembered(points))
    return found


def unproved(records: Sequence[Record]) -> bool:
    """Whether the sides at hand leave a count without an exact law; more of them, on another lattice, may show it."""
    return not records or any(not growth.exact for growth in growths(records) if growth.name != "memory")


def blocks(records: Sequence[Record]) -> list[str]:
    """The paths of the deepest submodules whose MACs grow as fast as those of the whole."""
    degree = _degree(records, "")
    paths = dict.fromkeys(path for record in records for path in record.value("static.macs_by_module") or () if path)
    guilty = [path for path in paths if degree and _degree(records, path) == degree]
    return [path for path in guilty if not any(other.startswith(f"{path}.") for other in guilty)]


def _degree(records: Sequence[Record], path: str) -> int | None:
    """The degree in s of the forward MACs of the submodule at that path."""
    points = _points(records, lambda record: (record.value("static.macs_by_module") or {}).get(path))
    polynomial = _counted(path, points).polynomial if points else None
    return None if polynomial is None else polynomial.degree


def _macs(record: Record) -> int | None:
    """Of a training step also those of the backward."""
    macs: int | None = record.value("static.macs")
    if macs is None or not record.case.differentiates:
        return macs
    return macs + (record.value("static.backward_macs") or 0)


def _elementwise(record: Record) -> int | None:
    parts = [record.value("static.elementwise"), record.value("static.reductions")]
    return None if parts[0] is None else sum(part or 0 for part in parts)


def _fft(record: Record) -> int | None:
    flops: int | None = record.value("static.fft_flops")
    return flops


def _memory(record: Record) -> int | None:
    peak: int | None = record.value("static.predicted_peak_bytes")
    return record.value("memory.peak_bytes") if peak is None else peak


def _memory_anywhere(record: Record) -> int | None:
    """Of the predicted peak what does not depend on the machine, so that sides on different ones lie on one curve."""
    peak: int | None = record.value("static.predicted_peak_bytes")
    return None if peak is None else peak - (record.value("static.predicted_scratch_bytes") or 0)


def _points(records: Iterable[Record], of: Callable[[Record], int | None]) -> Points:
    values = ((side_of(record), of(record)) for record in records)
    return sorted({side: value for side, value in values if value is not None}.items())


def _counted(name: str, points: Points) -> Growth:
    """Proved as a polynomial on all sides from some size on, as N log N, or as a polynomial on some of the sides."""
    plain, multiples = _split(points)
    powers = [point for point in plain if point[0] & (point[0] - 1) == 0]
    sides = tuple(side for side, _ in points)
    unproved = Growth(name, None, exponent=_local_exponent(points), sides=sides)
    if (whole := _fitted(unproved, plain, "")) is not None:
        return whole
    if (logarithmic := _n_log_n(powers)) is not None:
        return replace(unproved, order=Order(Fraction(1), 1), n_log_n=logarithmic)
    parts = (_fitted(unproved, some, lattice) for some, lattice in ((powers, _POWERS), (multiples, _MULTIPLES)))
    return next((part for part in parts if part is not None), unproved)


def _fitted(growth: Growth, points: Points, lattice: str) -> Growth | None:
    fit = fit_tail(points, FEWEST_SIDES)
    if fit is None:
        return None
    since = fit.since if fit.since > points[0][0] else None
    return replace(growth, order=Order(Fraction(fit.degree, 2)), polynomial=fit, since=since, lattice=lattice)


def _remembered(points: Points) -> Growth:
    """Allocators round and pad: where no polynomial fits memory, the nearest half of its exponent is told."""
    exact = _counted("memory", points)
    if exact.order is not None or exact.exponent is None:
        return exact
    return replace(exact, order=nearest_order(exact.exponent))


def nearest_order(exponent: float) -> Order:
    """The nearest half power of N."""
    return Order(Fraction(round(2 * exponent), 2))


def _split(points: Points) -> tuple[Points, Points]:
    lattice = [point for point in points if point[0] % PERIOD == 0]
    return [point for point in points if point not in lattice], lattice


def _n_log_n(powers: Points) -> tuple[Fraction, Fraction] | None:
    """Exact `a` and `b` of a N log2 N + b N, on sides that are powers of two; None where there are none."""
    # With l = log2 s, which is half of log2 N, the cost over N is a straight line in l.
    line = fit_exact((side.bit_length() - 1, Fraction(value, side**2)) for side, value in powers)
    if line is None or line.degree != 1 or line.coefficients[1] < 0:
        return None
    return line.coefficients[1] / 2, line.coefficients[0]


def _local_exponent(points: Points) -> float | None:
    """The exponent of N at the largest sides, free of a constant part where the sides allow it."""
    if len(points) < 2:
        return None
    if (steady := _without_constant(points)) is not None:
        return steady
    (smaller, before), (larger, after) = points[-2:]
    return math.log(after / before) / 2 / math.log(larger / smaller) if min(before, after) > 0 else None


def _without_constant(points: Points) -> float | None:
    """Between s/4, s/2 and s, the exponent of f(s) - f(s/2) over f(s/2) - f(s/4)."""
    known = dict(points)
    side = max(known)
    if side // 2 not in known or side // 4 not in known or side % 4:
        return None
    upper, lower = known[side] - known[side // 2], known[side // 2] - known[side // 4]
    if min(upper, lower) <= 0:
        return 0.0 if upper == lower == 0 else None
    return math.log(upper / lower) / math.log(4)
