"""The audit's judgement on records made by hand, whose growth is known by construction."""

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from report_records import module, network, record

from attnbench.core.order import Order, parse_order
from attnbench.core.record import Note, Reading, Record
from attnbench.report.audit import audit
from attnbench.report.audit_table import as_json, as_markdown, render_audits
from attnbench.report.growth import growths
from attnbench.report.timed_growth import measured

SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 512, 1024)
MULTIPLES = (672, 1344, 2016, 2688, 3360, 4032, 8064)
Cost = Callable[[int], Any]


def climb(
    sides: tuple[int, ...] = SIDES, claim: str = "N", notes: tuple[Note, ...] = (), **figures: Cost
) -> list[Record]:
    """Records whose figure of each name is that function of the side."""
    return [
        record(
            module("mine", side),
            *(Reading(f"static.{name}", cost(side)) for name, cost in figures.items()),
            *([Reading("static.claimed_complexity", claim)] if claim else []),
            notes=notes,
        )
        for side in sides
    ]


def linear(s: int) -> int:
    return 100 * s**2


ALL_LINEAR: dict[str, Cost] = {
    "macs": linear, "elementwise": linear, "reductions": linear, "predicted_peak_bytes": lambda s: linear(s) + 5000,
}  # fmt: skip


def with_(**changes: Cost) -> dict[str, Cost]:
    return ALL_LINEAR | changes


def test_the_sentence_that_the_tool_is_for() -> None:
    judged = audit(climb(**with_(macs=lambda s: 72 * s**4 + 9216 * s**2)))
    assert judged.verdict == "refuted"
    # At 256: 72 * 65536 / 9216 = 512 times the linear term, and that term itself.
    assert judged.evidence.startswith("72 s⁴ + 9216 s² MACs: N²; at 256x256 it is 513 times what O(N) would be")
    assert judged.found == Order(Fraction(2))
    assert judged.complete
    assert judged.exact


def test_what_is_linear_in_everything_holds() -> None:
    judged = audit(climb(**ALL_LINEAR))
    assert judged.verdict == "holds"
    assert judged.evidence == "100 s² MACs: N; elementwise work and memory N"


@pytest.mark.parametrize(
    ("figure", "cost", "words"),
    [
        ("elementwise", lambda s: s**4, "s⁴ + 100 s² elementwise: N²"),
        ("reductions", lambda s: s**4, "s⁴ + 100 s² elementwise: N²"),
        ("predicted_peak_bytes", lambda s: 4 * s**4 + s**2, "4 s⁴ + s² bytes of memory: N²"),
        ("macs", lambda s: s**3, "s³ MACs: N¹·⁵; at 256x256 it is 8.00 times what O(N) would be"),
        ("fft_flops", lambda s: 10 * s**2 * (s.bit_length() - 1), "5 N log N FFT FLOPs: N log N"),
    ],
)
def test_each_figure_alone_refutes_a_claim_and_is_named_first(figure: str, cost: Cost, words: str) -> None:
    judged = audit(climb(**with_(**{figure: cost})))
    assert judged.verdict == "refuted"
    assert judged.evidence.startswith(words)


@pytest.mark.parametrize(
    ("cost", "orders"),
    [
        (lambda s: 7, {"N": "holds", "1": "holds", "N^2": "holds"}),
        (lambda s: s**2, {"N": "holds", "1": "refuted", "N log N": "holds"}),
        (lambda s: s**2 * (s.bit_length() - 1), {"N": "refuted", "N log N": "holds", "N^1.5": "holds"}),
        (lambda s: s**3, {"N log N": "refuted", "N^1.5": "holds", "N^2": "holds"}),
        (lambda s: s**4, {"N^1.5": "refuted", "N^2": "holds"}),
        (lambda s: s**5, {"N^2": "refuted", "N^2.5": "holds"}),
    ],
)
def test_a_claim_is_an_upper_bound(cost: Cost, orders: dict[str, str]) -> None:
    for claim, verdict in orders.items():
        assert audit(climb(claim=claim, **with_(macs=cost))).verdict == verdict, claim
        assert audit(climb(claim="", **with_(macs=cost)), parse_order(claim)).verdict == verdict


