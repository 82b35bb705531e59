"""A Record: the contract's fields, written down here a second time by hand, and its way through JSON."""

import json
import math
from typing import Any

import pytest
from core_samples import records, sample_record
from hypothesis import given

from attnbench.core.case import Case
from attnbench.core.record import SECTIONS, STATUSES, Note, Reading, Record

# The design's contract, schema 1. Other people's scripts hold on to these names: add, never rename, never remove.
CONTRACT = {
    "case": "target kind params layout batch_size height width tokens dim heads dtype device mode engine backend "
            "insert seed",
    "static": "params trainable_params macs flops macs_by_op uncounted_ops bytes_moved predicted_peak_bytes counters",
    "latency": "median_ms ci_low_ms ci_high_ms mean_ms p95_ms min_ms processes samples method host_ms launch_bound",
    "throughput": "samples_per_s tokens_per_s",
    "memory": "peak_bytes weights_bytes inputs_bytes activations_bytes saved_bytes reserved_bytes method",
    "energy": "joules_per_step watts",
    "roofline": "intensity bound percent_of_roof",
}  # fmt: skip
TOP = ["schema", "key", "status", "reason", "case", "static", "latency", "throughput", "memory", "energy", "roofline",
       "kernels", "notes", "env", "repro"]  # fmt: skip


def test_every_field_of_the_contract_is_there() -> None:
    data = Record(Case("x"), "error").to_dict()
    assert set(TOP) <= set(data)
    for section, names in CONTRACT.items():
        assert set(names.split()) <= set(data[section]), section
    assert data["schema"] == 1


def test_the_statuses_of_the_contract() -> None:
    assert STATUSES == ("ok", "oom", "unsupported", "incorrect", "error", "timeout", "crashed", "skipped")


def test_what_was_not_measured_is_null_and_never_zero() -> None:
    data = Record(Case("x"), "error").to_dict()
    for section in SECTIONS:
        assert set(data[section].values()) == {None}, section
    assert data["kernels"] is None
    assert (data["notes"], data["env"]) == ([], {})


def test_a_reading_fills_its_field_alone() -> None:
    data = sample_record().to_dict()
    assert data["latency"].pop("median_ms") == 1.25
    assert set(data["latency"].values()) == {None}


def test_a_reading_of_a_section_that_nobody_knows_is_kept() -> None:
    record = Record(Case("x"), "ok", readings=(Reading("carbon.grams", 3, "g"),))
    assert record.to_dict()["carbon"] == {"grams": 3}
    assert Record.from_dict(record.to_dict()).value("carbon.grams") == 3


@given(records)
def test_a_record_goes_through_json_unchanged(record: Record) -> None:
    data = json.loads(json.dumps(record.to_dict()))
    again = Record.from_dict(data)
    assert again == record
    assert again.to_dict() == data
    assert (again.key, again.ok) == (record.case.key, record.status == "ok")


def test_a_figure_that_is_no_number_does_not_stop_the_reading() -> None:
    record = Record(Case("x", params=(("eps", math.inf),)), "ok", readings=(Reading("latency.mean_ms", math.nan),))
    again = Record.from_dict(json.loads(json.dumps(record.to_dict())))
    assert math.isnan(again.value("latency.mean_ms"))
    assert again.key == record.key


def test_what_was_not_measured_has_no_reading_and_no_value() -> None:
    assert sample_record().reading("latency.mean_ms") is None
    assert sample_record().value("latency.mean_ms") is None


GOOD = sample_record().to_dict()


@pytest.mark.parametrize(
    "data",
    [
        None, 3, [], "text", {}, {"schema": 2}, {"schema": None}, {"schema": "1"}, {"schema": 1}, {**GOOD, "schema": 2},
        {**GOOD, "case": None}, {**GOOD, "case": {}}, {**GOOD, "case": []},
        {**GOOD, "case": {"target": "x", "params": 3}},
        {key: GOOD[key] for key in GOOD if key != "status"}, {**GOOD, "notes": [3]}, {**GOOD, "notes": [{"kind": "a"}]},
        {**GOOD, "readings": [{}]}, {**GOOD, "readings": [{"name": "latency.nothing"}]},
        {**GOOD, "readings": [{"name": 3}]}, {**GOOD, "latency": None}, {**GOOD, "kernels": 5},
    ],
)  # fmt: skip
def test_what_is_no_record_is_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match=r"record|dictionary"):
        Record.from_dict(data)


def test_what_may_be_missing_or_null() -> None:
    least = {"schema": 1, "case": {"target": "x"}, "status": "ok"}
    assert Record.from_dict(least) == Record(Case("x"), "ok")
    assert Record.from_dict({**least, "env": None, "kernels": None}).to_dict()["env"] == {}
    assert Record.from_dict({**least, "notes": [{"kind": "a", "text": "b", "more": 1}]}).notes == (Note("a", "b"),)
