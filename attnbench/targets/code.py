"""Whether two versions run the same code: digests of the modules that they have loaded, without docstrings."""

import ast
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from attnbench.targets.reached import reached
from attnbench.targets.version_finder import stays
from attnbench.targets.versions import Version

__all__ = ["code_of", "same_code"]

# A module that reads its own text, or comments that torch.jit reads: here every character counts.
_READS_ITSELF = re.compile(
    rb"__doc__|__file__|getdoc|getsource|getcomments|linecache|co_firstlineno|co_lines|f_lineno|tb_lineno|currentframe"
    rb"|traceback|inspect\.stack|#\s*type:"
)
_FOR_READERS = (".md", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf", ".bib", ".pyi")
_NAMES_FOR_READERS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CHANGELOG", "CODEOWNERS", "CITATION.cff",
                      ".gitignore", ".mailmap", ".editorconfig")  # fmt: skip
# Python files that decide on how a package is built, or what a run of Python begins with.
_DECIDES = ("setup.py", "sitecustomize.py", "usercustomize.py")


def code_of(version: Version, targets: Collection[str] | None = None) -> dict[str, str]:
    """A digest for each module of the version that is loaded now, by its path in the repository; with `targets` those
    alone that bear on them.

    To be asked once a step has run, since modules may be imported as late as that. Positions, comments and docstrings
    do not count, except in a module that reads them.
    """
    with version.active():
        loaded = {name: module for name, module in list(sys.modules.items()) if _is_code(version, name, module)}
        mine = loaded if targets is None else reached(targets, loaded)
    paths = {file: version.relative(file) for file in map(_file, mine.values()) if file}
    return {relative: _digest_of(file) for file, relative in paths.items() if relative is not None}


def _is_code(version: Version, name: str, module: Any) -> bool:
    file = None if stays(name) else _file(module)
    return file is not None and version.relative(file) is not None


def same_code(base: Mapping[str, str], head: Mapping[str, str], changed_files: Iterable[str]) -> bool:
    """Whether both versions certainly run the same code; False also where it cannot be told.

    `base` and `head` are what `code_of` gave for them, and `changed_files` what git finds different: beside the modules
    themselves, only what is for readers, or a Python file that neither has loaded, may be among it.
    """
    changed = set(changed_files)
    if not base or not head:
        return False  # nothing of the repository was loaded: who knows what was measured
    for path in base.keys() | head.keys():
        if base[path] != head[path] if path in base and path in head else path in changed:
            return False
    return all(path in base or path in head or _does_not_run(path) for path in changed)


def _does_not_run(path: str) -> bool:
    """Whether a file that is not among the loaded modules cannot bear on them."""
    file = PurePosixPath(path)
    if file.suffix == ".py":
        return file.name not in _DECIDES
    documentation = file.suffix == ".txt" and file.parts[0] in ("doc", "docs")
    return (
        documentation
        or file.parts[0] == ".github"
        or file.suffix.lower() in _FOR_READERS
        or file.name in _NAMES_FOR_READERS
        or (file.stem in _NAMES_FOR_READERS and file.suffix == ".txt")
    )


def _file(module: Any) -> str | None:
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None


def _digest_of(file: str) -> str:
    """Of the file as it lies there, which is what was imported unless somebody is editing it meanwhile."""
    try:
        status = Path(file).stat()
    except OSError:
        return "gone"
    return _digest(file, status.st_mtime_ns, status.st_size)


@cache
def _digest(file: str, changed: int, size: int) -> str:
    text = Path(file).read_bytes()
    if not file.endswith(".py") or _READS_ITSELF.search(text):
        return hashlib.sha256(text).hexdigest()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # it was imported, and has been edited since
        return hashlib.sha256(text).hexdigest()
    for node in ast.walk(tree):
        _without_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode(errors="surrogatepass")).hexdigest()


def _without_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
