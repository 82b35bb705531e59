"""Versions of the user's code side by side in one process: each has its own part of `sys.modules`.

What the modules under the repository's top folder are depends on the version that is active; everything else, torch
and installed packages, is one for all of them. So is the working folder: a file that is opened relative to it is the
working tree's, whereas one beside `__file__` is the version's.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.core.errors import VersionsClash
from attnbench.targets.state.of_python import look_elsewhere
from attnbench.targets.trees import Trees
from attnbench.targets.version_clash import doubled_operator
from attnbench.targets.version_finder import Finder, is_extension, stays

__all__ = ["PRESENT", "Version", "active_version", "several_loaded"]


@dataclass(frozen=True, slots=True)
class Version(Trees):
    """One version of the repository at `top`, whose files are under `root`; `Version(top, top)` is the working tree."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Whatever is imported, or located, in here belongs to this version; some microseconds once it is loaded.

        Raises:
            VersionsClash: something was loaded that the process can hold in one version alone.
        """
        before = _STATE.version
        _switch(self)
        try:
            yield
        finally:
            _switch(before)
        if self.moves:
            _STATE.slices[self].raise_clash()

    def to_dict(self) -> dict[str, str]:
        """As it crosses a pipe."""
        return {"top": str(self.top), "root": str(self.root)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | None) -> "Version":
        """What `to_dict` gave; `PRESENT` where nothing is said."""
        return cls(Path(fields["top"]), Path(fields["root"])) if fields else PRESENT


# Nothing lies below it, so that nothing is taken from elsewhere.
PRESENT = Version(Path("/dev/null"), Path("/dev/null"))


def active_version() -> Version:
    """The one that is active now; `PRESENT` where none is."""
    return _STATE.version


def several_loaded() -> bool:
    """Whether the process holds the code of a version other than the active one."""
    own = _STATE.slices.get(_STATE.version)
    return bool(own and own.hidden) or any(each.loaded for each in _STATE.slices.values() if each is not own)


@dataclass(slots=True)
class _Slice:
    """The modules of a version, and those of the working tree that give way to them while it is active.

    `outside` and `inside` are the names last put into `sys.modules` when it was left and entered: whatever stands
    behind them there is new.
    """

    version: Version
    finder: Finder
    loaded: dict[str, ModuleType | None] = field(default_factory=dict)
    hidden: dict[str, ModuleType | None] = field(default_factory=dict)
    shared_parents: list[tuple[ModuleType, str, str]] = field(default_factory=list)
    outside: str | None = None
    inside: str | None = None
    clash: str = ""

    def enter(self) -> None:
        """Its modules take the places of the working tree's."""
        if _last() != self.outside:
            self._look(self.hidden, self.outside, self.version.gives_way)
        self.raise_clash()
        _swap(self.hidden, self.loaded)
        self._tell_parents(self.loaded)
        sys.meta_path.insert(0, self.finder)
        self.inside = _last()

    def leave(self) -> None:
        """They are put away, with what was loaded meanwhile, and the working tree's come back."""
        if _last() != self.inside:
            self._look(self.loaded, self.inside, self.version.holds)
        sys.meta_path.remove(self.finder)
        if any(folder.startswith(str(self.version.root)) for folder in sys.path):
            look_elsewhere(self.version.put_back)
        _swap(self.loaded, self.hidden)
        self._tell_parents(self.hidden)
        self.outside = _last()

    def raise_clash(self) -> None:
        """Say what a process cannot hold twice, if it has been asked to."""
        if self.clash:
            raise VersionsClash(self.clash)

    def _look(self, mine: dict[str, ModuleType | None], since: str | None, holds: Callable[[str], bool]) -> None:
        """Take down which of the modules that are new in `sys.modules` lie where they are this tree's."""
        for name in list(takewhile(lambda name: name != since, reversed(sys.modules))):
            if not stays(name) and _lies_in(holds, sys.modules[name]):
                mine[name] = sys.modules[name]
        self._find_shared_parents()
        self.finder.taken = {name for name, module in self.hidden.items() if is_extension(_file(module))}
        doubled = [name for name in self.finder.taken if is_extension(_file(self.loaded.get(name)))]
        if doubled:
            self.clash = f"{doubled[0]} is compiled, and a process holds one version of it"
        self.clash = self.clash or doubled_operator(self.version)

    def _find_shared_parents(self) -> None:
        names = self.loaded.keys() | self.hidden.keys()
        pairs = [(name, *name.rpartition(".")[::2]) for name in names]
        self.shared_parents = [
            (sys.modules[parent], child, name)
            for name, parent, child in pairs
            if parent in sys.modules and parent not in names
        ]

    def _tell_parents(self, modules: dict[str, ModuleType | None]) -> None:
        """`package.module` as an attribute of a package that both versions share is what `sys.modules` has."""
        for parent, child, name in self.shared_parents:
            if name in modules:
                setattr(parent, child, modules[name])
            else:
                vars(parent).pop(child, None)


@dataclass(slots=True)
class _State:
    version: Version = PRESENT
    slices: dict[Version, _Slice] = field(default_factory=dict)


_STATE = _State()


def _switch(version: Version) -> None:
    """From one version to another, by way of the working tree."""
    before = _STATE.version
    if version == before:
        return
    if before.moves:
        _STATE.slices[before].leave()
    _STATE.version = PRESENT
    if version.moves:
        _slice(version).enter()
    _STATE.version = version
    _forget_names()


def _forget_names() -> None:
    """torch.compile remembers which module has which name."""
    imported: Any = getattr(sys.modules.get("torch._dynamo.symbolic_convert"), "_import_module", None)
    if hasattr(imported, "cache_clear"):
        imported.cache_clear()


def _slice(version: Version) -> _Slice:
    if version not in _STATE.slices:
        _STATE.slices[version] = _Slice(version, Finder(version))
    return _STATE.slices[version]


def _last() -> str | None:
    """The name that was put into `sys.modules` last."""
    return next(reversed(sys.modules), None)


def _swap(leaving: dict[str, ModuleType | None], coming: dict[str, ModuleType | None]) -> None:
    modules: dict[str, Any] = sys.modules
    for name in list(leaving):
        if name in modules:
            leaving[name] = modules.pop(name)
        else:
            del leaving[name]  # somebody has unloaded it
    modules.update(coming)


def _lies_in(holds: Callable[[str], bool], module: Any) -> bool:
    """Whether a module's file, or for a package without one any of its folders, is held."""
    if file := _file(module):
        return holds(file)
    try:
        return any(holds(each) for each in vars(module).get("__path__", ()) if isinstance(each, str))
    except Exception:  # some put objects of their own there, with whatever they do when they are asked
        return False


def _file(module: Any) -> str | None:
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None
