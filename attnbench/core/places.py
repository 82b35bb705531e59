"""Where in somebody's own code a fault lies: from an exception, or from the report of a process that died."""

import re
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Final

__all__ = ["Place", "innermost", "is_own", "place_in_report", "place_of"]

_OURS: Final = Path(__file__).parents[1]
# The built-in modules are what is measured, as the user's are.
_MEASURED: Final = _OURS / "modules"
_LIBRARIES: Final = ("site-packages", "dist-packages")
# A frame in one of these says less than the one that called it.
_TOOLS: Final = frozenset({"torch", "torchgen", "numpy", "triton", "fvcore"})
_STANDARD: Final = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_FRAME: Final = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.+)$')
_HEADER: Final = re.compile(r"^(?P<current>Current thread|Thread) 0x")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, and the function that it is in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        where = f"{Path(self.file).name}, line {self.line}"
        return where if self.function.startswith("<") else f"{where}, {self.function}"


def is_own(file: str) -> bool:
    """Whether that is the user's code: neither ours, nor the standard library's, nor an installed package's."""
    return _rank(file) == 2


def _rank(file: str) -> int:
    """2 for the user's code, 1 for what is measured but not the user's, 0 for what carries it out."""
    parts = Path(file).parts
    if file.startswith("<") or not parts:
        return 0
    if file.startswith(str(_OURS) + "/"):
        return int(Path(file).is_relative_to(_MEASURED))
    for folder in _LIBRARIES:
        if folder in parts[:-1]:
            return int(parts[parts.index(folder) + 1] not in _TOOLS)
    return 0 if file.startswith(_STANDARD) else 2


def innermost(places: Iterable[Place]) -> Place | None:
    """Of the frames of a stack, innermost first, the one in the user's code; else in a library's."""
    known = [(place, _rank(place.file)) for place in places]
    return next((place for wanted in (2, 1) for place, rank in known if rank == wanted), None)


def place_of(error: BaseException) -> Place | None:
    """Where the user's code was when it was raised."""
    places: list[Place] = []
    step = error.__traceback__
    while step is not None:
        code: CodeType = step.tb_frame.f_code
        places.append(Place(code.co_filename, step.tb_lineno or code.co_firstlineno, code.co_name))
        step = step.tb_next
    return innermost(reversed(places))


def place_in_report(report: str) -> Place | None:
    """The same from what faulthandler wrote of all threads.

    The thread that it names as the current one is asked first, then the main thread, which stands last.
    """
    stacks: list[list[Place]] = []
    current = None
    for line in report.splitlines():
        if header := _HEADER.match(line):
            stacks.append([])
            current = stacks[-1] if header["current"].startswith("Current") else current
        elif stacks and (frame := _FRAME.match(line)):
            stacks[-1].append(Place(frame["file"], int(frame["line"]), frame["function"]))
    asked = [*([current] if current else []), *reversed(stacks)]
    return next((place for stack in asked if (place := innermost(stack)) is not None), None)