def test_the_users_claim_comes_before_the_specs() -> None:
    records = climb(claim="N^2", **with_(macs=lambda s: s**4))
    assert audit(records).verdict == "holds"
    assert audit(records, parse_order("O(N)")).verdict == "refuted"


def test_without_a_claim_its_growth_is_told() -> None:
    judged = audit(climb(claim="", **ALL_LINEAR))
    assert (judged.verdict, judged.claim, str(judged.found)) == ("no claim", None, "N")


def test_an_operator_that_nobody_counted_forbids_to_say_holds() -> None:
    judged = audit(climb(uncounted_ops=lambda s: {"mine::kernel": 2}, **ALL_LINEAR))
    assert judged.verdict == "cannot tell"
    assert judged.evidence.startswith("not counted: mine::kernel; 100 s² MACs")
    assert not judged.complete


def test_but_a_proof_against_the_claim_stands() -> None:
    judged = audit(climb(uncounted_ops=lambda s: {"mine::kernel": 2}, **with_(macs=lambda s: s**4)))
    assert judged.verdict == "refuted"


@pytest.mark.parametrize(("missing", "words"), [("macs", "no MACs"), ("predicted_peak_bytes", "no figure of memory")])
def test_a_missing_figure_forbids_to_say_holds(missing: str, words: str) -> None:
    figures = {name: cost for name, cost in ALL_LINEAR.items() if name != missing}
    judged = audit(climb(**figures))
    assert judged.verdict == "cannot tell"
    assert words in judged.evidence


def test_a_counter_that_failed_says_why() -> None:
    note = Note("uncounted", "no counter could count its MACs: the column is empty, not zero")
    judged = audit(climb(notes=(note,), predicted_peak_bytes=linear))
    assert judged.verdict == "cannot tell"
    assert judged.evidence.startswith("no counter could count its MACs")


def test_too_few_sides_prove_nothing_and_the_reason_is_told() -> None:
    refused = record(module("mine", 64), status="unsupported", reason="only 32 is good")
    judged = audit([*climb((32, 96, 128, 160), **ALL_LINEAR), refused])
    assert judged.verdict == "cannot tell"
    assert "counted at 4 sides only (only 32 is good)" in judged.evidence


def test_sides_that_fail_are_done_without() -> None:
    refused = record(module("mine", 16), status="error", reason="too small")
    assert audit([refused, *climb(**ALL_LINEAR)]).verdict == "holds"


def test_elementwise_work_that_no_counter_gave_is_a_doubt_and_not_a_zero() -> None:
    judged = audit(climb(macs=linear, predicted_peak_bytes=linear))
    assert judged.verdict == "holds"
    assert judged.doubts == ("elementwise work is not counted",)
    assert "elementwise work is not counted" in judged.evidence


def test_counters_that_disagree_are_a_doubt() -> None:
    judged = audit(climb(notes=(Note("unverified", "the counters disagree on its 5 MACs"),), **ALL_LINEAR))
    assert judged.doubts == ("its MACs are unverified",)


