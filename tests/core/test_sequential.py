"""The decisions of the gate: Student's t and Holm's procedure against others' figures, evidence by hand, and bounds."""

import math
import random
from collections.abc import Sequence

import mpmath
import pytest

from attnbench.core.sequential import (
    SPREAD,
    Evidence,
    Leaning,
    Told,
    chance,
    evidence,
    leaning,
    rejected,
    runner_spread,
    t_tail,
)

MARGIN, TOLERANCE = 0.01, 0.05

# Where Student's t leaves so much above it, by degrees of freedom: printed tables.
TABLE = {
    0.1: {1: 3.078, 2: 1.886, 5: 1.476, 10: 1.372, 30: 1.310},
    0.025: {1: 12.706, 2: 4.303, 5: 2.571, 10: 2.228, 30: 2.042},
    0.005: {1: 63.657, 2: 9.925, 5: 4.032, 10: 3.169, 30: 2.750},
    0.0005: {1: 636.619, 2: 31.599, 5: 6.869, 10: 4.587, 30: 3.646},
}

# Ten chances, and Holm's adjusted ones that R's multtest gives for them (in the tests of statsmodels).
CHANCES = (0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238, 0.177096952723,
           5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796)  # fmt: skip
ADJUSTED = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.2365677720800005e-04, 1.4191288215860001e-01, 2.5326455578199999e-03,
            1.1990184863680001e-01)  # fmt: skip


def told(*log_ratios: float, error: float = 0.0, doubt: float = 0.0) -> list[Told]:
    return [Told(each, error, doubt) for each in log_ratios]


def exact_tail(t: float, freedom: int) -> float:
    """By the incomplete beta function, in 50 digits."""
    with mpmath.workdps(50):
        n, t = mpmath.mpf(freedom), mpmath.mpf(t)
        beyond = mpmath.betainc(n / 2, 0.5, 0, n / (n + t**2), regularized=True) / 2
        return float(beyond if t >= 0 else 1 - beyond)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 6, 7, 8, 13, 17, 40, 101])
def test_the_tail_of_students_t_is_that_of_the_incomplete_beta_function(freedom: int) -> None:
    for t in (-30.0, -3.1, -0.2, 0.0, 1e-9, 0.5, 1.0, 2.9, 5.0, 12.0, 100.0):
        assert t_tail(t, freedom) == pytest.approx(exact_tail(t, freedom), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("tail", "row"), TABLE.items())
def test_the_tail_of_students_t_is_that_of_the_tables(tail: float, row: dict[int, float]) -> None:
    for freedom, t in row.items():
        assert t_tail(t, freedom) == pytest.approx(tail, rel=2e-3)


def test_no_chance_is_negative_however_far_out() -> None:
    assert t_tail(1e9, 6) == t_tail(math.inf, 7) == 0
    assert t_tail(-math.inf, 6) == 1


def test_one_process_is_worth_what_the_runner_is_known_to_differ_by() -> None:
    assert evidence(told(0.02)) == Evidence(0.02, pytest.approx(SPREAD), 6)


def test_three_processes_by_hand() -> None:
    found = evidence(told(0.01, 0.02, 0.03), 0.005)
    # The scatter is 2e-4; (6 x 25e-6 + 2e-4) / 8 is the variance of one.
    assert found.log_ratio == pytest.approx(0.02)
    assert found.error == pytest.approx(math.sqrt(4.375e-5 / 3))
    assert found.freedom == 8


def test_of_five_processes_the_outermost_count_as_far_as_the_next() -> None:
    found = evidence(told(0.02, 0.022, 0.024, 0.026, 0.9), 0.005)
    held = (4 * 0.002**2) / 4 * (5 / 3) ** 2  # 0.022, 0.022, 0.024, 0.026, 0.026 about their mean, 0.024
    expected = Evidence(pytest.approx(0.024), pytest.approx(math.sqrt((6 * 25e-6 + 2 * held) / 8 / 5)), 8)
    assert found == expected
    assert evidence(told(0.02, 0.022, 0.024, 0.9)).log_ratio == pytest.approx(0.2415)  # of four it is the mean


def test_processes_that_differ_by_far_more_than_the_runner_speak_for_themselves_alone() -> None:
    ratios = (0.0, 0.05, 0.1)
    variance = 0.05**2  # of three a step apart
    assert evidence(told(*ratios), 0.005) == Evidence(pytest.approx(0.05), pytest.approx(math.sqrt(variance / 3)), 2)
    within = [Told(ratio, 0.04) for ratio in ratios]  # here they say themselves that they are that far off
    assert evidence(within, 0.005).freedom == 8


def test_a_process_that_was_disturbed_says_less() -> None:
    """0.003 and 0.004 make 0.005: the second counts 9 where the first counts 25."""
    found = evidence([Told(0.02, 0.0), Told(0.054, 0.004)], 0.003)
    assert found.log_ratio == pytest.approx((25 * 0.02 + 9 * 0.054) / 34)
    assert found.log_ratio == pytest.approx(0.029)
    calm = evidence([Told(0.02, 0.0), Told(0.02, 0.004)], 0.003)
    weights = 1 / 9e-6 + 1 / 25e-6
    # Six times what is expected, and once none at all.
    assert calm == Evidence(pytest.approx(0.02), pytest.approx(math.sqrt(6 / 7 / weights)), 7)


@pytest.mark.parametrize("count", [1, 4, 12, 100])
def test_what_all_are_held_against_is_doubted_however_many_there_are(count: int) -> None:
    sure, doubting = evidence(told(*[0.02] * count)), evidence(told(*[0.02] * count, doubt=0.01))
    assert doubting.error == pytest.approx(math.hypot(sure.error, 0.01))
    assert doubting.error >= 0.01


