"""Where a target's text leads: a built-in name, a file of the user's, an import path, or a library's name."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from attnbench.core.errors import AbsentError, UsageError, VersionsClash, named
from attnbench.core.plugins import plugins
from attnbench.core.registry import Registry, did_you_mean
from attnbench.core.spec import Spec
from attnbench.modules.spec import read_specs
from attnbench.targets.catalogue import find
from attnbench.targets.names import split
from attnbench.targets.providers import PROVIDERS
from attnbench.targets.state.kept import kept_over_import
from attnbench.targets.state.of_python import look_in
from attnbench.targets.version_clash import clash
from attnbench.targets.versions import active_version, several_loaded

__all__ = ["SOURCES", "USUAL_TOKENS", "Target", "locate", "set_back_after_import"]

# Tokens of a network that reads tokens, where nobody asked for a number.
USUAL_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Target:
    """A class or factory that builds a module; `spec` is there for built-ins.

    `layout` is what a library's network reads, None where it is to be found; `tokens` how many it reads by default, and
    `side` that of the images that its library made it for.
    """

    name: str
    factory: Callable[..., nn.Module]
    spec: Spec | None = None
    layout: str | None = None
    tokens: int = USUAL_TOKENS
    side: int | None = None


Source = Callable[[str, str], Target]
SOURCES: Registry[Source] = Registry("source", group="attnbench.sources")


def locate(text: str) -> Target:
    """The target behind `self_attn`, `my_attn.py:MyAttn`, `package.module:Class` or `provider:name`, as the version of
    the code that is active has it.

    Raises:
        UsageError: there is no such thing; one sentence says what is missing.
        VersionsClash: it cannot be loaded beside another version of itself.
    """
    source, place, name = split(text)
    if source in SOURCES:
        return SOURCES[source](place, name)
    for plugin in plugins("attnbench.sources"):
        if plugin.name == source:  # and yet it is not among the sources
            raise UsageError(f"{source}: belongs to a plug-in that does not load: {plugin.attempt()[1]}.")
    return SOURCES["import"](source, name)


@SOURCES.register("built-in")
def _built_in(place: str, name: str) -> Target:
    spec = find(name)
    module = _run(spec.module, lambda: importlib.import_module(spec.module))
    factory = getattr(module, spec.qualname, None)
    if factory is None:
        raise AbsentError(f"{module.__file__} has no {spec.qualname}.")
    return Target(spec.name, factory, _own_spec(module, spec))


def _own_spec(module: ModuleType, spec: Spec) -> Spec:
    """What the version's own source declares: its formulas may be others."""
    if not active_version().moves or not module.__file__:
        return spec
    declared = read_specs(Path(module.__file__), spec.module)
    return next((each for each in declared if each.qualname == spec.qualname), spec)


def _provided(place: str, name: str) -> Target:
    """From the file of that provider, which alone loads the library."""
    found: Target = importlib.import_module(f"attnbench.targets.providers.{place}").target(name)
    return found


for _provider in PROVIDERS:
    SOURCES.register(_provider)(_provided)


@SOURCES.register("file")
def _file(place: str, name: str) -> Target:
    folder, path = _where(place)
    if active_version().moves and not path.is_file():
        raise AbsentError(f"{place} does not exist in {active_version().root}.")
    module = _run(place, lambda: _executed(path, path.stat().st_mtime_ns, folder))
    return Target(f"{path.name}:{name}" if name else path.name, _member(module, place, name))


def _where(place: str) -> tuple[Path, Path]:
    """The folder in which the file's neighbours are looked for, and the file that the active version has."""
    path = Path(active_version().moved(place)).resolve()
    return Path(active_version().put_back(str(path.parent))), path


# What each file, or module of a version, changed for the whole process while it was imported.
_SET_BACK: dict[str, tuple[str, ...]] = {}


def set_back_after_import(text: str) -> tuple[str, ...]:
    """What a target's file changed for the whole process while it was imported, as a note names it.

    It was set back at once: a file is imported once for many cases, and the first of them must not be another question
    than the later ones.
    """
    source, place, _ = split(text)
    return _SET_BACK.get(str(_where(place)[1]) if source == "file" else _versioned(place), ())


def _versioned(place: str) -> str:
    return f"{active_version().root}:{place}"


@cache
def _executed(path: Path, changed: int, folder: Path) -> ModuleType:
    """The user's file as a module, run once for each time it was changed: it may register operators, or print."""
    look_in(str(folder))  # as it is for whoever works there
    found = importlib.util.spec_from_file_location(f"attnbench_user_{path.stem}", path)
    assert found is not None and found.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module
    with kept_over_import() as kept:
        found.loader.exec_module(module)
    _SET_BACK[str(path)] = tuple(kept.changed)
    return module


@SOURCES.register("import")
def _import(place: str, name: str) -> Target:
    look_in(str(Path.cwd()))
    module = _run(place, lambda: _imported(place))
    return Target(f"{place}:{name}", _member(module, place, name))


def _imported(place: str) -> ModuleType:
    if place in sys.modules:
        return importlib.import_module(place)
    with kept_over_import() as kept:
        module = importlib.import_module(place)
    _SET_BACK[_versioned(place)] = tuple(kept.changed)
    return module


def _run(place: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (Exception, SystemExit) as error:  # whatever the user's code raises while it is imported
        if several_loaded() and (reason := clash(error)):
            raise VersionsClash(f"{place}: {reason}") from error
        absent = isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}.")
        kind = AbsentError if absent else UsageError
        raise kind(f"{place} does not import: {named(error)}{_line_in(place, error)}.") from error


def _line_in(place: str, error: BaseException) -> str:
    """Where in the user's file it went wrong; a syntax error knows it itself."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == Path(place).name]
    if isinstance(error, SyntaxError) or not lines:
        return ""
    return f" (line {lines[-1]})"


def _member(module: ModuleType, place: str, name: str) -> Callable[..., nn.Module]:
    classes = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    if not name:
        return _only(classes, place)
    thing = module
    for part in name.split("."):
        if not hasattr(thing, part):
            known = ", ".join(sorted(classes)) or "no torch.nn.Module"
            raise AbsentError(f"{place} has no {name!r}.{did_you_mean(name, classes)} It defines: {known}.")
        thing = getattr(thing, part)
    if not callable(thing) or isinstance(thing, nn.Module):
        raise UsageError(f"{name!r} in {place} is neither a class nor a function that builds a torch.nn.Module.")
    return thing


def _only(classes: dict[str, Any], place: str) -> Callable[..., nn.Module]:
    if len(classes) == 1:
        return next(iter(classes.values()))  # type: ignore[no-any-return]
    known = ", ".join(sorted(classes)) or "none"
    raise UsageError(f"{place} does not hold exactly one torch.nn.Module (it holds: {known}): write {place}:CLASS.")
