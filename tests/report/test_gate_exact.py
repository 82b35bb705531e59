"""Exact figures of one case before and after a change, and what may be asked to fail a check."""

from dataclasses import replace

import pytest
from report_records import live, module, record, static

from attnbench.core.errors import UsageError
from attnbench.report.gate.records import exact
from attnbench.report.gate.verdict import FAIL_ON, exit_code, parsed_fail_on


def one(*readings, **fields):
    return record(module(), *readings, **fields)


def outcomes(verdicts):
    return {found.reading or found.title: found.outcome for found in verdicts}


def test_a_case_before_and_after_is_judged_without_its_latency():
    verdicts = exact(one(*static(1, 2, 3), *live(1.0, peak=5)), one(*static(1, 3, 3), *live(9.0, peak=7)))
    assert outcomes(verdicts) == {"static.params": "same", "static.macs": "changed", "static.flops": "changed",
                                  "static.predicted_peak_bytes": "same"}  # fmt: skip
    assert {found.case for found in verdicts} == {"self_attn 16x16"}
    assert {found.threshold for found in verdicts} == {0.0}
    assert verdicts[0].repro == module().command()


def test_how_the_case_ended_is_among_the_exact_findings():
    assert outcomes(exact(one(*static(1, 2)), one(*static(1, 2), status="oom")))["Status"] == "worse"
    assert "Status" not in outcomes(exact(one(*static(1, 2)), one(*static(1, 2))))


@pytest.mark.parametrize(
    ("macs", "outcome"),
    [(1000, "same"), (1010, "same"), (990, "same"), (1011, "changed"), (989, "changed"), (0, "changed")],
)
def test_a_difference_within_the_tolerance_is_the_same(macs, outcome):
    def tolerance(case, name):
        return 0.01 if (case, name) == ("mine", "static.macs") else 0.0

    verdicts = outcomes(exact(one(*static(1, 1000)), one(*static(1, macs)), tolerance, name="mine"))
    assert verdicts["static.macs"] == outcome
    assert verdicts["static.flops"] == ("same" if macs == 1000 else "changed")


def test_a_change_from_nothing_is_within_no_tolerance():
    verdicts = exact(one(*static(0, 1)), one(*static(1, 1)), lambda case, name: 0.5)
    assert outcomes(verdicts)["static.params"] == "changed"


@pytest.mark.parametrize(("peak", "outcome"), [(100, "same"), (101, "worse"), (99, "better")])
def test_bytes_that_are_asked_for_are_exact_with_a_direction(peak, outcome):
    before, after = one(*live(1.0, peak=100)), one(*live(1.0, peak=peak))
    assert outcomes(exact(before, after, also=["memory.peak_bytes"])) == {"memory.peak_bytes": outcome}
    assert not exact(before, after, also=["latency.median_ms"])


def test_bytes_of_another_machine_are_not_held_against_this_one():
    before = one(*live(1.0, peak=100))
    elsewhere = replace(before, env={"fingerprint": "beef"})
    assert outcomes(exact(before, elsewhere, also=["memory.peak_bytes"])) == {"memory.peak_bytes": "undecided"}


@pytest.mark.parametrize(
    ("texts", "named"),
    [([], FAIL_ON), (["worse"], {"worse", "changed"}), (["Missing, undecided"], {"missing", "undecided"}),
     (["changed", "missing"], {"changed", "missing"})],
)  # fmt: skip
def test_what_fails_is_asked_by_name(texts, named):
    assert parsed_fail_on(texts) == named


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [(["wores"], "Did you mean 'worse'"), (["better"], "cannot name 'better'"), ([" , "], "--warn-only")],
)
def test_what_cannot_fail_is_refused(texts, sentence):
    with pytest.raises(UsageError, match=sentence):
        parsed_fail_on(texts)


def test_undecided_fails_where_it_is_asked_to():
    verdicts = exact(one(status="crashed"), one(status="crashed"))
    assert exit_code(verdicts) == 3
    assert exit_code(verdicts, parsed_fail_on(["worse,undecided"])) == 1
