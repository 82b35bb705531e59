"""Suites: named grids of cases in a TOML file, with how they are measured; planned without torch, never executed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.engine.question import Question
from attnbench.engine.suites.grid import IN_A_GRID, Grid, grid_of, text_of
from attnbench.engine.suites.keys import MEASURING, given, layer_of
from attnbench.engine.suites.lines import TomlFile, read_toml
from attnbench.engine.suites.plan import Plan, options_of
from attnbench.engine.suites.rules import Rule, rules

__all__ = ["GIVEN", "Suite", "example", "load_suite", "shipped"]

# What a command line may say on top of a suite.
GIVEN = ("device", "dtype", "seed", *MEASURING)

_TOP = ("description", "defaults", "grid", "exclude", "override")


@dataclass(frozen=True, slots=True)
class Suite:
    """Grids in the order of the file, the rules that are for all of them, and the questions that this makes by grid."""

    name: str
    description: str
    grids: tuple[Grid, ...]
    excludes: tuple[Rule, ...] = field(repr=False)
    overrides: tuple[Rule, ...] = field(repr=False)
    file: TomlFile = field(repr=False)
    planned: Mapping[str, list[Question]] = field(repr=False, compare=False)

    def questions(self, override: Mapping[str, Any] | None = None) -> list[Question]:
        """Every case once, as the first grid that has it says, in the order of the grids.

        `override` is what a command line gives on top, by the names of the options in `GIVEN` (`max_time` or
        `max-time`; None is not given): it wins over the file everywhere.

        Raises:
            UsageError: an option cannot be given so, its value is none, or nothing is left with it.
        """
        found = [question for each in self.by_grid(override).values() for question in each]
        if not found:
            raise UsageError(f"nothing of the suite {self.name} is left with what was given on the command line.")
        return found

    def by_grid(self, override: Mapping[str, Any] | None = None) -> dict[str, list[Question]]:
        """The questions of each grid, those left out that an earlier grid has."""
        on_top = given(override or {}, GIVEN)
        if not on_top:
            return {name: list(questions) for name, questions in self.planned.items()}
        plan = Plan(self.file, self.excludes, self.overrides, on_top)
        return {grid.name: plan.questions(grid) for grid in self.grids}


def load_suite(name_or_path: str) -> Suite:
    """The suite of that name that comes with attnbench, or that of a file: what ends in .toml or has a slash in it.

    Raises:
        UsageError: there is none, or something is wrong in it; the sentence has the line.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        return _suite(path.stem, read_toml(path, name_or_path))
    known = shipped()
    if name_or_path not in known:
        there = os.path.isfile(f"{name_or_path}.toml")  # noqa: PTH113 - Path's raises where a name is too long
        more = f" For the file write {name_or_path}.toml." if there else ""
        raise UsageError(f"unknown suite {name_or_path!r}.{did_you_mean(name_or_path, known)} Known: "
                         f"{', '.join(known)}; or a file like my_suite.toml.{more}")  # fmt: skip
    return _suite(name_or_path, read_toml(known[name_or_path], f"{name_or_path}.toml"))


def shipped() -> dict[str, Path]:
    """The files of the suites that come with attnbench, by name."""
    return {path.stem: path for path in sorted(_folder().glob("[!_]*.toml"))}


def example() -> str:
    """The text of a small suite that explains itself."""
    return (_folder() / "_example.toml").read_text(encoding="utf-8")


def _folder() -> Path:
    return Path(str(files("attnbench"))) / "suites"


def _suite(name: str, file: TomlFile) -> Suite:
    """What the file says, planned once so that everything wrong with it is found."""
    for key in file.data:
        _known(file, key)
    defaults = layer_of(file, ("defaults",), _table(file, "defaults"), IN_A_GRID, "[defaults]")
    for key in defaults:  # a value that no grid takes over is none either
        options_of(file, ("defaults",), [{key: defaults[key]}], {})
    if not (grids := _table(file, "grid")):
        raise file.error(("grid",), "there is no grid: add a table like [grid.small] with a module or a network.")
    excludes, overrides = (
        rules(file, (each,), file.data.get(each, []), change=each == "override") for each in ("exclude", "override")
    )
    named = tuple(grid_of(file, each, defaults) for each in grids)
    plan = Plan(file, excludes, overrides, {})
    planned = {grid.name: plan.questions(grid) for grid in named}
    plan.check_rules(named)
    return Suite(name, text_of(file, ("description",), file.data), named, excludes, overrides, file, planned)


def _known(file: TomlFile, key: str) -> None:
    """Refuse what stands at the top of the file and is none of its tables."""
    if key in _TOP:
        return
    if key.replace("_", "-") in IN_A_GRID:
        raise file.error((key,), f"{key} stands outside of a grid: put it under [grid.NAME], or under [defaults] if it "
                                 "is for every grid.")  # fmt: skip
    near = did_you_mean(key, _TOP) or f" Known: {', '.join(_TOP)}."
    raise file.error((key,), f"unknown key {key!r} at the top of the file.{near}")


def _table(file: TomlFile, key: str) -> Mapping[str, Any]:
    table = file.data.get(key, {})
    if not isinstance(table, dict):
        raise file.error((key,), f"{key} is a table: write [{key}{'.small' if key == 'grid' else ''}].")
    return table
