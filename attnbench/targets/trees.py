"""Two trees of the same code: which files belong to the one, and where they are in the other."""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Trees"]

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True, slots=True)
class Trees:
    """What lies under `top` is to be taken from `root` instead; both are resolved."""

    top: Path
    root: Path

    @property
    def moves(self) -> bool:
        """Whether anything is taken from elsewhere."""
        return self.top != self.root

    def moved(self, path: str) -> str:
        """Where the root has what `path` names; the path itself, made absolute, where it is none of the top's code."""
        path = os.path.abspath(path)  # noqa: PTH100 - its links are followed only if it does not lie there by name
        if not self.moves or _below(path, self.root):
            return path
        for each in (path, _real(path)):
            if _below(each, self.top):
                return path if self._foreign(os.path.dirname(each)) else str(self.root) + each[len(str(self.top)) :]  # noqa: PTH120
        return path

    def gives_way(self, path: str) -> bool:
        """Whether the path is in the top, and another is taken in its place."""
        return self.moved(path) != os.path.abspath(path)  # noqa: PTH100

    def put_back(self, path: str) -> str:
        """Where the top has what lies under the root; any other path as it is."""
        return str(self.top) + path[len(str(self.root)) :] if self.moves and _below(path, self.root) else path

    def holds(self, path: str | None) -> bool:
        """Whether the file, or folder, is code of this version."""
        return self.relative(path) is not None

    def relative(self, path: str | None) -> str | None:
        """The path below the root, `pkg/attention.py`; None for what is no code of this version."""
        for each in (path, path and _real(path)):
            if each and _below(each, self.root) and not self._foreign(os.path.dirname(each)):  # noqa: PTH120
                return os.path.relpath(each, self.root)
        return None

    def _foreign(self, folder: str) -> bool:
        return _foreign(folder, str(self.root if _below(folder, self.root) else self.top), str(self.root))


def _below(path: str, folder: Path) -> bool:
    text = str(folder)
    return path == text or path.startswith(text + os.sep)


@cache
def _foreign(folder: str, tree: str, root: str) -> bool:
    """Whether a folder of the tree holds somebody else's code: a virtual environment's, or another repository's.

    A submodule is no other repository: the root has its folder, though it may be empty.
    """
    if not folder.startswith(tree + os.sep):
        return False
    here = Path(folder)
    if here.name in _INSTALLED or (here / "pyvenv.cfg").exists() or folder in (sys.prefix, sys.base_prefix):
        return True
    if (here / ".git").exists() and not Path(root + folder[len(tree) :]).exists():
        return True
    return _foreign(str(here.parent), tree, root)


@cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _real(path: str) -> str:
    """The path with the links of its folders followed: those of a thousand modules are few."""
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)  # noqa: PTH118 - three times as fast as Path, and asked for each module
