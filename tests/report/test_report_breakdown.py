"""Where the MACs are, as a tree: sums that can be read off, nothing cut off at any width."""

from collections.abc import Callable
from typing import Any

import pytest
from report_records import module, network, record

from attnbench.core.errors import CannotJudgeError
from attnbench.core.record import Note, Reading, Record
from attnbench.report.breakdown import module_tree, operator_tree, render_breakdowns

Printed = Callable[[Any, int], str]

# A network of two stages; the second attends: 4 projections of 100 and 500 of its own, and a norm without MACs.
BY_MODULE = {
    "": 10_000,
    "stem": 2_000,
    "stages.0": 6_100,
    "stages.0.attention": 900,
    "stages.0.attention.query": 100,
    "stages.0.attention.key": 100,
    "stages.0.attention.value": 100,
    "stages.0.attention.out": 100,
    "stages.0.mlp": 5_200,
    "stages.0.norm": 0,
    "head": 1_000,
}
BY_OP = {"linear": 400, "convolution": 9_000, "matmul": 600, "embedding": 0}
COUNTERS = {"dispatch": 10_000, "fvcore": 10_000, "torch": 10_000, "formula": None}


def counted(case: Any = None, *more: Reading, notes: tuple[Note, ...] = (), **fields: Any) -> Record:
    values = {"macs": 10_000, "macs_by_module": BY_MODULE, "macs_by_op": BY_OP, "counters": COUNTERS, "verified": True}
    readings = [Reading(f"static.{name}", value) for name, value in {**values, **fields}.items() if value is not None]
    return record(case or network(), *readings, *more, notes=notes)


def rows(text: str) -> dict[str, list[str]]:
    """The first word of each line, without its guides, and the words after it."""
    words = [line.replace("│", " ").replace("├─", " ").replace("└─", " ").split() for line in text.splitlines()]
    return {line[0]: line[1:] for line in words if line}


def test_modules_are_a_tree_in_their_own_order(printed: Printed) -> None:
    text = printed(render_breakdowns([counted()], "module", 80), 80)
    assert [line.rstrip() for line in text.splitlines()[2:17]] == [
        "Module                           MACs    Share",
        "────────────────────────────────────────────────────────────────────",
        "vgg16 256x256                  10,000  100.0 %  ████████████████████",
        "├─ stem                         2,000   20.0 %  ████",
        "├─ stages.0                     6,100   61.0 %  ████████████",
        "│  ├─ attention                   900    9.0 %  ██",
        "│  │  ├─ query                    100    1.0 %",
        "│  │  ├─ key                      100    1.0 %",
        "│  │  ├─ value                    100    1.0 %",
        "│  │  ├─ out                      100    1.0 %",
        "│  │  └─ (own)                    500    5.0 %  █",
        "│  ├─ mlp                       5,200   52.0 %  ██████████",
        "│  └─ (1 module without MACs)       0    0.0 %",
        "├─ head                         1,000   10.0 %  ██",
        "└─ (own)                          900    9.0 %  ██",  # 10,000 - 2,000 - 6,100 - 1,000
    ]
    assert "Verified: dispatch, fvcore, torch all count 10,000; no figure from formula." in text


def test_operators_are_sorted_by_their_macs(printed: Printed) -> None:
    text = printed(render_breakdowns([counted()], "op", 80), 80)
    names = [name for name in rows(text) if name in BY_OP]
    assert names == ["convolution", "matmul", "linear"]
    assert rows(text)["convolution"][:3] == ["9,000", "90.0", "%"]
    assert "(1 operator without MACs)" in text


def test_what_is_no_contraction_stands_under_the_operators(printed: Printed) -> None:
    whole = counted(elementwise=1_234, reductions=56, fft_flops=0, useful_macs=9_700, backward_macs=20_000,
                    recomputed_macs=300, uncounted_ops={"aten.mystery": 3}, verified=False)  # fmt: skip
    text = printed(render_breakdowns([whole], "op", 120), 120)
    figures = {line.rpartition("  ")[0].strip(): line.split()[-1] for line in text.splitlines() if line.strip()}
    assert figures["Elementwise operations"] == "1,234"
    assert figures["Reductions (elements read)"] == "56"
    assert figures["Backward MACs"] == "20,000"
    assert figures["Recomputed in the backward (MACs)"] == "300"
    assert figures["Useful MACs (without what a causal mask discards)"] == "9,700"
    assert "FFT" not in text  # there is none
    assert "MACs are a lower bound: not counted are aten.mystery (3x)" in text
    assert "Not verified: dispatch 10,000, fvcore 10,000, torch 10,000; no figure from formula." in text


