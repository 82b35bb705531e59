"""The file of records: torn, garbled, unreadable, foreign, and always only growing."""

import json
import os
from pathlib import Path

import pytest
from core_samples import records, sample_record
from hypothesis import HealthCheck, given, settings

from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.core.store import Store, dumps, load

A, B, C = (sample_record(f"module_{letter}") for letter in "abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


@given(records)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_appended_is_read_back(path: Path, record: Record) -> None:
    path.unlink(missing_ok=True)
    Store(path).append(record)
    assert load(path).records == (record,)
    assert path.read_bytes().count(b"\n") == 1


def test_records_come_back_in_their_order(path: Path) -> None:
    store = Store(path)
    for record in (A, B, C):
        store.append(record)
    assert load(path).records == (A, B, C)
    assert load(path).set_aside == ()


def test_an_appended_record_is_one_line_of_json_on_the_disk(path: Path) -> None:
    store = Store(path)
    store.append(A)
    assert json.loads(path.read_text()) == A.to_dict()
    store.append(B)
    assert path.read_text() == f"{dumps(A)}\n{dumps(B)}\n"  # what was there is untouched


def test_an_existing_file_is_continued(path: Path) -> None:
    Store(path).append(A)
    Store(path).append(B)
    assert load(path).records == (A, B)


@pytest.mark.parametrize("torn", [b'{"schema":1,"ca', b'{"schema":1,"reason":"\xc3', b"{", b"\xff\xfe"])
def test_two_appends_after_a_torn_line_keep_both(path: Path, torn: bytes) -> None:
    """The middle of a two-byte letter too: a crash does not know where letters end."""
    Store(path).append(A)
    with path.open("ab") as file:
        file.write(torn)
    assert load(path).records == (A,)
    Store(path).append(B)
    Store(path).append(C)
    loaded = load(path)
    assert loaded.records == (A, B, C)
    assert len(loaded.set_aside) == 1
    assert loaded.set_aside[0].startswith("line 2 is set aside: ")


def test_a_record_torn_at_any_byte_never_costs_another_one(path: Path) -> None:
    whole = (dumps(sample_record("é")) + "\n").encode()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        Store(path).append(B)
        assert load(path).records[-1] == B
        assert len(load(path).records) == (3 if cut == len(whole) - 1 else 2)


def test_garbage_lines_are_set_aside_by_their_numbers(path: Path) -> None:
    lines = ["", dumps(A), "garbage", "[1, 2]", "null", '{"schema": 9}', dumps(B), "   ", "[" * 100_000, "9" * 5000]
    path.write_text("\n".join(lines))
    loaded = load(path)
    assert loaded.records == (A, B)
    assert [each.split()[1] for each in loaded.set_aside] == ["3", "4", "5", "6", "9", "10"]


def test_lines_with_the_ends_of_windows_are_read(path: Path) -> None:
    path.write_bytes(f"{dumps(A)}\r\n{dumps(B)}\r\n".encode())
    assert load(path).records == (A, B)


@pytest.mark.parametrize(
    "name",
    ["a\u2028b\u2029c\x85d", "tab\tnew\nline\rreturn", "\udcff\udc80", "\U0001f600", '"\\', "\x00\x1c"],
    ids=ascii,
)
def test_names_with_odd_characters_stay_on_one_line(path: Path, name: str) -> None:
    record = sample_record(name)
    Store(path).append(record)
    Store(path).append(B)
    loaded = load(path)
    assert loaded.records == (record, B)
    assert loaded.records[0].key == record.key


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "it is empty"), (b"\n\n", "it is empty"), (b"name,value\n", "line 1"), (b"\xff\n", "line 1")],
)
def test_a_file_without_a_record_is_wrong_usage(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"holds no attnbench record: {why}"):
        load(path)


def test_a_file_that_is_not_there_or_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            load(path)


def test_a_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write to .* Choose another place with --out"):
        Store(tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        (tmp_path / "file").touch()
        Store(tmp_path / "file" / "records.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write every file")
def test_a_file_without_the_permission(path: Path) -> None:
    path.touch(mode=0o000)
    with pytest.raises(UsageError, match="Permission denied"):
        load(path)
    with pytest.raises(UsageError, match="Permission denied"):
        Store(path)


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_refusal_of_the_system_is_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root no file refuses, so the system's answer is put in its place."""
    path.touch()
    store = Store(path)
    monkeypatch.setattr(Path, "open", _denied)
    monkeypatch.setattr(os, "open", _denied)
    with pytest.raises(UsageError, match=r"cannot read .*: Permission denied"):
        load(path)
    with pytest.raises(UsageError, match=r"cannot write to .*: Permission denied\. Choose another place with --out"):
        Store(path)
    with pytest.raises(UsageError, match=r"cannot write to .*: Permission denied; the last record"):
        store.append(A)


def test_a_store_that_is_never_used_leaves_no_file_and_an_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "records.jsonl"
    Store(path)
    assert not path.exists()
    path.write_text("old")
    Store(path)
    assert path.read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")  # noqa: PTH110
def test_a_device_that_never_ends_is_no_file() -> None:
    with pytest.raises(UsageError, match="/dev/zero is a device"):
        load(Path("/dev/zero"))


def test_what_has_no_line_ends_is_not_held_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.core.store._LONGEST", 1000)
    path.write_bytes(b"x" * 999 + b"\n" + b"x" * 5000)
    with pytest.raises(UsageError, match="a line of more than"):
        load(path)
