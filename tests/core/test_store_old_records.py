"""Records of schema 1 stay readable for ever: those in `old_records/` were written by earlier versions, byte by byte.

`first_day` has the fields of the first records, `counted` those of the counters, `timed` those of trusted latencies,
memory and roofs, `swapped` those of kernels, attentions and samples. A later version adds a file, and changes none.
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from attnbench.core.store import Store, load

FOLDER = Path(__file__).parent / "old_records"
FILES = sorted(FOLDER.glob("*.jsonl"))

# Key, name, parameters, MACs, latency and peak memory of each record, written down when the record was.
FIGURES = {
    "first_day": [
        ("8a2d9508a3a8a276", "self_attn", 5201, 6029312, 0.308806, 692548),
        ("3856904d273b118b", "cbam", 2066, 22528, 0.23610550000000002, 806984),
        ("bee74301ec84132e", "linear_attn", 16640, 100925440, 2.454421, 6390784),
        ("c3c1c41a8e05ed0e", "vgg16", 138357544, 15470264320, None, None),
        ("0aaa1e9886181ba0", "vgg16+pseudo_linear_attn", 139734040, 224572171264, None, None),
        ("a86e8250e9f7d633", "vgg16+linear_attn", 140804648, 19753789440, None, None),
    ],
    "counted": [
        ("d0673308f30ef7bc", "se", 2128, 2048, 0.0320525, 140096),
        ("f045929b312f4c49", "self_attn", 5201, 1228931072, 30.0022725, 136597828),
        ("a86e8250e9f7d633", "vgg16+linear_attn", 140804648, 19753789440, None, None),
    ],
    "timed": [
        ("8a2d9508a3a8a276", "self_attn", 5201, 6029312, 0.17824733333333334, 692548),
        ("ee0587463de5540e", "self_attn", 5201, 80740352, 2.0278625000000003, 8999236),
        ("62f79ac7a4445364", "linear_attn", 16640, 25231360, 0.63079, 1659904),
    ],
    "swapped": [
        ("3baab9bb5f47dc7b", "hf:vit", 15372288, 251563008, 21.813868, 63946752),
        ("ac58a62f7dd9954d", "hf:vit~linear_attn", 15372288, 254043648, 22.033412, 63946752),
        ("cdf9ae5db73c76ea", "sdpa", 16640, 1572864, 1.0811842500000002, 413724),
        ("e6e7dfd9ab76a577", "self_attn", 5201, 622592, None, None),
    ],
}
# What nobody may change: a record that is edited so that it can be read is no old record.
DIGESTS = {
    "first_day": "fbd5d28dc492ff39",
    "counted": "1a8696760b024924",
    "timed": "3af94fc0417358ce",
    "swapped": "adf6dee9486e8486",
}
_NAMES = ("static.params", "static.macs", "latency.median_ms", "memory.peak_bytes")

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@each_file
def test_the_file_is_as_it_was_written(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == DIGESTS[path.stem]


@each_file
def test_every_record_is_there_with_its_figures(path: Path) -> None:
    loaded = load(path)
    assert loaded.set_aside == ()
    found = [(each.key, each.case.name, *map(each.value, _NAMES)) for each in loaded.records]
    assert found == FIGURES[path.stem]


@each_file
def test_the_key_of_a_case_is_the_one_it_had(path: Path) -> None:
    """`--resume` and the gate find a record by it."""
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert [record.key for record in load(path).records] == keys


@each_file
def test_nothing_is_lost_on_the_way_through_this_version(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    store = Store(again)
    for record in load(path).records:
        store.append(record)
    assert load(again).records == load(path).records
    for old, new in zip(path.read_text().splitlines(), again.read_text().splitlines(), strict=True):
        assert missing(json.loads(old), json.loads(new)) == []


def missing(old: Any, new: Any, where: str = "") -> list[str]:
    """What the old JSON has that the new has not, or otherwise."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [name for key in old for name in missing(old[key], new.get(key), f"{where}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [name for n, pair in enumerate(zip(old, new, strict=True)) for name in missing(*pair, f"{where}.{n}")]
    return [] if old == new and type(old) is type(new) else [where]


SHOWN = {
    "first_day": ["vgg16+pseudo_linear_attn  224x224  139,734,040", "0.309 ± 1.8 %", "2.45 ± 2.3 %", "19,791"],
    "counted": ["0.03205 ± 0.7 %", "30.00 ± 0.8 %", "130.3", "140,804,648"],
    "timed": ["2.03 ± 6.8 %", "0.631 ± 7.2 %", "39.6", "1575 ± 1.0 %", "most samples were set aside"],
    "swapped": ["22 ±  48 %", "0.92", "12.7", "unsupported", "self_attn calls no scaled_dot_product_attention"],
}


@each_file
def test_show_renders_them(path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    shown = cli("show", str(path))
    assert (shown.code, shown.err) == (0, "")
    assert [words for words in SHOWN[path.stem] if words not in shown.out] == []
    by_operator = cli("show", str(path), "--by", "op")
    assert by_operator.code == 0
    assert f"{FIGURES[path.stem][0][3]:,}" in by_operator.out


@each_file
def test_they_are_exported_in_every_format(path: Path, tmp_path: Path, cli: Any) -> None:
    outs = [f"-o{tmp_path / path.stem}.{ending}" for ending in ("csv", "md", "json", "jsonl")]
    assert cli("export", str(path), *outs).code == 0
    with (tmp_path / f"{path.stem}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figures = [(row["Params"], row["MACs (GMAC)"], row.get("Latency (ms)", "")) for row in rows]
    written = [(str(params), macs / 10**9, ms) for _, _, params, macs, ms, _ in FIGURES[path.stem]]
    assert [(params, float(macs), float(ms) if ms else None) for params, macs, ms in figures] == written
    assert load(tmp_path / f"{path.stem}.jsonl").records == load(path).records
    assert len(json.loads((tmp_path / f"{path.stem}.json").read_text())) == len(rows)


@each_file
def test_the_gate_judges_them_against_themselves(path: Path, cli: Any) -> None:
    """No figure changed; a latency of one process is not judged, which is exit code 3."""
    judged = cli("check", str(path), str(path))
    assert judged.code == 3
    assert "worse" not in judged.out
    assert "changed" not in judged.out


def test_the_gate_finds_the_case_that_two_versions_have_both(cli: Any) -> None:
    """VGG16 with the linear attention: parameters, MACs, FLOPs and predicted memory are as they were."""
    judged = cli("check", str(FOLDER / "first_day.jsonl"), str(FOLDER / "counted.jsonl"))
    assert (judged.code, judged.out.splitlines()[-1]) == (
        1, "5 missing, 2 new; 4 readings the same: the check fails.")  # fmt: skip
