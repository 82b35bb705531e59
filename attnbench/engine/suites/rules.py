"""Which cases of a grid an exclude or an override is for: names with wildcards, all else as options have it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from attnbench.core.case import BACKENDS, ENGINES, MODES, Case, taken_apart
from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.engine.suites.errors import located
from attnbench.engine.suites.keys import MATCHED, OVERRIDDEN, Layer, layer_of
from attnbench.engine.suites.lines import Place, TomlFile
from attnbench.engine.sweep import dtype_named, one_of, positive, settings, sides
from attnbench.targets.names import canonical

__all__ = ["Planned", "Rule", "rules"]

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Planned:
    """A case of a grid, and whether its batch is still to be found."""

    case: Case
    seeks_batch: bool = False


Test = Callable[[Planned], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """The cases that are meant, by a test for each key, and what is changed of them; an exclude changes nothing."""

    place: Place
    match: Layer
    tests: Mapping[str, Test]
    change: Layer

    def fits(self, planned: Planned) -> bool:
        for test in self.tests.values():  # noqa: SIM110 - half the time, and 10,000 cases are held to dozens of rules
            if not test(planned):
                return False
        return True

    def fits_none(self, file: TomlFile, cases: Sequence[Planned], where: str) -> UsageError:
        """Why it fits none of the cases that are left: probably a slip."""
        if any(map(self.fits, cases)):
            return file.error(self.place, f"every case of {where} that this is for is excluded.")
        for key, test in self.tests.items():
            if not any(map(test, cases)):
                said = self.match[key]
                has = ", ".join(str(value) for value in said.values)
                near = did_you_mean(str(said.values[0]), _of_all(key, cases))
                return file.error(said.place or self.place, f"no case of {where} has {key} {has}.{near}")
        return file.error(self.place, f"no case of {where} is all of that: {', '.join(self.tests)}.")


def rules(file: TomlFile, place: Place, value: Any, *, change: bool) -> tuple[Rule, ...]:
    """The excludes, or with `change` the overrides, of a list of tables.

    Raises:
        UsageError: one says nothing, or something that cannot be.
    """
    tables = value if isinstance(value, list) else [value]
    found = []
    for number, table in enumerate(tables):
        at = (*place, number) if isinstance(value, list) else place
        if not isinstance(table, dict):
            raise file.error(at, f"{place[-1]} takes tables, like [[{'.'.join(map(str, place))}]].")
        found.append(_override(file, at, table) if change else _exclude(file, at, table))
    return tuple(found)


def _exclude(file: TomlFile, place: Place, table: Mapping[str, Any]) -> Rule:
    if not table:
        raise file.error(place, "this exclude does not say which cases: give it keys like module or res.")
    match = layer_of(file, place, table, MATCHED, "an exclude")
    return Rule(place, match, _tests(file, place, match), {})


def _override(file: TomlFile, place: Place, table: Mapping[str, Any]) -> Rule:
    wanted = table.get("match")
    if not isinstance(wanted, dict) or not wanted:
        at = (*place, "match") if "match" in table else place
        raise file.error(at, 'this override does not say which cases: give it match = { module = "..." }.')
    match = layer_of(file, (*place, "match"), wanted, MATCHED, "the match of an override")
    rest = {key: each for key, each in table.items() if key != "match"}
    change = layer_of(file, place, rest, OVERRIDDEN, "an override")
    if not change:
        raise file.error(place, "this override changes nothing: give it keys like max-time or set.")
    for key, said in change.items():
        if key != "metrics" and len(said.values) > 1:
            raise file.error(said.place or place, f"{key} takes one value in an override: a list is for a grid.")
    return Rule(place, match, _tests(file, place, match), change)


def _tests(file: TomlFile, place: Place, match: Layer) -> dict[str, Test]:
    try:
        return {key: _test(key, [str(value) for value in said.values]) for key, said in match.items()}
    except UsageError as error:
        raise located(error, match, file, place) from error


def _test(key: str, wanted: Sequence[str]) -> Test:
    """Whether a case has one of the values that are wanted of a key."""
    if key.startswith("set."):
        return _has_setting(key.removeprefix("set."), wanted)
    if key == "network":
        return _is_network([_parts(text) for text in wanted])
    of, read = _KEYS[key]
    patterns = [text if _WILD & set(text) else read(text) for text in wanted]
    seen: dict[str, bool] = {}

    def test(planned: Planned) -> bool:
        if (value := of(planned)) is None:
            return False
        if value not in seen:
            seen[value] = any(_alike(value, pattern) for pattern in patterns)
        return seen[value]

    return test


def _alike(value: str, pattern: str) -> bool:
    return value == pattern or fnmatchcase(value, pattern)


def _has_setting(name: str, wanted: Sequence[str]) -> Test:
    values = [dict(settings([f"{name}={text}"]))[name] for text in wanted]

    def test(planned: Planned) -> bool:
        found = dict(planned.case.params)
        # True is 1 in Python, and no number here.
        return any(name in found and found[name] == value and type(found[name]) is type(value) for value in values)

    return test


_Parts = tuple[str, str | None, str | None]


def _parts(text: str) -> _Parts:
    target, insert, swap = taken_apart(text)
    module = _name("module")
    return _name("network")(target), insert and module(insert), swap and module(swap)


def _is_network(wanted: Sequence[_Parts]) -> Test:
    """`vgg16` is vgg16 with and without an attention, `vgg16+se` the one with `se`."""

    def test(planned: Planned) -> bool:
        case = planned.case
        has = (case.target, case.insert or "none", case.swap or "none")
        return case.kind == "network" and any(
            all(part is None or _alike(value, part) for value, part in zip(has, parts, strict=True)) for parts in wanted
        )

    return test


def _name(kind: str) -> Callable[[str], str]:
    """Reads a target's name, an alias too; what has wildcards stays as it is."""
    return lambda text: text if _WILD & set(text) or text == "none" else canonical(text, kind)


