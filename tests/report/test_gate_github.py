"""Annotations that GitHub reads back as they were meant, and the summary of a step."""

import re
from dataclasses import replace

import pytest
from gate_findings import HOSTILE, findings, hostile

from attnbench.report.facts import visible
from attnbench.report.gate.comment import comment
from attnbench.report.gate.github import annotations, write_summary
from attnbench.report.gate.verdict import Verdict

COMMAND = re.compile(r"::(?P<kind>error|warning) (?P<properties>[^:\r\n]*)::(?P<data>[^\r\n]*)")


def read(line):
    """A workflow command as the runner reads it: split at `,` and `=` first, and unescaped after."""
    found = COMMAND.fullmatch(line)
    assert found, line
    properties = dict(each.split("=", 1) for each in found["properties"].split(","))
    return found["kind"], {name: unescaped(value) for name, value in properties.items()}, unescaped(found["data"])


def unescaped(text):
    for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def cases(outcome, count):
    return tuple(Verdict("k", f"case {number}", "Latency", outcome, reason="why") for number in range(count))


def test_the_annotations_are_the_golden_ones(golden):
    assert "\n".join(annotations(findings())) + "\n" == golden("gate_annotations.txt")


def test_a_case_is_annotated_once_where_its_code_is():
    kind, properties, message = read(annotations(findings())[1])
    assert (kind, properties) == (
        "error", {"file": "models/attention.py", "line": "12", "title": "linear_attn 64x64: worse"})  # fmt: skip
    assert message.startswith("Latency worse: 2.600 ms, was 2.149 ms, +21 % (+20 to +22)\nAgain: attnbench run")
    both = [read(line)[2] for line in annotations(findings()) if "linear_attn 32x32" in line]
    assert len(both) == 1
    assert both[0].startswith("MACs changed: 20,971,521, was 20,971,520, +0.0 %\nFLOPs changed:")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_read_back(text):
    (line,) = annotations(hostile(text))
    kind, properties, message = read(line)
    assert kind == "error"
    assert properties == {"file": visible(text), "line": "3", "title": f"{visible(text)}: worse"}
    assert message.endswith(f"Again: {visible(text)}")


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [({}, ["error"] * 4 + ["warning"]), ({"warn_only": True}, ["warning"] * 5),
     ({"fail_on": {"undecided"}}, ["error"] + ["warning"] * 4)],
)  # fmt: skip
def test_what_fails_is_an_error_and_what_might_a_warning(fields, kinds):
    assert [read(line)[0] for line in annotations(findings(**fields))] == kinds


def test_what_is_better_new_or_the_same_is_no_annotation():
    found = cases("better", 2) + cases("new", 2) + cases("same", 2)
    assert annotations(replace(findings(), verdicts=found)) == []


@pytest.mark.parametrize(("count", "end"), [(10, "why"), (11, "1 more case with errors: "), (13, "3 more cases with ")])
def test_ten_of_a_kind_are_shown_and_the_tenth_counts_the_others(count, end):
    read_back = [read(line) for line in annotations(replace(findings(), verdicts=cases("worse", count)))]
    assert len(read_back) == 10
    assert end in read_back[-1][2]
    assert not any("more case" in message for _, _, message in read_back[:-1])


def test_a_long_message_leaves_room_for_the_count():
    long = tuple(replace(found, reason="x" * 9_000) for found in cases("worse", 12))
    message = read(annotations(replace(findings(), verdicts=long))[-1])[2]
    assert "2 more cases" in message
    assert len(message) < 4_096  # the runner cuts there


def test_the_summary_is_appended_where_github_asks_for_it(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n\n")
    assert write_summary(findings(), {"GITHUB_STEP_SUMMARY": str(path)}) is None
    assert path.read_text(encoding="utf-8") == f"before\n\n{comment(findings())}\n"


def test_without_github_there_is_no_summary():
    assert write_summary(findings(), {}) is None


def test_a_summary_that_is_full_stays_as_it_is(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("x" * (1_048_576 - 100))
    assert "is full" in write_summary(findings(), {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size == 1_048_576 - 100


@pytest.mark.parametrize("name", ["", "no/such/folder/summary.md", "nul\0"])
def test_a_summary_that_cannot_be_written_is_a_sentence(name, tmp_path):
    why = write_summary(findings(), {"GITHUB_STEP_SUMMARY": f"{tmp_path}/{name}"})
    assert why.startswith("cannot write the step's summary ")
