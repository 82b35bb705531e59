"""Layers of flash-linear-attention by name: `fla:gated_linear_attention`, whose kernels are Triton's and need a GPU."""

import re
import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from attnbench.core.errors import UnsupportedError, UsageError, named
from attnbench.targets.providers import unknown
from attnbench.targets.sources import Target

__all__ = ["target"]


@cache
def target(name: str) -> Target:
    """The layer of `fla.layers` of that name, as a class or in snake_case: `DeltaNet`, `delta_net` or `deltanet`.

    Raises:
        UnsupportedError: Triton or a GPU is missing.
        UsageError: fla does not import, or has no such layer.
    """
    _needed(name)
    layers = {_plain(layer.__name__): layer for layer in _layers()}
    if _plain(name) not in layers:
        raise unknown("fla", name, [_snake(layer.__name__) for layer in layers.values()])
    return Target(f"fla:{name}", _on_a_gpu(name, layers[_plain(name)]), layout="bnc")


def _needed(name: str) -> None:
    if find_spec("triton") is None:
        raise UnsupportedError(f"fla:{name} runs kernels of Triton, which is not installed: pip install triton")
    if not torch.cuda.is_available():
        raise UnsupportedError(f"fla:{name} runs kernels of Triton, which need a GPU, and torch finds none here")


def _layers() -> list[type[nn.Module]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of versions and platforms
            layers = import_module("fla.layers")
    except Exception as error:  # a library that does not fit the torch that is installed may raise anything
        raise UsageError(f"fla does not import: {named(error)}.") from error
    found = (vars(layers).get(each) for each in getattr(layers, "__all__", vars(layers)))
    return [each for each in found if isinstance(each, type) and issubclass(each, nn.Module)]


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _snake(name: str) -> str:
    """`GatedLinearAttention` -> `gated_linear_attention`, `HGRN2Attention` -> `hgrn2_attention`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _on_a_gpu(name: str, layer: type[nn.Module]) -> Callable[..., nn.Module]:
    """The layer's constructor, with its own signature; what it builds refuses to run where there are no data."""

    @wraps(layer, updated=())
    def built(**settings: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on how to train
            return _OnAGpu(name, layer(**settings))

    return built


class _OnAGpu(nn.Module):
    """A layer's first output. Its kernels would take the addresses that meta and fake tensors do not have for real."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.name, self.layer = name, layer

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or isinstance(x, FakeTensor):
            raise UnsupportedError(f"fla:{self.name} runs kernels of Triton: it needs data on a GPU")
        y = self.layer(x)
        output: Tensor = y[0] if isinstance(y, tuple | list) else y
        return output
