"""Files of records as no version wrote them: bytes that flipped, lines cut and glued, fields of another kind."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["corrupted", "pool"]

_OLD = Path(__file__).parent / "old_records"

# A reading of another package, with an interval: what no contract says anything about.
_FOREIGN = [
    {"name": "carbon.grams", "unit": "g", "better": "lower", "title": "CO2", "low": "carbon.low", "high": "carbon.up"},
    {"name": "carbon.low", "unit": "g", "better": "lower", "title": "", "low": "", "high": ""},
    {"name": "carbon.up", "unit": "ms", "better": "lower", "title": "", "low": "", "high": ""},
]


def _nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


def _odd(dice: random.Random) -> Any:
    """What a field may turn into."""
    return dice.choice([
        None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, -(2**70), 10**299, 10**301, 10**400, 10**4000,
        0.0, -0.0, 1.5, -3.25, 5e-324, 1.7e308, float("nan"), float("inf"), float("-inf"),
        "", "ok", "oom", "3", "N^2", "text", "x" * 3000, "static.macs", "latency.method", "carbon.grams", "lower",
        "higher", "same", "worse", "\ud800", "\udcff\udc80", "\x00", "\x1b[2J\x1b]0;evil\x07", "a\nb\tc\rd",
        "\u202eevil", "\u2028", "e\u0301\u0301", "\U0001f600", "../../etc/passwd", "/etc/passwd", "file:///etc/passwd",
        "$(touch evil)", "`touch evil`", "__import__('os')", "=1+1", "|a|b|", "<script>",
        [], {}, [1], ["a"], [None], [[1, 2], [3]], {"a": 1}, {"a": "b"}, {"": None}, {"kind": "a", "text": "b"},
        {"name": 3}, _nested(20, "list"), _nested(29, "dict"), _nested(31, "list"), _nested(200, "dict"),
        _nested(2000, "list"),
    ])  # fmt: skip


def pool() -> list[dict[str, Any]]:
    """Whole records to begin with: those of old versions, each also with a reading of another package."""
    lines = [line for path in sorted(_OLD.glob("*.jsonl")) for line in path.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    foreign = [json.loads(line) for line in lines]
    for record in foreign:
        record["carbon"] = {"grams": 3.5, "low": 3.25, "up": 4.0}
        record["readings"] += _FOREIGN
    return records + foreign


def corrupted(seed: int, records: list[dict[str, Any]]) -> bytes:
    """One such file: two to four records, of which some are damaged, or the bytes of the whole are."""
    dice = random.Random(seed)
    kinds = dice.choice(["fields", "fields", "fields", "bytes", "both"])
    lines = [dumped(record, dice, kinds != "bytes") for record in dice.choices(records, k=dice.randint(2, 4))]
    content = b"\n".join(line.encode(errors="surrogatepass") for line in lines) + b"\n"
    for _ in range(dice.choice((1, 1, 2)) if kinds != "fields" else 0):
        content = dice.choice(_BYTES)(content, dice)
    return content


def dumped(record: dict[str, Any], dice: random.Random, damaged: bool) -> str:
    copy = json.loads(json.dumps(record))
    for _ in range(dice.choice((0, 1, 1, 2)) if damaged else 0):
        dice.choice(_FIELDS)(copy, dice)
    try:
        text = json.dumps(copy, ensure_ascii=dice.random() < 0.5, separators=(",", ":"))
    except (ValueError, RecursionError):  # digits or levels that Python itself does not write
        return "[" * 5000 + "9" * 5000
    return dice.choice(_TEXTS)(text, dice) if damaged and dice.random() < 0.1 else text


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every container and key of a tree, as deep as records go."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        if depth < 6:
            yield from _places(below, depth + 1)


def _replaced(record: dict[str, Any], dice: random.Random) -> None:
    """Anywhere; most fields stand in the readings' descriptions, so that a section is chosen first."""
    section = dice.choice(list(record))
    places = [(record, section), *_places(record[section])]
    holder, key = dice.choice(places)
    holder[key] = _odd(dice)


def _removed(record: dict[str, Any], dice: random.Random) -> None:
    holder, key = dice.choice(list(_places(record)))
    del holder[key]