def padded(window: int) -> Cost:
    return lambda s: 3 * (-(-s // window) * window) ** 2


def test_windows_are_proved_on_sides_that_they_fit_into() -> None:
    records = climb(SIDES + MULTIPLES, **with_(macs=padded(7)))
    judged = audit(records)
    assert judged.verdict == "holds"
    assert "3 s² MACs: N (where s is a multiple of 672)" in judged.evidence
    # Without those sides nothing is proved.
    assert audit(climb(**with_(macs=padded(7)))).verdict == "not polynomial"


@pytest.mark.parametrize("window", [5, 9, 11, 13])
def test_windows_that_fit_nowhere_are_no_polynomial_and_their_exponent_is_told(window: int) -> None:
    judged = audit(climb(SIDES + MULTIPLES, **with_(macs=padded(window))))
    assert judged.verdict == "not polynomial"
    assert "MACs: no polynomial in s, ~N^1.00 up to 8064x8064" in judged.evidence
    assert (str(judged.found), judged.exact) == ("N", False)


def test_what_is_no_polynomial_but_far_above_the_claim_is_refuted() -> None:
    judged = audit(climb(SIDES + MULTIPLES, **with_(macs=lambda s: padded(5)(s) ** 2)))
    assert judged.verdict == "refuted"
    assert "~N^2.00" in judged.evidence


def test_a_pyramid_is_proved_on_powers_of_two() -> None:
    def levels(s: int) -> int:
        return s**2 + (levels(s // 2) if s > 1 else 0)

    assert [levels(s) for s in (1, 2, 4)] == [1, 5, 21]  # (4 s^2 - 1) / 3
    judged = audit(climb(**with_(macs=levels)))
    assert judged.verdict == "holds"
    assert "4/3 s² - 1/3 MACs: N (where s is a power of two)" in judged.evidence


def test_a_peak_that_moves_is_a_polynomial_from_where_it_stays() -> None:
    judged = audit(climb(**with_(predicted_peak_bytes=lambda s: max(s**4, 10_000 * s**2))))  # they cross at 100
    assert judged.verdict == "refuted"
    assert "s⁴ bytes of memory: N² (from s = 128 on)" in judged.evidence


def test_memory_that_an_allocator_rounds_is_told_by_its_exponent() -> None:
    # The weights of 10^9 bytes would hide the growth, if it were not taken from differences.
    rounded = lambda s: 10**9 + -(-(s**3) // 512) * 512 + 512 * (s.bit_length() % 2)  # noqa: E731
    (growth,) = [each for each in growths(climb(**with_(predicted_peak_bytes=rounded))) if each.name == "memory"]
    assert growth.polynomial is None
    assert growth.order == Order(Fraction(3, 2))
    assert growth.exponent == pytest.approx(1.5, abs=0.01)


def test_of_a_training_step_the_backward_counts_too() -> None:
    records = [
        record(each.case.with_(mode="fwd_bwd"), *each.readings)
        for each in climb(**with_(backward_macs=lambda s: 2 * linear(s)))
    ]
    assert audit(records).evidence.startswith("300 s² MACs")
    without = [record(each.case, *(r for r in each.readings if "backward" not in r.name)) for each in records]
    assert audit(without).doubts == ("the MACs of the backward are not counted",)


def test_of_a_network_the_blocks_that_make_it_quadratic_are_named() -> None:
    by_module = lambda s: {  # noqa: E731
        "": 5 * s**4 + s**2, "body": 5 * s**4 + s**2, "body.0": s**2, "body.1": 3 * s**4, "body.1.core": 3 * s**4,
        "body.2": 2 * s**4, "body.10": s**2,
    }  # fmt: skip
    figures = with_(macs=lambda s: 5 * s**4 + s**2, macs_by_module=by_module)
    records = [
        record(network().with_(height=each.case.height, width=each.case.width), *each.readings)
        for each in climb(**figures)
    ]
    judged = audit(records)
    assert judged.blocks == ("body.1.core", "body.2")
    assert "N² in body.1.core, body.2" in judged.evidence


def timed(costs: dict[int, float], interval: float = 0.01) -> list[Record]:
    ends = {"median": 1.0, "ci_low": 1 - interval, "ci_high": 1 + interval}
    return [
        record(module("mine", side), *(Reading(f"latency.{name}_ms", cost * end) for name, end in ends.items()))
        for side, cost in costs.items()
    ]


def test_the_exponent_of_the_latency_leaves_out_sizes_that_are_all_overhead() -> None:
    costs = {4: 0.1, 8: 0.1, 16: 0.11, **{s: 1e-6 * s**4 for s in (32, 64, 96)}}
    found = measured(timed(costs))
    assert found.slope is not None
    assert found.slope.value == pytest.approx(2)
    assert found.slope.low < 2 < found.slope.high
    # Costs known to 1 %, over the root of the sum of squares of log N: 0.01 / sqrt(2.471) = 0.0064.
    assert str(found).startswith("latency N^2.00 (1.99 to 2.01) from 32x32 to 96x96")


def test_where_everything_is_overhead_there_is_no_exponent() -> None:
    found = measured(timed({4: 0.1, 16: 0.12, 32: 0.15, 64: 0.2}))
    assert found.slope is None
    assert str(found) == "no exponent of latency: up to 64x64 a step is mostly fixed overhead"


def test_what_never_ran_says_why() -> None:
    found = measured([record(module("mine", 4), status="error", reason="it broke")])
    assert str(found) == "no exponent of latency: it broke"


def some() -> tuple[list[Any], list[Record]]:
    refuted = climb(**with_(macs=lambda s: 72 * s**4 + 9216 * s**2))
    unknown = [record(each.case.with_(target="an_attention_with_quite_a_long_name.py:Attention"), *each.readings)
               for each in climb(claim="", uncounted_ops=lambda s: {"mine::op": 1}, **ALL_LINEAR)]  # fmt: skip
    good = [record(each.case.with_(target="good"), *each.readings) for each in climb(**ALL_LINEAR)]
    return [audit(refuted), audit(unknown), audit(good)], [refuted[0], unknown[0], good[0]]


@pytest.mark.parametrize("width", [40, 60, 80, 99, 100, 120, 200])
def test_nothing_is_cut_off_at_any_width(printed: Callable[[Any, int], str], width: int) -> None:
    audits, records = some()
    text = printed(render_audits(audits, records, width), width)
    assert max(map(len, text.split("\n"))) <= width
    for each in audits:
        for word in each.evidence.split():
            assert word in text
        assert each.target in text.replace("\n", "") or each.target.split("_")[0] in text
    assert "1 refuted, 1 no claim, 1 holds." in text
    assert "…" not in text


def test_the_narrow_table_has_the_evidence_below_and_the_wide_one_beside(printed: Callable[[Any, int], str]) -> None:
    audits, records = some()
    narrow = printed(render_audits(audits, records, 80), 80)
    assert "\n  72 s⁴ + 9216 s² MACs: N²;" in narrow
    wide = printed(render_audits(audits, records, 140), 140)
    (row,) = [line for line in wide.split("\n") if line.startswith("mine ")]
    assert "O(N)" in row
    assert "O(N²)" in row
    assert "refuted" in row
    assert "513 times" in row


def test_what_may_be_more_is_marked(printed: Callable[[Any, int], str]) -> None:
    audits, records = some()
    assert "≥ O(N)" in printed(render_audits(audits, records, 120), 120)
    padding = climb(SIDES + MULTIPLES, **with_(macs=padded(5)))
    assert "~ O(N)" in printed(render_audits([audit(padding)], padding[:1], 120), 120)


def test_json_is_exact_and_markdown_has_a_column_for_the_polynomial() -> None:
    audits, records = some()
    first, second, _ = json.loads(as_json(audits))
    assert (first["target"], first["claim"], first["found"], first["verdict"]) == ("mine", "N", "N^2", "refuted")
    (macs,) = [growth for growth in first["growths"] if growth["of"] == "MACs"]
    assert macs["coefficients_in_s"] == [0, 0, 9216, 0, 72]
    assert macs["spare"] == len(SIDES) - 5
    assert second["claim"] is None
    text = as_markdown(audits, records)
    assert "| mine" in text
    assert "| 72 s⁴ + 9216 s² " in text
    assert text.endswith("1 refuted, 1 no claim, 1 holds.\n")


def test_a_name_cannot_move_the_cursor(printed: Callable[[Any, int], str]) -> None:
    records = [record(each.case.with_(target="\x1b[2Jevil"), *each.readings) for each in climb(**ALL_LINEAR)]
    assert "\x1b" not in printed(render_audits([audit(records)], records[:1], 80), 80)
