"""Appending where something goes wrong: several processes at once, full disks, refusals, interruptions."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from core_samples import sample_record

from attnbench.core import lines
from attnbench.core.errors import UsageError
from attnbench.core.store import Store, StoreError, dumps, load

A, B, C = (sample_record(f"module_{letter}") for letter in "abc")

CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from attnbench.core.case import Case
from attnbench.core.record import Record
from attnbench.core.store import Store
path, writer, count, sizes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), list(map(int, sys.argv[4].split(",")))
store = Store(path)
sys.stdin.readline()
for number in range(count):
    store.append(Record(Case(f"writer_{writer}", seed=number), "error", reason=writer * sizes[number % len(sizes)]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


@pytest.fixture
def spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of this test alone."""
    folder = tmp_path / "spare"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def started(path: Path, writer: str, count: int, sizes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(path), writer, str(count), sizes]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("torn", [b"", b'{"schema":1,"ca'])
def test_four_processes_append_to_one_file_and_every_line_is_whole(path: Path, torn: bytes) -> None:
    """Up to 200 KiB each: more than a page, a pipe or a buffer holds. All four find the file torn, or not there."""
    if torn:
        path.write_bytes(torn)
    writers = [started(path, name, 50, "10,5000,70000,200000,1") for name in "abcd"]
    for writer in writers:  # all are up: now they start together
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == ""
    loaded = load(path)
    assert len(loaded.set_aside) == bool(torn)
    found = {(record.case.target, record.case.seed): record.reason for record in loaded.records}
    sizes = [10, 5000, 70000, 200000, 1]
    assert found == {(f"writer_{name}", n): name * sizes[n % 5] for name in "abcd" for n in range(50)}
    assert len(loaded.records) == 200
    for name in "abcd":  # and each writer's in its own order
        assert [r.case.seed for r in loaded.records if r.case.target == f"writer_{name}"] == list(range(50))


@pytest.mark.skipif(lines.fcntl is None, reason="no locks on this system")
def test_an_append_waits_for_the_one_that_is_under_way(path: Path) -> None:
    Store(path).append(A)
    with path.open("ab") as other:
        lines.fcntl.flock(other, lines.fcntl.LOCK_EX)
        thread = threading.Thread(target=Store(path).append, args=(B,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        other.write((dumps(C) + "\n").encode())
    thread.join(60)
    assert load(path).records == (A, C, B)


def test_without_locks_a_record_is_appended_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "fcntl", None)
    Store(path).append(A)
    assert load(path).records == (A,)


def test_a_file_system_that_has_no_locks_is_taken_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if lines.fcntl is not None:
        monkeypatch.setattr(lines.fcntl, "flock", raising(errno.ENOLCK))
    monkeypatch.setattr(os, "fsync", raising(errno.EINVAL))
    Store(path).append(A)
    assert load(path).records == (A,)


def raising(number: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_record_is_one_write_even_behind_a_torn_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b'{"torn')
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: written.append(bytes(data)) or write(file, data))
    Store(path).append(A)
    assert written == [b"\n" + dumps(A).encode() + b"\n"]


def test_a_system_that_writes_a_little_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:7])))
    Store(path).append(A)
    Store(path).append(B)
    assert path.read_text() == f"{dumps(A)}\n{dumps(B)}\n"


