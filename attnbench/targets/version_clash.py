"""Why two versions of the same code cannot share a process, and the proof that each runs its own."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from attnbench.core.errors import VersionsClash, first_line, named
from attnbench.targets.trees import Trees
from attnbench.targets.version_finder import is_instrument

__all__ = ["clash", "doubled_operator", "own_code_only"]

# What registries say to a name that they have already: torch.library, pybind11, and those of libraries.
_TAKEN = re.compile(
    r"already (been )?(registered|exists?|defined|used|has an?|in use|a kernel)|there's already a|multiple times"
    r"|single TORCH_LIBRARY|registered twice|[Dd]uplicate",
)


def clash(error: BaseException) -> str | None:
    """Why the version that raised this, loaded second, cannot share the process; None where it is its own mistake."""
    for each in _chain(error):
        if isinstance(each, VersionsClash):
            return first_line(each)
        if _TAKEN.search(str(each)):
            return f"a name is registered for the whole process ({named(each)})"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# Which tree has defined each operator of torch.library.custom_op: a second definition silently replaces the first.
_DEFINED_IN: dict[tuple[Trees, str], bool] = {}


def doubled_operator(trees: Trees) -> str:
    """What to say of an operator of torch that both trees define; empty where there is none."""
    library: Any = sys.modules.get("torch._library.custom_ops")
    for name, operator in list(getattr(library, "OPDEFS", {}).items()):
        code = getattr(getattr(operator, "_init_fn", None), "__code__", None)
        path = code.co_filename if code else ""
        of_root = trees.holds(path)
        ours = of_root or (os.path.isabs(path) and trees.gives_way(path))  # noqa: PTH117 - it may be "<string>"
        if ours and _DEFINED_IN.setdefault((trees, name), of_root) != of_root:
            return f"both define the operator {name}, and a process holds one"
    return ""


@contextmanager
def own_code_only(version: Trees, other: Trees) -> Iterator[None]:
    """Watches a step of a version: it may run no code of the other's, such as a function fetched from a registry that
    both write to. Costs some times the step.

    Raises:
        VersionsClash: it did.
    """
    files: dict[str, None] = {}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            files[frame.f_code.co_filename] = None

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    for path in filter(os.path.isabs, files):
        if (version.gives_way(path) and not is_instrument(path)) if version.moves else other.holds(path):
            raise VersionsClash(f"a step of one version runs code of the other, {path}")
