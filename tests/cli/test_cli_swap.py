"""--attn, --swap and --at as they are typed: what is in the record, what is asked again, and what cannot be asked."""

import json
from pathlib import Path

import pytest

HOST = Path(__file__).parents[1] / "targets" / "tiny_hosts.py"
STATIC = ("run", "--no-isolate", "--quiet", "--metrics", "static", "--img-size", "32")

BAD = [
    (["-n", "vgg16", "--swap", "linear_att"], "unknown module 'linear_att'. Did you mean 'linear_attn'?"),
    (["-n", "vgg16", "--swap", "vgg16"], "'vgg16' is a network: give it with --network"),
    (["-n", "vgg16~nothing"], "unknown module 'nothing'"),
    (["-n", "vgg16", "--swap", "linear_attn"], "vgg16 has no attention that could be swapped. Looked for in one"),
    (["-n", "vgg16", "--at", "features.2"], "--at names places in a network for an attention: add --attn or --swap."),
    (["-n", f"{HOST}:own", "--swap", "sdpa", "--attn", "se", "--at", "x"], "could mean the places of either"),
    (["-n", f"{HOST}:own", "--swap", "sdpa", "--at", "body.3"], "--at 'body.3' matches no place in"),
    (["-n", "vgg16", "--attn", "se", "--at", "features.99"], "--at 'features.99' matches no place in vgg16."),
    (["-n", f"{HOST}:own", "--swap", "sdpa", "--set", "swap.head=2"], "sdpa has no parameter 'head'."),
]


@pytest.mark.parametrize(("words", "sentence"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_asked(cli, tmp_path: Path, words: list[str], sentence: str) -> None:
    code, _, err = cli(*STATIC, *words, "-o", str(tmp_path / "records.jsonl"))
    assert code == 2
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


def test_swap_needs_a_network(cli) -> None:
    code, _, err = cli("run", "--no-isolate", "-m", "sdpa", "--swap", "sdpa")
    assert code == 2
    assert "--swap puts an attention in place of a network's own: add --network" in " ".join(err.split())


@pytest.mark.parametrize("words", [("-n", f"{HOST}:own", "--swap", "linear_attn"), ("-n", f"{HOST}:own~linear_attn")])
def test_the_record_counts_the_swaps_and_asks_them_again(cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "records.jsonl"
    code, _, err = cli(*STATIC, *words, "-o", str(path))
    assert code == 0, err
    (record,) = map(json.loads, path.read_text().splitlines())
    assert record["status"] == "ok"
    assert record["case"]["swap"] == "linear_attn"
    assert record["static"]["swapped"] == {
        "count": 2, "places": {"body.0.mixer": "OwnAttention", "body.1.mixer": "OwnAttention"},
    }  # fmt: skip
    assert record["static"]["inserted"] is None
    assert record["static"]["claimed_complexity"] == "N"
    assert record["static"]["counters"]["formula"] is None
    assert record["static"]["verified"] is True
    assert "--swap linear_attn" in record["repro"]
    assert {"swapped", "weights"} <= {note["kind"] for note in record["notes"]}


def test_the_record_counts_what_was_inserted(cli, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert cli(*STATIC, "-n", "vgg16", "--attn", "se", "--at", "features.2,features.28", "-o", str(path))[0] == 0
    (record,) = map(json.loads, path.read_text().splitlines())
    assert record["static"]["inserted"] == {"count": 2, "places": {"features.2": "Conv2d", "features.28": "Conv2d"}}
    assert record["static"]["counters"]["formula"] == record["static"]["macs"]
    assert "--attn se --at features.2,features.28" in record["repro"]
