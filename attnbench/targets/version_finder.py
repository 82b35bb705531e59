"""Finds modules where a version of the code has them; one that it does not have is not found."""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

import attnbench
from attnbench.core.errors import VersionsClash
from attnbench.targets.trees import Trees

__all__ = ["Finder", "is_extension", "is_instrument", "stays"]

# The modules under test in attnbench's own repository; the rest of it is what measures them.
_UNDER_TEST = ("attnbench.modules", "attnbench.targets.networks")


def stays(name: str) -> bool:
    """Whether a module is part of the instrument, which is one for both versions."""
    if name == "__main__":
        return True
    family = name.partition(".")[0] == attnbench.__name__
    return family and not any(name == each or name.startswith(f"{each}.") for each in _UNDER_TEST)


def is_instrument(path: str) -> bool:
    """Whether the file belongs to such a module."""
    home = os.path.dirname(os.path.dirname(attnbench.__file__))  # noqa: PTH120
    if not path.startswith(os.path.join(home, attnbench.__name__) + os.sep):  # noqa: PTH118
        return False
    return stays(os.path.relpath(path, home).removesuffix(".py").replace(os.sep, "."))


def is_extension(path: str | None) -> bool:
    """Whether the module is compiled: a process holds such a one once."""
    return bool(path) and str(path).endswith(tuple(EXTENSION_SUFFIXES))


def _is_path(entry: object) -> bool:
    """Whether an entry of a search path is one: some finders put names there that mean something to them alone."""
    return isinstance(entry, str) and (os.path.isabs(entry) or os.path.exists(entry or "."))  # noqa: PTH110, PTH117


class Finder:
    """Stands before the other finders and asks them on a version's behalf.

    `taken` are the compiled modules that the process has in another version.
    """

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self.taken: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as the version has it; None for one that is nobody's, or not the version's to change.

        Raises:
            ModuleNotFoundError: the top has this module, and the version does not.
            VersionsClash: it is compiled, and loaded in another version.
        """
        if stays(name):
            return None
        others_have = False
        for finder in [each for each in sys.meta_path if each is not self]:
            spec = self._asked(finder, name, path, target)
            if spec is None:
                continue
            moved = self._moved(spec)
            if moved is not None:
                return self._checked(moved)
            others_have = True
        if others_have or self._top_has(name, path):
            return self._checked(self._elsewhere(name, path))
        return None

    def _asked(self, finder: Any, name: str, path: Sequence[str] | None, target: ModuleType | None) -> Any:
        if finder is PathFinder:
            return PathFinder.find_spec(name, self._entries(sys.path if path is None else path), target)
        find = getattr(finder, "find_spec", None)
        return find(name, path, target) if find else None

    def _entries(self, path: Iterable[str]) -> list[str]:
        """Those of a search path that name what is in the top, moved; the others untouched."""
        return [self.trees.moved(each) if _is_path(each) else each for each in path]

    def _moved(self, spec: ModuleSpec) -> ModuleSpec | None:
        """The same module out of the version's tree; None where that has none."""
        where = spec.submodule_search_locations
        if spec.origin is None or not spec.has_location:
            return self._namespace(spec) if where is not None else spec
        if not self.trees.gives_way(spec.origin):
            return spec
        origin = self.trees.moved(spec.origin)
        if not os.path.isfile(origin):  # noqa: PTH113
            return None
        return spec_from_file_location(
            spec.name, origin, submodule_search_locations=None if where is None else self._entries(where)
        )

    def _namespace(self, spec: ModuleSpec) -> ModuleSpec | None:
        """A package without a file: its folders as a plain list, since Python's own would look into sys.path again."""
        before = [os.path.abspath(each) for each in spec.submodule_search_locations or ()]  # noqa: PTH100
        after = list(dict.fromkeys(each for each in self._entries(before) if os.path.isdir(each)))  # noqa: PTH112
        if not any(map(self.trees.holds, after)):
            return spec if before == after else None
        moved = ModuleSpec(spec.name, None, is_package=True)
        moved.submodule_search_locations = after
        return moved

    def _top_has(self, name: str, path: Sequence[str] | None) -> bool:
        """Whether the finders behind this one would go on to find it in the top, which is another version's."""
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return False
        if spec.origin and spec.has_location:
            return self.trees.gives_way(spec.origin)
        return any(map(self.trees.gives_way, spec.submodule_search_locations or ()))

    def _elsewhere(self, name: str, path: Sequence[str] | None) -> ModuleSpec:
        """A package that has moved within the repository since, to `src` or from there."""
        usual = [os.path.join(self.trees.root, each) for each in ("src", "")]  # noqa: PTH118
        spec = PathFinder.find_spec(name, usual) if path is None else None
        if spec is None or (moved := self._moved(spec)) is None:
            raise ModuleNotFoundError(f"No module named {name!r} in {self.trees.root}", name=name)
        return moved

    def _checked(self, spec: ModuleSpec) -> ModuleSpec:
        if spec.name in self.taken and is_extension(spec.origin) and self.trees.holds(spec.origin):
            raise VersionsClash(f"{spec.name} is compiled, and a process holds one version of it")
        return spec
