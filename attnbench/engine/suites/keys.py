"""What a table of a suite may say: keys called like the options of `attnbench run`, and values of the right kind."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.core.case import taken_apart
from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.engine.suites.lines import Place, TomlFile
from attnbench.targets.names import split

__all__ = ["ASKING", "MATCHED", "MEASURING", "OVERRIDDEN", "Layer", "Said", "given", "hyper_parameters", "layer_of",
           "shown"]  # fmt: skip

_SET = "set"
# A hyper-parameter stands among the other keys under this prefix: `set.window`.
_SETTING = "set."

_TARGETS = ("module", "network", "attn", "swap")
_SIZES = ("res", "img-size")
_NUMBERS = ("seq-len", "batch-size", "dim", "heads")
_WORDS = ("dtype", "mode", "engine", "backend")

# What is asked, and how it is measured; a list of one of `MATCHED` is what a grid combines.
MATCHED = (*_TARGETS, *_SIZES, *_NUMBERS, *_WORDS, _SET)
ASKING = (*MATCHED, "at", "layout", "device", "seed")
MEASURING = ("metrics", "precision-target", "max-time", "processes", "threads", "keep-samples", "subtract-idle")
# What an override may change of the cases that it matches.
OVERRIDDEN = (_SET, "heads", "layout", *MEASURING)

_ALIASES = {"precision": "dtype"}
# Options of `run` that say where and how a whole sweep runs, and what becomes of its records.
_OF_THE_COMMAND = ("timeout", "isolate", "no-isolate", "baseline", "out", "format", "quiet", "resume", "dry-run",
                   "executor", "address", "devices", "mem-limit", "suite")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """The values of a key, the place of the key, and that of each value; there is no place on a command line."""

    values: tuple[Any, ...]
    place: Place | None = None
    places: tuple[Place, ...] = ()


# What one table says: by key, hyper-parameters as `set.NAME`.
Layer = Mapping[str, Said]


def layer_of(file: TomlFile, place: Place, table: Mapping[str, Any], allowed: Sequence[str], what: str) -> Layer:
    """The keys of the table at that place, as texts where the command line would have them so.

    Raises:
        UsageError: a key is not `allowed` in `what`, or has a value of another kind.
    """
    layer: dict[str, Said] = {}
    for typed, value in table.items():
        at = (*place, typed)
        key = _known(file, at, typed, allowed, what)
        found = _settings(file, at, value) if key == _SET else {key: _read(file, at, key, value)}
        if twice := layer.keys() & found.keys():
            raise file.error(at, f"{sorted(twice)[0]} is given twice in {what}.")
        layer |= found
    return layer


def _known(file: TomlFile, place: Place, typed: str, allowed: Sequence[str], what: str) -> str:
    """The key's one spelling: with dashes."""
    dashed = typed.replace("_", "-")
    key = _ALIASES.get(dashed, dashed)
    if key in allowed:
        return key
    if key in _OF_THE_COMMAND:
        raise file.error(place, f"{typed} is for the command line, and no key of a suite: "
                                f"attnbench run --suite {file.name} --{key} ...")  # fmt: skip
    if key in (*ASKING, *MEASURING):
        raise file.error(place, f"{typed} cannot stand in {what}, which knows: {', '.join(allowed)}.")
    near = did_you_mean(dashed, allowed) or f" Known: {', '.join(allowed)}."
    raise file.error(place, f"unknown key {typed!r} in {what}.{near}")


def _read(file: TomlFile, place: Place, key: str, value: Any) -> Said:
    accepts, wanted, many = _KINDS[key]
    elements = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not many:
        raise file.error(place, f"{key} takes one value, and no list.")
    if not elements:
        raise file.error(place, f"{key} is an empty list: leave the key out, or say what to take.")
    values, places = [], []
    for number, element in enumerate(elements):
        at = (*place, number) if isinstance(value, list) else place
        parts = list(accepts(element))
        if not parts:
            raise file.error(at, f"{key} takes {wanted}, not {shown(element)}.")
        values += [_from_here(key, part, file) for part in parts]
        places += [at] * len(parts)
    return Said(tuple(values), place, tuple(places))


