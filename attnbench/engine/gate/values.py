"""How the value of each key of `[tool.attnbench.check]` is read: of the right kind, in range, and paths from here."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from attnbench.core.errors import UsageError
from attnbench.engine.gate.thresholds import refuse_unknown
from attnbench.engine.suite import shipped
from attnbench.engine.suites.keys import shown
from attnbench.engine.suites.lines import Place, TomlFile
from attnbench.engine.sweep import device_named, one_of
from attnbench.metrics.asked import fraction, measuring

__all__ = ["FAILING", "OF_A_RULE", "OF_THE_TABLE", "Read", "from_here", "located"]

# The outcomes that may be named to fail; `report/gate/verdict.py` has all that there are.
FAILING: Final = ("worse", "changed", "missing", "undecided")


def from_here(path: Path) -> str:
    """The path as somebody who stands in the current folder would type it."""
    return os.path.relpath(path)


def located(file: TomlFile, place: Place, read: Callable[[], Any]) -> Any:
    """What is read; an error about options is one about keys here, with the line."""
    try:
        return read()
    except UsageError as error:
        raise file.error(place, str(error).replace("--", "")) from None


def _text(file: TomlFile, place: Place, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise file.error(place, f"{place[-1]} takes a text, not {shown(value)}.")
    return value.strip()


def _suite(file: TomlFile, place: Place, value: Any) -> str:
    """A name, or a file beside this one as a path from here."""
    text = _text(file, place, value)
    if not (text.endswith(".toml") or "/" in text):
        return str(located(file, place, lambda: one_of("--suite", text, list(shipped()))))
    path = _beside(file, text)
    if not os.path.isfile(path):  # noqa: PTH113 - Path's raises where a name is too long
        raise file.error(place, f"there is no suite {path}: it is sought from the folder of this file.")
    return path if path.endswith(".toml") or "/" in path else f"./{path}"


def _baseline(file: TomlFile, place: Place, value: Any) -> Path:
    return Path(_beside(file, _text(file, place, value)))


def _beside(file: TomlFile, text: str) -> str:
    """A path beside the file as one from here: names of targets hold it, and must not depend on where a clone is."""
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path's raises for `~nobody`
    return expanded if os.path.isabs(expanded) else from_here(file.folder / expanded)  # noqa: PTH117


def _base(file: TomlFile, place: Place, value: Any) -> str:
    text = _text(file, place, value)
    if text.startswith("-"):
        raise file.error(place, f'base takes a revision of git like "origin/main...", not {shown(text)}.')
    return text


def _fraction(file: TomlFile, place: Place, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise file.error(place, f'{place[-1]} takes a fraction like "5%" or 0.05, not {shown(value)}.')
    try:
        return fraction(str(value).strip())
    except UsageError as error:
        raise file.error(place, f"{place[-1]} {error}") from None


def _fraction_or_zero(file: TomlFile, place: Place, value: Any) -> float:
    is_zero = value in (0, "0", "0%") and value is not False
    return 0.0 if is_zero else _fraction(file, place, value)


def _max_time(file: TomlFile, place: Place, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise file.error(place, f"max-time takes seconds, not {shown(value)}.")
    located(file, place, lambda: measuring((), "1%", value, 1.0, None))
    return float(value)


def _threads(file: TomlFile, place: Place, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise file.error(place, f"threads takes a whole number, not {shown(value)}.")
    located(file, place, lambda: measuring((), "1%", 1.0, 1.0, value))
    return value


def _device(file: TomlFile, place: Place, value: Any) -> str:
    text = _text(file, place, value)
    return str(located(file, place, lambda: device_named(text)))


def _fail_on(file: TomlFile, place: Place, value: Any) -> tuple[str, ...]:
    """Words in a list, or separated by commas as on the command line."""
    elements = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for number, element in enumerate(elements):
        at = (*place, number) if isinstance(value, list) else place
        if not isinstance(element, str):
            raise file.error(at, f'fail-on takes words like ["worse", "missing"], not {shown(element)}.')
        words = [word for part in element.split(",") if (word := part.strip())]
        found |= dict.fromkeys(located(file, at, partial(_outcomes, words)))
    if not found:
        raise file.error(place, "fail-on names nothing: for a gate that never fails write warn-only = true.")
    return tuple(found)


def _outcomes(words: list[str]) -> list[str]:
    return [one_of("--fail-on", word, FAILING) for word in words]


def _switch(file: TomlFile, place: Place, value: Any) -> bool:
    if not isinstance(value, bool):
        raise file.error(place, f"{place[-1]} takes true or false, not {shown(value)}.")
    return value


def _metric(file: TomlFile, place: Place, value: Any) -> str:
    text = _text(file, place, value)
    located(file, place, lambda: refuse_unknown(text))
    return text


Read = Callable[[TomlFile, Place, Any], Any]
# How the value of each key is read: of the table, and of a rule in it.
OF_THE_TABLE: Final[Mapping[str, Read]] = {
    "suite": _suite, "base": _base, "baseline": _baseline, "threshold": _fraction, "margin": _fraction,
    "max-time": _max_time, "fail-on": _fail_on, "warn-only": _switch, "device": _device, "threads": _threads,
}  # fmt: skip
OF_A_RULE: Final[Mapping[str, Read]] = {
    "case": _text, "metric": _metric, "threshold": _fraction_or_zero, "margin": _fraction,
}  # fmt: skip
