"""What other packages bring: entry points that are found, read or loaded, and left out with one word where broken."""

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from attnbench.core.errors import named

__all__ = ["LeftOutWarning", "Plugin", "PluginWarning", "left_out", "plugin_names", "plugins"]


class LeftOutWarning(UserWarning):
    """Something was left out, and what else there is works without it; the command line says it on one line."""


class PluginWarning(LeftOutWarning):
    """A plug-in was left out."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of an attnbench group: its name, and `package.module`, or `package.module:thing`."""

    point: EntryPoint

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def module(self) -> str:
        return self.point.value.partition(":")[0].strip()

    @property
    def member(self) -> str:
        """The thing in the module; empty where the entry point names the module alone."""
        return self.point.value.partition(":")[2].strip()

    def load(self) -> Any:
        """What it stands for; None when it does not load, which is said as a PluginWarning."""
        thing, failure = self.attempt()
        if failure:
            left_out(self.name, failure)
        return thing

    def attempt(self) -> tuple[Any, str]:
        """What it stands for, or None and why it does not load."""
        try:
            return self.point.load(), ""
        except (Exception, SystemExit) as error:  # another package's code may fail in any way
            return None, named(error)

    def source(self) -> Path | None:
        """The file of its module, found without running it (its parent packages are run)."""
        try:
            found = importlib.util.find_spec(self.module)
        except (Exception, SystemExit) as error:  # of a parent package
            left_out(self.name, named(error))
            return None
        if found is None or not (found.origin or "").endswith(".py"):
            left_out(self.name, f"{self.module} is no Python module that can be read")
            return None
        return Path(str(found.origin))


def plugins(group: str) -> Iterator[Plugin]:
    """The entry points of that group, in the order of their names."""
    for point in sorted(entry_points(group=group), key=lambda each: each.name):
        yield Plugin(point)


def plugin_names(group: str) -> set[str]:
    """The names in that group, nothing loaded."""
    return {plugin.name for plugin in plugins(group)}


def left_out(name: str, why: str) -> None:
    """Say that the plug-in of that name is not there, and why."""
    warnings.warn(f"the plug-in {name!r} is left out: {why}", PluginWarning, stacklevel=3)
