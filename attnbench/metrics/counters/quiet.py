"""The conditions under which modules are counted: no fused path that counters cannot see, and no warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[Any]:
    """Count with nn.MultiheadAttention's fused path off: both counters take it for zero. No warnings meanwhile."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
