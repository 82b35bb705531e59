"""The gate: exact figures exactly, sampled ones by their intervals, and no answer where there is none."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import live, module, record, static, sweep, troubled

from attnbench.core.record import Reading
from attnbench.report.gate.records import judge
from attnbench.report.gate.screen import render_verdicts
from attnbench.report.gate.verdict import exit_code

LATENCY = live(10.0, 0.01, peak=1024)


def one(*readings, **fields):
    return [record(module(), *readings, **fields)]


def outcomes(verdicts):
    return {found.title: found.outcome for found in verdicts}


def changed_sweep():
    """The sweep after a change that made one row slower, one faster, lost one and counted one more MAC."""
    rows = sweep()
    rows[8] = replace(rows[8], readings=static(16640, 83_886_081, 10_485_760) + live(2.6, 0.006, 14_534_336))
    rows[6] = replace(rows[6], status="oom", reason="needs 3 GiB", readings=static(16640, 5_242_880, 655_360))
    rows[3] = replace(rows[3], readings=static(16640, 12_582_912, 1_310_720) + live(0.3, 0.012, 1_441_792))
    rows[0] = replace(rows[0], env={"fingerprint": "beef"})
    return [*rows[:4], *rows[5:], record(module("simam"))]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_verdicts_is_the_golden_one(width, printed, golden):
    verdicts = judge(sweep(), changed_sweep())
    assert printed(render_verdicts(verdicts, width), width) == golden(f"gate_{width}.txt")
    assert exit_code(verdicts) == 1


@pytest.mark.parametrize(
    ("factor", "outcome", "code"),
    [(1.0, "same", 0), (1.02, "same", 0), (1.05, "undecided", 3), (1.1, "worse", 1), (0.9, "better", 0)],
)
def test_latency_is_judged_by_its_interval(factor, outcome, code):
    verdicts = judge(one(*live(10.0, 0.01)), one(*live(10.0 * factor, 0.01)))
    assert outcomes(verdicts) == {"Latency": outcome}
    assert exit_code(verdicts) == code


@pytest.mark.parametrize(
    ("peak", "scratch", "machine", "outcome"),
    [
        (1100, 100, "x", "same"),  # another CPU's kernels take more for themselves; the tensors are the same
        (1100, 100, "f00d", "changed"),
        (1100, 50, "x", "changed"),
        (1050, 50, "f00d", "same"),
    ],
)
def test_a_predicted_peak_is_compared_across_machines_without_their_kernels_scratch(peak, scratch, machine, outcome):
    def predicted(peak, scratch):
        return Reading("static.predicted_scratch_bytes", scratch, "bytes"), *static(1, 2, peak)

    verdicts = judge(one(*predicted(1050, 50)), one(*predicted(peak, scratch), env={"fingerprint": machine}))
    assert outcomes(verdicts)["Predicted peak"] == outcome


def test_a_wide_interval_decides_nothing():
    verdicts = judge(one(*live(10.0, 0.2)), one(*live(12.0, 0.2)))
    assert outcomes(verdicts) == {"Latency": "undecided"}
    assert "± 5 %" in verdicts[0].reason


@given(st.floats(0.1, 10), st.floats(0, 0.5), st.floats(0.01, 0.3))
@settings(deadline=None)
def test_a_record_against_itself_is_never_worse_or_better(median, precision, threshold):
    rows = one(*static(1, 2), *live(median, precision, peak=7))
    assert set(outcomes(judge(rows, rows, threshold)).values()) <= {"same", "undecided"}


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0, 0.3))
@settings(deadline=None)
def test_worse_one_way_is_better_the_other(a, b, precision):
    swap = {"worse": "better", "better": "worse"}
    there, back = (judge(one(*live(x, precision)), one(*live(y, precision)), 0.0)[0] for x, y in ((a, b), (b, a)))
    assert there.outcome == swap.get(back.outcome, back.outcome)


def test_counts_are_compared_exactly_and_shown_so_that_the_difference_is_seen():
    verdicts = judge(one(*static(10, 83_886_080)), one(*static(10, 83_886_081)))
    assert outcomes(verdicts) == {"Params": "same", "MACs": "changed", "FLOPs": "changed"}
    assert (verdicts[1].before, verdicts[1].after) == ("83,886,080", "83,886,081")
    assert exit_code(verdicts) == 1
    assert exit_code(verdicts, fail_on=("worse",)) == 0


def test_another_environment_leaves_what_was_measured_undecided():
    verdicts = judge(one(*static(1, 2), *LATENCY), one(*static(1, 3), *live(99.0, peak=9), env={"fingerprint": "x"}))
    assert outcomes(verdicts) == {"Params": "same", "MACs": "changed", "FLOPs": "changed", "Latency": "undecided",
                                  "Peak memory": "undecided"}  # fmt: skip
    assert "different environments (cpu, fingerprint f00d; and fingerprint x)" in verdicts[-1].reason


def test_a_rate_is_not_judged_beside_the_latency_it_restates():
    assert "Throughput" not in outcomes(judge(one(*LATENCY), one(*LATENCY)))
    rate = Reading("throughput.samples_per_s", 5.0, "1/s", "higher", "Throughput")
    assert outcomes(judge(one(rate), one(rate))) == {"Throughput": "undecided"}


@pytest.mark.parametrize(
    "reading",
    [
        Reading("energy.joules_per_step", 5.0, "J", "lower", "Energy"),
        Reading("roofline.percent_of_roof", 5.0, "", "higher", "Of the roof"),
        Reading("latency.cold_ms", 5.0, "ms", "lower", "Cold latency"),
    ],
    ids=lambda reading: reading.title,
)
def test_what_follows_from_the_latency_is_not_judged_beside_it(reading):
    assert reading.title not in outcomes(judge(one(reading, *LATENCY), one(reading, *LATENCY)))
    assert outcomes(judge(one(reading), one(reading))) == {reading.title: "undecided"}


def test_a_rate_with_an_interval_is_better_when_higher():
    def rate(value):
        ends = [Reading("x.low", value * 0.99, "1/s"), Reading("x.high", value * 1.01, "1/s")]
        return one(Reading("x.rate", value, "1/s", "higher", "Rate", "x.low", "x.high"), *ends)

    assert outcomes(judge(rate(10.0), rate(12.0))) == {"Rate": "better"}
    assert outcomes(judge(rate(10.0), rate(8.0))) == {"Rate": "worse"}


def test_peak_memory_needs_no_interval():
    assert outcomes(judge(one(*live(1.0, peak=100)), one(*live(1.0, peak=120))))["Peak memory"] == "worse"


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [("ok", "oom", "worse"), ("oom", "ok", "better"), ("oom", "oom", "same"), ("oom", "crashed", "changed"),
     ("crashed", "crashed", "undecided"), ("timeout", "timeout", "undecided")],
)  # fmt: skip
def test_how_a_case_ends_is_judged(before, after, outcome):
    verdicts = judge(one(status=before, reason="why"), one(status=after, reason="why"))
    assert outcomes(verdicts) == {"Status": outcome}


def test_what_ran_out_of_memory_still_has_its_counts_judged():
    verdicts = judge(one(*static(1, 2), *LATENCY), one(*static(1, 2), status="oom"))
    assert outcomes(verdicts) == {"Status": "worse", "Params": "same", "MACs": "same", "FLOPs": "same"}


def test_a_reading_that_is_gone_is_missing():
    verdicts = judge(one(*static(1, 2), *live(1.0, 0.01)), one(*static(1, 2)))
    assert outcomes(verdicts)["Latency"] == "missing"
    assert exit_code(verdicts) == 1
    assert exit_code(judge(one(*static(1, 2)), one(*static(1, 2), *live(1.0, 0.01)))) == 0


def test_a_case_that_is_gone_fails_and_a_new_one_does_not():
    rows = sweep()[3:5]
    assert exit_code(judge(rows, rows[:1])) == 1
    assert exit_code(judge(rows[:1], rows)) == 0
    assert [found.outcome for found in judge(rows[:1], rows)][-1] == "new"


@pytest.mark.parametrize(("baseline", "candidate"), [([], []), ([], sweep()), (one(), one())])
def test_nothing_compared_is_no_pass(baseline, candidate):
    assert exit_code(judge(baseline, candidate)) == 3


def test_the_last_record_of_a_case_counts():
    failed, passed = one(status="crashed"), one(*live(1.0, 0.01))
    assert exit_code(judge(passed, failed + passed)) == 0
    assert exit_code(judge(passed, passed + failed)) == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_verdicts_are_not_cut_off(width, printed):
    text = printed(render_verdicts(judge(sweep() + troubled(), changed_sweep()), width), width)
    assert "…" not in text
    assert max(map(len, text.split("\n"))) <= width
    assert "[red]" in printed(render_verdicts(judge([record(module("[red]x"))], []), width), width)


def test_no_verdicts_are_said(printed):
    assert printed(render_verdicts([], 80), 80) == "Nothing was compared.\n"
