"""Which of the loaded modules some targets' own modules reach by imports, wherever in the text they stand."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.targets.names import split
from attnbench.targets.sources import locate

__all__ = ["reached"]

# Sources whose targets stand in a module by name.
_OF_MODULES = ("built-in", "file", "import")
# Imports that do not stand in the text: with one of these a module may reach any other.
_DYNAMIC = re.compile(rb"importlib|__import__|\bexec\(|\beval\(|entry_points|pkgutil|sys\.modules|load_library|runpy")


def reached(targets: Collection[str], loaded: Mapping[str, ModuleType]) -> Mapping[str, ModuleType]:
    """Those of the loaded modules that bear on the targets, by name; all of them where that cannot be told.

    To be asked with the version active that the targets are meant in. A library's network is made by code of ours that
    asks the library: when it is the library that is under test, no text says what of it that reaches.
    """
    if any(split(target)[0] not in _OF_MODULES for target in targets):
        return loaded
    waiting = [name for target in targets for name in _homes(target, loaded)]
    found: dict[str, ModuleType] = {}
    while waiting:
        name = waiting.pop()
        if name in found or name not in loaded:
            continue
        found[name] = loaded[name]
        file = getattr(loaded[name], "__file__", None)
        imported = _imported(file, _package(loaded[name])) if isinstance(file, str) else ()
        if imported is None:
            return loaded
        waiting += imported
        waiting += _parents(name)
    return found


def _homes(target: str, loaded: Mapping[str, ModuleType]) -> Iterator[str]:
    """The modules that a target is taken from: where its class is, and where it was asked for."""
    factory = locate(target).factory
    yield str(getattr(factory, "__module__", ""))
    place, _, _ = target.rpartition(":")
    ending = place or target
    for name, module in loaded.items():
        file = getattr(module, "__file__", None)
        if name == place or (ending.endswith(".py") and isinstance(file, str) and Path(file).name == Path(ending).name):
            yield name


def _package(module: ModuleType) -> str:
    own: Any = getattr(module, "__package__", None)
    return own if isinstance(own, str) else module.__name__.rpartition(".")[0]


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


@cache
def _imported(file: str, package: str) -> tuple[str, ...] | None:
    """The names that a module's text imports, as far as they may be modules; None where it imports in other ways."""
    try:
        text = Path(file).read_bytes()
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):  # compiled, or being edited
        return None
    if _DYNAMIC.search(text):
        return None
    return tuple(each for node in ast.walk(tree) for each in _names(node, package))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """`from .near import far` names the module and what may be a module in it."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
            yield from _parents(alias.name)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
        yield from _parents(module)

