"""Chooses places by what was typed after --at: patterns of dotted names, matched part by part."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean

__all__ = ["chosen"]


def chosen(names: Sequence[str], patterns: Iterable[str], network: str, inside: bool = False) -> list[str]:
    """The names that a pattern matches, in their order; `stages.*` is every stage and nothing within one.

    With `inside`, a pattern that matches what encloses a name matches the name as well.

    Raises:
        UsageError: a pattern matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if _matches(name, pattern, inside)}
        if not matching:
            some = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
            raise UsageError(f"--at {pattern!r} matches no place in {network}.{did_you_mean(pattern, names)} "
                             f"There are: {some or 'none'}.")  # fmt: skip
        found |= matching
    return [name for name in names if name in found]


def _matches(name: str, pattern: str, inside: bool) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    if len(parts) != len(wanted) and not (inside and len(parts) > len(wanted)):
        return False
    return all(fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=False))
