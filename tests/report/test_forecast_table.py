"""What a run would take, as a table: nothing cut off at any width, every verdict in words, totals in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import module, network, record
from rich.cells import cell_len

from attnbench.core.case import Case
from attnbench.core.fit import PEAK
from attnbench.core.forecast import Forecast, Outlook
from attnbench.core.record import Note, Reading, Record
from attnbench.core.units import GIB, MIB
from attnbench.report.forecast_table import render_outlook, totals

Printed = Callable[[Any, int], str]

LIMIT = 20 * GIB
FREE = "95 % of what is free"


def at(case: Case, peak: int | None = MIB, **fields: Any) -> Record:
    readings = [] if peak is None else [Reading(PEAK, peak, "bytes", "same", "Predicted peak")]
    return record(case, *readings, **fields)


def of(found: Record, least: float | None = 0.5, seconds: float | None = 3.1, **fields: Any) -> Forecast:
    return Forecast(found, **{"limit": LIMIT, "limited_by": FREE, "start": 2.0, **fields}, least_ms=least,
                    seconds=seconds)  # fmt: skip


FITS = of(at(module(side=32), 9 * MIB))
TOO_LARGE = of(at(module(side=512), 512 * GIB), 26_487.0, 0.04)
UNKNOWN = of(at(module("own.py:Looks"), None, notes=(Note("forecast", "its peak cannot be predicted: it looks"),)))
REFUSED = of(at(module("swin", side=31), None, status="unsupported", reason="31 is odd"), None, 0.01)
STORED = of(at(module("se", side=32), MIB, notes=(Note("imprecise", "imprecise: a doubt of before"),)), stored=True,
            seconds=0.0)  # fmt: skip
ALL = Outlook([FITS, TOO_LARGE, UNKNOWN, REFUSED, STORED], 7)


def row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.split("\n") if line.startswith(name))


def test_each_verdict_in_words(printed: Printed) -> None:
    text = printed(render_outlook(ALL, 80, store=Path("r.jsonl")), 80)
    lines = [line.split() for line in text.split("\n")]
    assert ["self_attn", "32x32", "9.000", "yes", "0.500", "3.1"] in lines
    assert ["self_attn", "512x512", "524,288", "no", "26,487", "0.040"] in lines
    assert ["own.py:Looks", "¹", "16x16", "–", "cannot", "tell", "0.500", "3.1"] in lines
    assert ["swin", "²", "31x31", "–", "unsupported", "–", "0.010"] in lines
    assert ["se", "32x32", "1.000", "stored", "0.500", "–"] in lines
    assert "imprecise" not in text  # is about what was measured
    assert "it looks" in text
    assert "31 is odd" in text


def test_what_all_rows_share_stands_above_and_the_totals_below(printed: Printed) -> None:
    text = printed(render_outlook(ALL, 80, store=Path("r.jsonl")), 80)
    above = " ".join(text.split("\n")[:2])
    assert f"memory 20.0 GiB ({FREE})" in above
    assert "Nothing was run." in above
    below = " ".join(text.split("\n\n")[-1].split())
    assert below == (
        f"5 cases, about 8 s; 1 will not fit into 20.0 GiB ({FREE}); 1 may fit or not, which cannot be told; 1 will "
        "not run; 1 is in r.jsonl already; 2 are not looked at."
    )


@pytest.mark.parametrize(
    ("outlook", "sentence"),
    [
        (Outlook([FITS], 1), "1 case, about 5 s."),
        (Outlook([FITS] * 4, 4, lanes=2), "4 cases, about 8 s on 2 workers side by side."),
        (Outlook([STORED] * 2, 2), "2 cases, nothing left to measure; 2 are in the file already."),
        (Outlook([], 3), "No case was looked at; 3 are not looked at."),
        (Outlook([of(at(module()), seconds=None)], 1), "1 case, about 2 s."),
        (Outlook([FITS] * 10_000, 10_000), "10,000 cases, about 8 h 40 min."),
    ],
)
def test_the_totals(outlook: Outlook, sentence: str) -> None:
    assert totals(outlook) == sentence


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 s"), (89.4, "89 s"), (90, "2 min"), (5_399, "90 min"), (5_400, "1 h 30 min"), (7_200, "2 h"),
     (85_800, "23 h 50 min"), (86_399, "1 d"), (100_000, "1 d 4 h")],
)  # fmt: skip
def test_times_as_people_say_them(seconds: float, told: str) -> None:
    assert totals(Outlook([of(at(module()), seconds=seconds, start=0.0)], 1)) == f"1 case, about {told}."


def test_limits_that_differ_are_told_as_a_range(printed: Printed) -> None:
    other = of(at(module("se")), limit=60 * GIB, limited_by="free")
    text = " ".join(printed(render_outlook(Outlook([FITS, other], 2), 120), 120).split())
    assert f"memory 20.0 GiB to 60.0 GiB ({FREE}, free)" in text


def test_where_nothing_runs_no_limit_and_no_bound_is_told(printed: Printed) -> None:
    counted = of(at(module()), None, 0.05, live=False, limit=None, limited_by="")
    text = printed(render_outlook(Outlook([counted], 1), 80), 80)
    assert "Fits" not in text
    assert "At least" not in text
    assert "memory sets no limit" in " ".join(text.split())


def test_facts_that_vary_are_columns(printed: Printed) -> None:
    rows = [of(at(module(mode=mode, batch_size=batch))) for mode in ("fwd", "train") for batch in (1, 8)]
    text = printed(render_outlook(Outlook(rows, 4), 80), 80)
    assert row(text, "Module") == ["Module", "Size", "Batch", "Mode", "(MiB)", "Fits", "(ms)", "(s)"]
    assert "dim 64" in text


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda name, side, batch, peak, verdict: of(
                at(module(name, side, batch_size=batch), peak, status=verdict, reason="why" * (verdict != "ok"))
            ),
            st.text(max_size=60),
            st.integers(1, 10**6),
            st.integers(1, 10**6),
            st.integers(0, 2**60) | st.none(),
            st.sampled_from(["ok", "unsupported", "crashed"]),
        ),
        max_size=6,
    ),
    st.integers(70, 200),
)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut_off(rows: list[Forecast], width: int) -> None:
    import io

    from rich.console import Console

    file = io.StringIO()
    Console(width=width, file=file, force_terminal=False).print(render_outlook(Outlook(rows, len(rows)), width))
    text = file.getvalue()
    assert all(cell_len(line) <= width for line in text.split("\n"))
    assert "…" not in text.replace("".join(each.record.case.name for each in rows), "") or any(
        "…" in each.record.case.name for each in rows
    )


def test_as_json(printed: Printed) -> None:
    data = json.loads(json.dumps(ALL.to_dict()))
    assert [each["verdict"] for each in data["cases"]] == ["fits", "too_large", "unknown", "refused", "stored"]
    assert data["planned"] == 7
    assert data["cases"][1]["predicted_peak_bytes"] == 512 * GIB
    assert data["cases"][1]["limit_bytes"] == LIMIT
    assert data["seconds"] == pytest.approx(2 + 3.1 + 0.04 + 3.1 + 0.01)


def test_a_network(printed: Printed) -> None:
    text = printed(render_outlook(Outlook([of(at(network(insert="se"), 600 * MIB))], 1), 80), 80)
    assert row(text, "vgg16+se") == ["vgg16+se", "256x256", "600.0", "yes", "0.500", "3.1"]
