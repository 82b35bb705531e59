"""Where in a TOML file each key stands: tomllib keeps no lines, and an error without one sends its reader searching."""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.core.errors import UsageError

__all__ = ["Place", "TomlFile", "read_toml"]

# Keys from the top down, and places in lists: ("grid", "small", "exclude", 0, "res").
Place = tuple[str | int, ...]

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# A value over several lines ends on a line with one of these.
_CLOSING = re.compile(r"\]|\"\"\"|'''")
_LARGEST = 2**63
_DEEPEST = 20
# More bytes than anybody types.
_LONGEST = 2**24


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A file that was read: what an error calls it, its text, what it says, and the folder that it lies in."""

    name: str
    text: str = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    folder: Path = Path()

    def line(self, place: Place) -> int:
        """The line of the key at this place, or of an element of a list; else of the nearest above it, 1 at least."""
        found = _statements_by_place(self.text)
        while place and place not in found:
            place = place[:-1]
        return found[place].line_of(place) if place else 1

    def error(self, place: Place, sentence: str) -> UsageError:
        """`vision.toml, line 12: ` and the sentence."""
        return UsageError(f"{self.name}, line {self.line(place)}: {sentence}")


def read_toml(path: Path, name: str) -> TomlFile:
    """The file at the path, called `name` in errors.

    Raises:
        UsageError: it cannot be read, is no text, or no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)  # /dev/zero has no end
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        raise UsageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > _LONGEST:
        raise UsageError(f"{name} is too large to be read: more than {_LONGEST >> 20} MiB.")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}, line {line}: this is no UTF-8 text.") from error
    return TomlFile(name, text, _parsed(text, name), path.parent)


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
        leaves = list(_leaves(data))
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply to be read.") from error
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error), text, name) from error
    except ValueError as error:
        line = next((each.first for each in _statements(text.split("\n")) if each.data is None), 1)
        raise UsageError(f"{name}, line {line}: the number is too long to be read.") from error
    for place, value in leaves:
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise TomlFile(name, text, data).error(place, "the number is too large for TOML.")
    return data


def _syntax(message: str, text: str, name: str) -> UsageError:
    at = _AT.search(message)
    sentence = (message[: at.start()] if at else message).replace("Cannot overwrite a value", "the key is given twice")
    if at and at[1]:
        return UsageError(f"{name}, line {at[1]}, column {at[2]}: this is no TOML: {sentence}.")
    last = text.rstrip("\n").count("\n") + 1
    return UsageError(f"{name}, line {last}: this is no TOML: {sentence} at the end of the file.")


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if len(place) > _DEEPEST:
        raise RecursionError
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(each, (*place, key))
    else:
        yield place, value


@dataclass(frozen=True, slots=True)
class _Statement:
    """A table's header or a key with its value: the number of its first line, its lines, and what it says by itself.

    `below` is the place of the table that it stands in.
    """

    first: int
    lines: Sequence[str]
    data: Mapping[str, Any] | None
    below: Place = ()

    @property
    def is_header(self) -> bool:
        return self.lines[0].lstrip().startswith("[")

    def line_of(self, place: Place) -> int:
        """The line of what the statement says at that place."""
        own = place[len(self.below) :]
        number = next((part for part in own if isinstance(part, int)), None)
        if number is None or len(self.lines) == 1 or self.is_header:
            return self.first
        key = own[: own.index(number)]
        # The list is shut behind each line in turn: the first that is long enough ends with the element's line.
        ends = range(len(self.lines) - 1)  # on the last line it shuts itself
        return self.first + bisect_left(ends, number + 1, key=lambda end: self._elements(end, key))

    def _elements(self, end: int, key: Place) -> int:
        """How many elements of the list stand on the lines up to that one."""
        for last in range(end, -1, -1):  # in the midst of an element nothing parses: then those before it
            for closing in ("]", "]}"):
                value: Any = _tried([*self.lines[: last + 1], closing])
                if value is not None:
                    for part in key:
                        value = value.get(part, {})
                    return len(value)
        return 0


def _statements_by_place(text: str) -> dict[Place, _Statement]:
    """The statement that each place of a TOML text comes from."""
    found: dict[Place, _Statement] = {}
    tables: dict[Place, int] = {}  # how many times each [[table]] came up
    header: Place = ()
    for each in _statements(text.split("\n")):
        if each.data is None:
            break
        if each.is_header:
            header = _header(each.data, tables)
            for end in range(1, len(header) + 1):
                found.setdefault(header[:end], each)
            continue
        placed = _Statement(each.first, each.lines, each.data, header)
        for place in _places(each.data):
            found.setdefault((*header, *place), placed)
    return found


def _statements(lines: list[str]) -> Iterator[_Statement]:
    """The statements, told apart by parsing: each is TOML by itself, and the beginning of one never is."""
    first = 0
    while first < len(lines):
        last = first + 1
        while (data := _tried(lines[first:last])) is None and last < len(lines):
            last = next((end for end in range(last + 1, len(lines)) if _CLOSING.search(lines[end - 1])), len(lines))
        if data != {}:  # neither empty nor a comment
            yield _Statement(first + 1, lines[first:last], data)
        first = last


def _tried(lines: Sequence[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None


def _header(data: Mapping[str, Any], tables: dict[Place, int]) -> Place:
    """The place that `[a.b]` or `[[a.b]]` leads to, each table of a list with its number."""
    place: Place = ()
    value: Any = data
    while value:
        if isinstance(value, list):
            tables[place] = tables.get(place, 0) + 1
            return (*place, tables[place] - 1)
        ((key, value),) = value.items()
        place = (*place, key)
        if place in tables and not isinstance(value, list):
            place = (*place, tables[place] - 1)
    return place


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, (*place, key))
