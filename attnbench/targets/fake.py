"""Fake tensors: sizes, storages and lifetimes as on the real device, but no data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)

__all__ = ["NEEDS_VALUES", "fake_tensors"]

# What a module raises that looks at values, which fake tensors do not have.
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    NotImplementedError,
)

_LOG = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Every tensor made inside is fake. A refusal is raised to the caller, and not logged by torch besides."""
    level = _LOG.level
    _LOG.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode():
            yield
    finally:
        _LOG.setLevel(level)
