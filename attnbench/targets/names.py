"""Takes a target's text apart and finds what can be known wrong about it before torch is loaded."""

from importlib.metadata import entry_points
from pathlib import Path

from attnbench.core.errors import UsageError
from attnbench.core.registry import did_you_mean
from attnbench.core.spec import Spec
from attnbench.targets.catalogue import by_name, find

__all__ = ["canonical", "spec_of", "split"]


def split(text: str) -> tuple[str, str, str]:
    """Source, place and name: (`built-in`, ``, `se`), (`file`, `my.py`, `MyAttn`), (`import`, `a.b`, `C`)."""
    place, colon, name = text.rpartition(":")
    if text.endswith(".py"):
        return "file", text, ""
    if not colon:
        return "built-in", "", text
    if place.endswith(".py"):
        return "file", place, name
    if place in {point.name for point in entry_points(group="attnbench.sources")}:
        return place, place, name
    return "import", place, name


def spec_of(text: str) -> Spec | None:
    """The built-in spec behind a target's text, if it is one."""
    source, _, name = split(text)
    return find(name) if source == "built-in" else None


def canonical(text: str, kind: str) -> str:
    """The target's text with an alias replaced by the name, checked as far as can be done without importing it.

    Raises:
        UsageError: no such built-in, one of the other kind, no such file, or no class named.
    """
    source, place, name = split(text)
    if source == "built-in":
        return _built_in(text, kind)
    if source == "file" and not Path(place).is_file():
        what = "is a folder" if Path(place).is_dir() else "does not exist"
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
    if spec.kind != kind:
        raise UsageError(f"{name!r} is a {spec.kind}: give it with --{spec.kind}.")
    return spec.name
