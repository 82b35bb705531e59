"""Where the MACs are: a record's break-down by module or by operator, drawn as a tree with shares."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attnbench.core.errors import CannotJudgeError
from attnbench.core.record import Record
from attnbench.report.breakdown_tree import Part, draw
from attnbench.report.facts import Fact, label, shared_phrases, varying_facts, visible
from attnbench.report.footnotes import footnotes

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["WAYS", "Way", "module_tree", "operator_tree", "render_breakdowns"]

Way = Literal["op", "module"]
WAYS: Mapping[Way, str] = {"op": "static.macs_by_op", "module": "static.macs_by_module"}

# Work that is no contraction, or not of the forward: told beside the operators.
_BESIDE = (
    ("static.useful_macs", "Useful MACs (without what a causal mask discards)"),
    ("static.elementwise", "Elementwise operations"),
    ("static.reductions", "Reductions (elements read)"),
    ("static.fft_flops", "FFT FLOPs"),
    ("static.backward_macs", "Backward MACs"),
    ("static.recomputed_macs", "Recomputed in the backward (MACs)"),
)


def module_tree(name: str, by_module: Mapping[str, int]) -> Part:
    """The tree of dotted paths in their order; `""` is the whole. A path hangs on the nearest one above it."""
    below: dict[str, list[str]] = {}
    for path in by_module:
        if path:
            below.setdefault(_above(path, by_module), []).append(path)

    def grown(path: str) -> Part:
        parts = tuple(grown(child) for child in below.get(path, ()))
        last = path.removeprefix(_above(path, by_module)).removeprefix(".")
        return Part(visible(last) or name, by_module.get(path, 0), parts)

    return grown("")


def _above(path: str, paths: Mapping[str, int]) -> str:
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return ""


def operator_tree(name: str, macs: int, by_op: Mapping[str, int]) -> Part:
    """The operators under the whole, the greatest first."""
    ordered = sorted(by_op.items(), key=lambda item: -item[1])
    return Part(name, macs, tuple(Part(visible(op), count) for op, count in ordered))


def render_breakdowns(records: Sequence[Record], by: Way, width: int = 80, depth: int | None = None) -> "Group":
    """What rich prints on `width` columns: a tree for each record, as deep as `depth` if that is given.

    Raises:
        CannotJudgeError: no record has a break-down.
    """
    from rich.console import Group
    from rich.text import Text

    needed = (WAYS[by], "static.macs")
    told = [record for record in records if all(record.value(name) is not None for name in needed)]
    if not told:
        raise CannotJudgeError(_missing(records, by))
    caption = " · ".join([*shared_phrases(told), "forward MACs; 1 MAC = 2 FLOPs"])
    parts: list[RenderableType] = [Text(caption, style="italic")]
    facts = varying_facts(told)
    for record in told:
        parts += [Text(), *_breakdown(record, by, facts, width, depth)]
    if len(told) < len(records):
        parts += [Text(), Text(_missing([record for record in records if record not in told], by))]
    return Group(*parts)


def _missing(records: Sequence[Record], by: Way) -> str:
    names = ", ".join(dict.fromkeys(visible(record.case.name) for record in records)) or "a file without records"
    repro = visible(records[0].repro) if records else ""
    again = f": measure again with `{repro} --metrics static`" if repro else ""
    return f"no break-down by {by} is recorded for {names}{again}."


def _breakdown(record: Record, by: Way, facts: Sequence[Fact], width: int, depth: int | None) -> "list[RenderableType]":
    from rich.text import Text

    name, macs = label(record, facts), int(record.value("static.macs"))
    macs_by = record.value(WAYS[by])
    tree = module_tree(name, {"": macs, **macs_by}) if by == "module" else operator_tree(name, macs, macs_by)
    if by == "op":
        drawn = draw(tree, "operator", width, beside=_beside(record))
    else:
        drawn = draw(tree, "module", width, depth=depth)
    sentences = [_voices(record), *_elsewhere(tree), *_too_deep(tree, depth), *_doubts(record)]
    return [drawn, Text(), *(Text(sentence) for sentence in sentences)]


def _beside(record: Record) -> list[tuple[str, int]]:
    """Figures that stand beside the MACs, where they were counted and say something."""
    values = {name: record.value(name) for name, _ in _BESIDE}
    if values["static.useful_macs"] == record.value("static.macs"):
        values["static.useful_macs"] = None
    # No elementwise work at all is news; no FFT is not.
    always = ("static.elementwise", "static.reductions", "static.backward_macs")
    return [(text, int(values[name])) for name, text in _BESIDE
            if values[name] is not None and (values[name] or name in always)]  # fmt: skip


def _voices(record: Record) -> str:
    """Which counters said what, on one line."""
    counters: Mapping[str, Any] = record.value("static.counters") or {}
    heard = {visible(name): macs for name, macs in counters.items() if macs is not None}
    silent = [visible(name) for name, macs in counters.items() if macs is None]
    none = f"; no figure from {', '.join(silent)}" if silent else ""
    said = ", ".join(f"{name} {int(macs):,}" for name, macs in heard.items()) or "no counter is recorded"
    if record.value("static.verified") and len(heard) > 1 and set(heard.values()) == {record.value("static.macs")}:
        said = f"{', '.join(heard)} all count {int(record.value('static.macs')):,}"
    return f"{'Verified' if record.value('static.verified') else 'Not verified'}: {said}{none}."


def _elsewhere(tree: Part) -> Iterator[str]:
    if tree.own < 0:
        names = ", ".join(part.name for part in tree.parts)
        yield f"Parts of {tree.name} ({names}) are also called from elsewhere: together they have more than it has."
    for part in tree.parts:
        yield from _elsewhere(part)


def _too_deep(tree: Part, depth: int | None) -> Iterator[str]:
    hidden = 0 if depth is None else _count_below(tree, depth)
    if hidden:
        are = "part lies" if hidden == 1 else "parts lie"
        yield f"{hidden} {are} deeper than --depth {depth}."


def _count_below(tree: Part, depth: int) -> int:
    if depth < 0:
        return 1 + sum(_count_below(part, depth - 1) for part in tree.parts)
    return sum(_count_below(part, depth - 1) for part in tree.parts)


def _doubts(record: Record) -> list[str]:
    """The notes of the record; what was passed over is named even where no note does it."""
    said = [f"· {note.text}" for note in footnotes([record])]
    missed: Mapping[str, int] = record.value("static.uncounted_ops") or {}
    if missed and not any(note.kind == "uncounted" for note in record.notes):
        operators = ", ".join(f"{visible(name)} ({calls}x)" for name, calls in missed.items())
        said.insert(0, f"· MACs are a lower bound: not counted are {operators}")
    return said
