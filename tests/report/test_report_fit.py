"""What fits, as tables: each verdict in words, nothing cut off at any width, every column left out named."""

from collections.abc import Callable
from typing import Any

import pytest
from report_records import module, network, record

from attnbench.core.case import Case
from attnbench.core.fit import PEAK, Fit
from attnbench.core.record import Note, Reading, Record
from attnbench.core.units import GIB, MIB
from attnbench.report.fit_table import render_fits, shown_memory

Printed = Callable[[Any, int], str]

MEMORY = 80 * GIB
SCRATCH = Note("scratch", "scratch inside a kernel is not in it")


def at(case: Case, peak: int | None, status: str = "ok", reason: str = "", notes: tuple[Note, ...] = ()) -> Record:
    readings = [] if peak is None else [Reading(PEAK, peak, "bytes", "same", "Predicted peak")]
    return record(case, *readings, status=status, reason=reason, notes=notes)


def found(name: str, side: int, peak: int, beyond: int, step: int = 1, **fields: Any) -> Fit:
    case = module(name, side, **fields)
    larger = module(name, side + step, **fields)
    return Fit("size", MEMORY, case, at(case, peak), at(larger, beyond), step, 9)


QUADRATIC = found("self_attn", 321, 81_061 * MIB, 81_920 * MIB + 163_372_941)
LINEAR = found("linear_attn", 9_120, 85_899_345_000, 85_904_000_000)
NETWORK = Fit("size", MEMORY, network(), at(network().with_(height=12762, width=12762), 81_917 * MIB),
              at(network().with_(height=12763, width=12763), 81_930 * MIB), 1, 9)  # fmt: skip
BATCH = Fit("batch", MEMORY, module(side=32), at(module(side=32, batch_size=9567), 81_917 * MIB),
            at(module(side=32, batch_size=9568), 81_926 * MIB), 1, 9)  # fmt: skip


def line_of(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_quadratic_and_linear_stand_side_by_side(printed: Printed) -> None:
    text = printed(render_fits([QUADRATIC, LINEAR], 120), 120)
    assert "memory 80 GiB" in text
    assert line_of(text, "self_attn") == [
        "self_attn", "321x321", "103,041", "81,061", "99.0", "%", "322x322", "155.8", "MiB",
    ]  # fmt: skip
    # A few hundred bytes are left: that is not 100.0 %.
    assert line_of(text, "linear_attn") == [
        "linear_attn", "9120x9120", "83,174,400", "81,920", "99.9", "%", "9121x9121", "4.4", "MiB",
    ]  # fmt: skip
    assert "Predicted, not run." in text


def test_the_method_is_said_where_all_share_it(printed: Printed) -> None:
    def by(*methods: str) -> str:
        case = module(side=32)
        readings = [[Reading(PEAK, 5), Reading("static.predicted_method", method)] for method in methods]
        fits = [Fit("size", MEMORY, case, record(case, *pair), None, 1, 9) for pair in readings]
        return printed(render_fits(fits, 120), 120)

    assert "Predicted, not run: live bytes." in by("live bytes", "live bytes")
    assert "Predicted, not run." in by("live bytes", "guesses")


def test_sizes_and_batches_are_two_tables(printed: Printed) -> None:
    text = printed(render_fits([QUADRATIC, NETWORK, BATCH], 120), 120)
    sizes, batches = text.split("Largest batch")
    assert "(batch 1)" in sizes
    assert line_of(sizes, "vgg16")[:3] == ["vgg16", "12762x12762", "–"]  # a network has no tokens of its own
    assert line_of(batches, "self_attn")[1:3] == ["32x32", "9,567"]
    assert line_of(batches, "self_attn")[-3:] == ["9,568", "6.0", "MiB"]


def test_several_batches_are_told_apart(printed: Printed) -> None:
    fours = found("self_attn", 226, 81_000 * MIB, 82_000 * MIB, batch_size=4)
    text = printed(render_fits([QUADRATIC, fours], 120), 120)
    assert "Batch" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("self_attn")] == ["1", "4"]


def test_tokens_are_called_tokens(printed: Printed) -> None:
    case = module("mha", height=None, width=None, tokens=103_509)
    text = printed(render_fits([Fit("size", MEMORY, case, at(case, 81_919 * MIB), None, 1, 9)], 80), 80)
    assert "103,509 tokens" in text


