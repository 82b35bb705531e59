"""Several machines and GPUs in one file: told apart in every table, never set against each other, never averaged."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import QUADRATIC, live, module, record, static, sweep

from attnbench.core.record import Note, Reading
from attnbench.report.breakdown import render_breakdowns
from attnbench.report.compare import mean_speedups
from attnbench.report.exporters import EXPORTERS
from attnbench.report.facts import facts_of
from attnbench.report.gate.records import judge
from attnbench.report.growth import growths
from attnbench.report.machines import is_another_unit, machine_names
from attnbench.report.table import render, sheet
from attnbench.report.timed_growth import measured

H200 = {"fingerprint": "aaaa", "device_name": "NVIDIA H200", "torch": "2.8.0", "cuda": "12.6", "driver": "560.1",
        "cpu": "AMD EPYC 9654", "threads": 8, "ecc": True}  # fmt: skip
NEWER = {**H200, "fingerprint": "bbbb", "torch": "2.9.0", "cuda": "13.0"}
A100 = {**H200, "fingerprint": "cccc", "device_name": "NVIDIA A100-SXM4-80GB", "cpu": "Intel Xeon 8358"}


def rows(env, factor=1.0, side=16, targets=("self_attn", "linear_attn"), **more):
    """A quadratic module and others, at one size on one machine; each as fast as its place in the list says."""
    made = []
    for number, target in enumerate(targets):
        claim = QUADRATIC if target == "self_attn" else "N"
        readings = static(1, 2, 1000, claim) + live(factor * (8.0 - 6 * (number > 0)), peak=2**20)
        case = module(target, side, device="cuda")
        made.append(record(case, *readings, env={**env, **more}))
    return made


def cells(records, heading, **fields):
    whole = sheet(records, **fields)
    return [row[whole.headings.index(heading)] for row in whole.cells]


def csv_rows(records):
    return list(csv.DictReader(io.StringIO(EXPORTERS["csv"](records))))


def test_machines_of_different_names_are_told_apart_in_every_table(printed):
    both = rows(H200) + rows(A100, 3.0)
    names = ["NVIDIA H200"] * 2 + ["NVIDIA A100-SXM4-80GB"] * 2
    assert cells(both, "Machine") == names
    assert [row["Machine"] for row in csv_rows(both)] == names
    assert EXPORTERS["md"](both).count("| NVIDIA A100-SXM4-80GB ") == 2
    assert "Environment" not in sheet(both).headings
    for width in (80, 120):
        text = printed(render(both, width), width)
        # Folded where the line is short, and never cut.
        assert text.count("NVIDIA") == 4 and text.count("SXM4-") == 2
        assert max(map(len, text.split("\n"))) <= width


def test_machines_of_one_name_are_told_apart_by_all_that_differs(printed):
    both = rows(H200) + rows(NEWER, 0.5)
    words = ["torch 2.8.0, CUDA 12.6"] * 2 + ["torch 2.9.0, CUDA 13.0"] * 2
    assert cells(both, "Environment") == words
    assert [row["Environment"] for row in csv_rows(both)] == words
    assert EXPORTERS["md"](both).count("torch 2.9.0, CUDA 13.0") == 2
    assert sheet(both).caption.startswith("cuda · NVIDIA H200 · fp32")
    text = " ".join(printed(render(both, 100), 100).split())
    assert text.count("torch 2.8.0,") == text.count("torch 2.9.0,") == 2


def test_what_tells_rows_apart_does_not_push_out_the_last_figure(printed):
    mine = {"target": "my_attentions.py:MyLinearAttention"}
    both = [replace(each, case=each.case.with_(dtype=dtype, batch_size=batch, **mine))
            for env in (H200, NEWER) for each in rows(env) for dtype, batch in (("fp32", 1), ("bf16", 8))]  # fmt: skip
    text = printed(render(both, 80), 80)
    assert "Latency" in text.partition("Not shown")[0] and text.count("± 0.8 %") == len(both)


def test_one_machine_has_no_column_for_what_does_not_differ():
    assert not {"Machine", "Environment", "Host", "GPU"} & set(sheet(rows(H200)).headings)
    assert "Environment" not in csv_rows(rows(H200))[0]


def test_only_machines_of_one_name_need_more_than_it():
    three = rows(H200) + rows(NEWER) + rows(A100)
    assert cells(three, "Environment") == ["torch 2.8.0, CUDA 12.6"] * 2 + ["torch 2.9.0, CUDA 13.0"] * 2 + ["–"] * 2


@pytest.mark.parametrize("part", ["threads", "driver", "cpu", "ecc"])
def test_whatever_differs_is_told(part):
    other = {**H200, "fingerprint": "dddd", part: False if part == "ecc" else "else"}
    first, *_, last = cells(rows(H200) + rows(other), "Environment")
    assert first != last and ("ECC off" if part == "ecc" else "else") in last


def test_records_that_do_not_tell_what_differs_are_told_apart_by_their_fingerprints():
    bare = {"device_name": "NVIDIA H200"}
    both = rows({**bare, "fingerprint": "f00df00df00d"}) + rows({**bare, "fingerprint": "beefbeefbeef"}) + rows(bare)
    found = cells(both, "Environment")
    assert found == ["fingerprint f00df00d"] * 2 + ["fingerprint beefbeef"] * 2 + ["unknown"] * 2


PARTS = st.fixed_dictionaries(
    {"fingerprint": st.sampled_from(["1", "2", "3", "4", None])},
    optional={"device_name": st.sampled_from(["H200", "cuda", ""]), "torch": st.sampled_from(["2.8", None]),
              "threads": st.sampled_from([1, 2]), "ecc": st.booleans()},
)  # fmt: skip


@given(st.lists(PARTS, min_size=1, max_size=6, unique_by=lambda env: env["fingerprint"]))
@settings(deadline=None)
def test_no_two_fingerprints_are_ever_called_alike(environments):
    records = [each for env in environments for each in rows(env)]
    assert len(set(machine_names(records).values())) == len(environments)
    _, machine, environment, *_ = facts_of(records)
    assert len({(machine.of(each), environment.of(each)) for each in records}) == len(environments)
    whole = sheet(records)
    telling = [whole.headings.index(name) for name in ("Machine", "Environment") if name in whole.headings]
    seen = {tuple(row[place] for place in telling) for row in whole.cells}
    assert len(seen) == len(environments)
    assert len(set(whole.groups)) == len(environments)


@pytest.mark.parametrize("other", [NEWER, A100])
@pytest.mark.parametrize("baseline", [None, "self_attn"])
def test_a_row_is_set_against_its_own_machine_alone(other, baseline):
    both = rows(H200) + rows(other, 3.0)
    # 8 ms over 2 ms on the one, 24 over 6 on the other; across machines it would be 1.33 or 12.
    assert cells(both, "Speed-up (×)", baseline=baseline) == ["1.00 (base)", "4.00"] * 2
    without = rows(H200) + rows(other, 3.0)[1:]
    assert cells(without, "Speed-up (×)", baseline=baseline) == ["1.00 (base)", "4.00", "–"]
    assert [row["Speed-up (×)"] for row in csv_rows(without)][2] == ""


def test_each_machine_has_means_of_its_own():
    both = [*rows(H200), *rows(H200, side=32), *rows(NEWER, side=16), *rows(NEWER, side=32, targets=["linear_attn"])]
    both[1] = replace(both[1], readings=both[1].readings[:4] + live(4.0))
    first, second = mean_speedups(both)
    assert (first.machine, first.cells) == ("NVIDIA H200, torch 2.8.0, CUDA 12.6", 2)
    assert first.value == pytest.approx(8**0.5)
    assert (second.machine, second.value, second.cells) == ("NVIDIA H200, torch 2.9.0, CUDA 13.0", 4.0, 1)
    assert second.lost == ("32x32 (no baseline)",)
    assert [mean.machine for mean in mean_speedups(rows(H200))] == [""]


def test_gpus_of_one_kind_are_compared_with_a_doubt_that_is_said_once():
    one = rows(H200, targets=["self_attn"], device_index=0)
    others = rows(H200, device_index=3)[1:] + rows(H200, targets=["", "axial", "xca"], device_index=0)[1:]
    whole = sheet([*one, *others])
    assert cells([*one, *others], "GPU") == ["0", "3", "0", "0"]
    assert cells([*one, *others], "Speed-up (×)") == ["1.00 (base)", "4.00", "4.00", "4.00"]
    (note,) = whole.notes
    assert note.text.startswith("set against a baseline that was measured on another GPU of the same kind")
    assert (note.rows, note.mark, note.about) == ((1,), "", "linear_attn 16x16 GPU 3")
    assert [row[0] for row in whole.cells] == ["self_attn", "linear_attn", "axial", "xca"]
    assert note.sentence.split(" (")[0] in EXPORTERS["md"]([*one, *others])


def test_one_gpu_needs_neither_a_column_nor_a_doubt():
    assert "GPU" not in sheet(rows(H200, device_index=0)).headings
    assert sheet(rows(H200, device_index=0)).notes == ()
    # Each machine's is another one anyhow.
    assert "GPU" not in sheet(rows(H200, device_index=0) + rows(NEWER, device_index=1)).headings
    assert [row["GPU"] for row in csv_rows(rows(H200, device_index=0))] == ["0", "0"]


def test_gpus_that_all_are_number_zero_where_they_are_seen_are_told_by_what_they_are():
    uuids = [f"GPU-{number}1234567-89ab-cdef" for number in (1, 2)]
    both = [each for uuid in uuids for each in rows(H200, device_index=0, device_uuid=uuid)]
    assert cells(both, "GPU") == ["11234567"] * 2 + ["21234567"] * 2


def test_hosts_of_one_kind_are_compared_with_a_doubt_too():
    here = [replace(each, case=each.case.with_(device="cpu")) for each in rows(H200, host="node1")]
    there = [replace(each, case=each.case.with_(device="cpu")) for each in rows(H200, host="node2")]
    both = [here[0], there[1]]
    assert cells(both, "Host") == ["node1", "node2"]
    (note,) = sheet(both).notes
    assert "on another host of the same kind" in note.text
    assert "Host" not in sheet([*here, *rows(A100, host="node3")]).headings


@pytest.mark.parametrize(
    ("one", "other", "another"),
    [({}, {}, False), ({"device_index": 0}, {}, False), ({"device_index": 0}, {"device_index": 1}, True),
     ({"device_uuid": "a", "device_index": 0}, {"device_uuid": "a", "device_index": 1}, False),
     ({"device_uuid": "a", "device_index": 0}, {"device_uuid": "b", "device_index": 0}, True),
     ({"host": "x", "device_index": 0}, {"host": "x", "device_index": 0}, False),
     ({"host": "x", "device_index": 0}, {"host": "y", "device_index": 0}, True),
     ({"host": "x"}, {"host": "x", "device_index": 1}, False)],
)  # fmt: skip
def test_another_gpu_is_one_that_is_known_to_be(one, other, another):
    (mine, _), (theirs, _) = rows(H200, **one), rows(H200, **other)
    assert is_another_unit(mine, theirs) is is_another_unit(theirs, mine) is another


def test_the_same_case_on_two_gpus_gives_two_rows_that_can_be_told_apart():
    twice = rows(H200, device_index=0) + rows(H200, device_index=1)
    assert len(set(sheet(twice).cells)) == 4


def test_neighbours_are_one_footnote_over_many_rows(printed):
    note = Note("neighbours", "other cases were measured on the same host at the same time: measure it alone")
    many = [replace(each, env=H200, notes=(note,)) for _ in range(200) for each in sweep()]
    alone = rows(H200)
    text = " ".join(printed(render([*many, *alone], 120), 120).split())
    assert text.count(note.text) == 1
    assert "and 1,794 more)" in text


def test_the_gate_judges_each_machine_by_its_own_baseline():
    baseline = rows(H200, targets=["self_attn"]) + rows(A100, 3.0, targets=["self_attn"])
    slower = rows(A100, 3.6, targets=["self_attn"]) + rows(H200, targets=["self_attn"])
    verdicts = {found.case: found.outcome for found in judge(baseline, slower) if found.title == "Latency"}
    assert verdicts == {"self_attn 16x16 NVIDIA H200": "same", "self_attn 16x16 NVIDIA A100-SXM4-80GB": "worse"}


def test_a_baseline_of_several_machines_asks_a_candidate_for_one_of_them():
    baseline = rows(H200) + rows(A100, 3.0)
    assert {found.outcome for found in judge(baseline, rows(A100, 3.0))} == {"same"}
    (gone,) = [found for found in judge(baseline, rows(A100, 3.0)[1:]) if found.outcome != "same"]
    assert (gone.outcome, gone.case) == ("missing", "self_attn 16x16 NVIDIA A100-SXM4-80GB")


def test_a_machine_that_only_the_candidate_has_is_new_beside_others_and_undecided_alone():
    here, there = (rows(env, targets=["self_attn"]) for env in (H200, NEWER))
    (news,) = [found for found in judge(here, here + there) if found.outcome != "same"]
    assert (news.outcome, news.reason) == ("new", "the baseline has no record of this case on that machine")
    alone = judge(here, there)
    latency = next(found for found in alone if found.title == "Latency")
    assert latency.outcome == "undecided"
    assert "(NVIDIA H200, torch 2.8.0, CUDA 12.6; and NVIDIA H200, torch 2.9.0, CUDA 13.0)" in latency.reason
    assert {found.title: found.outcome for found in alone}["MACs"] == "same"


@pytest.mark.parametrize(("index", "said"), [(0, ""), (1, "differ by some per cent")])
def test_a_change_between_two_gpus_of_one_kind_is_doubted(index, said):
    before, after = (rows(H200, factor, device_index=place) for factor, place in ((1.0, 0), (1.1, index)))
    found = {each.title: each for each in judge(before[:1], after[:1])}
    assert found["Latency"].outcome == "worse" and said in found["Latency"].reason
    assert bool(found["Latency"].reason) == bool(said)
    assert found["Latency"].case == "self_attn 16x16"


def test_breakdowns_say_of_which_machine_they_are(printed):
    tree = Reading("static.macs_by_op", {"linear": 2})
    both = [replace(each, readings=(*each.readings, tree)) for env in (H200, NEWER) for each in rows(env)[:1]]
    text = printed(render_breakdowns(both, "op", 100), 100)
    assert "self_attn 16x16 torch 2.8.0, CUDA 12.6" in text
    assert "self_attn 16x16 torch 2.9.0, CUDA 13.0" in text


def timed(side, env):
    ends = (Reading("latency.ci_low_ms", side**2 * 0.9), Reading("latency.ci_high_ms", side**2 * 1.1))
    return record(module("m", side), Reading("latency.median_ms", side**2), *ends, env=env)


def test_no_exponent_of_time_is_taken_across_machines():
    sides = (16, 32, 64, 128, 256)
    slope = measured([timed(side, H200) for side in sides]).slope
    assert slope is not None and slope.value == pytest.approx(1.0)
    mixed = measured([timed(side, A100 if side == 64 else H200) for side in sides])
    assert mixed.slope is None
    assert str(mixed).endswith("measured on different machines (NVIDIA H200; NVIDIA A100-SXM4-80GB)")
    scattered = measured([timed(side, {**H200, "device_index": side % 3}) for side in sides])
    assert scattered.slope is not None and str(scattered).endswith("on several machines or GPUs of one kind")


def test_memory_grows_as_one_polynomial_whatever_machines_took_part():
    def at(side, env, scratch):
        peak = Reading("static.predicted_peak_bytes", 4 * side**2 + scratch)
        held = Reading("static.predicted_scratch_bytes", scratch)
        return record(module("m", side), Reading("static.macs", side**2), peak, held, env=env)

    sides = [2**power for power in range(4, 11)]
    mixed = [at(side, A100 if number % 2 else H200, 7919 * (number % 2)) for number, side in enumerate(sides)]
    assert {growth.name: growth.text for growth in growths(mixed)} == {"MACs": "s²", "memory": "4 s²"}
