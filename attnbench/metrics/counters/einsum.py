"""Exact multiply-accumulates of an einsum, in the order in which torch contracts it."""

import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["einsum_macs"]


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] | None = None) -> int:
    """MACs of an einsum of operands with these shapes, contracted two at a time.

    Without a path it goes from left to right. With one (torch passes it where opt_einsum is installed: two positions a
    step, flattened) the two are taken out, and their product is put at the end. A label that only one of the two has,
    and nobody needs later, is summed before the product, as torch does. A product without a summed label is no
    contraction and counts 0; nor does an axis of size 1 make one.
    """
    labels, output = _labels(equation, shapes)
    sizes: dict[str, int] = {}
    terms: list[set[str]] = []
    for term, shape in zip(labels, shapes, strict=True):
        wide = {label: size for label, size in zip(term, shape, strict=True) if size != 1}
        sizes |= wide
        terms.append(set(wide))
    total = 0
    steps = iter(path or ())
    while len(terms) > 1:
        first, second = sorted((next(steps), next(steps))) if path else (0, 1)
        right, left = terms.pop(second), terms.pop(first)
        macs, product = _pair(left, right, set(output).union(*terms), sizes)
        total += macs
        terms.insert(len(terms) if path else 0, product)
    return total


def _pair(left: set[str], right: set[str], later: set[str], sizes: dict[str, int]) -> tuple[int, set[str]]:
    """MACs of one product of two operands, and the labels that it leaves."""
    both = left & right
    used = both | ((left | right) & later)
    macs = math.prod(sizes[label] for label in used) if both - later else 0
    return macs, used & later


def _labels(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """Operand labels and output labels, an ellipsis written out in capital Greek letters."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    widths = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
    extra = "".join(chr(0x391 + index) for index in range(max(widths)))
    terms = [term.replace("...", extra[len(extra) - width :]) for term, width in zip(terms, widths, strict=True)]
    if not arrow:
        counts = Counter("".join(terms))
        once = sorted(label for label in counts if counts[label] == 1 and label not in extra)
        return terms, extra + "".join(once)
    return terms, output.replace("...", extra)
