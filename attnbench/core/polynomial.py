"""Exact polynomials through integer points: a count is extrapolated only where spare points prove the fit."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

__all__ = ["SPARE", "Polynomial", "fit_exact", "fit_tail"]

# So many points more than the coefficients need must agree before a fit counts as proved.
SPARE = 2

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Polynomial:
    """`coefficients[k]` belongs to the k-th power; the last one is not zero, and zero itself has none.

    `since` is the smallest x that it was fitted at, `spare` the number of points beyond those that fix it.
    """

    coefficients: tuple[Fraction, ...]
    since: int = 0
    spare: int = 0

    @property
    def degree(self) -> int:
        """The highest power; 0 for a constant, zero among them."""
        return max(0, len(self.coefficients) - 1)

    def __call__(self, x: int | Fraction) -> Fraction:
        """The exact value at x."""
        value = Fraction(0)
        for coefficient in reversed(self.coefficients):
            value = value * x + coefficient
        return value

    def up_to(self, power: Fraction | int) -> "Polynomial":
        """The same without the terms above that power."""
        kept = [c if k <= power else Fraction(0) for k, c in enumerate(self.coefficients)]
        return Polynomial(_trimmed(kept), self.since, self.spare)

    def text(self, symbol: str = "s") -> str:
        """`72 s⁴ + 9216 s²`, the highest power first."""
        terms = [(k, c) for k, c in reversed(list(enumerate(self.coefficients))) if c]
        text = " ".join(f"{'-' if c < 0 else '+'} {_term(k, abs(c), symbol)}" for k, c in terms)
        return text.removeprefix("+ ").replace("- ", "-", text.startswith("- ")) or "0"

    def __str__(self) -> str:
        return self.text()


def _term(power: int, coefficient: Fraction, symbol: str) -> str:
    if power == 0:
        return str(coefficient)
    factor = "" if coefficient == 1 else f"{coefficient} "
    return f"{factor}{symbol}{'' if power == 1 else str(power).translate(_SUPERSCRIPTS)}"


def _trimmed(coefficients: list[Fraction]) -> tuple[Fraction, ...]:
    kept = list(coefficients)
    while kept and kept[-1] == 0:
        kept.pop()
    return tuple(kept)


def fit_exact(points: Iterable[tuple[int, int | Fraction]], spare: int = SPARE) -> Polynomial | None:
    """The polynomial of least degree through all points, or None when fewer than `spare` of them are spare.

    A polynomial of degree d is fixed by d + 1 points; each further point that lies on it is proof. Two values at one x
    are no function and give None too.
    """
    known = sorted(set(points))
    xs, ys = [x for x, _ in known], [Fraction(y) for _, y in known]
    if not xs or len(set(xs)) < len(xs):
        return None
    newton = _trimmed(_divided_differences(xs, ys))
    left_over = len(xs) - max(1, len(newton))
    return Polynomial(_expanded(newton, xs), xs[0], left_over) if left_over >= spare else None


def fit_tail(points: Iterable[tuple[int, int | Fraction]], least: int, spare: int = SPARE) -> Polynomial | None:
    """The first fit that is found when the smallest points are set aside one after the other, `least` being kept.

    A cost that is the larger of two, such as a peak, or the smaller, such as a top-k, is a polynomial from some size
    on: `since` says from which.
    """
    known = sorted(set(points))
    fits = (fit_exact(known[start:], spare) for start in range(max(1, len(known) - least + 1)))
    return next((fit for fit in fits if fit is not None), None)


def _divided_differences(xs: list[int], ys: list[Fraction]) -> list[Fraction]:
    """The coefficients of Newton's form; that of order k vanishes from the degree on."""
    column, newton = list(ys), [ys[0]]
    for order in range(1, len(xs)):
        steps = [xs[i + order] - xs[i] for i in range(len(xs) - order)]
        column = [(after - before) / step for (before, after), step in zip(pairwise(column), steps, strict=True)]
        newton.append(column[0])
    return newton


def _expanded(newton: tuple[Fraction, ...], xs: list[int]) -> tuple[Fraction, ...]:
    """From Newton's form to powers of x, by Horner's rule: p <- p * (x - x_k) + c_k."""
    powers: list[Fraction] = []
    for coefficient, x in zip(reversed(newton), reversed(xs[: len(newton)]), strict=True):
        shifted = [Fraction(0), *powers]
        powers = [high - x * low for high, low in zip(shifted, [*powers, Fraction(0)], strict=True)]
        powers[0] += coefficient
    return _trimmed(powers)
