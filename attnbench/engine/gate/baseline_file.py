"""Reads the file of a stored baseline: each part checked for what it must be, and an error has the line."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.parts import shown
from attnbench.core.record import STATUSES
from attnbench.engine.gate.baseline import FORMAT, Baseline, Line

__all__ = ["read"]

# A line is half a kilobyte; what is larger than this holds no hundred thousand of them.
_LARGEST: Final = 64 * 2**20
_DEEPEST: Final = 20
_FEWEST_LAUNCHES: Final = 2
# The logarithm of no ratio of two steps is further from 0.
_FURTHEST: Final = 50.0
_MOST_FIGURE: Final = 10**30
_WRITE_ONE: Final = "write one with attnbench baseline update"


def read(path: Path) -> Baseline:
    """The baseline in that file.

    Raises:
        UsageError: it cannot be read, is something else, or a line is damaged.
    """
    rows = list(_rows(path, _content(path)))
    if not rows:
        raise UsageError(f"{path} is empty, and no baseline: {_WRITE_ONE}.")
    baseline = _baseline(path, *rows[0])
    lines: dict[str, Line] = {}
    for number, row in rows[1:]:
        try:
            line = _line(row, baseline.yardsticks)
        except (ValueError, TypeError) as error:
            raise _damaged(path, number, str(error).replace("a record whose case", "its case")) from error
        if line.case.key in lines:
            raise _damaged(path, number, f"{line.case.name} {line.case.size} stands in an earlier line, too")
        lines[line.case.key] = line
    if not lines:
        raise UsageError(f"{path} is a baseline of no case: {_WRITE_ONE}.")
    return replace(baseline, lines=tuple(lines.values()))


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file: {_WRITE_ONE}.")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the baseline {path}: {why}; {_WRITE_ONE}.") from error
    if len(content) > _LARGEST:
        raise UsageError(f"{path} is too large to be a baseline: {_WRITE_ONE}.")
    return content


def _rows(path: Path, content: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of the lines, with the number of each."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise _damaged(path, number, f"it is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise _damaged(path, number, f"{shown(row)} is no object")
        yield number, row


def _damaged(path: Path, number: int, what: str) -> UsageError:
    if number == 1:
        return UsageError(f"{path} is no baseline: line 1: {what}; {_WRITE_ONE}.")
    return UsageError(f"{path}, line {number}: {what}; take that line away, or write the baseline anew.")


def _baseline(path: Path, number: int, head: Mapping[str, Any]) -> Baseline:
    """What the first line says of all the others."""
    if "attnbench_baseline" not in head and "schema" in head:
        raise UsageError(f"{path} holds records, and is no baseline: {_WRITE_ONE}, or give a second file of records to "
                         "compare this one with.")  # fmt: skip
    if "attnbench_baseline" not in head:
        raise _damaged(path, number, "it does not begin with attnbench_baseline")
    if (found := head["attnbench_baseline"]) != FORMAT or isinstance(found, bool):
        raise UsageError(f"{path} is a baseline of format {shown(found)}, and this attnbench reads {FORMAT}: write it "
                         "anew with attnbench baseline update.")  # fmt: skip
    try:
        names = _listed(head, "yardsticks")
        # A target of any other kind would be code that the file, and not its reader, has executed.
        if not names or len(set(map(str, names))) < len(names) or not all(map(_is_yardstick, names)):
            raise ValueError("its yardsticks are no list of names like yardstick:softmax-1")
        commit = head.get("git_commit")
        return Baseline(_env(head), (), tuple(names), _text(head, "attnbench"),
                        None if commit is None else _text(head, "git_commit"), _text(head, "written_at"),
                        _positive(head, "loop_us"))  # fmt: skip
    except ValueError as error:
        raise _damaged(path, number, str(error)) from error


def _is_yardstick(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("yardstick:")


def _env(head: Mapping[str, Any]) -> Mapping[str, Any]:
    env = _object(head, "env")
    for name, value in env.items():
        flat = _object(env, name).values() if isinstance(value, dict) else [value]
        if not all(isinstance(each, str | int | float | bool | None) for each in flat):
            raise ValueError(f"its env has {shown(value)} for {shown(name)}")
    return env


def _line(row: Mapping[str, Any], yardsticks: Sequence[str]) -> Line:
    case = Case.from_dict(_object(row, "case"))
    status = _text(row, "status")
    if status not in STATUSES:
        raise ValueError(f"its status {shown(status)} is none of {', '.join(STATUSES)}")
    figures = {name: _counted(name, value) for name, value in _object(row, "figures").items()}
    if "log_ratios" not in row:
        return Line(case, status, _text(row, "reason"), figures)
    ratios = _ratios(_object(row, "log_ratios"), yardsticks)
    steps = _object(row, "yardstick_ms")
    yardstick_ms = {name: ms for name in yardsticks if (ms := _positive(steps, name)) is not None}
    return Line(case, status, _text(row, "reason"), figures, _shape(row), ratios, _positive(row, "step_ms"),
                _clock(row), yardstick_ms)  # fmt: skip


def _counted(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST_FIGURE:
        raise ValueError(f"its {name} is {shown(value)}")
    return value


def _ratios(found: Mapping[str, Any], yardsticks: Sequence[str]) -> dict[str, tuple[float, ...]]:
    if set(found) != set(yardsticks):
        raise ValueError(f"its log_ratios are to {', '.join(map(shown, found))}, and not to the file's yardsticks")
    ratios = {name: tuple(_logarithm(value) for value in _listed(found, name)) for name in yardsticks}
    counts = {len(values) for values in ratios.values()}
    if len(counts) > 1 or min(counts) < _FEWEST_LAUNCHES:
        raise ValueError(f"its log_ratios are of {' and '.join(map(str, sorted(counts)))} launches")
    return ratios


def _logarithm(value: Any) -> float:
    if not _is_number(value) or not abs(value) < _FURTHEST:
        raise ValueError(f"one of its log_ratios is {shown(value)}")
    return float(value)


def _shape(row: Mapping[str, Any]) -> tuple[int, int, int]:
    sizes = _listed(row, "shape")
    if len(sizes) != 3 or not all(type(size) is int and 0 < size < 2**24 for size in sizes):
        raise ValueError("its shape is not that of a yardstick: three sizes like [1, 1024, 64]")
    return sizes[0], sizes[1], sizes[2]


def _positive(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is not None and not (_is_number(value) and value > 0):
        raise ValueError(f"its {name} is {shown(value)}")
    return None if value is None else float(value)


def _clock(row: Mapping[str, Any]) -> str:
    if (clock := row.get("clock")) not in ("cpu", "wall"):
        raise ValueError(f"its clock {shown(clock)} is none of cpu, wall")
    return str(clock)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"its {name} {shown(value)} is no text")
    return value


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"its {name} {shown(value)} is no object")
    return value


def _listed(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise ValueError(f"its {name} {shown(value)} is no list")
    return value
