"""The built-in modules and networks by name, known from their sources alone: nothing here loads torch."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from attnbench.core.registry import Registry
from attnbench.core.spec import Spec
from attnbench.modules.spec import read_specs

__all__ = ["by_name", "catalogue", "find"]


@cache
def catalogue() -> tuple[Spec, ...]:
    """Every built-in spec: modules by family, then networks, in the order of their files."""
    modules = Path(str(files("attnbench.modules")))
    networks = Path(str(files("attnbench.targets"))) / "networks.py"
    sources = [(path, f"attnbench.modules.{path.stem}") for path in sorted(modules.glob("[!_]*.py"))]
    sources.append((networks, "attnbench.targets.networks"))
    return tuple(spec for path, module in sources for spec in read_specs(path, module))


@cache
def by_name() -> Registry[Spec]:
    """The catalogue by name and alias; a name given twice is refused."""
    registry: Registry[Spec] = Registry("module or network")
    for spec in catalogue():
        for name in (spec.name, *spec.aliases):
            registry.register(name)(spec)
    return registry


def find(name: str) -> Spec:
    """The spec of that name or alias; UsageError with the nearest name when there is none."""
    return by_name()[name]