def test_the_interval_is_students_and_of_the_ratio() -> None:
    low, high = Evidence(0.02, 0.004, 8).interval  # 2.306 is the table's for 2.5 % on each side
    assert (math.log(low), math.log(high)) == (
        pytest.approx(0.02 - 2.306 * 0.004, abs=1e-6), pytest.approx(0.02 + 2.306 * 0.004, abs=1e-6))  # fmt: skip


def test_the_interval_holds_the_truth_where_the_runner_is_as_it_is_known() -> None:
    rng = random.Random(7)
    for count in (3, 6):
        found = [evidence(told(*(rng.gauss(0.03, 0.005) for _ in range(count))), 0.005).interval for _ in range(500)]
        assert sum(low <= math.exp(0.03) <= high for low, high in found) >= 0.94 * 500


def test_the_spread_of_a_runner_by_hand() -> None:
    assert runner_spread([]) == pytest.approx(SPREAD)
    # (4 x 25e-6 + 4 x 1e-4) / 8; the truth is 0, so that four of the same sign are no small spread.
    assert runner_spread(told(0.01, 0.01, 0.01, 0.01), 0.005) == pytest.approx(math.sqrt(6.25e-5))


def looked(change: float, error: float, *, last: bool = False, both_ways: bool = False) -> Leaning | None:
    return leaning(Evidence(change, error, 8), MARGIN, TOLERANCE, last=last, both_ways=both_ways)


@pytest.mark.parametrize("last", [False, True])
def test_worse_begins_where_the_evidence_lies_above_the_margin(last: bool) -> None:
    bound = math.log(1.01) + 2.896459 * 0.004  # the table's for 1 % above, 8 degrees of freedom
    assert looked(bound + 1e-8, 0.004, last=last) == "worse"
    assert looked(bound - 1e-8, 0.004, last=last) != "worse"
    assert looked(-bound - 1e-8, 0.004, last=last) == "better"
    assert looked(-bound + 1e-8, 0.004, last=last) != "better"


def test_the_same_ends_before_the_tolerance_and_earlier_while_more_can_be_asked() -> None:
    bound = math.log(1.05) - 2.306004 * 0.015  # the table's for 2.5 %
    assert looked(bound - 1e-8, 0.015, last=True) == "same"
    assert looked(bound + 1e-8, 0.015, last=True) is None
    early = 0.5 * math.log(1.05) - 2.306004 * 0.008
    assert looked(early - 1e-8, 0.008) == "same"
    assert looked(early + 1e-8, 0.008) is None
    assert looked(early + 1e-8, 0.008, last=True) == "same"


def test_faster_is_the_same_unless_both_ways_are_asked_about() -> None:
    noisy = Evidence(-0.04, 0.012, 8)
    assert leaning(noisy, MARGIN, TOLERANCE, last=True) == "same"
    assert leaning(noisy, MARGIN, TOLERANCE, last=True, both_ways=True) is None
    assert looked(-0.001, 0.004, both_ways=True) == "same"


def test_below_the_margin_nothing_is_worse_and_from_the_tolerance_on_nothing_is_the_same() -> None:
    for error in (1e-6, 1e-3, 0.01, 0.1):
        for last in (False, True):
            assert looked(math.log(1.0099), error, last=last) != "worse"
            assert looked(math.log(1.05), error, last=last) != "same"


def test_a_chance_is_the_tail_beyond_the_margin_on_the_side_of_the_suspicion() -> None:
    slower, faster = Evidence(0.03, 0.005, 9), Evidence(-0.03, 0.005, 9)
    expected = exact_tail((0.03 - math.log(1.01)) / 0.005, 9)
    assert chance(slower, "worse", MARGIN) == pytest.approx(expected)
    assert chance(faster, "better", MARGIN) == pytest.approx(expected)
    assert chance(faster, "worse", MARGIN) > 0.99
    assert chance(Evidence(math.log(1.01), 0.005, 9), "worse", MARGIN) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("chances", "compared", "falls"),
    [
        # Bounds of 0.05 / 4, / 3, / 2, / 1 in the order of the chances: the third is above its own.
        ([0.01, 0.04, 0.03, 0.005], 4, [True, False, False, True]),
        # The second is below its bound, but the first one is not.
        ([0.02, 0.018, 0.04], 3, [False, False, False]),
        ([0.02, 0.02, 0.001], 3, [True, True, True]),
        # Four more that nobody suspected are hypotheses as well.
        ([0.009, 0.0125], 6, [False, False]),
        ([0.008, 0.0101], 6, [True, False]),
        ([0.01], 5, [True]),
        ([], 5, []),
    ],
)
def test_holm_by_hand(chances: Sequence[float], compared: int, falls: list[bool]) -> None:
    assert rejected(chances, compared, 0.05) == falls


@pytest.mark.parametrize("alpha", [1e-4, 6e-4, 0.0025, 0.0026, 0.1, 0.13, 0.15])
def test_holm_rejects_what_multtest_rejects(alpha: float) -> None:
    assert rejected(CHANCES, len(CHANCES), alpha) == [adjusted <= alpha for adjusted in ADJUSTED]


def test_a_true_hypothesis_falls_in_no_more_suites_than_alpha() -> None:
    rng = random.Random(3)
    fallen = sum(any(rejected([rng.random() for _ in range(10)], 10, 0.05)) for _ in range(4000))
    assert 0.035 <= fallen / 4000 <= 0.06
