"""Takes a target's text apart and finds what can be known wrong about it before torch is loaded."""

import os
from typing import Literal

from attnbench.core.errors import UsageError
from attnbench.core.plugins import plugin_names
from attnbench.core.registry import did_you_mean
from attnbench.core.spec import Spec
from attnbench.targets.catalogue import by_name, find
from attnbench.targets.providers import PROVIDERS, provider_of, require

__all__ = ["Reads", "canonical", "is_network", "network_reads", "spec_of", "split"]

# What a network takes; None where its library, or its author, has to be asked.
Reads = Literal["images", "tokens"] | None


def split(text: str) -> tuple[str, str, str]:
    """Source, place and name: (`built-in`, ``, `se`), (`file`, `my.py`, `MyAttn`), (`import`, `a.b`, `C`), and of
    a library (`timm`, `timm`, `resnet50`)."""
    if provider := provider_of(text):
        return provider, provider, text.partition(":")[2]
    place, colon, name = text.rpartition(":")
    if text.endswith(".py"):
        return "file", text, ""
    if not colon:
        return "built-in", "", text
    if place.endswith(".py"):
        return "file", place, name
    if place in plugin_names("attnbench.sources"):
        return place, place, name
    return "import", place, name


def spec_of(text: str) -> Spec | None:
    """The built-in spec behind a target's text, if it is one."""
    source, _, name = split(text)
    return find(name) if source == "built-in" else None


def is_network(text: str) -> bool:
    """Whether it is known to be a network: a built-in, one of a library's, or one that an attention is put into."""
    if set("+~") & set(text.rpartition("/")[2][1:]):  # a tilde at the beginning is a home folder
        return True
    provider = provider_of(text)
    if provider is not None:
        return PROVIDERS[provider].kind == "network"
    return text in by_name() and by_name()[text].kind == "network"


def network_reads(text: str) -> Reads:
    """What the network takes, as far as its name tells."""
    provider = provider_of(text)
    if provider is not None:
        return PROVIDERS[provider].reads
    return "images" if split(text)[0] == "built-in" else None


def canonical(text: str, kind: str) -> str:
    """The target's text with an alias replaced by the name, checked as far as can be done without importing it.

    Raises:
        UsageError: no such built-in, one of the other kind, no such file, no class named, or no such library.
    """
    source, place, name = split(text)
    if source in PROVIDERS:
        require(source, name)
        return _of_kind(text, PROVIDERS[source].kind, kind)
    if source == "built-in":
        return _built_in(text, kind)
    if source == "file" and not os.path.isfile(place):  # noqa: PTH113 - Path's raises where a name is too long
        what = "is a folder" if os.path.isdir(place) else "does not exist"  # noqa: PTH112
        raise UsageError(f"the file {place} {what}: give the path of a Python file, like my_attn.py:MyAttn.")
    if source == "import" and not (name.replace(".", "").isidentifier() and place.replace(".", "").isidentifier()):
        raise UsageError(f"{text!r} is no target: write a name, my_attn.py:MyAttn or package.module:Class.")
    return text


def _built_in(name: str, kind: str) -> str:
    if name not in by_name():
        names = [each for each in by_name() if by_name()[each].kind == kind]
        near = did_you_mean(name, by_name())
        every = ", ".join(dict.fromkeys(by_name()[each].name for each in names))
        raise UsageError(f"unknown {kind} {name!r}.{near} Known: {every}; or a file like my_attn.py:MyAttn.")
    spec = find(name)
    return _of_kind(spec.name, spec.kind, kind, typed=name)


def _of_kind(name: str, kind: str, wanted: str, typed: str = "") -> str:
    if kind != wanted:
        raise UsageError(f"{(typed or name)!r} is a {kind}: give it with --{kind}.")
    return name
