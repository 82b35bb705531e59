"""The parts of a record as they are read from JSON: each checked for what it must be, equal ones kept once.

Who wrote a file of records is not known. What a table, an exporter or the gate relies on is asked here, once.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from attnbench.core.reading import SECTIONS, Note, Reading

__all__ = ["Parts", "mapping", "shown", "text"]

_BETTER = ("lower", "higher", "same", "")
# Deeper than any record goes, and far from where a recursion ends.
_DEEPEST = 30
# An int beyond it is no float, and one of some thousand digits is not even printed.
_LARGEST = 10**300
_LONGEST_SHOWN = 60
# What stands before the descriptions of a record's readings, in its place once they are cut out, and of how many
# kinds of record they are remembered.
_BEFORE, _CUT, _MOST = '"readings":', "as before", 100

_NONE = type(None)
_Kinds = frozenset[type[Any]]
_NUMBER, _COUNT, _TEXT = _Kinds({int, float, _NONE}), _Kinds({int, _NONE}), _Kinds({str, _NONE})
_FLAG, _TABLE, _LIST = _Kinds({bool, _NONE}), _Kinds({dict, _NONE}), _Kinds({list, tuple, _NONE})
_HARMLESS = _Kinds({float, bool, _NONE})
# Of the figures that every record names, those that are no number.
_KINDS: Mapping[str, _Kinds] = {
    "static.verified": _FLAG, "static.counted_on": _TEXT, "static.claimed_complexity": _TEXT,
    "static.predicted_method": _TEXT, "static.swapped": _TABLE, "static.inserted": _TABLE,
    "latency.launch_bound": _FLAG, "latency.samples_ms": _LIST, "latency.method": _TEXT,
    "attention.kernel": _TEXT, "attention.operators": _TABLE, "memory.method": _TEXT, "energy.method": _TEXT,
    "roofline.bound": _TEXT, "roofline.method": _TEXT,
}  # fmt: skip
# Names to counts, or to None where there is none.
_COUNTS_BY_NAME = frozenset({"static.macs_by_op", "static.macs_by_module", "static.counters", "static.uncounted_ops",
                             "static.backward_uncounted_ops"})  # fmt: skip

# A frozen dataclass is made field by field; for the half million readings of a long sweep that is done here directly.
_NEW = Reading.__new__
_SET_NAME, _SET_VALUE, _SET_UNIT, _SET_BETTER, _SET_TITLE, _SET_LOW, _SET_HIGH = (
    getattr(Reading, name).__set__ for name in ("name", "value", "unit", "better", "title", "low", "high")
)


def shown(value: Any) -> str:
    """What was found in a place where it may not be, in no more than a few words."""
    words = repr(value) if isinstance(value, str | int | float | bool | _NONE) else f"a {type(value).__name__}"
    return words if len(words) <= _LONGEST_SHOWN else f"{words[:_LONGEST_SHOWN]}…"


def text(data: Mapping[str, Any], name: str, otherwise: str = "") -> str:
    """The text of that name, or what stands there otherwise."""
    found = data.get(name, otherwise)
    if type(found) is not str:
        raise ValueError(f"a record whose {name} {shown(found)} is no text")
    return found


def mapping(data: Any, name: str = "") -> Mapping[str, Any]:
    """The object of that name, or the data itself without one."""
    found = data[name] if name else data
    if not isinstance(found, Mapping):
        raise ValueError(f"a record whose {name or 'part'} {shown(found)} is no object")
    return found


class _Place(NamedTuple):
    """Where a reading's value stands, what it may be (None: anything), and what the reading says of itself."""

    section: str
    field: str
    kinds: _Kinds | None
    is_table: bool
    name: str
    unit: str
    better: str
    title: str
    low: str
    high: str


class _Described(tuple[_Place, ...]):
    """The readings of a record, without their values."""

    __slots__ = ()