def test_a_doubt_that_the_record_holds_is_said_once(printed: Printed) -> None:
    note = Note("uncounted", "MACs are a lower bound: not counted are aten.mystery (3x)")
    whole = counted(uncounted_ops={"aten.mystery": 3}, notes=(note,))
    assert printed(render_breakdowns([whole], "module", 120), 120).count("aten.mystery") == 1


def test_counters_that_differ_are_told_apart(printed: Printed) -> None:
    """A counter that knows only some kernels is not said to agree with the whole, verified or not."""
    text = printed(render_breakdowns([counted(counters={"dispatch": 10_000, "torch": 9_000})], "op", 120), 120)
    assert "Verified: dispatch 10,000, torch 9,000." in text


@pytest.mark.parametrize(("depth", "hidden"), [(1, 7), (2, 4), (3, 0)])
def test_a_depth_leaves_out_what_lies_deeper_and_says_how_much(printed: Printed, depth: int, hidden: int) -> None:
    text = printed(render_breakdowns([counted()], "module", 80, depth=depth), 80)
    assert ("attention" in rows(text)) == (depth > 1)
    assert ("query" in rows(text)) == (depth > 2)
    assert (f"{hidden} parts lie deeper than --depth {depth}." in text) == (hidden > 0)


@pytest.mark.parametrize("width", [24, 30, 40, 60, 80, 120])
@pytest.mark.parametrize("by", ["module", "op"])
def test_no_width_loses_a_name_or_a_figure(printed: Printed, by: str, width: int) -> None:
    deep = {".".join(["block"] * depth): 12_345_678_901 for depth in range(1, 8)}
    long = {"": 12_345_678_901, **deep, "a_very_long_name_of_an_attention_module_indeed": 1}
    whole = counted(macs=12_345_678_901, macs_by_module=long, macs_by_op=dict(list(long.items())[-1:]))
    text = printed(render_breakdowns([whole], by, width), width)  # type: ignore[arg-type]
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    assert "12,345,678,901" in text
    names = "".join(line.lstrip("│├└─ ").split("  ")[0].strip() for line in text.splitlines())
    assert "a_very_long_name_of_an_attention_module_indeed" in names


def test_shares_of_nothing_are_none(printed: Printed) -> None:
    text = printed(render_breakdowns([counted(macs=0, macs_by_module={})], "module", 80), 80)
    assert rows(text)["vgg16"] == ["256x256", "0", "–"]


def test_a_part_that_others_call_too_is_explained(printed: Printed) -> None:
    shared = {"": 300, "first": 100, "first.fc": 200, "second": 200}
    text = printed(render_breakdowns([counted(macs=300, macs_by_module=shared)], "module", 80), 80)
    assert "Parts of first (fc) are also called from elsewhere" in text


def test_each_record_of_a_file_has_its_tree(printed: Printed) -> None:
    both = [counted(module("self_attn", side)) for side in (16, 32)]
    text = printed(render_breakdowns(both, "op", 80), 80)
    assert text.count("Operator") == 2
    assert "self_attn 16x16" in text
    assert "self_attn 32x32" in text


def test_records_without_a_break_down_are_named_and_how_to_get_one(printed: Printed) -> None:
    old = counted(module(), macs_by_module=None)
    with pytest.raises(CannotJudgeError, match=r"no break-down by module .* self_attn: measure again with .*static"):
        render_breakdowns([old], "module", 80)
    text = printed(render_breakdowns([old, counted()], "module", 120), 120)
    assert "no break-down by module is recorded for self_attn" in text
    assert "vgg16" in text


def test_names_cannot_move_the_cursor(printed: Printed) -> None:
    evil = counted(macs_by_op={"mm\x1b[2J": 10_000})
    assert "\x1b" not in printed(render_breakdowns([evil], "op", 80), 80)


def test_trees_add_up() -> None:
    tree = module_tree("net", BY_MODULE)
    assert [part.name for part in tree.parts] == ["stem", "stages.0", "head"]
    assert tree.own == 900
    assert tree.parts[1].parts[0].own == 500
    assert [part.macs for part in operator_tree("net", 10_000, BY_OP).parts] == [9_000, 600, 400, 0]
