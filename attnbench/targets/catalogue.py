"""The modules and networks by name, known from their sources alone: nothing here loads torch."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from attnbench.core.errors import named
from attnbench.core.plugins import Plugin, left_out, plugins
from attnbench.core.registry import Registry
from attnbench.core.spec import Spec
from attnbench.modules.spec import read_specs

__all__ = ["by_name", "catalogue", "find", "offered"]

_GROUP = "attnbench.modules"


@cache
def catalogue() -> tuple[Spec, ...]:
    """Every built-in spec: modules by family, then networks, in the order of their files."""
    modules = Path(str(files("attnbench.modules")))
    networks = Path(str(files("attnbench.targets"))) / "networks.py"
    sources = [(path, f"attnbench.modules.{path.stem}") for path in sorted(modules.glob("[!_]*.py"))]
    sources.append((networks, "attnbench.targets.networks"))
    return tuple(spec for path, module in sources for spec in read_specs(path, module))


@cache
def offered() -> tuple[Spec, ...]:
    """The catalogue, and what other packages add to it: an entry point names a module, whose `@attention` classes are
    read, or one such class in it. A name or alias that is taken leaves the plug-in out."""
    specs = list(catalogue())
    taken = {name for spec in specs for name in (spec.name, *spec.aliases)}
    for plugin in plugins(_GROUP):
        for spec in _declared(plugin):
            if double := sorted(taken & {spec.name, *spec.aliases}):
                left_out(plugin.name, f"there is another module or network called {double[0]!r}")
                continue
            specs.append(spec)
            taken |= {spec.name, *spec.aliases}
    return tuple(specs)


def _declared(plugin: Plugin) -> Iterator[Spec]:
    if (path := plugin.source()) is None:
        return
    try:
        found = [spec for spec in read_specs(path, plugin.module) if plugin.member in ("", spec.qualname)]
    except Exception as error:  # a file that is no Python, or a declaration with something missing
        left_out(plugin.name, f"{path.name} cannot be read ({named(error)})")
        return
    if not found:
        left_out(plugin.name, f"{path.name} declares no @attention {plugin.member}".rstrip())
    yield from found


@cache
def by_name() -> Registry[Spec]:
    """All that is offered, by name and alias; a name given twice in the catalogue is refused."""
    registry: Registry[Spec] = Registry("module or network")
    for spec in offered():
        for name in (spec.name, *spec.aliases):
            registry.register(name)(spec)
    return registry


def find(name: str) -> Spec:
    """The spec of that name or alias; UsageError with the nearest name when there is none."""
    return by_name()[name]
