"""Keeps the process's state over somebody's code: what it changed is set back, and named.

What cannot be set back, because nobody can read it, is a function that was replaced in somebody else's module, a switch
of a library that is not looked at here, or memory that was overwritten. Where a file does that, a fresh process for
each case (`--isolate case`) is what keeps its neighbours unharmed.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from attnbench.targets.state import of_python, of_torch

__all__ = ["Kept", "kept_over_import", "kept_state", "seeded"]

_PIECES = (*of_torch.PIECES, *of_python.PIECES)


@dataclass(slots=True)
class Kept:
    """What was changed meanwhile, as a note names it, and what of it could not be set back."""

    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@contextmanager
def kept_state() -> Iterator[Kept]:
    """Whatever happens inside, the state afterwards is that from before; about 0.3 ms."""
    kept = Kept()
    before = [piece.now() for piece in _PIECES]
    try:
        yield kept
    finally:
        _set_back(before, kept)


def _set_back(before: list[Any], kept: Kept) -> None:
    for piece, value in zip(_PIECES, before, strict=True):
        if piece.silent:
            piece.put(value)
            continue
        now = piece.now()
        if now != value:
            kept.changed += filter(None, [piece.named(value, now)])
            piece.put(value)
            if piece.now() != value:
                kept.left.append(piece.name)


@contextmanager
def kept_over_import() -> Iterator[Kept]:
    """The same over the execution of a file: but where it looks for modules, it may look again when it runs."""
    before = list(sys.path)
    with kept_state() as kept:
        try:
            yield kept
        finally:
            for folder in sys.path:
                if folder not in before:
                    of_python.look_in(folder)


def seeded(seed: int) -> None:
    """Have each generator of random numbers that is not given a seed of its own begin where it does in any process."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if hasattr(numpy, "random"):
        numpy.random.seed(seed % 2**32)  # type: ignore[union-attr]
