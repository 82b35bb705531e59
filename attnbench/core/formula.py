"""Formulas as text: one string that is printed for people and evaluated, in exact integers, for the counters."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Formula", "FormulaError"]

# No count of anything has more binary digits; beyond it a formula would run for hours instead of failing.
_MOST_BITS = 10_000


def _power(base: int, exponent: int) -> int:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > _MOST_BITS:
        raise OverflowError("a power is too large")
    power: int = base**exponent
    return power


_BINARY: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


def _floor_ln(factor: int, of: int) -> int:
    if of < 1:
        raise ArithmeticError(f"{of} has no logarithm")
    return math.floor(factor * math.log(of))


_CALLS: Mapping[str, Callable[..., int]] = {
    "min": min,
    "max": max,
    "bit_length": lambda number: int(number).bit_length(),
    "floor_ln": _floor_ln,
}


class FormulaError(ValueError):
    """The text is no formula, or names a symbol that has no value."""


@dataclass(frozen=True, slots=True)
class Formula:
    """Integer arithmetic over named symbols, for example `5*C**2//4 + 1`.

    Allowed: integers, names, `+ - * // % **`, `min`, `max`, `bit_length(n)` (of a positive n: floor(log2 n) + 1),
    `floor_ln(m, n)` (floor of m ln n), `a or b` (for a symbol that may be None), and `a if b else c`. Nothing is ever
    executed as Python, so a formula from anywhere is safe to evaluate.
    """

    text: str

    def __call__(self, **symbols: object) -> int:
        """The value, as an exact integer.

        Raises:
            FormulaError: a symbol has no value, or something other than the arithmetic above stands in the text.
        """
        try:
            value = _evaluate(ast.parse(self.text, mode="eval").body, symbols)
        except (SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
            raise FormulaError(f"cannot evaluate the formula {self.text!r}: {error}") from error
        if not isinstance(value, int):
            raise FormulaError(f"the formula {self.text!r} gives {value!r}, not an integer")
        return int(value)

    def __str__(self) -> str:
        """The text as it is printed: `5*C**2` -> `5·C²`."""
        powers = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
        text = re.sub(r"\*\*(\d+)", lambda match: match[1].translate(powers), self.text)
        return text.replace("//", "/").replace("*", "·")


def _evaluate(node: ast.expr, symbols: Mapping[str, object]) -> object:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, int):
            return value
        case ast.Name(id=name):
            if name not in symbols:
                raise FormulaError(f"the symbol {name!r} has no value; known: {', '.join(sorted(symbols))}")
            return symbols[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_evaluate(left, symbols), _evaluate(right, symbols))  # type: ignore[arg-type]
        case ast.BoolOp(op=ast.Or(), values=values):
            first, *others = values
            head = _evaluate(first, symbols)
            return head if head or not others else _evaluate(ast.BoolOp(ast.Or(), others), symbols)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _evaluate(body if _evaluate(test, symbols) else orelse, symbols)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CALLS:
            return _CALLS[name](*(_evaluate(arg, symbols) for arg in args))
    raise FormulaError(f"{ast.unparse(node)!r} is not allowed in a formula")
