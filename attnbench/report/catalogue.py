"""The catalogue for people: `list` as a table or JSON, `show` as a page about one module."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attnbench.core.errors import UsageError
from attnbench.core.formula import Formula
from attnbench.core.registry import did_you_mean
from attnbench.core.spec import Spec
from attnbench.core.units import UNITS

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["as_json", "big_o", "chosen", "page", "table"]

_BELOW_QUADRATIC = ("1", "N", "N log N", "N^1.5")
_COMPUTES = {
    "softmax": "softmax attention, exactly",
    "approximation": "an approximation of softmax attention",
    "other": "a function of its own",
}
_CAUSAL = {"no": "no", "flag": "if asked: --set causal=true", "always": "always"}


def big_o(claim: str) -> str:
    """`N^2` -> `O(N²)`."""
    return f"O({claim.replace('^2', '²').replace('^1.5', '¹·⁵')})"


def chosen(specs: Sequence[Spec], family: str | None = None, *, below_quadratic: bool = False) -> list[Spec]:
    """The specs of a family, or with a claim below N^2.

    Raises:
        UsageError: there is no such family.
    """
    families = dict.fromkeys(spec.family for spec in specs)
    if family is not None and family not in families:
        known = ", ".join(families)
        raise UsageError(f"unknown family {family!r}.{did_you_mean(family, families)} Known: {known}.")
    return [
        spec
        for spec in specs
        if family in (None, spec.family) and (not below_quadratic or spec.complexity in _BELOW_QUADRATIC)
    ]


def as_json(specs: Sequence[Spec]) -> str:
    """The specs as a JSON list, for scripts."""
    return json.dumps([_facts(spec) for spec in specs], indent=2, ensure_ascii=False)


def _facts(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name, "kind": spec.kind, "family": spec.family, "aliases": list(spec.aliases),
        "layout": spec.layout, "complexity": spec.complexity, "memory": spec.memory, "computes": spec.computes,
        "causal": spec.causal, "params": spec.params.text, "macs": spec.macs.text,
        "hyper_parameters": dict(spec.hyper_parameters), "paper": spec.paper, "summary": spec.summary,
    }  # fmt: skip


def table(specs: Sequence[Spec], width: int) -> "RenderableType":
    """One line each; on a narrow terminal the paper's title gives way to its authors and year."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Name", "Family", "Layout", "Claims"):
        drawn.add_column(heading, no_wrap=True)
    drawn.add_column("Paper", overflow="fold")
    for spec in specs:
        paper = spec.paper if width >= 110 else _authors(spec.paper)
        cells = (spec.name, spec.family, spec.layout, big_o(spec.complexity), paper)
        drawn.add_row(*map(Text, cells))
    return drawn


def _authors(paper: str) -> str:
    """Of `Zhang et al. 2019, Self-Attention ...` what stands before the comma: who and when."""
    return paper.partition(", ")[0]


def page(spec: Spec, width: int) -> "RenderableType":
    """Everything the spec and the docstring say, and the figures at a standard shape."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _lines(spec):
        facts.add_row(Text(name), Text(value))
    return Group(Text(spec.name, style="bold underline"), Text(), Text(_unwrapped(spec.doc)), Text(), facts)


def _unwrapped(doc: str) -> str:
    """The docstring with each paragraph on one line, for the terminal to wrap at its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in doc.split("\n\n"))


def _lines(spec: Spec) -> list[tuple[str, str]]:
    lines = [
        ("Family", spec.family),
        ("Layout", spec.layout),
        ("Claims", f"{big_o(spec.complexity)} time, {big_o(spec.memory)} extra memory in the tokens N"),
        ("Computes", _COMPUTES[spec.computes]),
        ("Causal", _CAUSAL[spec.causal]),
        ("Parameters", str(spec.params)),
        ("MACs", str(spec.macs)),
    ]
    if spec.where:
        lines.append(("where", ", ".join(f"{name} = {formula}" for name, formula in spec.where.items())))
    if spec.aliases:
        lines.insert(0, ("Also called", ", ".join(spec.aliases)))
    defaults = [*spec.required, *(f"{name}={value!r}" for name, value in spec.hyper_parameters.items())]
    lines.append(("Arguments", ", ".join(defaults) or "none"))
    lines.append(("Source", spec.paper))
    return [*lines, *_figures(spec)]


def _figures(spec: Spec) -> list[tuple[str, str]]:
    """Parameters and MACs by the formulas at the sizes that everyone quotes."""
    size = (224,) if spec.kind == "network" else (32, 64, 128)
    return [(f"At {side}x{side}", _figure(spec, side)) for side in size]


def _figure(spec: Spec, side: int) -> str:
    dim = 3 if spec.kind == "network" else 64
    shape = {"B": 1, "H": side, "W": side, "N": side * side, "C": dim}
    symbols = spec.symbols(**shape, **{name: _filled(name, dim, side) for name in spec.required})
    channels = "" if spec.kind == "network" else f" at {dim} channels"
    params, macs = _printed(spec.params, symbols, "count"), _printed(spec.macs, symbols, "MAC")
    return f"{params} parameters, {macs} GMACs{channels}"


def _filled(name: str, dim: int, side: int) -> int:
    """A required argument is the width, a size of the input, or the heads: one for 64 channels."""
    return {"dim": dim, "seq_len": side * side, "height": side, "width": side}.get(name, 1)


def _printed(formula: Formula, symbols: dict[str, object], unit: str) -> str:
    return UNITS[unit].cell(formula(**symbols))
