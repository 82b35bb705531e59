"""Reads declarative decorators from source files without importing them, so that listing things never loads torch."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Decorated", "read_decorated"]


@dataclass(frozen=True, slots=True)
class Decorated:
    """A class or function under a decorator call: where it stands, what the call says, and what its signature says.

    `arguments` are the decorator's keyword arguments, all literals. `parameters` maps the parameters of the
    constructor (of a class) or of the function itself to their literal defaults; `required` names those without one.
    """

    module: str
    name: str
    doc: str
    arguments: dict[str, Any]
    parameters: dict[str, Any]
    required: tuple[str, ...]


def read_decorated(path: Path, module: str, decorator: str) -> Iterator[Decorated]:
    """Every top-level class or function of the file at `path` under `@decorator(...)`, in the order of the file.

    Raises:
        ValueError: an argument of the decorator, or a default, is not a literal.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
                yield _read(node, call, module)


def _read(node: ast.ClassDef | ast.FunctionDef, call: ast.Call, module: str) -> Decorated:
    arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    signature = node if isinstance(node, ast.FunctionDef) else _constructor(node)
    parameters, required = _parameters(signature) if signature else ({}, ())
    return Decorated(module, node.name, ast.get_docstring(node) or "", arguments, parameters, required)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    functions = (item for item in node.body if isinstance(item, ast.FunctionDef))
    return next((function for function in functions if function.name == "__init__"), None)


def _parameters(function: ast.FunctionDef) -> tuple[dict[str, Any], tuple[str, ...]]:
    spec = function.args
    positional = [argument.arg for argument in spec.posonlyargs + spec.args if argument.arg != "self"]
    defaults = {
        name: ast.literal_eval(default)
        for name, default in zip(reversed(positional), reversed(spec.defaults), strict=False)
    }
    for argument, keyword_default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        if keyword_default is not None:
            defaults[argument.arg] = ast.literal_eval(keyword_default)
    names = positional + [argument.arg for argument in spec.kwonlyargs]
    return {name: defaults[name] for name in names if name in defaults}, tuple(n for n in names if n not in defaults)
