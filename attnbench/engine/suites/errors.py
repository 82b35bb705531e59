"""What a sweep says of an option is said of a key of the suite, with the line that it stands on."""

import re
from collections.abc import Iterator

from attnbench.core.errors import UsageError
from attnbench.engine.suites.keys import Layer, Said
from attnbench.engine.suites.lines import Place, TomlFile

__all__ = ["located"]

_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
_SETTING = re.compile(r"--set ([\w.]+)=?")
_QUOTED = re.compile(r"'([^']*)'")


def located(error: UsageError, layer: Layer, file: TomlFile, otherwise: Place) -> UsageError:
    """The error with file and line: those of the value that it names, or of its key, or else of `otherwise`.

    Where a value was given on the command line the error is about that, and stays as it is.
    """
    message = str(error)
    said, place = _culprit(message, layer)
    if said is not None and said.place is None:
        return error
    return file.error(place or otherwise, _OPTION.sub(r"\1", message))


def _culprit(message: str, layer: Layer) -> tuple[Said | None, Place | None]:
    """What the message is about: a value that it quotes, one that it names beside its option, one that it has as a
    word; else the first option that it names."""
    named = list(_named(message, layer))
    ordered = [(key, layer[key]) for key in dict.fromkeys([*named, *layer])]
    for is_meant in (_is_quoted, _is_written, _is_in):
        for key, said in ordered:
            for number, value in enumerate(said.values):
                if is_meant(message, key, str(value)):
                    return said, said.places[number] if said.places else None
    return (layer[named[0]], layer[named[0]].place) if named else (None, None)


def _named(message: str, layer: Layer) -> Iterator[str]:
    yield from (f"set.{name}" for name in _SETTING.findall(message) if f"set.{name}" in layer)
    yield from (name for name in _OPTION.findall(message) if name in layer)


def _is_quoted(message: str, key: str, value: str) -> bool:
    quoted = _QUOTED.search(message)
    return quoted is not None and quoted[1] == value


def _is_written(message: str, key: str, value: str) -> bool:
    option = f"--set {key.removeprefix('set.')}={value}" if key.startswith("set.") else f"--{key} {value}"
    return re.search(rf"{re.escape(option)}(?![\w-])", message) is not None


def _is_in(message: str, key: str, value: str) -> bool:
    """As a word of its own, or the file of a target; or the value holds what is quoted: `vgg16+sse` holds `sse`."""
    quoted = _QUOTED.search(message)
    if quoted and quoted[1] and quoted[1] in re.split(r"[+~]", value):
        return True
    words = {value, value.rpartition(":")[0]} - {""}
    return any(re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", message) for word in words)
