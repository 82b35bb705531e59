"""Fake tensors: sizes, storages and lifetimes as on the real device, but no data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)

__all__ = ["NEEDS_VALUES", "fake_device", "fake_tensors"]

# What a module raises that looks at values, which fake tensors do not have.
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    NotImplementedError,
)

_LOG = logging.getLogger("torch._subclasses.fake_tensor")


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
