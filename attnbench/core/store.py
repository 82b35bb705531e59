"""The append-only file of records: one JSON line each, kept as it comes, read back with its bad lines named."""

import codecs
import gc
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attnbench.core.errors import UsageError
from attnbench.core.lines import append_line, check_appendable, rescued
from attnbench.core.parts import Parts
from attnbench.core.record import Record

__all__ = ["Loaded", "Store", "StoreError", "dumps", "load", "read", "scan"]

# No record comes near; what has no line ends (an image of a disk) must not be held in memory as one line.
_LONGEST = 64 * 2**20


def dumps(record: Record) -> str:
    """The record as one line of JSON, without the line end."""
    return json.dumps(record.to_dict(), ensure_ascii=False, separators=(",", ":"))


class StoreError(UsageError):
    """A record could not be appended. It stands in the file `rescued`, or nowhere where that is None."""

    def __init__(self, message: str, record: Record, rescued: Path | None) -> None:
        super().__init__(message)
        self.record, self.rescued = record, rescued


class Store:
    """A file that only grows. Several processes may append to it at once.

    Raises:
        UsageError: the file cannot be opened or written, with the system's reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_appendable(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write to {path}: {_why(error)}. Choose another place with --out.") from error

    def append(self, record: Record) -> None:
        """Write the record as one line, in one write, and see it on the disk before returning.

        Raises:
            StoreError: it cannot be written. The file is as it was, and the record is kept elsewhere if that can be.
        """
        # A name from a shell may hold bytes that are no UTF-8 (lone surrogates): as \udcXX they are JSON.
        line = f"{dumps(record)}\n".encode(errors="backslashreplace")
        try:
            append_line(self.path, line)
        except OSError as error:
            raise self._refused(record, line, error) from error

    def _refused(self, record: Record, line: bytes, error: OSError) -> StoreError:
        before = "what was measured before is kept there, " if self._holds_something() else ""
        try:
            place = rescued(line)
        except OSError as second:
            last = f"the last record ({record.case.name}) is lost: no other place takes it ({_why(second)})"
            return StoreError(f"cannot write to {self.path}: {_why(error)}; {before}{last}.", record, None)
        last = f"the last record is in {place}"
        return StoreError(f"cannot write to {self.path}: {_why(error)}; {before}{last}.", record, place)

    def _holds_something(self) -> bool:
        try:
            return self.path.stat().st_size > 0
        except OSError:
            return False


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The records of a file, and a sentence for each line that was set aside."""

    records: tuple[Record, ...]
    set_aside: tuple[str, ...]


def load(path: Path) -> Loaded:
    """Read a file of records; lines that are no record are set aside and named, never fatal.

    Raises:
        UsageError: the file cannot be read, or holds no record at all.
    """
    found = read(path)
    if not found.records:
        why = found.set_aside[0] if found.set_aside else "it is empty"
        raise UsageError(f"{path} holds no attnbench record: {why}.")
    return found


def read(path: Path) -> Loaded:
    """As `load`, but a file may also hold nothing, as one does that a crash left in its first write.

    Raises:
        UsageError: the file cannot be read.
    """
    set_aside: list[str] = []
    with _nothing_collected():
        records = tuple(scan(path, set_aside.append))
    return Loaded(records, tuple(set_aside))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    # Records hold no circles, and to look for some among half a million readings takes a third of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def scan(path: Path, set_aside: Callable[[str], object]) -> Iterator[Record]:
    """The records of a file one by one, so that they need not all be held; `set_aside` hears of each bad line.

    Raises:
        UsageError: the file cannot be read.
    """
    parts = Parts()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            # Line by line: a crash may have torn the last one in the middle of a letter.
            yield Record.from_dict(parts.parsed(line.decode()), parts)
        except (ValueError, RecursionError) as error:
            torn = "it was cut short: " if _is_cut_short(error) else ""
            set_aside(f"line {number} is set aside: {torn}{error}")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):  # /dev/zero has no end
                raise UsageError(f"{path} is a device, and no file of records.")
            mark = codecs.BOM_UTF8  # as some editors save a file
            while line := file.readline(_LONGEST):
                if len(line) == _LONGEST:
                    raise UsageError(f"{path} is no file of records: it has a line of more than {_LONGEST >> 20} MiB.")
                yield line.removeprefix(mark)
                mark = b""
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {_why(error)}.") from error


def _is_cut_short(error: Exception) -> bool:
    """Whether the line ends too early, as a crash in the middle of a write leaves it."""
    if isinstance(error, json.JSONDecodeError):
        return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    return isinstance(error, UnicodeDecodeError) and error.reason == "unexpected end of data"
