"""Code as it stands in blog posts runs as it is: no flag but --set for an argument that no shape tells."""

import json
from pathlib import Path

import pytest

FILE = str(Path(__file__).with_name("blog_post.py"))


@pytest.mark.parametrize(
    ("name", "words", "built", "layout"),
    [
        ("SelfAttn", ["--set", "activation=relu"], "in_dim=64, activation='relu'", "bchw"),
        ("ScaledDotProductAttention", [], "d_model=64, d_k=64, d_v=64, h=1", "qkv"),
        ("ScaledDotProductAttention", ["--heads", "4"], "d_model=64, d_k=16, d_v=16, h=4", "qkv"),
        ("FixedLength", [], "d_model=64, n=54", "bnc"),
        ("PooledHeads", ["--heads", "2"], "d_model=64, d_k=32, d_v=32, h=2, H=6, W=9", "qkv"),
    ],
)
def test_it_runs_without_a_flag_beyond_set(cli, name: str, words: list[str], built: str, layout: str) -> None:
    code, out, err = cli("run", "-m", f"{FILE}:{name}", "--res", "6x9", *words, "--max-time", "0.02", "--no-isolate",
                         "-o", "out.jsonl", "--quiet")  # fmt: skip
    assert code == 0, err
    assert name in out
    record = json.loads(Path("out.jsonl").read_text())
    assert record["status"] == "ok", record["reason"]
    assert record["case"]["layout"] == layout
    assert any(f"built as blog_post.py:{name}({built})" in note["text"] for note in record["notes"]), record["notes"]
    assert record["static"]["macs"] > 0
    assert record["static"]["uncounted_ops"] == {}


def test_an_argument_that_no_shape_tells_is_asked_for(cli) -> None:
    code, _, err = cli("run", "-m", f"{FILE}:SelfAttn", "--res", "6x9", "--no-isolate")
    assert code == 2
    assert "SelfAttn needs 'activation', which the shape does not tell: add --set activation=VALUE." in err


def test_the_published_claim_is_audited_as_any(cli) -> None:
    code, out, err = cli("audit", f"{FILE}:SelfAttn", "--set", "activation=relu", "--claim", "O(N)", "--no-isolate")
    assert code == 0, err
    assert "refuted" in out