def _renamed(record: dict[str, Any], dice: random.Random) -> None:
    holder, key = dice.choice([place for place in _places(record) if isinstance(place[0], dict)])
    holder[dice.choice(["", "name", "\ud800", "a.b", "value", str(key).upper()])] = holder.pop(key)


def _exchanged(record: dict[str, Any], dice: random.Random) -> None:
    (one, first), (other, second) = dice.choices(list(_places(record)), k=2)
    if first in (one if isinstance(one, dict) else range(len(one))):
        with suppress(RecursionError):
            one[first], other[second] = json.loads(json.dumps([other[second], one[first]]))


def _figure(record: dict[str, Any], dice: random.Random) -> None:
    """A figure that tables print turns into something else, where it stands and by its name."""
    described = [each for each in record.get("readings") or [] if isinstance(each, dict) and each.get("title")]
    if described:
        section, _, name = str(dice.choice(described).get("name")).partition(".")
        if isinstance(record.get(section), dict):
            record[section][name] = _odd(dice)


def _described(record: dict[str, Any], dice: random.Random) -> None:
    """What a reading says of itself, in words that each could be said: another unit, direction, title or interval."""
    described = [each for each in record.get("readings") or [] if isinstance(each, dict)]
    if described:
        each = dice.choice(described)
        names = [str(other.get("name")) for other in described]
        each[dice.choice(["low", "high", "title", "unit", "better", "name"])] = dice.choice(
            [*names, "", "ms", "MAC", "count", "same", "higher", "Latency", "\x1b[31m"]
        )


def _identified(record: dict[str, Any], dice: random.Random) -> None:
    """What tells rows apart and groups them."""
    holder = record.get(dice.choice(["case", "env"]))
    if isinstance(holder, dict) and holder:
        holder[dice.choice([*holder, "fingerprint", "device_name"])] = _odd(dice)


def _twice(text: str, dice: random.Random) -> str:
    """A key that stands there twice, with two values."""
    name = dice.choice(["case", "status", "readings", "static", "schema", "env", "notes"])
    odd = dice.choice(['null', '3', '"text"', '{}', '[]', '[{"name":"static.macs"}]', 'NaN', '{"target":"x"}'])
    return f'{{"{name}":{odd},{text[1:]}' if dice.random() < 0.5 else f'{text[:-1]},"{name}":{odd}}}'


def _schema(text: str, dice: random.Random) -> str:
    return text.replace('"schema":1', f'"schema":{dice.choice(["2", "0", "null", "[]", "1.0", "true", "1e999"])}', 1)


def _flipped(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 5, 40))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _digits(content: bytes, dice: random.Random) -> bytes:
    """Bits that flip within figures leave valid JSON with other ones in it."""
    places = [n for n, byte in enumerate(content) if chr(byte) in "0123456789.:,"]
    changed = bytearray(content)
    for place in dice.sample(places, min(len(places), 10)):
        changed[place] = ord(dice.choice("0123456789.e-"))
    return bytes(changed)


def _cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(1, len(content))]


def _without(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    return content[:start] + content[start + dice.randint(1, 300) :] or b"\n"


def _doubled(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    stop = start + dice.randint(1, 2000)
    return content[:stop] + content[start:stop] + content[stop:]


def _inserted(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content))
    return content[:start] + dice.choice(_NOISE) + content[start:]


def _encoded(content: bytes, dice: random.Random) -> bytes:
    text = content.decode(errors="replace")
    return text.encode(dice.choice(["utf-16", "utf-8-sig", "utf-32", "latin-1", "cp037"]), errors="replace")


_NOISE = [b"\n", b"\r\n", b"\x00" * 4096, b"\xff", b"\xc3", b"\xed\xa0\x80", b'"', b"}", b"[" * 3000, b"{" * 3000,
          b"9" * 6000, b"1e999", b"NaN", b"\\u0000", b"\\ud800", b"\x1b[2J"]  # fmt: skip
_FIELDS: list[Callable[[dict[str, Any], random.Random], None]] = [
    _replaced, _replaced, _removed, _renamed, _exchanged, _figure, _figure, _described, _described, _identified
]  # fmt: skip
_TEXTS = [_twice, _schema]
_BYTES = [_flipped, _flipped, _digits, _digits, _cut, _without, _doubled, _inserted, _encoded]
