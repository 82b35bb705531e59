"""The formats of a check, one line for each with its name and the ending of its files, and how they are written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.report.exporters import check_place, write_text
from attnbench.report.gate.as_json import as_json
from attnbench.report.gate.comment import comment
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.junit import junit
from attnbench.report.gate.screen import as_table

__all__ = ["FORMATS", "Format", "as_text", "check_outputs", "format_named", "write"]


@dataclass(frozen=True, slots=True)
class Format:
    """What `--format` calls it, the ending of its files (empty where there are none), and the text of a check."""

    name: str
    ending: str
    text: Callable[[Judged], str]


FORMATS = (
    Format("table", "", as_table),
    Format("markdown", ".md", comment),
    Format("json", ".json", as_json),
    Format("junit", ".xml", junit),
)


def format_named(name: str) -> Format:
    """The format that `--format` names.

    Raises:
        UsageError: there is none of that name, with the nearest.
    """
    known = {each.name: each for each in FORMATS}
    if name not in known:
        raise UsageError(f"unknown format {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return known[name]


def as_text(judged: Judged, name: str) -> str:
    """The check in the format of that name, a line end at its end.

    Raises:
        UsageError: as `format_named`.
    """
    return format_named(name).text(judged)


def check_outputs(paths: Iterable[Path]) -> None:
    """Find out before anything is measured whether `write` will be able to write there; makes missing folders.

    Raises:
        UsageError: an ending that is not known, a folder, or no right to write there.
    """
    for path in paths:
        _format_of(path)
        check_place(path)


def write(judged: Judged, path: Path) -> None:
    """Write the check in the format of the path's ending; the old file stays whole until the new one is.

    Raises:
        UsageError: as `check_outputs`.
    """
    write_text(_format_of(path).text(judged), path)


def _format_of(path: Path) -> Format:
    endings = {each.ending: each for each in FORMATS if each.ending}
    if path.suffix.lower() not in endings:
        raise UsageError(f"{path} does not say which format a check has there: let its name end in one of "
                         f"{', '.join(endings)}.")  # fmt: skip
    return endings[path.suffix.lower()]
