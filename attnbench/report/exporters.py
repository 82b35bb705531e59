"""Records as files: one function from records to text for each file ending, and the one way of writing them."""

import csv as csv_module
import io
import json as json_module
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.core.record import Record
from attnbench.core.registry import Registry
from attnbench.core.store import dumps
from attnbench.report.frame import to_grid
from attnbench.report.table import Sheet, sheet

__all__ = ["EXPORTERS", "Exporter", "check_place", "check_writable", "escaped", "export", "exporter_for", "write_text"]

# Records and the name of the baseline, None for the default one.
Exporter = Callable[[Sequence[Record], str | None], str]

EXPORTERS: Registry[Exporter] = Registry("export format", group="attnbench.exporters")


@EXPORTERS.register("jsonl")
def jsonl(records: Sequence[Record], baseline: str | None = None) -> str:
    """One record a line, as `run` writes them: what every other command reads."""
    return "".join(f"{dumps(record)}\n" for record in records)


@EXPORTERS.register("json")
def json(records: Sequence[Record], baseline: str | None = None) -> str:
    """The same records as one JSON array, each section of a record on a line of its own."""
    return f"[{','.join(map(_sections, records))}\n]\n" if records else "[]\n"


def _sections(record: Record) -> str:
    # Indented to the last figure it would be half as large again, and take ten times as long to write.
    lines = (f'    "{name}": {json_module.dumps(part, ensure_ascii=False)}' for name, part in record.to_dict().items())
    return "\n  {\n" + ",\n".join(lines) + "\n  }"


@EXPORTERS.register("csv")
def csv(records: Sequence[Record], baseline: str | None = None) -> str:
    """Plain numbers under headings with units, for a spreadsheet; empty where nothing was measured."""
    headings, rows = to_grid(records, baseline)
    file = io.StringIO()
    writer = csv_module.writer(file, lineterminator="\n")
    writer.writerow(map(_inert, headings))
    writer.writerows(map(_inert, row) for row in rows)
    return file.getvalue()


def _inert(cell: Any) -> Any:
    # A spreadsheet runs text that begins like this as a formula, also with the wide forms of East Asian keyboards.
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r\n＝＋－＠")) else cell


@EXPORTERS.register("md")
def md(records: Sequence[Record], baseline: str | None = None) -> str:
    """A GitHub table with all columns, its caption above and its footnotes below."""
    if not records:
        return "No records.\n"
    whole = sheet(records, baseline)
    notes = [f"{note.mark or '·'} {escaped(note.sentence)}" for note in whole.notes]
    blocks = [escaped(whole.caption), _github_table(whole), "<br>\n".join(notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _github_table(whole: Sheet) -> str:
    from tabulate import tabulate

    return tabulate(
        [[escaped(" ".join(cell.split())) for cell in row] for row in whole.cells],
        headers=[escaped(heading) for heading in whole.headings],
        tablefmt="pipe",
        colalign=["right" if column.is_figure else "left" for column in whole.columns],
        disable_numparse=True,
    )


def escaped(text: str) -> str:
    """The text with everything that Markdown or HTML would read as an instruction taken literally.

    An underscore within a word (`self_attn`) is none, and stays as it is.
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\|*`\[\]~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def exporter_for(path: Path) -> Exporter:
    """The exporter of the path's ending.

    Raises:
        UsageError: the ending is missing or unknown, with those that are known.
    """
    ending = path.suffix[1:].lower()
    if not ending:
        known = ", ".join(f".{name}" for name in sorted(EXPORTERS))
        raise UsageError(f"{path} does not say in which format: let its name end in one of {known}.")
    return EXPORTERS[ending]


def check_writable(path: Path) -> None:
    """Find out before anything is measured whether `export` will be able to write there; makes missing folders.

    Raises:
        UsageError: unknown ending, a folder, or no right to write there.
    """
    exporter_for(path)
    check_place(path)


def export(records: Sequence[Record], path: Path, baseline: str | None = None) -> None:
    """Write the records in the format of the path's ending; the old file stays whole until the new one is.

    Raises:
        UsageError: as `check_writable`.
    """
    write_text(exporter_for(path)(records, baseline), path)


def check_place(path: Path) -> None:
    """Find out whether `write_text` will be able to write there, in whatever format; makes missing folders.

    Raises:
        UsageError: a folder, or no right to write there.
    """
    _writing(path, lambda target: None if _is_special(target) else _scratch(target, "").unlink())


def write_text(text: str, path: Path) -> None:
    """Write the text there; the old file stays whole until the new one is.

    Raises:
        UsageError: as `check_place`.
    """
    _writing(path, lambda target: _pour(target, text) if _is_special(target) else _replace(target, text))


def _writing(path: Path, write: Callable[[Path], None]) -> None:
    try:
        target = path.resolve()  # through a link to the file itself: the link stays a link
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(0, "it is write-protected")
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a ring of links
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot write to {path}: {why}. Choose another place with --out.") from error


def _is_special(target: Path) -> bool:
    """A device or a pipe: it is written to, and never replaced by a file of its name, as root could do in /dev."""
    return target.exists() and not target.is_file()


def _pour(target: Path, text: str) -> None:
    with target.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.write(text)


def _scratch(target: Path, text: str) -> Path:
    """A new file beside the target with this text on the disk."""
    scratch = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        # A lone surrogate in a name is no UTF-8; written out it is at least JSON.
        with scratch.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def _replace(target: Path, text: str) -> None:
    scratch = _scratch(target, text)
    try:
        scratch.replace(target)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
