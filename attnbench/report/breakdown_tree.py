"""A tree of parts with their MACs, drawn with guides, shares and bars in whatever width there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.report.frame import MISSING
from attnbench.report.table import folded

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Part", "draw"]

_GAP = 2
_BAR = 20
_WHOLE = "100.0 %"
_NARROWEST_NAME = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A module or operator, its MACs with those of its parts, and its parts."""

    name: str
    macs: int
    parts: tuple["Part", ...] = ()

    @property
    def own(self) -> int:
        """MACs that are in none of its parts; below zero when a part also works for others."""
        return self.macs - sum(part.macs for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Line:
    """A part as it is printed: the guides before its name, those before the lines that it is folded to, its MACs."""

    guide: str
    hang: str
    name: str
    macs: int


# Before a part, before the last part, and before what hangs on either.
_Guides = tuple[str, str, str, str]
_WIDE: _Guides = ("├─ ", "└─ ", "│  ", "   ")
_NARROW: _Guides = ("├", "└", "│", " ")


def _lines(
    tree: Part, depth: int | None, what: str, guides: _Guides, guide: str = "", hang: str = ""
) -> Iterator[_Line]:
    """The part and, down to `depth`, those below it; `hang` is what stands before everything that hangs on it."""
    tee, end, bar, blank = guides
    shown = tuple(_shown(tree, what)) if depth is None or len(hang) < depth * len(bar) else ()
    yield _Line(guide, hang, tree.name, tree.macs)
    for number, part in enumerate(shown, start=1):
        last = number == len(shown)
        yield from _lines(part, depth, what, guides, hang + (end if last else tee), hang + (blank if last else bar))


def _fitting(tree: Part, depth: int | None, what: str, width: int) -> list[_Line]:
    """The lines, with guides that leave each name some room."""
    from rich.cells import cell_len

    lines = list(_lines(tree, depth, what, _WIDE))
    if all(len(line.guide) + min(cell_len(line.name), _NARROWEST_NAME) <= width for line in lines):
        return lines
    return list(_lines(tree, depth, what, _NARROW))


def _shown(tree: Part, what: str) -> Iterator[Part]:
    """The parts that have MACs, what is the whole's own, and the others in one line."""
    yield from (part for part in tree.parts if part.macs)
    if tree.parts and tree.own > 0:
        yield Part("(own)", tree.own)
    idle = sum(not part.macs for part in tree.parts)
    if idle:
        yield Part(f"({idle} {what}{'s' if idle > 1 else ''} without MACs)", 0)


def draw(
    tree: Part, what: str, width: int, *, depth: int | None = None, beside: Sequence[tuple[str, int]] = ()
) -> "Table":
    """The tree of `what` (module, operator) down to `depth`; figures that are no part of it stand under it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    others = [f"{value:,}" for _, value in beside]
    figure_width = max(map(len, ["MACs", *_figures(tree), *others]))
    shares = width - figure_width - len(_WHOLE) - 2 * _GAP >= _NARROWEST_NAME
    left = max(_NARROWEST_NAME, width - figure_width - _GAP - (len(_WHOLE) + _GAP) * shares)
    lines = _fitting(tree, depth, what, left)
    name_width = min(left, _widest(lines, what, beside))
    bars = left - name_width >= _BAR + _GAP
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, _GAP - 1))
    table.add_column(what.capitalize(), width=name_width, overflow="fold")
    table.add_column("MACs", width=figure_width, justify="right", overflow="fold")
    if shares:
        table.add_column("Share", width=len(_WHOLE), justify="right")
    if bars:
        table.add_column("", width=_BAR, no_wrap=True)
    for number, line in enumerate(lines, start=1):
        cells = [Text(_hung(line, name_width)), Text(f"{line.macs:,}")]
        cells += [Text(_share(line.macs, tree.macs))] if shares else []
        cells += [Text(_bar(line.macs, tree.macs), style="cyan")] if bars else []
        table.add_row(*cells, end_section=number == len(lines) and bool(beside))
    for (text, _), figure in zip(beside, others, strict=True):
        table.add_row(Text("\n".join(folded(text, name_width))), Text(figure))
    return table


def _figures(tree: Part) -> Iterator[str]:
    # A part that is called from elsewhere too may have more than the whole.
    yield f"{tree.macs:,}"
    for part in tree.parts:
        yield from _figures(part)


def _widest(lines: Sequence[_Line], what: str, beside: Sequence[tuple[str, int]]) -> int:
    from rich.cells import cell_len

    texts = [line.guide + line.name for line in lines] + [text for text, _ in beside]
    return max(len(what), *map(cell_len, texts))


def _hung(line: _Line, width: int) -> str:
    """The name behind its guides, on as many lines as it takes; guides give way where a name would have no room."""
    from rich.cells import cell_len

    if cell_len(line.guide + line.name) <= width:
        return line.guide + line.name
    room = max(min(_NARROWEST_NAME, cell_len(line.name)), width - len(line.guide))
    # What is nearest to the name says most: guides are cut from the left.
    cut = max(0, len(line.guide) - (width - room))
    first, *rest = folded(line.name, room)
    return "\n".join([line.guide[cut:] + first, *(line.hang[cut:] + piece for piece in rest)])


def _share(macs: int, total: int) -> str:
    if not total:
        return MISSING
    percent = 100 * macs / total
    return f"{percent:.1f} %" if percent >= 0.05 or not macs else "<0.1 %"


def _bar(macs: int, total: int) -> str:
    return "█" * round(_BAR * macs / total) if total else ""
