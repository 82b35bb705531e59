"""Exact fits against polynomials that were evaluated in plain integers, and everything that is no proof."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attnbench.core.polynomial import Polynomial, fit_exact, fit_tail

coefficients = st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5)
sides = st.lists(st.integers(1, 10**6), min_size=7, max_size=10, unique=True)


def value(of: list[int], x: int) -> int:
    return sum(c * x**k for k, c in enumerate(of))


@given(coefficients, sides, st.integers(-(10**7), 10**7))
def test_what_was_put_in_is_found_and_goes_on_exactly(of: list[int], xs: list[int], far: int) -> None:
    fit = fit_exact((x, value(of, x)) for x in xs)
    assert fit is not None
    while of and of[-1] == 0:
        of = of[:-1]
    assert fit.coefficients == tuple(of)
    assert fit.degree == max(0, len(of) - 1)
    assert fit.spare == len(xs) - max(1, len(of))
    assert fit.since == min(xs)
    assert fit(far) == value(of, far)


@given(coefficients, sides, st.integers(0, 6), st.integers(-(10**9), 10**9))
def test_one_wrong_point_is_refused(of: list[int], xs: list[int], place: int, error: int) -> None:
    # Degree 4 and seven points leave two spare ones: a polynomial of degree n - 3 that agrees with all but one of n
    # points would agree with `of` in n - 1 of them, more than its degree, and so everywhere.
    assume(error != 0)
    points = [(x, value(of, x) + (error if n == place else 0)) for n, x in enumerate(xs)]
    assert fit_exact(points) is None


def test_the_cost_of_self_attention_by_hand() -> None:
    # SAGAN, C = 64, key_ratio 8: N*C*(8 + 8 + 64) + N^2*(8 + 64) with N = s^2.
    fit = fit_exact([(s, 5120 * s**2 + 72 * s**4) for s in (32, 64, 96, 128, 160, 192, 224)])
    assert fit is not None
    assert str(fit) == "72 s⁴ + 5120 s²"
    assert fit(1024) == 72 * 1024**4 + 5120 * 1024**2
    assert fit.up_to(2) == Polynomial((Fraction(0), Fraction(0), Fraction(5120)), 32, 2)


def test_a_rational_coefficient_is_exact() -> None:
    fit = fit_exact([(n, n * (n - 1) // 2) for n in range(3, 9)])
    assert fit is not None
    assert fit.coefficients == (0, Fraction(-1, 2), Fraction(1, 2))
    assert fit.text("N") == "1/2 N² - 1/2 N"
    assert fit(1001) == 500500


@pytest.mark.parametrize(
    "ys",
    [
        [x * (x.bit_length() - 1) for x in (2, 4, 8, 16, 32, 64, 128)],  # x log2 x
        [2**x for x in (2, 4, 8, 16, 32, 64, 128)],
        [-(-x // 7) * 7 for x in (2, 4, 8, 16, 32, 64, 128)],  # padded to a window of seven
        [x**5 for x in (2, 4, 8, 16, 32, 64, 128)],  # a polynomial, but with one spare point only
    ],
)
def test_what_is_no_polynomial_or_has_no_proof_is_refused(ys: list[int]) -> None:
    assert fit_exact(zip((2, 4, 8, 16, 32, 64, 128), ys, strict=True)) is None


def test_so_many_spare_points_as_asked_for() -> None:
    points = [(x, x**2) for x in range(5)]
    assert fit_exact(points, spare=2) is not None
    assert fit_exact(points[1:], spare=2) is None
    assert fit_exact(points[1:], spare=1) is not None


def test_no_points_and_a_contradiction_give_nothing() -> None:
    assert fit_exact([]) is None
    assert fit_exact([(1, 5), (1, 6), (2, 5), (3, 5)]) is None
    assert fit_exact([(1, 5), (1, 5), (2, 5)]) is None  # a point twice is one point
    assert fit_exact([(1, 5), (2, 5), (3, 5)]) == Polynomial((Fraction(5),), 1, 2)


def test_a_cost_that_is_the_larger_of_two_is_fitted_from_where_it_is_one() -> None:
    points = [(s, max(1000 * s**2, s**4)) for s in (8, 16, 24, 32, 40, 48, 56, 64)]  # they cross at 31.6
    assert fit_exact(points) is None
    fit = fit_tail(points, least=5)
    assert fit is None  # five points from 32 on are too few for a fourth power and two spare ones
    fit = fit_tail([*points, (72, 72**4), (80, 80**4)], least=5)
    assert fit == Polynomial((Fraction(0),) * 4 + (Fraction(1),), 32, 2)


def test_a_fit_of_all_points_sets_none_aside() -> None:
    fit = fit_tail([(x, 3 * x) for x in range(1, 9)], least=5)
    assert fit == Polynomial((Fraction(0), Fraction(3)), 1, 6)
    assert fit_tail([(1, 1), (2, 2), (3, 5)], least=5) is None


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ([], "0"),
        ([7], "7"),
        ([-7], "-7"),
        ([0, 1], "s"),
        ([0, -1], "-s"),
        ([5, 0, 3], "3 s² + 5"),
        ([-5, 1, -3], "-3 s² + s - 5"),
        ([0] * 12 + [2], "2 s¹²"),
    ],
)
def test_how_it_is_printed(of: list[int], text: str) -> None:
    assert str(Polynomial(tuple(map(Fraction, of)))) == text
