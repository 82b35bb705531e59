"""`--device cuda` on a machine without CUDA: what is counted and predicted is, what must be measured is refused."""

import json
from pathlib import Path

import pytest
import torch
from command_line import Cli

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without CUDA")


def test_static_figures_are_told_for_a_device_that_is_not_here(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", "-m", "self_attn,sdpa", "--device", "cuda", "--metrics", "static", "--res", "16", "--dtype",
                 "bf16", "-o", "out.jsonl", "--no-isolate")  # fmt: skip
    assert (result.code, result.err) == (0, "") or "Traceback" not in result.err
    assert result.code == 0
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "ok"]
    for record in records:
        assert record["static"]["predicted_peak_bytes"] > 0
        assert record["env"]["device_name"] == "cuda (not here)"
        assert any("not here" in note["text"] for note in record["notes"])
    assert any("flash" in note["text"] for note in records[1]["notes"])


def test_what_must_run_is_refused_with_the_way_out(cli: Cli) -> None:
    result = cli("run", "-m", "se", "--device", "cuda", "--res", "8", "--no-isolate")
    assert result.code == 2
    assert "--metrics static" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_the_audit_needs_no_device_until_it_measures(cli: Cli) -> None:
    result = cli("audit", "self_attn", "--device", "cuda", "--no-isolate", "--format", "json")
    assert result.code == 0
    assert json.loads(result.out)[0]["found"] == "N^2"
    refused = cli("audit", "self_attn", "--device", "cuda", "--no-isolate", "--measure")
    assert refused.code == 2
    assert "cuda" in refused.err