def shown(value: Any) -> str:
    """The value as TOML writes it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _words(value: Any) -> Iterator[str]:
    """Names, comma-separated as on the command line."""
    if isinstance(value, str):
        yield from (part.strip() for part in value.split(",") if part.strip())


def _words_or_numbers(value: Any) -> Iterator[str]:
    yield from [str(value)] if _is_whole(value) else _words(value)


def _one_word(value: Any) -> Iterator[str]:
    yield from [value] if isinstance(value, str) and value.strip() else []


def _whole(value: Any) -> Iterator[int]:
    yield from [value] if _is_whole(value) else []


def _fraction(value: Any) -> Iterator[str]:
    yield from [str(value)] if _is_whole(value) or isinstance(value, float) else _one_word(value)


def _seconds(value: Any) -> Iterator[float]:
    if _is_whole(value) or isinstance(value, float | str):
        try:
            yield float(value)
        except ValueError:
            return


def _switch(value: Any) -> Iterator[bool]:
    yield from [value] if isinstance(value, bool) else []


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Kind = tuple[Callable[[Any], Iterator[Any]], str, bool]
_KINDS: Mapping[str, _Kind] = {
    **dict.fromkeys(_TARGETS, (_words, 'names like "self_attn"', True)),
    **dict.fromkeys(_SIZES, (_words_or_numbers, 'sizes like 64 or "48x64"', True)),
    **dict.fromkeys(_NUMBERS, (_words_or_numbers, "whole numbers", True)),
    **dict.fromkeys(_WORDS, (_words, "words, as the option does", True)),
    "at": (_words, 'places like "layer3"', True),
    "layout": (_one_word, 'one word like "bnc"', False),
    "device": (_one_word, 'one word like "cuda"', False),
    "seed": (_whole, "a whole number", False),
    "metrics": (_words, 'names like "latency"', True),
    "precision-target": (_fraction, 'a fraction like "1%" or 0.01', False),
    "max-time": (_seconds, "seconds", False),
    "processes": (_whole, "a whole number", False),
    "threads": (_whole, "a whole number", False),
    "keep-samples": (_switch, "true or false", False),
    "subtract-idle": (_switch, "true or false", False),
}


def _from_here(key: str, value: Any, file: TomlFile) -> Any:
    """A user's file in the name of a target, relative to the suite's folder, as a path from here; else the value."""
    if key not in _TARGETS:
        return value
    target, insert, swap = taken_apart(value) if key == "network" else (value, None, None)
    parts = [("", target), ("+", insert), ("~", swap)]
    return "".join(sign + _path_from_here(part, file) for sign, part in parts if part is not None)


def _path_from_here(target: str, file: TomlFile) -> str:
    source, place, name = split(target)
    if source != "file":
        return target
    path = os.path.normpath(file.folder / os.path.expanduser(place))  # noqa: PTH111 - Path's raises for `~nobody`
    return f"{path}:{name}" if name else path


def _settings(file: TomlFile, place: Place, value: Any) -> dict[str, Said]:
    """The hyper-parameters of a table by `set.NAME`; `attn` and `swap` may be tables in it."""
    if not isinstance(value, dict) or not value:
        raise file.error(place, "set takes a table of hyper-parameters like { window = 8 }.")
    found: dict[str, Said] = {}
    for name, said in _flat(value, place):
        key = _SETTING + name
        if not name.replace(".", "").isidentifier():
            raise file.error(said.place or place, f"{shown(name)} is no name of a hyper-parameter.")
        if key in found:
            raise file.error(said.place or place, f"set {name} is given twice.")
        for each, at in zip(said.values, said.places, strict=True):
            if not isinstance(each, bool | int | float | str):
                raise file.error(at, f"set {name} takes a number, true, false or a text, not {shown(each)}.")
        if not said.values:
            raise file.error(said.place or place, f"set {name} is an empty list: leave it out, or say what to take.")
        found[key] = said
    return found


def _flat(table: Mapping[str, Any], place: Place, prefix: str = "") -> Iterator[tuple[str, Said]]:
    for name, value in table.items():
        at = (*place, name)
        if isinstance(value, dict) and not prefix and name in ("attn", "swap"):
            yield from _flat(value, at, f"{name}.")
        elif isinstance(value, list):
            yield prefix + name, Said(tuple(value), at, tuple((*at, number) for number in range(len(value))))
        else:
            yield prefix + name, Said((value,), at, (at,))


def hyper_parameters(layer: Layer) -> dict[str, list[str]]:
    """The hyper-parameters that a layer gives, by name, each with the texts that --set would have."""
    return {key.removeprefix(_SETTING): [str(value) for value in said.values]
            for key, said in layer.items() if key.startswith(_SETTING)}  # fmt: skip


def given(options: Mapping[str, Any], allowed: Sequence[str]) -> Layer:
    """What was given on a command line on top of a suite, by the names of the options or of their parameters.

    Raises:
        UsageError: an option cannot be given there, or its value is of another kind.
    """
    layer: dict[str, Said] = {}
    for name, value in options.items():
        key = _ALIASES.get(dashed := name.replace("_", "-"), dashed)
        if value is None or value in ([], ()):
            continue
        if key not in allowed:
            raise UsageError(f"--{dashed} cannot be given on top of a suite: {', '.join(allowed)} can.")
        accepts, wanted, many = _KINDS[key]
        elements = value if isinstance(value, list | tuple) and many else [value]
        values = [part for element in elements for part in accepts(element)]
        if not values:
            raise UsageError(f"--{dashed} takes {wanted}.")
        layer[key] = Said(tuple(values))
    return layer
