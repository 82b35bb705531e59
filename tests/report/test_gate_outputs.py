"""A check as JUnit XML, as JSON and as text: golden, read back by parsers of others, with any name in it."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gate_findings import HOSTILE, findings, hostile
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.core.errors import UsageError
from attnbench.report.compare import Ratio
from attnbench.report.gate.as_json import as_json
from attnbench.report.gate.junit import junit
from attnbench.report.gate.outputs import FORMATS, as_text, check_outputs, write
from attnbench.report.gate.screen import render_judged
from attnbench.report.gate.verdict import Verdict

GOLDEN = {"table": "gate_check.txt", "markdown": "gate_comment.md", "json": "gate.json", "junit": "gate.xml"}


def parsed(judged):
    """The suite, through expat: a file that is not well-formed is refused."""
    return ElementTree.fromstring(junit(judged).encode()).find("testsuite")


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_each_format_is_the_golden_one(each, golden):
    assert as_text(findings(), each.name) == golden(GOLDEN[each.name])


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_a_format_is_written_by_the_ending_of_the_file(each, tmp_path):
    if each.ending:
        path = tmp_path / "new" / f"check{each.ending.upper()}"
        check_outputs([path])
        assert not path.exists()
        write(findings(), path)
        assert path.read_text(encoding="utf-8") == as_text(findings(), each.name)


@pytest.mark.parametrize("name", ["check.txt", "check", "check.jsonl"])
def test_another_ending_is_refused_before_anything_is_measured(name):
    with pytest.raises(UsageError, match=r"\.md, \.json, \.xml"):
        check_outputs([Path(name)])


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        check_outputs([tmp_path / "folder.md"])


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'junit'"):
        as_text(findings(), "juint")


def test_junit_fails_where_the_check_fails_and_counts_what_it_holds():
    suite = parsed(findings())
    tests = suite.findall("testcase")
    assert len(tests) == len(findings().verdicts) == int(suite.get("tests"))
    failures = [test.find("failure").get("type") for test in tests if test.find("failure") is not None]
    assert Counter(failures) == {"worse": 2, "changed": 2, "missing": 1}
    skipped = [test.find("skipped").get("message") for test in tests if test.find("skipped") is not None]
    assert [message.split(":")[0] for message in skipped] == ["Latency undecided", "Case new"]
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("5", "0", "2")


@pytest.mark.parametrize(
    ("fields", "failures", "skipped"),
    [({"warn_only": True}, 0, 7), ({"fail_on": {"undecided"}}, 1, 6), ({"fail_on": {"worse"}}, 2, 5)],
)
def test_junit_follows_what_the_check_fails_on(fields, failures, skipped):
    suite = parsed(findings(**fields))
    assert (len(suite.findall(".//failure")), len(suite.findall(".//skipped"))) == (failures, skipped)


def test_junit_that_nothing_was_compared_is_an_error():
    assert parsed(replace(findings(), verdicts=())).find("testcase/error") is not None
    assert parsed(replace(findings(), verdicts=(), warn_only=True)).find("testcase/error") is None


def test_junit_gives_no_two_tests_one_name():
    twice = (Verdict("k", "case", "Latency", "same"), Verdict("k", "case", "Latency", "worse"))
    assert [test.get("name") for test in parsed(replace(findings(), verdicts=twice)).findall("testcase")] == [
        "Latency", "Latency (2)"]  # fmt: skip


@pytest.mark.parametrize("text", [*HOSTILE, "\x0b", "\ufffe", "tab\tend"])
def test_junit_is_well_formed_and_keeps_the_text(text):
    first = parsed(hostile(text)).find("testcase")
    forbidden = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd")
    assert first.get("classname") == text.translate(forbidden)


@given(st.text(st.characters(), max_size=30))
@settings(deadline=None, max_examples=60)
def test_junit_and_json_bear_any_text(text):
    parsed(hostile(text))
    assert json.loads(as_json(hostile(text)))["verdicts"][0]["case"] == text


def test_json_keeps_every_figure_and_knows_no_nan():
    ratio = Ratio(0.1 + 0.2, 1e-300, math.inf)
    odd = Verdict("k", "c", "Latency", "worse", math.nan, math.inf, ratio, launches=(1 / 3, math.nan))

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    told = json.loads(as_json(replace(findings(), verdicts=(odd,))), parse_constant=refuse)["verdicts"][0]
    assert told["ratio"] == {"value": 0.1 + 0.2, "low": 1e-300, "high": None}
    assert (told["baseline"], told["candidate"], told["launches"]) == (None, None, [1 / 3, None])


@pytest.mark.parametrize("verdicts", [(), findings().verdicts])
def test_json_says_what_the_check_says(verdicts):
    judged = replace(findings(), verdicts=verdicts)
    told = json.loads(as_json(judged))
    assert (told["schema"], told["code"], told["headline"]) == (1, judged.code, judged.headline)
    assert sum(told["counts"].values()) == len(told["verdicts"]) == len(verdicts)
    assert [row["case"] for row in told["verdicts"] if row["fails"]] == [
        found.case for found in verdicts if judged.fails(found)]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("text", ["\x1b[31mred\x00\u202e", "[red]x", "a very long name of something " * 9])
def test_the_terminal_shows_any_text_within_its_width(text, width, printed):
    shown = printed(render_judged(hostile(text), width), width)
    assert max(map(len, shown.split("\n"))) <= width
    assert "\x1b" not in shown
    assert "…" not in shown
    assert ("[red]" in shown) == ("[red]" in text)
