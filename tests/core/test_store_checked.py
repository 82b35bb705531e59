"""What is asked of a record as it is read, so that tables, exporters and the gate can rely on it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core_samples import sample_record

from attnbench.core.parts import Parts
from attnbench.core.reading import SECTIONS
from attnbench.core.record import Reading, Record
from attnbench.core.store import Store, load, scan
from attnbench.report.frame import amount, measured_columns, rows_of

OLD = Path(__file__).parent / "old_records"
Data = dict[str, Any]


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


def record() -> Data:
    """One that has all there is."""
    lines = (OLD / "swapped.jsonl").read_text().splitlines()
    data: Data = json.loads(lines[1])
    data["asked"] = {"key": "0", "seed": 0}
    data["kernels"] = [{"name": "gemm", "calls": 2, "share": 0.5}]
    return data


def put(place: str, value: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        *above, last = place.split("/")
        holder: Any = data
        for key in above:
            holder = holder[int(key) if isinstance(holder, list) else key]
        holder[int(last) if isinstance(holder, list) else last] = value

    return change


REFUSED = [
    (put("status", "fine"), "a record whose status 'fine' is none of ok, oom, unsupported"),
    (put("status", ["ok"]), "a record whose status a list is none of"),
    (put("reason", 3), "a record whose reason 3 is no text"),
    (put("repro", None), "a record whose repro None is no text"),
    (put("case", []), "a record whose case a list is no object"),
    (put("case/target", None), "a record whose case has None for target"),
    (put("case/kind", "rocket"), "a record whose case is of the kind 'rocket'"),
    (put("case/batch_size", "1"), "a record whose case has '1' for batch_size"),
    (put("case/batch_size", True), "a record whose case has True for batch_size"),
    (put("case/batch_size", None), "a record whose case has None for batch_size"),
    (put("case/height", [64]), "a record whose case has [64] for height"),
    (put("case/height", 64.0), "a record whose case has 64.0 for height"),
    (put("case/swap", {}), "a record whose case has {} for swap"),
    (put("case/params", {"a": [1]}), "a record whose case has params that are not names and scalars"),
    (put("case/params", [[1, 2]]), "a record whose case has params that are not names and scalars"),
    (put("env", "linux"), "a record whose env 'linux' is no object"),
    (put("env/fingerprint", ["a"]), "a record whose fingerprint a list is no text"),
    (put("env/device_name", 3), "a record whose device_name 3 is no text"),
    (put("env/clocks", nested(40)), "a record with too many levels in env"),
    (put("env/clocks", 10**301), "a record with an impossible number in env"),
    (put("asked", [1]), "a record whose asked a list is no object"),
    (put("notes", [{"kind": "a", "text": 3}]), "a record whose text 3 is no text"),
    (put("notes", ["text"]), "a record with a field missing or misshapen"),
    (put("kernels", ["gemm"]), "a record whose part 'gemm' is no object"),
    (put("kernels", 3), "a record with a field missing or misshapen"),
    (put("readings/0/better", "bigger"), "a record where 'bigger' is called better of 'static.params'"),
    (put("readings/0/unit", None), "a record whose unit None is no text"),
    (put("readings/0/title", 3), "a record whose title 3 is no text"),
    (put("readings/0/name", "static.nothing"), "a record with a field missing or misshapen"),
    (put("readings/0", 3), "a record with a field missing or misshapen"),
    (put("static/params", 1.5), "a record whose static.params is 1.5"),
    (put("static/params", "5201"), "a record whose static.params is '5201'"),
    (put("static/params", True), "a record whose static.params is True"),
    (put("static/params", 10**400), "a record with an impossible number in static.params"),
    (put("static/verified", 1), "a record whose static.verified is 1"),
    (put("static/macs_by_op", [1]), "a record whose static.macs_by_op is a list"),
    (put("static/macs_by_op", {"matmul": "many"}), "a record whose static.macs_by_op counts 'many'"),
    (put("static/counters", {"fvcore": 1.5}), "a record whose static.counters counts 1.5"),
    (put("latency/median_ms", "2.5"), "a record whose latency.median_ms is '2.5'"),
    (put("latency/median_ms", {}), "a record whose latency.median_ms is a dict"),
    (put("latency/method", 3), "a record whose latency.method is 3"),
    (put("memory/peak_bytes", "x" * 500), "a record whose memory.peak_bytes is '" + "x" * 59 + "…"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_a_field_that_is_not_what_it_has_to_be_sets_its_line_aside(
    change: Callable[[Data], None], why: str, tmp_path: Path
) -> None:
    data = record()
    change(data)
    with pytest.raises(ValueError, match=re.escape(why)):
        Record.from_dict(data)
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (record(), data, record())))
    loaded = load(path)
    assert len(loaded.records) == 2
    assert len(loaded.set_aside) == 1
    assert loaded.set_aside[0].startswith(f"line 2 is set aside: {why}")


TAKEN = [
    put("case/of_a_newer_version", 3), put("of_a_newer_version", {}), put("readings/0/of_a_newer_version", "x"),
    put("case/params", {}), put("case/params", None), put("env", None), put("kernels", None), put("notes", None),
    put("asked", None), put("latency/median_ms", 3), put("latency/median_ms", float("nan")),
    put("latency/median_ms", None), put("static/params", None), put("static/params", 2**70), put("schema", 1.0),
    put("case/batch_size", 2**63), put("env/clocks", nested(20)), put("static/counters", {"fvcore": None}),
]  # fmt: skip


@pytest.mark.parametrize("change", TAKEN, ids=map(str, range(len(TAKEN))))
def test_what_is_unusual_is_taken(change: Callable[[Data], None]) -> None:
    data = record()
    change(data)
    assert Record.from_dict(data).case.target == "hf:vit"


def test_no_figure_that_every_record_names_is_unchecked() -> None:
    """Who adds one that is no number says so in core.parts, or this fails."""
    for section, names in SECTIONS.items():
        for name in names:
            full = f"{section}.{name}"
            data = sample_record().to_dict()
            data[section][name] = object()
            data["readings"] = [Reading(full, None).describe()]
            with pytest.raises(ValueError, match=re.escape(full)):
                Record.from_dict(data)


def test_figures_of_other_packages_may_be_anything_and_are_shown(tmp_path: Path) -> None:
    """Neither a row nor the whole table is lost to a plug-in that gives text where its unit says grams."""
    path = tmp_path / "records.jsonl"
    values = ["little", [1, 2], {"a": 1}, True, 3.5, None, float("nan"), float("inf")]
    for number, value in enumerate(values):
        interval = (Reading("carbon.low", "none", "g"), Reading("carbon.high", float("nan"), "g"))
        grams = Reading("carbon.grams", value, "g", "lower", "Carbon", "carbon.low", "carbon.high")
        Store(path).append(Record(sample_record(seed=number).case, "ok", readings=(grams, *interval)))
    found = load(path)
    assert found.set_aside == ()
    rows = rows_of(found.records)
    texts = [measured_columns(rows)[0].text(row) for row in rows]
    assert texts == ["little", "[1, 2]", "{'a': 1}", "yes", "3.500", "–", "nan", "inf"]


@pytest.mark.parametrize(
    ("low", "high", "cell"),
    [(1.9, 2.1, "2.00 ± 5.0 %"), (float("nan"), 2.1, "2.0 ± >999 %"), (1.9, float("nan"), "2.0 ± >999 %"),
     (1.9, float("inf"), "2.0 ± >999 %"), (None, 2.1, "2.000"), (1.9, "2.1", "2.000")],
)  # fmt: skip
def test_an_interval_of_which_an_end_is_unknown_is_never_a_narrow_one(low: Any, high: Any, cell: str) -> None:
    median = Reading("carbon.grams", 2.0, "g", "lower", "Carbon", "carbon.low", "carbon.high")
    ends = (Reading("carbon.low", low, "g"), Reading("carbon.high", high, "g"))
    assert amount(Record(sample_record().case, "ok", readings=(median, *ends)), "carbon.grams") == cell


# Where the descriptions of readings are not what, or not where, a quick look for them would have it.
TRICKY: list[Callable[[Data], None]] = [
    lambda data: None,
    put("readings/0/title", "Params [k]"),
    put("readings/0/title", 'a "readings":[ b'),
    put("readings/0/title", "]"),
    put("reason", '"readings":[{"name":"static.macs"}]'),
    put("env/readings", [{"name": "static.macs"}]),
    put("case/params", {"readings": "as before"}),
    put("asked/readings", record()["readings"]),
    put("readings", []),
    put("readings", "as before"),
    put("readings", None),
]


@pytest.mark.parametrize("change", TRICKY, ids=map(str, range(len(TRICKY))))
@pytest.mark.parametrize("first", ["env", "readings"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_line_is_read_as_its_json_says(
    change: Callable[[Data], None], first: str, separators: tuple[str, str]
) -> None:
    data = record()
    change(data)
    ordered = {first: data[first], **data}  # in another order than `run` writes it
    line = json.dumps(ordered, separators=separators)
    parts = Parts()
    for _ in range(2):  # the second time the descriptions are known
        assert outcome(lambda: Record.from_dict(parts.parsed(line), parts)) == outcome(lambda: Record.from_dict(data))


def outcome(make: Callable[[], Record]) -> Record | str:
    try:
        return make()
    except ValueError as error:
        return str(error)


def test_a_key_that_stands_there_twice_counts_the_second_time() -> None:
    """As everywhere in JSON; the first one's readings are not those of the record."""
    data = record()
    line = json.dumps({"readings": [], **{key: value for key, value in data.items() if key != "readings"}})
    assert line.endswith("}}")
    twice = f'{{"readings":{json.dumps(data["readings"])},{line[1:]}'
    parts = Parts()
    assert Record.from_dict(parts.parsed(twice), parts).readings == ()


