"""The committed page of references has every module of the catalogue, every error below the tolerance, and mistakes."""

from pathlib import Path

import pytest
import torch
from comparisons import CAUGHT, CONTROLS
from families import FAMILIES
from module_cases import MODULES
from module_numerics import TOLERANCE

PAGE = Path(__file__).parents[2] / "results" / "references.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="results/ is not part of the source distribution")

assert FAMILIES  # importing them declares the comparisons


def rows(text: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return cells[2:]  # below the heading and its rule


def test_every_module_stands_there_with_an_error_below_the_tolerance() -> None:
    references, _, _ = PAGE.read_text(encoding="utf-8").partition("## Mistakes")
    found = rows(references)
    assert {row[1] for row in found} == {spec.name for spec in MODULES}
    assert {row[0] for row in found} == {spec.family for spec in MODULES}
    assert [row for row in found if float(row[3]) >= TOLERANCE[torch.float32]] == []
    in_float64 = [row for row in found if not row[4].endswith("*")]
    assert [row for row in in_float64 if float(row[4]) >= TOLERANCE[torch.float64]] == []


def test_the_mistakes_stand_there_and_were_caught() -> None:
    _, _, mistakes = PAGE.read_text(encoding="utf-8").partition("## Mistakes")
    found = rows(mistakes)
    assert {row[1] for row in found} <= {declared.what for declared in CONTROLS}
    assert len(found) >= 10
    assert [row for row in found if float(row[2]) <= CAUGHT] == []
