"""The catalogue's modules as test cases: shapes, hyper-parameters away from their defaults, and how to build them."""

import importlib
from typing import Any

import pytest
import torch
from families import gathered
from module_numerics import noise
from torch import Tensor, nn

from attnbench.modules.spec import Spec
from attnbench.targets.catalogue import catalogue

Shape = tuple[int, int, int, int, int]  # B, C, heads, H, W

MODULES = [spec for spec in catalogue() if spec.kind == "module"]
SHAPES: list[Shape] = [(1, 64, 4, 5, 7), (2, 48, 3, 9, 4), (3, 68, 2, 1, 13)]

# Hyper-parameters away from their defaults: a formula that forgets one is wrong here.
VARIANTS = dict(gathered("VARIANTS"))
CASES = [
    pytest.param(spec, hyper, id="-".join([spec.name, *(f"{k}={v}" for k, v in hyper.items())]))
    for spec in MODULES
    for hyper in ({}, *VARIANTS.get(spec.name, []))
]
every_module = pytest.mark.parametrize("spec", MODULES, ids=lambda spec: spec.name)
every_case = pytest.mark.parametrize(("spec", "hyper"), CASES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))


def class_of(spec: Spec) -> type[nn.Module]:
    found: type[nn.Module] = getattr(importlib.import_module(spec.module), spec.qualname)
    return found


def symbols(spec: Spec, shape: Shape, hyper: dict[str, Any]) -> dict[str, object]:
    B, C, _, H, W = shape
    return spec.symbols(B=B, N=H * W, H=H, W=W, C=C, **sizes(shape), **hyper)


def sizes(shape: Shape) -> dict[str, Any]:
    """What a constructor may ask for, by its name."""
    _, C, heads, H, W = shape
    return {"dim": C, "heads": heads, "n_head": heads, "seq_len": H * W, "height": H, "width": W}


def build(spec: Spec, shape: Shape, hyper: dict[str, Any]) -> nn.Module:
    """In eval mode, as a forward is measured: a batch norm in train mode couples the batch, and refuses one value."""
    given = sizes(shape)
    return class_of(spec)(**{name: given[name] for name in spec.required}, **hyper).eval()


def inputs(spec: Spec, shape: Shape) -> list[Tensor]:
    B, C, _, H, W = shape
    size = {"bchw": (B, C, H, W), "bhwc": (B, H, W, C)}.get(spec.layout, (B, H * W, C))
    return [noise(*size, seed=seed) for seed in range({"qkv": 3, "qk": 2}.get(spec.layout, 1))]


# What torch cannot differentiate on the CPU, and what the module says of it.
WITHOUT_BACKWARD = dict(gathered("WITHOUT_BACKWARD"))


def forward(spec: Spec, module: nn.Module, x: list[Tensor]) -> Tensor:
    with torch.set_grad_enabled(spec.name not in WITHOUT_BACKWARD):
        y: Tensor = module(*x)
        return y


def build_on_meta(spec: Spec, shape: Shape, hyper: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        return build(spec, shape, hyper)