def _size(option: str) -> Callable[[str], str]:
    return lambda text: "{}x{}".format(*sides(option, text))


def _number(option: str) -> Callable[[str], str]:
    return lambda text: str(positive(option, text))


def _word(option: str, known: Sequence[str]) -> Callable[[str], str]:
    return lambda text: one_of(option, text, known)


def _of(kind: str, case: Case, value: object) -> str | None:
    """What a case of that kind has."""
    return str(value) if case.kind == kind and value is not None else None


def _map_of(kind: str, case: Case) -> str | None:
    return case.size if case.kind == kind and case.height is not None else None


# Of each key: what a case has of it, as text; and how what is wanted of it is read.
_KEYS: Mapping[str, tuple[Callable[[Planned], str | None], Callable[[str], str]]] = {
    "module": (lambda each: _of("module", each.case, each.case.target), _name("module")),
    "attn": (lambda each: _of("network", each.case, each.case.insert or "none"), _name("module")),
    "swap": (lambda each: _of("network", each.case, each.case.swap or "none"), _name("module")),
    "res": (lambda each: _map_of("module", each.case), _size("--res")),
    "img-size": (lambda each: _map_of("network", each.case), _size("--img-size")),
    "seq-len": (lambda each: str(each.case.tokens or "") if each.case.height is None else None, _number("--seq-len")),
    "batch-size": (
        lambda each: "auto" if each.seeks_batch else str(each.case.batch_size),
        lambda text: text if text == "auto" else _number("--batch-size")(text),
    ),
    "dim": (lambda each: _of("module", each.case, each.case.dim), _number("--dim")),
    "heads": (lambda each: str(each.case.heads) if each.case.heads else None, _number("--heads")),
    "dtype": (lambda each: each.case.dtype, dtype_named),
    "mode": (lambda each: each.case.mode, _word("--mode", MODES)),
    "engine": (lambda each: each.case.engine, _word("--engine", ENGINES)),
    "backend": (lambda each: each.case.backend or "auto", _word("--backend", ("auto", *BACKENDS))),
}


def _of_all(key: str, cases: Sequence[Planned]) -> list[str]:
    """Every value that the cases have of a key."""
    if key == "network":
        return list(dict.fromkeys(each.case.target for each in cases if each.case.kind == "network"))
    if key not in _KEYS:
        return []
    return [text for text in dict.fromkeys(map(_KEYS[key][0], cases)) if text]
