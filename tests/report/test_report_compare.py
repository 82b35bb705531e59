"""Baselines, ratios, verdicts and means: pure functions of records."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import LINEAR, QUADRATIC, live, module, network, record, static, sweep, troubled

from attnbench.core.errors import UsageError
from attnbench.core.record import Reading
from attnbench.report.compare import (
    Ratio,
    baselines,
    mean_speedups,
    memory_ratio,
    ratio,
    require_baseline,
    speedup,
    verdict,
)

positive = st.floats(min_value=1e-6, max_value=1e6)


def claiming(target, claim, side=16, **fields):
    return record(module(target, side, **fields), *static(1, 1, claim=claim), *live(1.0))


def baseline_of(record, records, named=None):
    """The definition, word for word, of what `baselines` finds in one pass."""
    peers = [other for other in records
             if other.case.shape_key == record.case.shape_key
             and other.env.get("fingerprint") == record.env.get("fingerprint")]  # fmt: skip
    if named is not None:
        return next((peer for peer in peers if peer.case.name == named), None)
    if record.case.kind == "network":
        same = [peer for peer in peers if peer.case.target == record.case.target]
        bare = [peer for peer in same if peer.case.name == peer.case.target]
        return (bare or same)[0]
    return next((peer for peer in peers if peer.value("static.claimed_complexity") == "N^2"), None)


def test_the_first_quadratic_module_of_a_shape_is_its_baseline():
    rows = [claiming("linear_attn", LINEAR), claiming("self_attn", QUADRATIC), claiming("sdpa", QUADRATIC)]
    assert baselines(rows) == [rows[1]] * 3


def test_a_baseline_is_of_the_same_shape_and_machine():
    row = claiming("linear_attn", LINEAR)
    elsewhere = record(module("self_attn"), *static(1, 1, claim=QUADRATIC), env={"fingerprint": "other"})
    others = [claiming("self_attn", QUADRATIC, 32), claiming("self_attn", QUADRATIC, dtype="bf16"), elsewhere]
    assert baselines([row, *others])[0] is None


def test_a_baseline_that_ran_out_of_memory_stays_the_baseline():
    rows = troubled()
    assert baselines(rows)[4] is rows[3]
    assert speedup(rows[4], rows[3]) is None


def test_a_network_is_set_against_itself_without_an_insert():
    inserted, bare, other = (record(network(insert="linear_attn")), record(network()), record(network("resnet50")))
    assert baselines([inserted, bare, other]) == [bare, bare, other]
    assert baselines([other, inserted]) == [other, inserted]


def test_a_named_baseline_is_taken_where_it_was_run():
    rows = sweep()[:-1]
    found = baselines(rows, "linear_attn")
    assert [base and base.case.name for base in found] == ["linear_attn", "linear_attn", None] * 2 + ["linear_attn"] * 2


def test_an_unknown_baseline_is_a_usage_error_with_the_nearest_name():
    with pytest.raises(UsageError, match="Did you mean 'self_attn'"):
        require_baseline(sweep(), "self_atn")
    require_baseline(sweep(), "linear_attn")


NETWORKS = [record(network(*words)) for words in (("vgg16",), ("vgg16", "se"), ("vgg16", "eca"), ("resnet50", "se"))]
ELSEWHERE = [replace(row, env={"fingerprint": "beef"}) for row in (*sweep()[:4], *NETWORKS[:2])]


@given(st.lists(st.sampled_from(sweep() + troubled() + NETWORKS + ELSEWHERE), max_size=12),
       st.sampled_from([None, "linear_attn", "vgg16+se", "nobody"]))  # fmt: skip
@settings(deadline=None)
def test_baselines_in_one_pass_are_those_one_by_one(rows, name):
    one_by_one = [baseline_of(row, rows, name) for row in rows]
    assert all(a is b for a, b in zip(baselines(rows, name), one_by_one, strict=True))


@given(positive, positive, st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_the_interval_of_a_ratio_holds_every_ratio_that_both_intervals_allow(a, b, wide_a, wide_b, at_a, at_b):
    new, old = record(module("a"), *live(a, wide_a)), record(module("b"), *live(b, wide_b))
    found = ratio(new, old, "latency.median_ms")
    true_a, true_b = (m * (1 - w + 2 * w * t) for m, w, t in ((a, wide_a, at_a), (b, wide_b, at_b)))
    slack = 1e-9
    assert found.low * (1 - slack) <= true_a / true_b <= found.high * (1 + slack)
    assert found.low <= found.value <= found.high


@given(positive, positive, st.floats(0, 0.5))
@settings(deadline=None)
def test_a_speedup_is_the_inverse_of_a_slowdown(a, b, wide):
    new, old = record(module("a"), *live(a, wide)), record(module("b"), *live(b, wide))
    there, back = speedup(new, old), speedup(old, new)
    assert (there.value, there.low, there.high) == pytest.approx(
        (back.inverse.value, back.inverse.low, back.inverse.high)
    )


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "fast", None])
def test_what_is_no_positive_number_gives_no_ratio(value):
    odd = record(module(), Reading("memory.peak_bytes", value, "bytes", "lower", "Peak memory"))
    sound = record(module(), *live(1.0, peak=1024))
    assert memory_ratio(odd, sound) is memory_ratio(sound, odd) is memory_ratio(record(module()), sound) is None


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(1.06, 1.2, "worse"), (0.7, 0.94, "better"), (0.96, 1.04, "same"), (1.0, 1.06, "undecided"),
     (0.9, 1.2, "undecided"), (1.05, 1.2, "undecided")],
)  # fmt: skip
def test_an_answer_needs_the_whole_interval(low, high, answer):
    assert verdict(Ratio((low + high) / 2, low, high), 0.05) == answer


@given(positive, st.floats(0, 0.5), st.floats(0.001, 0.3))
@settings(deadline=None)
def test_for_rates_better_and_worse_change_sides(value, wide, noise):
    change = Ratio(value, value * (1 - wide), value * (1 + wide))
    assert verdict(change, noise, "higher") == verdict(change.inverse, noise, "lower")


def test_a_mean_names_the_cells_that_are_lost():
    rows = [*sweep(), *troubled()]
    means = {mean.name: mean for mean in mean_speedups(rows)}
    linear = means["linear_attn"]
    expected = (0.4123 / 0.2107 * 3.884 / 0.6038 * 61.27 / 2.149 * 1021.4 / 8.913) ** 0.25
    assert (linear.value, linear.cells) == (pytest.approx(expected), 4)
    assert linear.lost == ("256x256 (baseline oom)",)
    assert "256x256 (crashed)" in means["my_attn.py:MyAttn"].lost
    assert "16x16 (not run)" in means["my_attn.py:MyAttn"].lost
    assert "self_attn" not in means


def test_no_mean_is_made_of_nothing():
    rows = [record(module("self_attn"), *static(1, 1, claim=QUADRATIC), status="oom"),
            record(module("linear_attn"), *live(1.0))]  # fmt: skip
    (mean,) = mean_speedups(rows)
    assert (mean.value, mean.cells, mean.lost) == (None, 0, ("16x16 (baseline oom)",))
