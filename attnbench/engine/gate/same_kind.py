"""Whether two environments are of one kind, so that ratios taken in one say something of the other."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean

__all__ = ["ALLOWED", "parsed_allow", "same_kind"]

_Part = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class _Trait:
    """What must be equal: how it is named and said, and what it is; None is not known and differs from nothing."""

    name: str
    words: str
    of: _Part


def _plain(name: str) -> _Part:
    return lambda env: None if env.get(name) is None else str(env[name])


def _host(env: Mapping[str, Any]) -> str | None:
    """The processor beside a GPU; of a CPU the device is the processor, and is said once."""
    return None if env.get("cpu") in (None, env.get("device_name")) else str(env["cpu"])


def _version(name: str, places: int) -> _Part:
    """The first numbers of a version: those that follow are repairs."""

    def of(env: Mapping[str, Any]) -> str | None:
        numbers = re.findall(r"\d+", str(env.get(name) or "").partition("+")[0])
        return ".".join(numbers[:places]) or None

    return of


def _flags(env: Mapping[str, Any]) -> str | None:
    flags = env.get("flags")
    if not isinstance(flags, Mapping):
        return None
    return ", ".join(f"{name}={flags[name]}" for name in sorted(flags))


_TRAITS: Final = (
    _Trait("device", "{}", _plain("device_name")),
    _Trait("cpu", "{}", _host),
    _Trait("cores", "{} cores", _plain("cores")),
    _Trait("system", "{}", _plain("system")),
    _Trait("threads", "threads {}", _plain("threads")),
    _Trait("torch", "torch {}", _version("torch", 2)),
    _Trait("python", "Python {}", _version("python", 2)),
    _Trait("cuda", "CUDA {}", _version("cuda", 2)),
    _Trait("driver", "driver {}", _version("driver", 1)),
    _Trait("flags", "{}", _flags),
)
ALLOWED: Final = tuple(trait.name for trait in _TRAITS)


def same_kind(baseline: Mapping[str, Any], env: Mapping[str, Any], allow: Iterable[str] = ()) -> str:
    """Why latencies that were stored in the environment `baseline` do not tell of those in `env`; "" where they do.

    `allow` are the names of what may differ. The processor beside a GPU runs no kernel, and yet decides how long a step
    takes that waits for its host.
    """
    differing = [
        (trait, old, new)
        for trait in _TRAITS
        if trait.name not in set(allow)
        and (old := trait.of(baseline)) is not None
        and (new := trait.of(env)) is not None
        and old != new
    ]
    if not differing:
        return ""
    before, after = (", ".join(trait.words.format(pair[which]) for trait, *pair in differing) for which in (0, 1))
    names = ",".join(trait.name for trait, *_ in differing)
    return (f"the baseline was measured with {before}, and this is {after}: write it anew here, or let them differ "
            f"with --allow {names}")  # fmt: skip


def parsed_allow(texts: Iterable[str]) -> frozenset[str]:
    """The names in lists such as `torch,driver`.

    Raises:
        UsageError: one of them is the name of nothing that may differ.
    """
    words = [word.strip().lower() for text in texts for word in text.split(",") if word.strip()]
    for word in words:
        if word not in ALLOWED:
            raise UsageError(f"--allow cannot name {word!r}.{did_you_mean(word, ALLOWED)} It takes any of: "
                             f"{', '.join(ALLOWED)}.")  # fmt: skip
    return frozenset(words)
