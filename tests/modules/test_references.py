"""Every module of the catalogue agrees with an independent truth, and the comparisons can fail."""

import pytest
import torch
from comparisons import CAUGHT, CONTROLS, REFERENCES, Declared
from families import FAMILIES
from module_cases import MODULES

assert FAMILIES  # importing them declares the comparisons


def label(declared: Declared) -> str:
    return f"{declared.name}: {declared.what}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("declared", REFERENCES, ids=label)
def test_a_module_agrees_with_its_reference(declared: Declared, dtype: torch.dtype) -> None:
    comparison = declared.comparison()
    found = comparison.errors(dtype)
    assert max(found) < comparison.tolerance(dtype), f"output, input and weight gradients are off by {found}"


@pytest.mark.parametrize("declared", CONTROLS, ids=label)
def test_a_mistake_is_caught(declared: Declared) -> None:
    assert declared.comparison().error() > CAUGHT


def test_every_module_has_a_reference() -> None:
    assert [spec.name for spec in MODULES if spec.name not in {declared.name for declared in REFERENCES}] == []


def test_enough_mistakes_are_tried() -> None:
    assert len({declared.name for declared in CONTROLS}) >= 10
