"""The decorators that put a declarative spec beside a built-in module or network, and their reading without torch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from attnbench.core.decorated import Decorated, read_decorated
from attnbench.core.formula import Formula
from attnbench.core.spec import Spec

__all__ = ["attention", "network", "read_specs"]

T = TypeVar("T")


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
        may_be_zero=tuple(arguments.pop("may_be_zero", ())),
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
