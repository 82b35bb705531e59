"""The conditions under which modules are counted: nothing fused or compiled that counters cannot see into."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

__all__ = ["flex_by_its_parts", "quiet"]

_FLEX = "torch.nn.attention.flex_attention"


@contextmanager
def quiet() -> Iterator[Any]:
    """Count operator by operator: no fused path of nn.MultiheadAttention, no torch.compile; and no warnings."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(flex_by_its_parts())
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def flex_by_its_parts() -> Iterator[None]:
    """flex_attention compiles itself and refuses meta tensors; where torch can be told otherwise, it is.

    A module that uses it has loaded it; nobody else shall wait for that.
    """
    flex = sys.modules.get(_FLEX)
    with ExitStack() as stack:
        for name, value in (("_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True), ("_validate_device", lambda *_: None)):
            if hasattr(flex, name):
                stack.enter_context(mock.patch.object(flex, name, value))
        yield
