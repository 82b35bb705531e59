"""The exporters: golden texts, round trips, and what a hostile name must not do to a file."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_records import live, module, networks, record, static, sweep, troubled

from attnbench.core.errors import UsageError
from attnbench.core.record import Note, Reading
from attnbench.core.store import Store, load
from attnbench.report.exporters import EXPORTERS, check_writable, export
from attnbench.report.frame import to_frame, to_grid


@pytest.mark.parametrize("rows", [sweep, networks, troubled])
@pytest.mark.parametrize("ending", ["md", "csv"])
def test_the_file_is_the_golden_one(rows, ending, tmp_path, golden):
    path = tmp_path / f"table.{ending}"
    export(rows(), path)
    assert path.read_text(encoding="utf-8") == golden(f"{rows.__name__}.{ending}")


@given(
    st.lists(
        st.builds(
            lambda name, value, note, status: record(
                module(name), *live(value), status=status, notes=(Note("odd", note),), reason=note
            ),
            st.text(max_size=12),
            st.floats(1e-3, 1e6),
            st.text(max_size=12),
            st.sampled_from(["ok", "oom"]),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jsonl_is_read_back_as_it_was(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    export(rows, path)
    assert load(path).records == tuple(rows)
    assert load(path).set_aside == ()


@pytest.mark.parametrize("write", [lambda rows, path: export(rows, path),
                                   lambda rows, path: [Store(path).append(row) for row in rows]])  # fmt: skip
def test_a_name_that_is_no_unicode_survives(write, tmp_path):
    rows = [record(module("caf\udce9.py:Attn"), *live(1.0))]
    write(rows, tmp_path / "rows.jsonl")
    assert load(tmp_path / "rows.jsonl").records == tuple(rows)


def test_json_is_an_array_of_the_same_records():
    assert json.loads(EXPORTERS["json"](troubled())) == [row.to_dict() for row in troubled()]


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "＝1"])
def test_a_spreadsheet_runs_no_name(name):
    rows = csv.reader(io.StringIO(EXPORTERS["csv"]([record(module(name), Reading("x.y", -1.5, title="Shift"))])))
    headings, cells = rows
    assert cells[0] == f"'{name}"
    assert cells[headings.index("Shift")] == "-1.5"


def test_csv_holds_plain_numbers_and_nothing_for_what_is_missing():
    headings, *rows = csv.reader(io.StringIO(EXPORTERS["csv"](troubled())))
    crashed = dict(zip(headings, rows[-1], strict=True))
    assert crashed["Status"] == "crashed" and crashed["Latency (ms)"] == crashed["Params"] == ""
    assert dict(zip(headings, rows[0], strict=True))["Params"] == "16640"


@pytest.mark.parametrize(
    ("name", "cell"),
    [("a|b", "a\\|b"), ("<script>", "&lt;script&gt;"), ("two\nlines", "two\\\\nlines"),
     ("__init__", "\\_\\_init\\_\\_"),
     ("self_attn", "self_attn"), ("[red]x[/red]", "\\[red\\]x\\[/red\\]"), ("*a*", "\\*a\\*")],
)  # fmt: skip
def test_markdown_takes_names_literally(name, cell):
    lines = EXPORTERS["md"]([record(module(name), *static(1, 1))]).split("\n")
    assert lines[4].startswith(f"| {cell} ")
    assert len({line.replace("\\|", "").count("|") for line in lines[2:5]}) == 1


@pytest.mark.parametrize("ending", ["md", "csv", "json", "jsonl"])
def test_no_records_make_a_file_all_the_same(ending, tmp_path):
    export([], tmp_path / f"none.{ending}")
    assert (tmp_path / f"none.{ending}").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("table.csvv", "Did you mean 'csv'"), ("table.xlsx", "Known: csv, json, jsonl, md"), ("table", "end in one of"),
     ("folder.md", "it is a folder"), ("file.md/table.md", "Not a directory|File exists"),
     ("nul\0.md", "cannot write")],
)  # fmt: skip
@pytest.mark.parametrize("attempt", [check_writable, lambda path: export(sweep(), path)])
def test_a_place_that_cannot_be_written_is_a_usage_error(name, said, attempt, tmp_path):
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "file.md").write_text("kept")
    with pytest.raises(UsageError, match=said):
        attempt(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.md", "folder.md"]


def test_checking_makes_folders_but_no_file(tmp_path):
    check_writable(tmp_path / "new" / "table.md")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_old_file_stays_whole_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "table.md"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        export(sweep(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["table.md"]
    assert path.read_text() == "old"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to(tmp_path / "real.md")
    export(sweep(), tmp_path / "link.md")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text().startswith("cpu")


def test_a_link_to_a_pipe_or_device_writes_into_it_and_leaves_it_there(tmp_path):
    """Replaced by a file of its name, as root could do to what is in /dev, it would be gone for everybody."""
    pipe, link = tmp_path / "pipe", tmp_path / "link.md"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    check_writable(link)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    export(sweep(), link)
    assert pipe.is_fifo()
    assert reader.communicate(timeout=30)[0] == EXPORTERS["md"](sweep(), None)
    assert {each.name for each in tmp_path.iterdir()} == {"pipe", "link.md"}


def test_an_export_format_is_registered_once():
    with pytest.raises(ValueError, match="registered twice"):
        EXPORTERS.register("md")(lambda records: "")


def test_the_frame_has_numbers_in_the_units_of_its_headings():
    frame = to_frame(sweep())
    assert frame.shape == (9, len(to_grid(sweep())[0]))
    first = frame.iloc[0]
    assert first["Latency (ms)"] == 0.4123
    assert first["Peak memory (MiB)"] == 1.375
    assert first["MACs (GMAC)"] == 0.012582912
    assert first["Latency low (ms)"] < first["Latency (ms)"] < first["Latency high (ms)"]
    assert "latency.p95_ms" not in " ".join(frame.columns) and "p95" not in " ".join(frame.columns)


def test_equal_titles_are_told_apart():
    twice = [Reading("a.x", 1, "ms", title="Time"), Reading("b.x", 2, "ms", title="Time")]
    headings = to_grid([record(module(), *twice)])[0]
    assert headings[-2:] == ["Time (ms) [a.x]", "Time (ms) [b.x]"]


def test_importing_the_wing_costs_nothing():
    heavy = ("torch", "pandas", "numpy", "rich", "tabulate")
    code = ("import sys, attnbench.report.exporters, attnbench.report.gate.screen as _;"
            f"print([name for name in {heavy} if name in sys.modules])")  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "[]\n"
