"""What cannot run without data is counted at small real sizes; an exact polynomial carries the figures to any size.

Seven sizes on one line through the Case's own are counted on real tensors on the CPU. A figure of degree up to four
then has two spare points at least, and those are the proof; a figure without that proof is not given.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from attnbench.core.case import Case
from attnbench.core.errors import named
from attnbench.core.polynomial import Polynomial, fit_exact
from attnbench.core.record import Note, Reading
from attnbench.metrics.metric import Finding

__all__ = ["Count", "extrapolated", "is_small"]

# Readings and notes of one Case, counted on real tensors; whatever the module raises is raised.
Count = Callable[[Case], Sequence[Finding]]

# No larger input is counted on real tensors: tokens of a module, pixels of a network's image.
_MOST = {"module": 66 * 66, "network": 320 * 320}
_SMALL = {"module": 1024, "network": 256 * 256}
# Sides, or lengths, go up in such steps: the first suits most; the others suit windows, blocks and halvings, in which a
# cost is a polynomial only on a lattice. Sizes below the least of them take shapes that no one means.
_STEPS = {"side": (4, 8, 7, 6, 5, 3, 2), "tokens": (16, 64, 49), "image": (32, 16, 14)}
_LEAST = {"side": 3, "tokens": 8, "image": 32}
# The sizes lie far apart: close together, a logarithm is a constant to the eye, and a threshold is not met.
_MULTIPLES = {"side": (1, 2, 3, 4, 5, 6, 8), "tokens": (1, 2, 3, 5, 8, 12, 16), "image": (1, 2, 3, 4, 5, 6, 7)}
_LEAST_RATIO = 4
_MOST_NOTES = 3


@dataclass(frozen=True, slots=True)
class _Line:
    """Small Cases by their coordinate `x`, on a line that leads to the Case asked for at `at`."""

    symbol: str
    cases: Mapping[int, Case]
    at: int

    @property
    def smallest(self) -> Case:
        return self.cases[min(self.cases)]

    @property
    def largest(self) -> Case:
        return self.cases[max(self.cases)]


def is_small(case: Case) -> bool:
    """Whether it costs little to count the Case on real tensors as it is."""
    return _extent(case) <= _SMALL[case.kind]


def _extent(case: Case) -> int:
    return case.tokens or (case.height or 1) * (case.width or 1)


def extrapolated(case: Case, count: Count) -> Generator[Finding, None, bool]:
    """The figures of a Case from counts at seven small sizes, with a note that says so; returns whether it ran there.

    Where no line of sizes proves the MACs, a note of kind `not_extrapolated` says why, and there are no figures.
    """
    best: tuple[list[Finding], list[str]] | None = None
    ran = False
    why = "no seven small sizes lead to it"
    for line in _lines(case):
        try:
            counts = {x: count(small) for x, small in line.cases.items()}
        except Exception as error:  # foreign code may refuse any size
            why = f"it fails at small sizes ({named(error)})"
            continue
        ran = True
        found, unproved = _carried(line, counts)
        if "static.macs" in unproved or not found:
            why = f"from {line.smallest.size} to {line.largest.size} its MACs follow no polynomial"
            continue
        if best is None or len(unproved) < len(best[1]):
            best = found, unproved
        if not unproved:
            break
    if best is None:
        yield Note("not_extrapolated", f"its figures at {case.size} are not known without running it: {why}")
        return ran
    yield from best[0]
    if best[1]:
        yield Note("not_extrapolated", f"{', '.join(best[1])}: follows no polynomial at small sizes, so not given")
    return ran


def _lines(case: Case) -> Iterator[_Line]:
    """Lines of small Cases through this one, likeliest first."""
    if case.height is None or case.width is None:
        yield from _token_lines(case, case.tokens or 0)
        return
    # A map keeps its ratio of sides: (h0 k) x (w0 k), which at k = gcd(H, W) is the Case itself.
    common = math.gcd(case.height, case.width)
    h0, w0 = case.height // common, case.width // common
    symbol = "s" if h0 == w0 else "k"
    for multiples in _progressions(common, "image" if case.kind == "network" else "side"):
        yield from _line(symbol, {k: _on_map(case, h0 * k, w0 * k) for k in multiples}, common)


def _token_lines(case: Case, tokens: int) -> Iterator[_Line]:
    for lengths in _progressions(tokens, "tokens"):
        yield from _line("N", {n: case.with_(tokens=n) for n in lengths}, tokens)
    # Some take their tokens for a square map.
    side = math.isqrt(tokens)
    for sides in _progressions(side, "side") if side * side == tokens else ():
        yield from _line("s", {s: case.with_(tokens=s * s) for s in sides}, side)


def _line(symbol: str, cases: Mapping[int, Case], at: int) -> Iterator[_Line]:
    """The line, if it is cheap enough to be counted."""
    if all(_extent(small) <= _MOST[small.kind] for small in cases.values()):
        yield _Line(symbol, cases, at)


def _progressions(size: int, what: str) -> Iterator[list[int]]:
    """Seven sizes that leave the same remainder as `size`, for each step: on these a window pads as it does there."""
    for step in _STEPS[what]:
        spacing = step * -(-_LEAST[what] // step)
        first = size % step
        first += step * -(-max(0, _LEAST[what] - first) // step)
        sizes = [first + spacing * (multiple - 1) for multiple in _MULTIPLES[what]]
        if sizes[-1] >= _LEAST_RATIO * sizes[0]:
            yield sizes


def _on_map(case: Case, height: int, width: int) -> Case:
    tokens = height * width if case.kind == "module" else None
    return case.with_(height=height, width=width, tokens=tokens)


def _carried(line: _Line, counts: Mapping[int, Sequence[Finding]]) -> tuple[list[Finding], list[str]]:
    """What the counts become at the Case's own size, and the names of the figures that no polynomial proves."""
    found: list[Finding] = []
    unproved: list[str] = []
    for reading in (each for each in counts[max(counts)] if isinstance(each, Reading)):
        values = {x: _value(findings, reading.name) for x, findings in counts.items()}
        carried = _at(values, line.at)
        if carried is None and reading.value is not None:
            unproved.append(reading.name)
        else:
            found.append(replace(reading, value=carried))
    if not any(isinstance(each, Reading) and each.name == "static.macs" for each in found):
        return [], ["static.macs"]
    on = Reading("static.counted_on", "polynomial")
    return [*found, on, *_doubts(line, counts), _said(line, counts)], unproved


