"""A generic registry: names to things, duplicates refused, near names offered, other packages' entry points found."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from attnbench.core.errors import UsageError
from attnbench.core.plugins import left_out, plugins

__all__ = ["Registry", "did_you_mean"]

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'self_attn'?`, or nothing when no known name is near."""
    spelled = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.6)
    return f" Did you mean {spelled[near[0]]!r}?" if near else ""


class Registry(Generic[T]):
    """Things of one kind by name. `kind` is what an error calls them; `group` is their entry-point group."""

    def __init__(self, kind: str, group: str = "") -> None:
        self.kind, self.group = kind, group
        self._things: dict[str, T] = {}
        self._plugins_loaded = not group

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a thing under `name`; ValueError when the name is taken."""

        def file(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._things[name] = thing
            return thing

        return file

    def __getitem__(self, name: str) -> T:
        """The thing of that name; UsageError with the nearest known name when there is none."""
        self._load_plugins()
        if name not in self._things:
            known = ", ".join(sorted(self._things))
            raise UsageError(f"unknown {self.kind} {name!r}.{did_you_mean(name, self._things)} Known: {known}.")
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(self._things)

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._things

    def items(self) -> list[tuple[str, T]]:
        """Names and things in the order of registration."""
        self._load_plugins()
        return list(self._things.items())

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for plugin in plugins(self.group):
            if plugin.name in self._things:
                left_out(plugin.name, f"there is another {self.kind} of that name")
            elif (thing := plugin.load()) is not None:
                self._things[plugin.name] = thing
