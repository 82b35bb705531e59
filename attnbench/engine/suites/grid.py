"""A named grid of a suite: what it says, what of the defaults holds for it, and the cases that this makes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.engine.suites.errors import located
from attnbench.engine.suites.keys import ASKING, MEASURING, Layer, hyper_parameters, layer_of
from attnbench.engine.suites.lines import Place, TomlFile
from attnbench.engine.suites.rules import Planned, Rule, rules
from attnbench.engine.sweep import Sweep

__all__ = ["IN_A_GRID", "Grid", "grid_of", "text_of"]

IN_A_GRID = (*ASKING, *MEASURING)

_MOST = 250_000
_FIELDS = {"module": "modules", "network": "networks"}
_SINGLE = ("layout", "device", "seed")
_RULES = ("exclude", "override")


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of its lists, less its excludes. `own` is what it says, `defaults` what holds besides."""

    name: str
    description: str
    place: Place
    own: Layer = field(repr=False)
    defaults: Layer = field(repr=False)
    excludes: tuple[Rule, ...] = field(default=(), repr=False)
    overrides: tuple[Rule, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        return f"[grid.{self.name}]"

    def cases(self, file: TomlFile, on_top: Layer) -> Iterator[Planned]:
        """All combinations, with what is given on top of the file, before any exclude.

        Raises:
            UsageError: a value is none, or keys contradict each other.
        """
        said = {**self.defaults, **self.own, **on_top}
        count = prod(len(each.values) for key, each in said.items() if key not in MEASURING)
        if count > _MOST:
            raise file.error(self.place, f"{self.title} combines to {count:,} cases, and a grid may have {_MOST:,}.")
        try:
            for sweep in _sweeps(said):
                yield from (Planned(case, sweep.seeks_batch) for case in sweep.at_first_batch().cases())
        except UsageError as error:
            raise located(error, said, file, self.place) from error


def _sweeps(said: Layer) -> Iterator[Sweep]:
    """One for each combination of hyper-parameters; a sweep has all else in lists of its own."""
    lists: dict[str, Any] = {}
    for key in ASKING:
        if key in said:
            values = said[key].values
            lists[_FIELDS.get(key, key.replace("-", "_"))] = values[0] if key in _SINGLE else values
    named = hyper_parameters(said)
    for values in product(*named.values()):
        texts = [f"{name}={value}" for name, value in zip(named, values, strict=True)]
        yield Sweep(**lists, settings=texts)


def grid_of(file: TomlFile, name: str, defaults: Layer) -> Grid:
    """The grid of that name as the file has it.

    Raises:
        UsageError: it is no table, has a key that is none, or names nothing to run.
    """
    place: Place = ("grid", name)
    table = file.data["grid"][name]
    if not isinstance(table, dict):
        raise file.error(place, f"{name} stands in [grid] itself: give the grid a name, like [grid.small].")
    plain = {key: value for key, value in table.items() if key not in (*_RULES, "description")}
    own = layer_of(file, place, plain, IN_A_GRID, f"[grid.{name}]")
    kept = _kept(defaults, own)
    if not {"module", "network"} & {*kept, *own}:
        raise file.error(place, f"[grid.{name}] has nothing to run: give it a module or a network.")
    excludes, overrides = (
        rules(file, (*place, each), table.get(each, []), change=each == "override") for each in _RULES
    )
    return Grid(name, text_of(file, (*place, "description"), table), place, own, kept, excludes, overrides)


def text_of(file: TomlFile, place: Place, table: Mapping[str, Any]) -> str:
    """The text under the place's last key, on one line; empty where there is none.

    Raises:
        UsageError: something else is there.
    """
    text = table.get(str(place[-1]), "")
    if not isinstance(text, str):
        raise file.error(place, f"{place[-1]} takes a text.")
    return " ".join(text.split())


def _kept(defaults: Layer, own: Layer) -> Layer:
    """The defaults that a grid does not say itself, and that do not contradict what it is for."""
    if {"module", "network"} & own.keys():
        defaults = _without(defaults, "module", "network")
    has = {*defaults, *own}
    if "network" not in has:
        defaults = _without(defaults, "attn", "swap", "at", "img-size")
    if "module" not in has:
        defaults = _without(defaults, "res", "dim")
    if "seq-len" in own:
        defaults = _without(defaults, "res", *([] if "module" in has else ["img-size"]))
    if "res" in own or ("img-size" in own and "module" not in has):
        defaults = _without(defaults, "seq-len")
    return {key: said for key, said in defaults.items() if key not in own}


def _without(layer: Layer, *keys: str) -> Layer:
    return {key: said for key, said in layer.items() if key not in keys}