LIMIT = module(side=14)
ABSENT = Fit("size", MEMORY, LIMIT, None, at(LIMIT, None, "skipped", "it looks at values"), 0, 1)


@pytest.mark.parametrize(
    ("fit", "cell", "sentence"),
    [
        (Fit("size", MEMORY, LIMIT, at(LIMIT, 5), None, 1, 9), "≥ 14x14", "nothing that was tried is too large"),
        (Fit("size", MEMORY, LIMIT, at(LIMIT, 5), None, 0, 9), "14x14", "no other size was found that it accepts"),
        (Fit("size", MEMORY, LIMIT, at(LIMIT, 5), at(module(side=15), None, "unsupported", "no: 15."), 1, 9),
         "14x14", "15x15 is refused: no: 15 ("),
        (Fit("size", MEMORY, LIMIT, at(LIMIT, 5), at(module(side=15), None, "timeout", "too slow"), 1, 9),
         "≥ 14x14", "the true answer may be larger: 15x15 cannot be predicted: too slow"),
        (Fit("size", MEMORY, LIMIT, None, at(LIMIT, MEMORY + GIB), 1, 9),
         "none", "even 14x14, the smallest size that was found, needs 81.0 GiB"),
        (ABSENT, "cannot tell", "cannot tell: 14x14 cannot be predicted: it looks at values"),
        (found("self_attn", 448, 5 * GIB, 81 * GIB, step=7), "448x448", "tried in steps of 7"),
        (Fit("batch", MEMORY, LIMIT, None, at(LIMIT, MEMORY + GIB), 1, 9),
         "none", "even batch 1, the smallest batch that was found, needs 81.0 GiB"),
    ],
)  # fmt: skip
def test_each_verdict_is_said(printed: Printed, fit: Fit, cell: str, sentence: str) -> None:
    text = printed(render_fits([fit], 200), 200)
    row = next(line for line in text.splitlines() if line.startswith("self_attn"))
    assert cell in row
    assert "¹" in row
    assert sentence in text


def test_the_notes_of_the_records_are_footnotes(printed: Printed) -> None:
    case = module(side=32)
    doubtful = Fit("size", MEMORY, case, at(case, 5, notes=(SCRATCH,)), at(case, MEMORY + 1), 1, 9)
    text = printed(render_fits([doubtful, LINEAR], 120), 120)
    assert "¹ scratch inside a kernel is not in it (self_attn 32x32)" in text


def test_memory_that_nobody_named_says_where_it_comes_from(printed: Printed) -> None:
    origin = "95 % of what is free"
    assert f"memory 80 GiB ({origin})" in printed(render_fits([LINEAR], 120, origin=origin), 120)
    assert [shown_memory(size) for size in (80 * GIB, 512 * MIB, GIB * 123 // 10)] == ["80 GiB", "512 MiB", "12.3 GiB"]


@pytest.mark.parametrize("width", [44, 60, 80, 100, 120])
def test_no_width_cuts_a_name_or_a_figure(printed: Printed, width: int) -> None:
    name = "a/long/path/of/somebody/my_attention.py:MyVeryLinearAttention"
    fits = [QUADRATIC, LINEAR, found(name, 421, 81_000 * MIB, 82_000 * MIB), BATCH]
    text = printed(render_fits(fits, width), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    for figure in ("321x321", "9120x9120", "421x421", "9,567"):
        assert figure in text
    for heading in ("Tokens", "Of memory", "Next larger", "Too much by"):
        assert heading in " ".join(text.split("\n\n")[1].split() + text.partition("Not shown")[2].split())


def test_the_answer_as_json_has_every_figure() -> None:
    data = QUADRATIC.to_dict()
    assert data["asked"] == "size"
    assert data["verdict"] == "found"
    assert data["memory_bytes"] == MEMORY
    assert data["largest"]["case"]["height"] == 321
    assert data["largest"]["predicted_peak_bytes"] == 81_061 * MIB
    assert data["beyond"]["case"]["height"] == 322
    assert ABSENT.to_dict()["largest"] is None
    assert ABSENT.to_dict()["verdict"] == "unknown"
