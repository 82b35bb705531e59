"""The catalogue for people: `list` as a table or JSON, `show` as a page about one module."""

import json
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.core.errors import UsageError
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
# From here on MACs are told in billions.
_MANY = 10**6
_CAUSAL = {"no": "no", "flag": "if asked: --set causal=true", "always": "always"}


def big_o(claim: str) -> str:
    """`N^2` -> `O(N²)`."""
    return f"O({claim.replace('^2', '²').replace('^1.5', '¹·⁵')})"


def chosen(
    specs: Sequence[Spec], families: Sequence[str] = (), *, below_quadratic: bool = False, causal: bool = False
) -> list[Spec]:
    """The specs of these families (of all, if none is named), with a claim below N^2, that can be causal.

    Raises:
        UsageError: there is no such family.
    """
    wanted = [_family(family, specs) for family in families]
    return [
        spec
        for spec in specs
        if (not wanted or spec.family in wanted)
        and (not below_quadratic or spec.complexity in _BELOW_QUADRATIC)
        and (not causal or spec.causal != "no")
    ]


def _family(text: str, specs: Sequence[Spec]) -> str:
    """The family of that name; `low-rank` is `low_rank`."""
    known = dict.fromkeys(spec.family for spec in specs)
    name = text.replace("-", "_")
    if name not in known:
        raise UsageError(f"unknown family {text!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return name


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
    """The specs under the names of their families, and at the end how many they are.

    A narrow terminal has no room for the claimed memory, and for no more of a paper than who and when.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    columns = [column for column in _COLUMNS if column.least_width <= width]
    paper = _longest_that_fits(specs, width - sum(_width(column, specs) for column in columns))
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in [column.heading for column in columns] + ["Paper"]:
        drawn.add_column(heading, no_wrap=True)
    for family, members in groupby(specs, key=lambda spec: spec.family):
        drawn.add_row(Text(family, style="bold"))
        for spec in members:
            drawn.add_row(*(Text(column.cell(spec)) for column in columns), Text(paper(spec)))
        drawn.add_section()
    if not specs:
        return Text("Nothing in the catalogue is all of that.")
    return Group(drawn, Text(), Text(_CLAIMS, style="dim"), Text(_count(specs)))


class _Column(NamedTuple):
    heading: str
    cell: Callable[[Spec], str]
    # From which width of the terminal on it is shown.
    least_width: int = 0


_COLUMNS = (
    _Column("Name", lambda spec: f"  {spec.name}"),
    _Column("Layout", lambda spec: spec.layout),
    _Column("Time", lambda spec: big_o(spec.complexity)),
    _Column("Memory", lambda spec: big_o(spec.memory), 110),
    _Column("Softmax", lambda spec: {"softmax": "exact", "approximation": "approximate"}.get(spec.computes, "-"), 110),
    _Column("Causal", lambda spec: {"no": "-"}.get(spec.causal, spec.causal)),
)
_GAP = 3
_CLAIMS = "Claims in the tokens N; attnbench audit NAME checks them, show NAME tells more."


def _width(column: _Column, specs: Sequence[Spec]) -> int:
    return max(map(len, [column.heading, *map(column.cell, specs)])) + _GAP


def _longest_that_fits(specs: Sequence[Spec], room: int) -> Callable[[Spec], str]:
    """How much of the papers there is room for in every row: all, authors and number, or authors alone."""
    ways = (lambda spec: spec.paper, _authors_and_number, _authors)
    return next((way for way in ways if all(len(way(spec)) <= room for spec in specs)), _authors)


def _authors_and_number(spec: Spec) -> str:
    number = re.search(r"arXiv:[0-9.]*[0-9]", spec.paper)
    return f"{_authors(spec)}, {number[0]}" if number else _authors(spec)


def _authors(spec: Spec) -> str:
    """Of `Zhang et al. 2019, Self-Attention ...` what stands before the comma: who and when."""
    return re.split("[,;] ", spec.paper, maxsplit=1)[0]


def _count(specs: Sequence[Spec]) -> str:
    """`62 modules in 9 families, 1 network`."""
    modules = [spec for spec in specs if spec.kind == "module"]
    networks = len(specs) - len(modules)
    families = len({spec.family for spec in modules})
    parts = [f"{_many(len(modules), 'module')} in {_many(families, 'family')}"] if modules else []
    return ", ".join(parts + ([_many(networks, "network")] if networks else []))


def _many(number: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


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
    where = [f"{name} = {formula}" for name, formula in spec.where.items()]
    if any("//" in formula.text for formula in (spec.params, spec.macs, *spec.where.values())):
        where.append("/ rounds down")
    if where:
        lines.append(("where", ", ".join(where)))
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
    return f"{spec.params(**symbols):,} parameters, {_macs(spec.macs(**symbols))}{_at_width(spec, dim)}"


def _filled(name: str, dim: int, side: int) -> int:
    """A required argument is the width, a size of the input, or the heads: one for 64 channels."""
    return {"dim": dim, "seq_len": side * side, "height": side, "width": side}.get(name, 1)


def _macs(number: int) -> str:
    """A gate does so few that they are told one by one."""
    return f"{UNITS['MAC'].cell(number)} GMACs" if number >= _MANY else f"{number:,} MACs"


def _at_width(spec: Spec, dim: int) -> str:
    if spec.kind == "network":
        return ""
    return f" at {dim} channels{', 1 head' if {'heads', 'n_head'} & set(spec.required) else ''}"
