"""Rendering as a terminal of a given width would, and golden texts to hold it against."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def printed() -> Callable[[Any, int], str]:
    """The text that a terminal of that width shows, without the blanks at the ends of lines."""

    def show(renderable: Any, width: int) -> str:
        file = io.StringIO()
        Console(width=width, file=file, force_terminal=False).print(renderable)
        return "\n".join(line.rstrip() for line in file.getvalue().split("\n"))

    return show


@pytest.fixture
def golden() -> Callable[[str], str]:
    """The golden text of that name; a wanted change is made by writing the file anew and reading its diff."""
    return lambda name: (GOLDEN / name).read_text(encoding="utf-8")
