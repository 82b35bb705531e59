"""What the terminal shows: golden texts at 80 and 120 columns, and nothing cut off at any width."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_records import BUILT, LAUNCH_BOUND, QUADRATIC, live, module, networks, record, static, sweep, troubled
from rich.cells import cell_len

from attnbench.core.record import Note, Reading, Record
from attnbench.report import frame
from attnbench.report.compare import baselines
from attnbench.report.facts import visible
from attnbench.report.footnotes import footnotes, superscript
from attnbench.report.table import fit, folded, render, sheet

HOSTILE = ["a|b", "<script>alert(1)</script>", "=cmd()", "[red]x[/red]", "two\nlines", "\x1b[2Jgone", "注意力" * 9,
           "very.long." * 30 + "name", "[/]", "\\", "e\u0301té", "\u202egnp.exe"]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("rows", [sweep, networks, troubled])
def test_the_table_is_the_golden_one(rows, width, printed, golden):
    assert printed(render(rows(), width), width) == golden(f"{rows.__name__}_{width}.txt")


@pytest.mark.parametrize("rows", [sweep, networks, troubled])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_figure_is_cut_off_and_what_is_hidden_is_named(rows, width, printed):
    text = printed(render(rows(), width), width)
    whole, fitted = sheet(rows()), fit(sheet(rows()), width)
    assert "…" not in text and "..." not in text
    assert max(map(len, text.split("\n"))) <= width
    # The name is the one cell that may be folded.
    assert all(cell in text for row in fitted.cells for cell in row[1:])
    shown = {column.title for column in fitted.columns}
    assert {column.title for column in whole.columns} == shown | set(fitted.hidden)
    assert all(title in " ".join(text.split()) for title in fitted.hidden)


@pytest.mark.parametrize("width", [10, 16, 24, 32])
def test_the_narrowest_terminal_folds_rather_than_cuts(width, printed):
    rows = [*troubled(), record(module("mixed", 128, dtype="bf16", mode="fwd_bwd", batch_size=8), *live(1.0))]
    text = printed(render(rows, width), width)
    assert "…" not in text
    assert max(map(len, text.split("\n"))) <= width


def test_a_long_name_is_folded_before_it_costs_a_figure(printed):
    rows = [record(module("my_package.attention_blocks:MyVeryOwnLinearAttentionWithAGate"), *live(12.34))]
    assert "12.34 ± 0.8 %" in printed(render(rows, 80), 80)


def test_the_latency_stays_longest(printed):
    text = printed(render(sweep(), 50), 50)
    assert "Latency" in text and "± 0.8 %" in text
    assert "Not shown at 50 columns: Params, MACs, FLOPs" in " ".join(text.split())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_out_as_text(name, printed):
    rows = [record(module(name), *live(1.0), notes=(Note("odd", f"note of {name}"),)),
            record(module("self_attn"), status="error", reason=f"boom {name}")]  # fmt: skip
    for width in (40, 80, 1000):
        text = printed(render(rows, width), width)
        assert not {"\x1b", "\u202e", "…"} & set(text)
    assert visible(name) in text


@example("\U0001f3fb", 2)  # a skin tone with nothing to colour
@given(st.text(max_size=80), st.integers(2, 40))
@settings(deadline=None)
def test_folding_loses_nothing_but_blanks(text, width):
    name = visible(text)
    lines = folded(name, width)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    assert max(map(cell_len, lines)) <= width


def test_names_are_folded_at_their_separators():
    assert folded("my_package.blocks:MyLinearAttention", 20) == ["my_package.blocks:", "MyLinearAttention"]


@given(st.text(max_size=60), st.integers(30, 130))
@settings(max_examples=40, deadline=None)
def test_any_name_at_any_width_leaves_the_figures_whole(name, width):
    fitted = fit(sheet([record(module(name), *static(12, 34), *live(5.0))]), width)
    assert render([record(module(name or "x"), *live(5.0))], width)
    assert len(fitted.cells) == 1


@pytest.mark.parametrize("width", range(60, 150))
def test_no_width_breaks_a_figure_beside_a_short_name(width, printed):
    rows = [record(module("se", dtype=dtype), *static(16640, 144_384_000, 2**20), *live(9.77, peak=801_000))
            for dtype in ("bf16", "fp16")]  # fmt: skip
    text = printed(render(rows, width), width)
    assert text.count("9.770 ± 0.8 %") == 2
    assert max(map(cell_len, text.splitlines())) <= width


def test_what_varies_is_a_column_and_what_does_not_is_the_caption(printed):
    rows = [record(module(dtype=dtype, params=(("qkv_bias", False),)), *live(1.0)) for dtype in ("fp32", "bf16")]
    text = printed(render(rows, 80), 80)
    assert text.startswith("cpu · batch 1 · dim 64 · fwd · eager · qkv_bias=False\n")
    assert "Dtype" in text and "bf16" in text


def test_seeds_are_told_only_where_rows_would_else_look_alike():
    different = [record(module("a", seed=0)), record(module("b", seed=1))]
    twins = [record(module("a", seed=0)), record(module("a", seed=1))]
    assert "Seed" not in sheet(different).headings
    assert "Seed" in sheet(twins).headings


def test_the_machine_is_in_the_caption():
    rows = [record(module(), *live(1.0), env={"device_name": "NVIDIA H200"})]
    assert sheet(rows).caption == "cpu · NVIDIA H200 · fp32 · batch 1 · dim 64 · fwd · eager"


def test_without_a_baseline_there_are_no_ratios():
    alone = [record(module("linear_attn"), *live(1.0, peak=1)), record(module("other"), *live(2.0, peak=2))]
    only = [record(module("self_attn"), *static(1, 1, claim=QUADRATIC), *live(1.0, peak=1))]
    assert "Speed-up (×)" not in sheet(alone).headings
    assert "Speed-up (×)" not in sheet(only).headings
    assert "Speed-up (×)" in sheet(alone, "other").headings


def test_a_ratio_has_no_more_digits_than_its_interval():
    cells = dict(zip(sheet(sweep()).headings, sheet(sweep()).cells[2], strict=True))
    assert (cells["Latency (ms)"], cells["Speed-up (×)"]) == ("0.21 ±  12 %", "2.0")


@pytest.mark.parametrize(
    ("precision", "cell"),
    [(0.0, "1234 ± 0.1 %"), (0.008, "1234 ± 0.8 %"), (0.03, "1230 ± 3.0 %"), (0.3, "1200 ±  30 %"),
     (2.5, "1200 ± 250 %"), (40.0, "1200 ± >999 %")],
)  # fmt: skip
def test_the_digits_follow_the_interval(precision, cell):
    (row,) = sheet([record(module(), *live(1234.4, precision))]).cells
    assert row[2] == cell


def test_a_unit_that_only_a_plugin_knows_is_printed_as_it_is():
    reading = Reading("heat.kelvin", 1.5, "K", "lower", "Heat")
    flag = Reading("static.verified", True, title="Verified")
    whole = sheet([record(module(), reading, flag)])
    assert whole.headings[2:] == ["Heat (K)", "Verified"]
    assert whole.cells[0][2:] == ("1.500", "yes")


def test_a_failure_without_an_empty_cell_stands_beside_the_name():
    whole = sheet([record(module(), *static(1, 1), status="oom", reason="full")])
    assert whole.cells[0][0] == "self_attn (oom) ¹"


def test_notes_are_said_once_and_quiet_kinds_only_on_demand():
    rows = [record(module("a"), notes=(BUILT, LAUNCH_BOUND)), record(module("b"), notes=(LAUNCH_BOUND,)),
            record(module("c"), notes=(Note("noisy", "noisy."),))]  # fmt: skip
    first, second = footnotes(rows)
    assert (first.sentence, first.mark) == (f"{LAUNCH_BOUND.text} (a 16x16; b 16x16)", "¹")
    assert (second.sentence, second.mark) == ("noisy. (c 16x16)", "²")
    assert footnotes(rows, verbose=True)[0].text == BUILT.text


def test_a_note_about_all_rows_marks_none():
    rows = [record(module("a"), notes=(LAUNCH_BOUND,)), record(module("b"), notes=(LAUNCH_BOUND, Note("odd", "odd.")))]
    everywhere, single = footnotes(rows)
    assert (everywhere.mark, everywhere.about, single.mark) == ("", "all rows", "¹")
    assert [cells[0] for cells in sheet(rows).cells] == ["a", "b ¹"]


def test_many_rows_of_one_note_are_counted():
    rows = [record(module(f"m{n}"), notes=(LAUNCH_BOUND,) if n else ()) for n in range(12)]
    assert footnotes(rows)[0].about.endswith("m6 16x16; and 5 more")
    assert superscript(10) == "¹⁰"


@pytest.mark.parametrize("width", [40, 80, 120, 400])
def test_each_cell_is_worked_out_once_however_many_columns_do_not_fit(width, monkeypatch):
    asked = Counter()
    original = frame.amount
    monkeypatch.setattr(frame, "amount", lambda row, name: asked.update([name]) or original(row, name))
    rows = [record(module(f"m{n}"), *static(n, n, n), *live(1.0 + n, peak=n)) for n in range(50)]
    fit(sheet(rows), width)
    assert len(asked) == 7 and set(asked.values()) == {50}


def test_the_baseline_is_looked_for_once_and_not_by_each_row(monkeypatch):
    asked = []
    original = Record.reading
    monkeypatch.setattr(Record, "reading", lambda row, name: asked.append(name) or original(row, name))
    rows = [record(module(f"m{n}"), *live(1.0)) for n in range(100)]
    assert baselines(rows) == [None] * 100
    assert len(asked) == 100


def test_no_records_are_said(printed):
    assert printed(render([], 80), 80) == "No records.\n"
