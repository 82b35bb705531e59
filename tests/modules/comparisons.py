"""Comparisons of catalogue modules with independent truths, and controls: comparisons that a wrong form must fail.

Each family declares its own in `family_<family>.py`; `test_references.py` runs every one, and the page
`results/references.md` lists them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from module_numerics import TOLERANCE, Oracle, errors
from torch import Tensor, nn

__all__ = ["CONTROLS", "REFERENCES", "Comparison", "Declared", "control", "reference", "weighted"]

# A wrong form is caught if the tolerance of 1e-4 leaves no doubt.
CAUGHT = 1e-3


@dataclass(frozen=True, eq=False)
class Comparison:
    """A module of ours, all parameters filled; an oracle that gets its parameters and inputs in float64; the inputs.

    `in_float32`: the reference computes in float32 inside, so that float64 is compared no closer than float32 is.
    `backward`: whether gradients are compared; they are, unless torch has none.
    """

    module: nn.Module
    oracle: Oracle
    inputs: tuple[Tensor, ...]
    in_float32: bool = False
    backward: bool = True

    def error(self, dtype: torch.dtype = torch.float32) -> float:
        """The largest relative error of the output and of the gradients of inputs and parameters."""
        return max(self.errors(dtype))

    def errors(self, dtype: torch.dtype = torch.float32) -> list[float]:
        return errors(self.module, self.oracle, *self.inputs, dtype=dtype, backward=self.backward)

    def tolerance(self, dtype: torch.dtype) -> float:
        return TOLERANCE[torch.float32 if self.in_float32 else dtype]


Make = Callable[[], Comparison]


@dataclass(frozen=True)
class Declared:
    """A comparison of the catalogue's `name` with `what`; `make` builds it, once the packages in `needs` are there."""

    name: str
    what: str
    make: Make
    needs: tuple[str, ...]

    def comparison(self) -> Comparison:
        for package in self.needs:
            pytest.importorskip(package)
        return self.make()


REFERENCES: list[Declared] = []
CONTROLS: list[Declared] = []


def reference(name: str, what: str, *needs: str) -> Callable[[Make], Make]:
    """Declare what a module is compared with: `@reference("se", "torchvision SqueezeExcitation", "torchvision")`.

    An own oracle is in a form of its own: "loop over the positions", "dense mask", "recurrent".
    """
    return _declare(REFERENCES, name, what, needs)


def control(name: str, mistake: str, *needs: str) -> Callable[[Make], Make]:
    """Declare a mistake: a comparison like that of the reference, but with an oracle that makes it."""
    return _declare(CONTROLS, name, mistake, needs)


def _declare(where: list[Declared], name: str, what: str, needs: tuple[str, ...]) -> Callable[[Make], Make]:
    def file(make: Make) -> Make:
        where.append(Declared(name, what, make, needs))
        return make

    return file


def weighted(published: nn.Module, weights: Mapping[str, Tensor], *inputs: object, **options: object) -> Tensor:
    """The output of a published module in float64 with these weights in place of all its own parameters.

    The gradients reach the weights. Buffers stay as they are; a parameter that is not given, or not known, is an error.
    """
    published = published.double()
    assert set(weights) == {name for name, _ in published.named_parameters()}, "not all of its parameters are given"
    y = torch.func.functional_call(published, dict(weights), inputs, options)
    output: Tensor = y[0] if isinstance(y, tuple) else y
    return output
