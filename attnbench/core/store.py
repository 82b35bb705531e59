"""The append-only file of records: one JSON line each, flushed as it comes, read back with its bad lines named."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from attnbench.core.errors import UsageError
from attnbench.core.record import Record

__all__ = ["Loaded", "Store", "dumps", "load"]


def dumps(record: Record) -> str:
    """The record as one line of JSON, without the line end."""
    return json.dumps(record.to_dict(), ensure_ascii=False, separators=(",", ":"))


class Store:
    """A file that only grows.

    Raises:
        UsageError: the file cannot be opened or written, with the system's reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            with path.open("ab"):
                pass
            if new:
                path.unlink()  # it was only tried: a run that measures nothing leaves no empty file
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}. Choose another place with --out.") from error

    def append(self, record: Record) -> None:
        """Write the record as one line, in one write, and see it on the disk before returning."""
        try:
            with self.path.open("ab+") as file:
                # A line that an earlier crash left unfinished must not swallow this one.
                line = ("\n" if _is_torn(file) else "") + dumps(record) + "\n"
                file.seek(0, os.SEEK_END)
                # A name from a shell may hold bytes that are no UTF-8 (lone surrogates): as \udcXX they are JSON.
                file.write(line.encode(errors="backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror}. What was measured before is kept there."
            ) from error


def _is_torn(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


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
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from error
    loaded = _parse(lines)
    if not loaded.records:
        why = loaded.set_aside[0] if loaded.set_aside else "it is empty"
        raise UsageError(f"{path} holds no attnbench record: {why}.")
    return loaded


def _parse(lines: Iterable[bytes]) -> Loaded:
    records, set_aside = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            # Line by line: a crash may have torn the last one in the middle of a letter.
            records.append(Record.from_dict(json.loads(line.decode())))
        except (ValueError, RecursionError) as error:
            set_aside.append(f"line {number} is set aside: {error}")
    return Loaded(tuple(records), tuple(set_aside))
