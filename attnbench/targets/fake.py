"""Fake tensors: sizes, storages and lifetimes as on the real device, but no data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.overrides import TorchFunctionMode

__all__ = ["NEEDS_VALUES", "fake_device", "fake_tensors", "numbers_on_the_cpu"]

# What a module raises that looks at values, which fake tensors do not have.
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    NotImplementedError,
)

_LOG = logging.getLogger("torch._subclasses.fake_tensor")


# Makers of small tensors whose values a constructor may read: the rates of its layers, their widths.
_OF_NUMBERS = (torch.arange, torch.linspace, torch.logspace, torch.tensor, torch.as_tensor)


class numbers_on_the_cpu(TorchFunctionMode):  # noqa: N801 - a context
    """Inside `torch.device("meta")`: ranges and given numbers are made on the CPU, and have values; weights are not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in _OF_NUMBERS and given.get("device") is None:
            given = {**given, "device": "cpu"}
        return func(*args, **given)


def fake_device(device: str) -> str:
    """Where fake tensors of that device live: a CUDA that is not here has no autograd, and lends the CPU's."""
    return device if torch.cuda.is_available() or not device.startswith("cuda") else "cpu"


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Every tensor made inside is fake. A refusal is raised to the caller, and not logged by torch besides."""
    level = _LOG.level
    _LOG.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode() as mode:
            # A fake tensor that is copied deeply, as a module copies its layers, stays in the mode it was made in.
            mode.__deepcopy__ = lambda memo: mode  # type: ignore[attr-defined]
            yield
    finally:
        _LOG.setLevel(level)