class Parts:
    """Reads the parts of records. Texts, notes and descriptions that several records have are kept once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._notes: dict[tuple[str, str], Note] = {}
        self._described: dict[str, _Described | None] = {}

    def parsed(self, line: str) -> Any:
        """The JSON of a line. What readings say of themselves is half of it, the same in most lines, and parsed once.

        Raises:
            ValueError: it is no JSON.
            RecursionError: it has too many levels.
        """
        start = line.find(_BEFORE) + len(_BEFORE)
        end = line.find("]", start) + 1
        described = self._known(line[start:end]) if len(_BEFORE) <= start < end else None
        data = _loaded(f'{line[:start]}"{_CUT}"{line[end:]}') if described is not None else None
        if isinstance(data, dict) and data.get("readings") == _CUT:
            return {**data, "readings": described}
        return json.loads(line)  # also what is no JSON, so that the error is about the line as it is

    def _known(self, piece: str) -> "_Described | None":
        """None for what is no list of descriptions: a bracket in a title ends the piece too early."""
        if piece not in self._described and len(self._described) < _MOST:
            try:
                self._described[piece] = _Described(map(_place, json.loads(piece)))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self._described[piece] = None
        return self._described.get(piece)

    def shared(self, found: str) -> str:
        """The same text, as the first record has it."""
        return self._texts.setdefault(found, found)

    def notes(self, data: Mapping[str, Any]) -> tuple[Note, ...]:
        found = data.get("notes") or ()
        return tuple([self._notes.get((each["kind"], each["text"])) or self._note(each) for each in found])

    def _note(self, each: Mapping[str, Any]) -> Note:
        note = Note(text(each, "kind"), text(each, "text"))
        return self._notes.setdefault((note.kind, note.text), note)

    def about(self, data: Mapping[str, Any], name: str, *texts: str) -> dict[str, Any]:
        """The object of that name, empty where there is none; those of its fields are texts."""
        found = mapping(data, name) if data.get(name) is not None else {}
        for each in texts:
            if found.get(each) is not None:
                text(found, each)
        return {self.shared(key): self.plain(value, name) for key, value in found.items()}

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        """The value, if it can be printed and written again: not too deep, and no number beyond all measure."""
        kind = type(value)
        if kind is str:
            return self._texts.setdefault(value, value)
        if kind is int:
            return _measured(value, where)
        if depth > _DEEPEST:
            raise ValueError(f"a record with too many levels in {where}")
        if kind is dict:
            share = self._texts.setdefault
            return {share(key, key): self.plain(each, where, depth + 1) for key, each in value.items()}
        if kind is list and not _HARMLESS.issuperset(map(type, value)):  # samples are many
            return [self.plain(each, where, depth + 1) for each in value]
        return value

    def readings(self, data: Mapping[str, Any]) -> tuple[Reading, ...]:
        found = []
        for section, field, kinds, is_table, name, unit, better, title, low, high in _places(data):
            value = data[section][field]
            kind = type(value)
            if kinds is not None and kind not in kinds:
                raise ValueError(f"a record whose {name} is {shown(value)}")
            if kind is not float and value is not None:
                value = self._table(value, name) if is_table else self.plain(value, name)
            reading = _NEW(Reading)
            _SET_NAME(reading, name)
            _SET_VALUE(reading, value)
            _SET_UNIT(reading, unit)
            _SET_BETTER(reading, better)
            _SET_TITLE(reading, title)
            _SET_LOW(reading, low)
            _SET_HIGH(reading, high)
            found.append(reading)
        return tuple(found)

    def _table(self, value: Mapping[str, Any], name: str) -> dict[str, Any]:
        if wrong := [count for count in value.values() if type(count) not in _COUNT]:
            raise ValueError(f"a record whose {name} counts {shown(wrong[0])}")
        found: dict[str, Any] = self.plain(value, name)
        return found


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _places(data: Mapping[str, Any]) -> Iterable[_Place]:
    described = data.get("readings") or ()
    return described if isinstance(described, _Described) else map(_place, described)


def _measured(value: int, where: str) -> int:
    if -_LARGEST < value < _LARGEST:
        return value
    raise ValueError(f"a record with an impossible number in {where}")


def _place(described: Mapping[str, Any]) -> _Place:
    name = text({"reading": described["name"]}, "reading")
    unit, better, title, low, high = (text(described, each) for each in ("unit", "better", "title", "low", "high"))
    if better not in _BETTER:
        raise ValueError(f"a record where {shown(better)} is called better of {shown(name)}")
    section, _, field = name.partition(".")
    return _Place(section, field, _kinds(section, field), name in _COUNTS_BY_NAME, name, unit, better, title, low, high)


def _kinds(section: str, field: str) -> _Kinds | None:
    """What the value of a figure that every record names can be; None for those of other packages."""
    name = f"{section}.{field}"
    if name in _COUNTS_BY_NAME:
        return _TABLE
    if field not in SECTIONS.get(section, ()):
        return None
    return _KINDS.get(name, _COUNT if section == "static" else _NUMBER)
