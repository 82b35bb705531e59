"""The libraries that give targets by name, `timm:resnet50`: what can be said of each before torch is loaded.

A provider is a row here and a file beside this one, named like it, with a function `target(name) -> Target`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from attnbench.core.errors import UsageError, named
from attnbench.core.registry import did_you_mean

__all__ = ["PROVIDERS", "Provider", "library", "provider_of", "require", "unknown"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A library (its import name), what it gives, and a name out of it to show.

    `reads` is what every network of it takes; None where only the library can tell.
    """

    library: str
    kind: Literal["module", "network"]
    example: str
    reads: Literal["images", "tokens"] | None = None


PROVIDERS: Mapping[str, Provider] = {
    "timm": Provider("timm", "network", "resnet50", reads="images"),
    "torchvision": Provider("torchvision", "network", "resnet50", reads="images"),
    "hf": Provider("transformers", "network", "gpt2"),
    "fla": Provider("fla", "module", "gated_linear_attention"),
    # Of our own, for stored baselines: no catalogue shows them.
    "yardstick": Provider("attnbench", "module", "softmax-1"),
}


def provider_of(text: str) -> str | None:
    """`timm` for `timm:resnet50`; None for what no library is asked for."""
    name, colon, _ = text.partition(":")
    return name if colon and name in PROVIDERS else None


def require(provider: str, name: str) -> None:
    """Find, without importing anything, what is wrong with `provider:name`.

    Raises:
        UsageError: there is no name, or the library is not installed.
    """
    given = PROVIDERS[provider]
    if not name:
        raise UsageError(f"{provider}: names no {given.kind}: write {provider}:NAME, like {provider}:{given.example}.")
    if find_spec(given.library) is None:
        raise UsageError(f"{provider}:{name} needs {given.library}, which is not installed: "
                         f"pip install 'attnbench[{provider}]'.")  # fmt: skip


def library(provider: str) -> Any:
    """The provider's library, imported.

    Raises:
        UsageError: it fails to.
    """
    name = PROVIDERS[provider].library
    try:
        return import_module(name)
    except Exception as error:  # a library that does not fit the torch that is installed may raise anything
        raise UsageError(f"{name} does not import: {named(error)}.") from error


def unknown(provider: str, name: str, known: list[str], more: str = "") -> UsageError:
    """The error for a name that the library does not have, with the nearest that it has."""
    given = PROVIDERS[provider]
    return UsageError(f"{given.library} has no {given.kind} {name!r}.{did_you_mean(name, known)}"
                      f"{more} It has {len(known)}, like {provider}:{given.example}.")  # fmt: skip
