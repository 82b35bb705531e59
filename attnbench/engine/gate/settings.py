"""What `[tool.attnbench.check]` of a pyproject.toml says, checked key by key; an error has the file and the line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attnbench.core.registry import did_you_mean
from attnbench.engine.gate.thresholds import Rule, Threshold, Thresholds, reads_sampled, threshold_of
from attnbench.engine.gate.values import OF_A_RULE, OF_THE_TABLE, Read, from_here, located
from attnbench.engine.suites.lines import Place, TomlFile, read_toml

__all__ = ["Settings", "settings"]

_FILE: Final = "pyproject.toml"
_PATH: Final = ("tool", "attnbench", "check")
_TITLE: Final = "[tool.attnbench.check]"
_RULE: Final = "[[tool.attnbench.check.thresholds]]"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says; None is not given, so that an option wins over it and a default stands behind both.

    `path` is the file, None where there is none. `suite` is a name, or a path from the current folder, as is
    `baseline`. `threshold` and `margin` are fractions.
    """

    path: Path | None = None
    suite: str | None = None
    base: str | None = None
    baseline: Path | None = None
    threshold: float | None = None
    margin: float | None = None
    max_time: float | None = None
    fail_on: tuple[str, ...] | None = None
    warn_only: bool | None = None
    device: str | None = None
    threads: int | None = None
    rules: tuple[Rule, ...] = ()

    def thresholds(self, threshold: float | None = None, margin: float | None = None) -> Thresholds:
        """The thresholds of all cases; what is given is from options, and wins over the file's, but not over its rules.

        Raises:
            UsageError: the margin is not smaller than the threshold.
        """
        tolerance = self.threshold if threshold is None else threshold
        least = self.margin if margin is None else margin
        return Thresholds(threshold_of(tolerance, least), self.rules)


def settings(folder: Path = Path()) -> Settings:
    """Those of the nearest pyproject.toml that has some, from the folder up to the top of its repository.

    Raises:
        UsageError: such a file cannot be read, or something is wrong in it; the sentence has the line.
    """
    for path in _files(folder.absolute()):
        file = read_toml(path, from_here(path))
        if (table := _table(file)) is not None:
            return _settings(file, path, table)
    return Settings()


def _files(folder: Path) -> list[Path]:
    found = []
    for place in (folder, *folder.parents):
        if os.path.isfile(place / _FILE):  # noqa: PTH113 - Path's raises in a folder that cannot be looked into
            found.append(place / _FILE)
        if os.path.exists(place / ".git"):  # noqa: PTH110
            break
    return found


def _table(file: TomlFile) -> dict[str, Any] | None:
    """What stands under `[tool.attnbench.check]`, None where nothing does."""
    table: dict[str, Any] = dict(file.data)
    for depth, key in enumerate(_PATH, 1):
        if key not in table:
            _nothing_else(file, table if depth == len(_PATH) else {})
            return None
        table = table[key]
        if not isinstance(table, dict):
            title = ".".join(_PATH[:depth])
            raise file.error(_PATH[:depth], f"{title} is a table: write [{title}].")
    return table


def _nothing_else(file: TomlFile, table: Mapping[str, Any]) -> None:
    """See that nothing else stands where the table would."""
    for typed in table:
        near = did_you_mean(typed, _PATH[-1:]) or f" Known: {_PATH[-1]}."
        raise file.error((*_PATH[:-1], typed), f"unknown key {typed!r} in [tool.attnbench].{near}")


def _settings(file: TomlFile, path: Path, table: Mapping[str, Any]) -> Settings:
    said = _read(file, _PATH, table, {**OF_THE_TABLE, "thresholds": _rules}, _TITLE)
    at = "margin" if "margin" in said else "threshold"
    located(file, (*_PATH, at), lambda: threshold_of(said.get("threshold"), said.get("margin")))
    rules = said.pop("thresholds", ())
    return Settings(path, **{key.replace("-", "_"): value for key, value in said.items()}, rules=rules)


def _read(
    file: TomlFile, place: Place, table: Mapping[str, Any], readers: Mapping[str, Read], what: str
) -> dict[str, Any]:
    """The values of a table by their keys, with dashes, each checked."""
    found: dict[str, Any] = {}
    for typed, value in table.items():
        at, key = (*place, typed), typed.replace("_", "-")
        if key not in readers:
            near = did_you_mean(key, readers) or f" Known: {', '.join(readers)}."
            raise file.error(at, f"unknown key {typed!r} in {what}.{near}")
        if key in found:
            raise file.error(at, f"{key} is given twice in {what}.")
        found[key] = readers[key](file, at, value)
    return found


def _rules(file: TomlFile, place: Place, value: Any) -> tuple[Rule, ...]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise file.error(place, f"thresholds are tables, each under its own {_RULE}.")
    return tuple(_rule(file, (*place, number), table) for number, table in enumerate(value))


def _rule(file: TomlFile, place: Place, table: Mapping[str, Any]) -> Rule:
    said = _read(file, place, table, OF_A_RULE, _RULE)
    if not {"case", "metric"} & said.keys():
        raise file.error(place, 'this threshold does not say what it is for: give it case = "..." or metric = "...".')
    if "threshold" not in said:
        raise file.error(place, 'this says no threshold: give it threshold = "10%".')
    metric = said.get("metric", "latency")
    where = f"{file.name}, line {file.line((*place, 'case'))}"
    return Rule(said.get("case", "*"), metric, _threshold(file, place, said, metric), where)


def _threshold(file: TomlFile, place: Place, said: Mapping[str, Any], metric: str) -> Threshold:
    threshold, margin = said["threshold"], said.get("margin")
    if not reads_sampled(metric):
        if margin is not None:
            raise file.error((*place, "margin"), f"a margin is for what is sampled, and {metric} is counted: leave it "
                                                 "out.")  # fmt: skip
        return Threshold(threshold, threshold)
    if not threshold:
        raise file.error((*place, "threshold"), f"threshold 0 is for counted figures, and {metric} is sampled: give a "
                                                'fraction like "5%".')  # fmt: skip
    at = (*place, "threshold" if margin is None else "margin")
    found: Threshold = located(file, at, lambda: threshold_of(threshold, margin))
    return found

