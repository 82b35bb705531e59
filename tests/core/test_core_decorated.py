"""Declarations read from source: nothing of the file is ever executed."""

from pathlib import Path
from typing import Any

import pytest

from attnbench.core.decorated import Decorated, read_decorated

SOURCE = '''
raise SystemExit("this file must never be executed")
import torch

@attention(name="first", tags=("a", "b"), where={"d": "C//2"}, depth=-1)
class First(torch.nn.Module):
    """The first one.

    More of it.
    """

    def helper(self, wrong=1): ...

    def __init__(self, dim, heads: int = 4, *rest, bias: bool = True, scale, **others):
        pass

@other(name="no")
class Other: ...

@attention
class Bare: ...

@plugin.attention(name="dotted")
class Dotted: ...

class Outer:
    @attention(name="inner")
    class Inner: ...

@wraps
@attention(name="second")
def second(query, /, key=None, *, eps=1e-6):
    pass

@attention(name="third")
class Third(First): ...

@attention()
async def coroutine(): ...
'''


def read(tmp_path: Path, source: str) -> list[Decorated]:
    path = tmp_path / "source.py"
    path.write_text(source, encoding="utf-8")
    return list(read_decorated(path, "package.source", "attention"))


def test_what_stands_under_the_decorator_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, SOURCE)
    assert [each.name for each in found] == ["First", "second", "Third"]
    assert {each.module for each in found} == {"package.source"}
    assert found[0].doc == "The first one.\n\nMore of it."
    assert found[0].arguments == {"name": "first", "tags": ("a", "b"), "where": {"d": "C//2"}, "depth": -1}


def test_parameters_with_defaults_and_those_without(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, SOURCE)
    assert (first.parameters, first.required) == ({"heads": 4, "bias": True}, ("dim", "scale"))
    assert (second.parameters, second.required) == ({"key": None, "eps": 1e-6}, ("query",))
    assert (third.parameters, third.required, third.doc) == ({}, (), "")


@pytest.mark.parametrize(
    "source",
    [
        "@attention(name=NAME)\nclass A: ...",
        "@attention(name=f'{1}')\nclass A: ...",
        "@attention(size=2 * 8)\nclass A: ...",
        "@attention(name=open('x'))\nclass A: ...",
        "@attention()\ndef a(size=2 * 8): ...",
        "@attention()\nclass A:\n    def __init__(self, *, size=SIZE): ...",
    ],
)
def test_what_is_no_literal_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(ValueError, match="malformed node"):
        read(tmp_path, source)


def test_a_file_that_is_no_python_is_a_syntax_error(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError):
        read(tmp_path, "class")


@pytest.mark.parametrize("default", [1, 1.5, "a", None, True, (1, 2), [1], {"a": 1}, -3])
def test_every_kind_of_literal(tmp_path: Path, default: Any) -> None:
    (found,) = read(tmp_path, f"@attention(x={default!r})\ndef f(y={default!r}): ...")
    assert (found.arguments, found.parameters) == ({"x": default}, {"y": default})