def test_a_record_is_synced_and_so_is_the_folder_of_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sizes: list[int] = []

    def fsync(file: int) -> None:
        found = os.fstat(file)
        synced.append("folder" if stat.S_ISDIR(found.st_mode) else "file")
        sizes.append(found.st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    Store(path).append(A)
    assert synced == ["file", "folder"]
    assert sizes[0] == len(dumps(A)) + 1  # behind the write, not before it
    Store(path).append(B)
    assert synced == ["file", "folder", "file"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_sentence_and_the_record_is_rescued(path: Path, spare: Path) -> None:
    path.symlink_to("/dev/full")
    with pytest.raises(StoreError) as caught:
        Store(path).append(A)
    assert isinstance(caught.value, UsageError)
    assert (caught.value.record, caught.value.rescued) == (A, next(spare.iterdir()))
    assert str(caught.value) == (
        f"cannot write to {path}: No space left on device; the last record is in {caught.value.rescued}."
    )
    assert load(next(spare.iterdir())).records == (A,)
    assert path.is_symlink()


LIMITED = """
import resource, signal, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from core_samples import sample_record
from attnbench.core.store import Store, StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
tempfile.tempdir = sys.argv[3]
store = Store(Path(sys.argv[1]))
try:
    for number in range(100):
        store.append(sample_record(f"module_{number}"))
except StoreError as error:
    print(error)
    print(error.rescued)
    print(error.record.case.target)
"""


@pytest.mark.parametrize("rescues", [True, False])
def test_a_limit_in_the_middle_of_a_record_leaves_whole_lines(path: Path, spare: Path, rescues: bool) -> None:
    """The system takes a part of the line before it refuses the rest, as a disk does that becomes full."""
    pytest.importorskip("resource")
    place = spare if rescues else spare / "not_there"
    command = [sys.executable, "-c", LIMITED, str(path), str(Path(__file__).parent), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    sentence, rescued, lost = done.stdout.splitlines()
    assert path.read_bytes().endswith(b"}\n")
    loaded = load(path)
    assert loaded.set_aside == ()
    assert [record.case.target for record in loaded.records] == [f"module_{n}" for n in range(len(loaded.records))]
    assert lost == f"module_{len(loaded.records)}"
    assert 5000 - 2000 < path.stat().st_size <= 5000
    begins = f"cannot write to {path}: File too large; what was measured before is kept there, the last record "
    if rescues:
        assert sentence == f"{begins}is in {rescued}."
        assert load(Path(rescued)).records == (sample_record(lost),)
    else:
        assert sentence == f"{begins}({lost}) is lost: no other place takes it (No such file or directory)."
        assert rescued == "None"


def test_what_cannot_be_seen_on_the_disk_is_taken_back_and_rescued(
    path: Path, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's file system tells of a full disk only now."""
    Store(path).append(A)
    sync, refused = os.fsync, []

    def fsync(file: int) -> None:
        if not refused:
            refused.append(file)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match="quota exceeded; what was measured before is kept there, the last record is"):
        Store(path).append(B)
    assert path.read_text() == dumps(A) + "\n"
    assert load(next(spare.iterdir())).records == (B,)


def test_a_rescue_that_fails_leaves_nothing_and_says_so(
    path: Path, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(path).append(A)
    monkeypatch.setattr(os, "write", raising(errno.ENOSPC))
    with pytest.raises(StoreError, match=r"the last record \(module_b\) is lost: .* \(No space left") as caught:
        Store(path).append(B)
    assert caught.value.rescued is None
    assert list(spare.iterdir()) == []
    assert load(path).records == (A,)


def test_an_interruption_in_the_middle_of_a_write_leaves_whole_lines(
    path: Path, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(path).append(A)
    write, calls = os.write, []

    def interrupted(file: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(file, bytes(data[:20]))

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Store(path).append(B)
    assert path.read_text() == dumps(A) + "\n"
    assert list(spare.iterdir()) == []  # nobody asks for it: Ctrl-C drops the case under way


def test_a_folder_that_went_away_is_a_sentence_without_a_false_promise(tmp_path: Path, spare: Path) -> None:
    path = tmp_path / "results" / "records.jsonl"
    store = Store(path)
    store.append(A)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(StoreError, match=r"jsonl: No such file or directory; the last record is in ") as caught:
        store.append(B)
    assert "kept there" not in str(caught.value)
    assert caught.value.rescued is not None


def test_a_file_that_was_removed_begins_anew(path: Path) -> None:
    store = Store(path)
    store.append(A)
    path.unlink()
    store.append(B)
    assert load(path).records == (B,)


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        Store(path)
    assert not isinstance(caught.value, StoreError)
    assert str(caught.value).endswith(". Choose another place with --out.")
    return str(caught.value)


def test_what_is_no_place_for_records_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    broken, pipe, listens = tmp_path / "broken.jsonl", tmp_path / "pipe.jsonl", tmp_path / "s.jsonl"
    broken.symlink_to(tmp_path / "not_there.jsonl")
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listens))
        assert "Is a directory" in refused(tmp_path)
        assert "exist" in refused(tmp_path / "a_file" / "records.jsonl")
        assert "it is a link that leads nowhere" in refused(broken)
        assert "it is a pipe, and no file" in refused(pipe)
        assert "it is a pipe, and no file" in refused(listens)
        assert "File name too long" in refused(tmp_path / ("x" * 300))
        assert "null byte" in refused(tmp_path / "a\0b")
    assert broken.is_symlink()
    assert not (tmp_path / "not_there.jsonl").exists()


def test_a_link_to_a_file_stays_a_link(tmp_path: Path, path: Path) -> None:
    Store(path).append(A)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    Store(link).append(B)
    assert link.is_symlink()
    assert load(path).records == (A, B)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_a_write_protected_folder_or_file_is_refused(tmp_path: Path, path: Path) -> None:
    path.touch(mode=0o444)
    assert "Permission denied" in refused(path)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    assert "Permission denied" in refused(folder / "records.jsonl")


def test_trying_a_place_never_touches_a_file_that_another_process_begins(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an empty place and the first record, someone else may have written theirs."""
    temporary = tempfile.TemporaryFile

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        path.write_text(dumps(A) + "\n")
        return temporary(*args, **kwargs)

    monkeypatch.setattr(tempfile, "TemporaryFile", meanwhile)
    store = Store(path)
    store.append(B)
    assert load(path).records == (A, B)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_stands_in_the_file_is_json_of_one_line(path: Path) -> None:
    Store(path).append(A)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [A.to_dict()]
