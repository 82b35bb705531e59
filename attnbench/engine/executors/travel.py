"""What travels to machines that do not share this one's disk: the user's files, and where their names lead there."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attnbench.core.errors import UsageError
from attnbench.targets.names import split

__all__ = ["Names", "Parcel", "packed", "unpacked"]

# Beside Python files: what a module may compile when it is imported.
_COMPILED = frozenset((".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp"))
_SOURCES = _COMPILED | {".py"}
# More is no module with its helpers but a library, which is installed, or a folder of data that an import's name meets.
_MOST_FILES, _MOST_BYTES, _MOST_SEEN = 1000, 16 * 2**20, 20_000
# The fields of a Case that name a target.
_NAMED = ("target", "insert", "swap")
# Where the worker stands there, as it stands in the working directory here: import paths begin in it.
_START = "0"


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files as they lie below a folder that is made for them: in "0" those of import paths, each other set in the next.

    `places` lead from a file as it was typed to where it lies there, `folders` from a numbered one to what the user
    calls it, which is "" for the working directory.
    """

    files: tuple[tuple[str, bytes], ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    folders: tuple[tuple[str, str], ...] = ()


def packed(targets: Iterable[str]) -> Parcel:
    """The user's files that are behind these targets, with what they import from their own folders.

    Raises:
        UsageError: one cannot be read, or they are too many or too large.
    """
    named = dict.fromkeys((source, place) for source, place, _ in map(split, targets))
    paths = [place for source, place in named if source == "import"]
    files = dict(_below(_START, Path.cwd(), paths))
    places, folders = {}, {_START: ""}
    for number, place in enumerate((place for source, place in named if source == "file"), 1):
        path = Path(place).resolve()
        files |= _below(str(number), path.parent, [place], [path, *_beside(path)])
        places[place] = f"{number}/{path.name}"
        folders[str(number)] = place.removesuffix(Path(place).name)
    return Parcel(tuple(files.items()), tuple(places.items()), tuple(folders.items()))


def _below(number: str, folder: Path, places: Sequence[str], files: Sequence[Path] = ()) -> dict[str, bytes]:
    """These files, or those of the import paths, with what they import from the folder, as they lie in that number."""
    tops = dict.fromkeys(place.partition(".")[0] for place in places)
    start = files or [path for top in tops for path in _of_name(folder, top)]
    return {f"{number}/{path.relative_to(folder)}": data for path, data in _with_imports(start, folder, places)}


def _beside(path: Path) -> Iterator[Path]:
    """What the file may compile; Python files beside it go only where it imports them."""
    return (each for each in sorted(path.parent.glob("*")) if each.suffix in _COMPILED and each.is_file())


def _of_name(folder: Path, name: str) -> list[Path]:
    """The files that `import name` may run, where it is found in the folder: a module, or a whole package."""
    seen = list(islice((folder / name).rglob("*"), _MOST_SEEN + 1))
    if len(seen) > _MOST_SEEN:
        raise _too_much(name, folder)
    files = [folder / f"{name}.py", *sorted(each for each in seen if each.suffix in _SOURCES)]
    return [each for each in files if each.is_file()]


def _with_imports(start: Sequence[Path], folder: Path, places: Sequence[str]) -> Iterator[tuple[Path, bytes]]:
    """The files, and what they import from the folder, at any depth."""
    waiting, looked_for, size = list(dict.fromkeys(start)), set[str](), 0
    for path in waiting:  # which grows
        data = _content(path)
        size += len(data)
        if len(waiting) > _MOST_FILES or size > _MOST_BYTES:
            raise _too_much(", ".join(places), folder)
        yield path, data
        names = _imported(data) - looked_for if path.suffix == ".py" else set()
        looked_for |= names
        waiting += [each for name in sorted(names) for each in _of_name(folder, name) if each not in waiting]


def _too_much(what: str, folder: Path) -> UsageError:
    return UsageError(f"{what} cannot be sent to the nodes, since that takes more than {_MOST_FILES} files or "
                      f"{_MOST_BYTES // 2**20} MiB from {folder}: install it there as a package.")  # fmt: skip


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be sent to the nodes: {error.strerror or error}.") from error


def _imported(source: bytes) -> set[str]:
    """The first parts of the names that it imports; the rest of its own package is there anyway."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):  # whoever runs it will say so
        return set()
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    taken = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | taken}


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the user's files: `there` from the typed one to that of the machine, `here` back."""

    there: Mapping[str, str]
    here: Mapping[str, str]

    def outward(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the Case's targets as they are called there."""
        if "case" not in request:
            return dict(request)
        case = dict(request["case"])
        return {**request, "case": case | {name: self._moved(case[name]) for name in _NAMED if case.get(name)}}

    def _moved(self, target: str) -> str:
        source, place, _ = split(target)
        return self.there[place] + target.removeprefix(place) if source == "file" else target

    def homeward(self, value: Any) -> Any:
        """What came back, in the user's own names wherever those of the machine stand in it."""
        if isinstance(value, str):
            for there, here in self.here.items():
                value = value.replace(there, here)
            return value
        if isinstance(value, dict):
            return {name: self.homeward(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.homeward(each) for each in value]
        return value


def unpacked(parcel: Parcel, folder: Path) -> Names:
    """Write the files below the folder; the names that lead to them."""
    (folder / _START).mkdir()
    for name, data in parcel.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    there = {place: str(folder / name) for place, name in parcel.places}
    files = {path: place for place, path in there.items()}
    # Behind the files, since a path begins with its folder.
    return Names(there, files | {f"{folder / number}/": typed for number, typed in parcel.folders})
