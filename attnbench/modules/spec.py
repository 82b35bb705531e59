"""The declarative spec that stands beside every built-in module and network; it loads without torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from attnbench.core.decorated import Decorated, read_decorated
from attnbench.core.formula import Formula

__all__ = ["Spec", "attention", "network", "read_specs"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a module says of itself.

    `complexity` and `memory` are the published claims in the number of tokens N ("N", "N^2", "N log N"; "1" for a
    module that does not look at pairs of positions). `params` and `macs` are formulas in B, N, H, W, C, the
    constructor's own parameter names, and the local symbols of `where`.
    """

    name: str
    kind: str
    layout: str
    complexity: str
    memory: str
    params: Formula
    macs: Formula
    paper: str
    aliases: tuple[str, ...] = ()
    where: Mapping[str, Formula] = field(default_factory=dict)
    module: str = ""
    qualname: str = ""
    doc: str = ""
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The file the module lives in: `softmax`, `linear`, `channel` ..."""
        return self.module.rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return self.doc.split("\n", 1)[0]

    def symbols(self, **shape: object) -> dict[str, object]:
        """The values that the formulas see: the shape, the constructor's defaults under it, then `where`."""
        values: dict[str, object] = {**self.hyper_parameters, **shape}
        for name, formula in self.where.items():
            values[name] = formula(**values)
        return values


def attention(**spec: Any) -> Callable[[type[T]], type[T]]:
    """Declare an attention module: `@attention(name="se", layout="bchw", ...)` above its class.

    The arguments must be literals, since `attnbench list` and `show` read them from the source without running it.
    """
    return _declare("module", spec)


def network(**spec: Any) -> Callable[[type[T]], type[T]]:
    """Declare a whole network; the arguments are those of `attention`."""
    return _declare("network", spec)


def _declare(kind: str, arguments: dict[str, Any]) -> Callable[[type[T]], type[T]]:
    def attach(cls: type[T]) -> type[T]:
        _spec(Decorated(cls.__module__, cls.__name__, cls.__doc__ or "", arguments, {}, ()), kind)
        return cls

    return attach


def _spec(found: Decorated, kind: str) -> Spec:
    arguments = dict(found.arguments)
    where = {name: Formula(text) for name, text in arguments.pop("where", {}).items()}
    return Spec(
        kind=kind,
        params=Formula(arguments.pop("params")),
        macs=Formula(arguments.pop("macs")),
        aliases=tuple(arguments.pop("aliases", ())),
        where=where,
        module=found.module,
        qualname=found.name,
        doc=found.doc,
        hyper_parameters=found.parameters,
        required=found.required,
        **arguments,
    )


def read_specs(path: Path, module: str) -> Iterator[Spec]:
    """The specs declared in one source file, read without importing it."""
    for kind, decorator in (("module", attention), ("network", network)):
        for found in read_decorated(path, module, decorator.__name__):
            yield _spec(found, kind)
