"""Bad input to a check: exit code 2, one sentence, and a repository that is left as it was."""

from pathlib import Path

import pytest
from check_repository import ONE, SHAPE, SMALL, Slower, git

BAD: list[tuple[list[str], str]] = [
    (["--base", "nowhere", *ONE], "there is no revision 'nowhere' in "),
    (["--base", "--help", *ONE], "'--help' names no revision"),
    (["--base", "...", *ONE], "'...' names no revision"),
    (["--base", "", *ONE], "check needs something to compare with"),
    (["--base", "HEAD"], "nothing is asked: give --module, --network or --suite"),
    ([*ONE], "check needs something to compare with: --base REF"),
    (["--base", "HEAD", "old.jsonl", *ONE], "--base HEAD and old.jsonl exclude each other"),
    (["--base", "HEAD", "-m", "gone.py:Small", *SHAPE], "the file gone.py does not exist"),
    (["--base", "HEAD", "--suite", "suite.toml", *SHAPE], "suite"),
    (["--base", "HEAD", "-m", "small.py:Smal", *SHAPE], "small.py has no 'Smal'. Did you mean 'Small'?"),
    (["--base", "HEAD", "-m", "self_atn"], "Did you mean 'self_attn'?"),
    (["--base", "HEAD", "--suite", "gone.toml"], "gone.toml"),
    (["--base", "HEAD", *ONE, "--fail-on", "wors"], "--fail-on cannot name 'wors'. Did you mean 'worse'?"),
    (["--base", "HEAD", *ONE, "--fail-on", ","], "--fail-on names nothing to fail on"),
    (["--base", "HEAD", *ONE, "--threshold", "much"], "--threshold 'much' is no fraction"),
    (["--base", "HEAD", *ONE, "--threshold", "-5%"], "--threshold -5% is out of range"),
    (["--base", "HEAD", *ONE, "--threshold", "0"], "--threshold 0 is out of range"),
    (["--base", "HEAD", *ONE, "--threshold", "nan"], "--threshold nan is out of range"),
    (["--base", "HEAD", *ONE, "--margin", "6%"], "--margin 6% is not smaller than --threshold 5%"),
    (["--base", "HEAD", *ONE, "--threshold", "0.5%"], "--margin 0.8% (the default) is not smaller than --threshold"),
    (["--base", "HEAD", *ONE, "--margin", "x"], "--margin 'x' is no fraction"),
    (["--base", "HEAD", *ONE, "--max-time", "0"], "--max-time 0 is out of range"),
    (["--base", "HEAD", *ONE, "--max-time", "nan"], "--max-time"),
    (["--base", "HEAD", *ONE, "--timeout", "-1"], "--timeout -1 is out of range"),
    (["--base", "HEAD", *ONE, "--threads", "0"], "--threads 0 is out of range"),
    (["--base", "HEAD", *ONE, "--device", "tpu"], "--device 'tpu' is unknown"),
    (["--base", "HEAD", *ONE, "-o", "check.pdf"], "let its name end in one of .md, .json, .xml"),
    (["--base", "HEAD", *ONE, "-o", "check"], "let its name end in one of .md, .json, .xml"),
    (["--base", "HEAD", *ONE, "-o", ".git/config/check.md"], "cannot write"),
    (["--base", "HEAD", *ONE, "--format", "jsn"], "unknown format 'jsn'. Did you mean 'json'?"),
    (["old.jsonl", "new.jsonl"], "old.jsonl"),
    (["old.jsonl", "new.jsonl", "--base", "HEAD"], "two files of records are compared as they are, and --base would"),
    (["old.jsonl", "new.jsonl", *ONE], "and --module would be measured: give the one or the other"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_asked(cli, slower: Slower, words: list[str], sentence: str) -> None:
    code, out, err = cli("check", "--quiet", *words)
    assert code == 2
    assert sentence in " ".join(err.split())
    assert out == "" and "Traceback" not in err
    assert git("status", "--porcelain") == ""


def test_without_a_repository(cli, no_surroundings: None) -> None:
    Path("small.py").write_text(SMALL)
    code, _, err = cli("check", "--base", "HEAD", *ONE)
    assert code == 2
    assert "is in no git repository" in " ".join(err.split())
