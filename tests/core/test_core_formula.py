"""Formulas against Python's own arithmetic on generated expressions, and everything that they must refuse."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.core.formula import Formula, FormulaError

SYMBOLS: dict[str, object] = {"B": 2, "N": 1024, "C": 64, "zero": 0, "none": None}

leaves = st.one_of(st.integers(0, 50).map(str), st.sampled_from(["B", "N", "C", "zero"]))


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(["+", "-", "*", "//", "%"])
    binary = st.tuples(inner, operator, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    power = st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]})**{t[1]}")
    choice = st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})")
    either = st.tuples(st.one_of(st.just("none"), inner), inner).map(lambda t: f"({t[0]} or {t[1]})")
    call = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})")
    return st.one_of(binary, power, choice, either, call)


@given(st.recursive(leaves, _grow, max_leaves=12))
def test_a_formula_is_what_python_computes(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {"min": min, "max": max}}, dict(SYMBOLS))
    except ZeroDivisionError:
        with pytest.raises(FormulaError):
            Formula(text)(**SYMBOLS)
        return
    if abs(expected) < 2**3000:  # far above any count, and below the bound
        assert Formula(text)(**SYMBOLS) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5*C**2//4 + 1", 5121),
        ("4*N*C**2 + 2*N**2*C", 4 * 1024 * 4096 + 2 * 1024**2 * 64),
        ("none or 7", 7),
        ("zero or zero", 0),
        ("none or zero or 3", 3),
        ("1 if none else 2", 2),
        ("max(C//16, 8)", 8),
        ("2**3**2", 512),
        ("7 - 2 - 1", 4),
        ("N**40", 1024**40),
        ("True + 1", 2),
    ],
)
def test_by_hand(text: str, value: int) -> None:
    result = Formula(text)(**SYMBOLS)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize(
    "text",
    [
        "C.real", "C.__class__", "().__class__", "abs(C)", "__import__('os')", "print(1)", "open('x')", "'a'*3", "b'a'",
        "1.5", "C/2", "1e3", "[C for C in (1,)]", "(C,)", "[1]", "{1: 2}", "lambda: 1", "C := 1", "C[0]", "C < 2",
        "not C", "-C", "~C", "C and 1", "C << 100", "C | 1", "C @ 2", "f'{C}'", "min(*(1, 2))", "min(1, key=2)",
        "max(1, 2, default=3)", "min()", "min", "max(1)", "", "   ", "C C", "import os", "C; C", "C = 1", "(", "1 +",
        "...", "1j", "none", "none + 1", "C // zero", "C % 0", "0 ** (0 - 1)", "unknown", "2 ** (1 - 2)",
    ],
)  # fmt: skip
def test_whatever_is_no_integer_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text)(**SYMBOLS)


@pytest.mark.parametrize(
    "text",
    ["9**9**9", "9**9**9**9", "2**(2**40)", "((N**900)**900)**900", "(0 - 9)**9**9", "(" * 300 + "1" + ")" * 300,
     "1" + "+1" * 20_000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_would_not_end_is_refused_at_once(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text)(**SYMBOLS)


@pytest.mark.parametrize("value", ["text", 1.5, [1, 2], (3,), object()])
def test_a_symbol_that_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(FormulaError):
        Formula("C")(C=value)


def test_an_unknown_symbol_is_named_with_the_known_ones() -> None:
    with pytest.raises(FormulaError, match=r"'heads' has no value; known: C, N"):
        Formula("C*heads")(N=1, C=2)


def test_a_formula_has_no_way_to_what_python_offers() -> None:
    with pytest.raises(FormulaError):
        Formula("__builtins__")()
    assert Formula("max")(max=3) == 3  # a symbol of that name is a symbol


@pytest.mark.parametrize(
    ("text", "printed"),
    [("5*C**2//4 + 1", "5·C²/4 + 1"), ("N**10", "N¹⁰"), ("2*N", "2·N"), ("C**d", "C··d")],
)
def test_how_a_formula_is_printed(text: str, printed: str) -> None:
    assert str(Formula(text)) == printed
