"""The comment of a check: golden, never too long, and text of others stays text on GitHub."""

import re
from dataclasses import replace

import pytest
from gate_findings import HOSTILE, findings, hostile
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from attnbench.core.errors import UsageError
from attnbench.report.facts import visible
from attnbench.report.gate.comment import comment, marker
from attnbench.report.gate.verdict import Verdict

GITHUB = 65_536
PLAIN = {"text", "softbreak", "strong_open", "strong_close", "html_inline"}
OURS = {"<br>", "<span>", "</span>"}


def blocks(text):
    return [(token.type, token.tag) for token in MarkdownIt("commonmark").enable(["table"]).parse(text)]


def inlines(text):
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [child for token in tokens for child in token.children or ()]


def shown(text):
    """What a reader sees: the text of all inline tokens, without the blanks of no width that part what GitHub links."""
    return "\n".join(child.content for child in inlines(text) if child.type == "text").replace("\u200b", "")


def test_the_comment_is_the_golden_one(golden):
    assert comment(findings()) == golden("gate_comment.md")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_text(text):
    written = comment(hostile(text))
    assert blocks(written) == blocks(comment(hostile("plain")))
    assert {child.type for child in inlines(written)} <= PLAIN
    assert {child.content for child in inlines(written) if child.type == "html_inline"} <= OURS
    words = visible(" ".join(text.split()))
    if "$" not in words:  # it is shown in a span of its own
        assert shown(written).count(words) >= 8
    assert words in written  # in the command, to the letter


@pytest.mark.parametrize("text", ["@you", "org/repo#12", "GH-12", "https://evil.example", "www.evil.example", ":tada:"])
def test_github_links_nothing_and_calls_nobody(text):
    decoded = "\n".join(child.content for child in inlines(comment(hostile(text))))
    assert text not in decoded
    assert text in decoded.replace("\u200b", "")


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=40)
def test_any_name_leaves_the_comment_as_it_is_built(text):
    words = f"x{text}x"
    assert blocks(comment(hostile(words))) == blocks(comment(hostile("plain")))


@pytest.mark.parametrize("name", ["x", "x" * 5_000, "é" * 300, "𝕏" * 300, "@a$&<|" * 100, "\0" * 200])
@pytest.mark.parametrize("outcome", ["worse", "same", "both"])
def test_the_comment_is_never_too_long(name, outcome):
    outcomes = ("worse", "same") if outcome == "both" else (outcome,)
    rows = [Verdict("k", f"{number} {name}", name, each, 1.0, 2.0, None, f"{number} {name}", name, name)
            for each in outcomes for number in range(900)]  # fmt: skip
    judged = replace(findings(), verdicts=tuple(rows))
    written = comment(replace(judged, machine=name, noise=name, remarks=(name,) * 100, command=name, candidate=name))
    assert len(written.encode()) <= GITHUB
    assert blocks(written)[-1] in {("paragraph_close", "p"), ("fence", "code"), ("bullet_list_close", "ul")}


def test_the_worst_rows_are_kept_and_the_others_counted():
    rows = [Verdict("k", f"case {number}", "Latency", "new" if number % 2 else "worse") for number in range(4_000)]
    written = comment(replace(findings(), verdicts=tuple(rows)))
    kept = re.findall(r"\*\*(worse|new)\*\*", written)
    assert set(kept) == {"worse"}
    assert f"{4_000 - len(kept):,} more such rows are left out." in written
    assert f"**{2_000:,} worse, {2_000:,} new: the check fails.**" in written


def test_the_marker_is_the_first_line_and_tells_checks_apart():
    assert comment(findings()).startswith("<!-- attnbench-check -->\n")
    assert comment(findings(), "nightly gpu").startswith("<!-- attnbench-check: nightly gpu -->\n")
    for name in ("a-->b", "a--b", "a>b", "-", "a\nb", " a"):
        with pytest.raises(UsageError, match="cannot name a check"):
            marker(name)


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, "the check fails."),
        ({"warn_only": True}, "the check fails, but only warns."),
        ({"fail_on": {"missing"}, "verdicts": (Verdict("k", "c", "MACs", "changed"),)},
         "1 changed: the check passes, for it fails on missing alone."),
        ({"verdicts": (Verdict("k", "c", "", "new"),)}, "1 new: the check cannot judge, for nothing was compared."),
        ({"verdicts": ()}, "Nothing was compared: the check cannot judge."),
        ({"verdicts": (Verdict("k", "c", "Latency", "same"),)}, "1 reading the same: the check passes."),
    ],
)  # fmt: skip
def test_the_headline_says_what_the_findings_mean(fields, end):
    judged = replace(findings(), **fields)
    assert judged.headline.endswith(end)
    assert (judged.code == 1) == ("fails." in end)
    assert judged.headline in shown(comment(judged))