def _value(findings: Sequence[Finding], name: str) -> Any:
    return next((each.value for each in findings if isinstance(each, Reading) and each.name == name), None)


def _at(values: Mapping[int, Any], at: int) -> Any:
    """The value at `at`: of numbers by their polynomial, of mappings entry by entry, of words if all are the same."""
    kinds = {type(value) for value in values.values()}
    if kinds == {bool}:
        return all(values.values())
    if kinds <= {int, float}:
        return _number(values, at)
    if kinds == {dict}:
        names = dict.fromkeys(name for value in values.values() for name in value)
        entries = {name: _entry(values, name, at) for name in names}
        return None if any(entry is _UNPROVED for entry in entries.values()) else entries
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else None


_UNPROVED = object()


def _entry(values: Mapping[int, dict[str, Any]], name: str, at: int) -> Any:
    entries = {x: value.get(name, 0) for x, value in values.items()}
    if any(entry is None for entry in entries.values()):
        return None  # a counter that could not count some size
    carried = _number(entries, at)
    return _UNPROVED if carried is None else carried


def _number(values: Mapping[int, int | float], at: int) -> int | None:
    fit = _fit(values)
    value = None if fit is None else fit(at)
    return int(value) if value is not None and value.denominator == 1 else None


def _fit(values: Mapping[int, int | float]) -> Polynomial | None:
    return fit_exact((x, Fraction(value)) for x, value in values.items())


def _doubts(line: _Line, counts: Mapping[int, Sequence[Finding]]) -> list[Note]:
    """What the counters doubted at the largest size, whose numbers are those of that size."""
    notes = [each for each in counts[max(counts)] if isinstance(each, Note) and each.kind != "method"]
    texts = dict.fromkeys((note.kind, note.text) for note in notes)
    return [
        Note(kind, text if kind.startswith("built") else f"{text} (said at {line.largest.size})")
        for kind, text in list(texts)[:_MOST_NOTES]
    ]


def _said(line: _Line, counts: Mapping[int, Sequence[Finding]]) -> Note:
    fit = _fit({x: _value(findings, "static.macs") for x, findings in counts.items()})
    assert fit is not None
    sizes = f"{line.symbol} = {min(line.cases)} to {max(line.cases)}"
    return Note("extrapolated", f"counted at {len(line.cases)} sizes on real tensors, {sizes}, and extrapolated to "
                                f"{line.symbol} = {line.at}: its MACs are {fit.text(line.symbol)} exactly, which "
                                f"{fit.spare} spare sizes confirm")  # fmt: skip