def test_an_error_names_the_place_in_the_line_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record(), separators=(",", ":"))
    path.write_text(f"{line}\n{line[:-1]}!\n")
    assert load(path).set_aside == (
        f"line 2 is set aside: Expecting ',' delimiter: line 1 column {len(line)} (char {len(line) - 1})",
    )


@pytest.mark.parametrize("cut", [1, 20, 400, -1, -30])
def test_a_line_that_was_cut_short_is_called_so(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record(), separators=(",", ":"))
    path.write_text(f"{line}\n{line[:cut]}")
    assert load(path).set_aside[0].startswith("line 2 is set aside: it was cut short: ")


def test_equal_parts_of_records_are_kept_once(tmp_path: Path) -> None:
    """Ten thousand records fit into a hundred megabytes because of it."""
    path = tmp_path / "records.jsonl"
    path.write_text((json.dumps(record()) + "\n") * 2)
    one, two = load(path).records
    assert one == two
    assert all(a is b for a, b in zip(one.notes, two.notes, strict=True))
    assert all(a.title is b.title and a.name is b.name for a, b in zip(one.readings, two.readings, strict=True))
    assert one.value("latency.method") is two.value("latency.method")
    assert all(a is b for a, b in zip(one.env, two.env, strict=True))


def test_a_scan_gives_records_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = json.dumps(record())
    path.write_text(f"{line}\nno record\n{line}\n")
    said: list[str] = []
    found = scan(path, said.append)
    assert next(found).case.target == "hf:vit"
    assert said == []
    assert len(list(found)) == 1
    assert [sentence.split(":")[0] for sentence in said] == ["line 2 is set aside"]


def test_a_file_that_an_editor_saved_with_its_mark_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record()) + "\n", encoding="utf-8-sig")
    assert load(path).set_aside == ()
