"""The plan of a suite: its cases as questions, each once, with the excludes and overrides that are for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.engine.processes import check
from attnbench.engine.question import Question
from attnbench.engine.suites.errors import located
from attnbench.engine.suites.grid import Grid
from attnbench.engine.suites.keys import ASKING, MEASURING, Layer, Said, hyper_parameters
from attnbench.engine.suites.lines import Place, TomlFile
from attnbench.engine.suites.rules import Planned, Rule
from attnbench.engine.sweep import LAYOUT_NAMES, one_of, positive, sensible, settings
from attnbench.metrics.asked import measuring
from attnbench.metrics.metric import Options, chosen

__all__ = ["Plan", "options_of"]

_ALL = ("all",)
_NO_TIMEOUT = 1.0  # a suite says none


class Plan:
    """Plans grid by grid; keeps which cases there were and which rules were for one of them."""

    def __init__(self, file: TomlFile, excludes: Sequence[Rule], overrides: Sequence[Rule], on_top: Layer) -> None:
        self._file, self._excludes, self._overrides = file, excludes, overrides
        self._on_top = {key: said for key, said in on_top.items() if key in MEASURING}
        self._asked_on_top = {key: said for key, said in on_top.items() if key in ASKING}
        self._strict = not on_top  # what is given may leave a rule nothing to match, or make two cases one
        self._first: dict[tuple[Case, bool], tuple[Grid, Options]] = {}
        self._cases: dict[str, list[Planned]] = {}
        self._used: set[Place] = set()

    def questions(self, grid: Grid) -> list[Question]:
        """Those of a grid, but for cases that came up before.

        Raises:
            UsageError: a value is none, nothing is left, or a case came up before that was to be measured otherwise.
        """
        every = self._cases[grid.name] = list(grid.cases(self._file, self._asked_on_top))
        left = [each for each in every if not self._fitting((*self._excludes, *grid.excludes), each)]
        if not left and self._strict:
            raise self._file.error(grid.place, f"{grid.title} has no case left: every one is excluded.")
        planned = self._planned(grid, left)
        return [question for question in planned if self._is_new(grid, question)]

    def check_rules(self, grids: Sequence[Grid]) -> None:
        """See that each rule is for a case at least: one that is for none is a slip.

        Raises:
            UsageError: one is not.
        """
        scopes = [((*grid.excludes, *grid.overrides), self._cases[grid.name], grid.title) for grid in grids]
        everything = [case for cases in self._cases.values() for case in cases]
        for each_rules, cases, where in [*scopes, ((*self._excludes, *self._overrides), everything, "the suite")]:
            for rule in each_rules:
                if rule.place not in self._used:
                    raise rule.fits_none(self._file, cases, where)

    def _fitting(self, rules: Sequence[Rule], planned: Planned) -> list[Rule]:
        found = [rule for rule in rules if rule.fits(planned)]
        self._used |= {rule.place for rule in found}
        return found

    def _planned(self, grid: Grid, cases: Sequence[Planned]) -> Iterator[Question]:
        ways: dict[tuple[Place, ...], Options] = {}
        for planned in cases:
            fitting = self._fitting((*self._overrides, *grid.overrides), planned)
            places = tuple(rule.place for rule in fitting)
            if places not in ways:
                layers = [grid.defaults, grid.own, *(rule.change for rule in fitting)]
                ways[places] = options_of(self._file, grid.place, layers, self._on_top)
            case = self._changed(planned.case, fitting) if fitting else planned.case
            yield Question(case, replace(ways[places], best_batch=True) if planned.seeks_batch else ways[places])

    def _changed(self, case: Case, fitting: Sequence[Rule]) -> Case:
        """The case with the heads, layout and hyper-parameters that the overrides give; the last one wins."""
        change: dict[str, Said] = {key: said for rule in fitting for key, said in rule.change.items()}
        texts = [f"{name}={value}" for name, (value,) in hyper_parameters(change).items()]
        changes: dict[str, Any] = {"params": tuple(sorted((dict(case.params) | dict(settings(texts))).items()))}
        try:
            if "heads" in change:
                changes["heads"] = positive("--heads", change["heads"].values[0])
            if "layout" in change:
                changes["layout"] = one_of("--layout", change["layout"].values[0], LAYOUT_NAMES)
            case = case.with_(**changes)
            sensible(case)
        except UsageError as error:
            raise located(error, change, self._file, fitting[-1].place) from error
        return case

    def _is_new(self, grid: Grid, question: Question) -> bool:
        """Whether the case comes up for the first time; a second time it has to be asked for in the same way."""
        key = (question.case, question.options.best_batch)
        if key not in self._first:
            self._first[key] = (grid, question.options)
            return True
        first, options = self._first[key]
        if self._strict and options != question.options:
            where = "twice" if first is grid else f"in {first.title} (line {self._file.line(first.place)}) too"
            way = _difference(options, question.options)
            raise self._file.error(grid.place, f"{_called(question.case)} of {grid.title} is {where}, measured in "
                                               f"another way ({way}): exclude it once.")  # fmt: skip
        return False


def _called(case: Case) -> str:
    return case.name if case.size == "None" else f"{case.name} at {case.size}"


def _difference(first: Options, second: Options) -> str:
    """The first option that is not the same."""
    name = next(each.name for each in fields(Options) if getattr(first, each.name) != getattr(second, each.name))
    values = (getattr(options, name) for options in (first, second))
    there, here = (",".join(value) if isinstance(value, tuple) else value for value in values)
    return f"{name.replace('_', '-')} {there}, then {here}"


def options_of(file: TomlFile, place: Place, layers: Sequence[Layer], on_top: Layer) -> Options:
    """How to measure, as the last of the layers that says it; what is given on top comes after all of them.

    Processes are for a latency: those of a layer below the metrics that leave it out do not hold.

    Raises:
        UsageError: a value is none.
    """
    said: dict[str, Said] = {}
    try:
        for layer in (*layers, on_top):
            if "metrics" in layer and not _times(layer):
                said.pop("processes", None)
            said |= {key: each for key, each in layer.items() if key in MEASURING}
        if "processes" in on_top and "metrics" not in on_top and not _times(said):
            del said["processes"]
        return _checked({key: each.values for key, each in said.items()})
    except UsageError as error:
        raise located(error, {**said, **layer}, file, place) from error


def _times(layer: Layer) -> bool:
    """Whether there is a latency among the metrics."""
    metrics = layer["metrics"].values if "metrics" in layer else _ALL
    return any(each.name == "latency" for each in chosen(metrics))


def _checked(values: Mapping[str, tuple[Any, ...]]) -> Options:
    usual = Options()
    one = {key: value[0] for key, value in values.items()}
    options = measuring(values.get("metrics", _ALL), one.get("precision-target", str(usual.precision_target)),
                        one.get("max-time", usual.max_time), _NO_TIMEOUT, one.get("threads"))  # fmt: skip
    options = replace(options, processes=one.get("processes", 1), keep_samples=one.get("keep-samples", False),
                      subtract_idle=one.get("subtract-idle", False))  # fmt: skip
    check(options, isolate=True)
    return options
