"""The bias of a linear layer while a mode watches: added where the product lies, as torch does when nobody watches.

Where a product is not made together with its bias (of rows that are not contiguous, say, in more than two dimensions),
`at::linear` adds the bias in place, on every device; but out of place, to a second output, as soon as a mode or a
subclass could see it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

__all__ = ["biases_in_place", "unwatched"]

# Whether this thread is inside a linear that would add its bias in place; it makes no other sum.
_INSIDE = ContextVar("inside_linear", default=False)


@contextmanager
def biases_in_place(mode: TorchDispatchMode) -> Iterator[None]:
    """Inside, `unwatched` tells that mode which sums are those of a linear layer.

    Not reached is who imported torch's function under another name, and layers in C++ (recurrent and scripted ones). A
    mode for torch's functions would reach the former, but in its presence nn.MultiheadAttention takes another path.
    """
    linear = F.linear
    told, places = partial(_told, linear, mode), _places(linear)
    for place in places:
        place.linear = told  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for place in places:
            place.linear = linear  # type: ignore[attr-defined]


def unwatched(operator: Any) -> Any:
    """The operator that runs in place of this one when nobody watches; the same where it does not matter."""
    is_bias = operator is torch.ops.aten.add.Tensor and _INSIDE.get()
    return torch.ops.aten.add_.Tensor if is_bias else operator


def _places(linear: Callable[..., Tensor]) -> list[ModuleType]:
    """Everywhere that torch's function is found by its name: at home, and where it was imported."""
    return [each for each in list(sys.modules.values()) if getattr(each, "__dict__", {}).get("linear") is linear]


def _told(linear: Callable[..., Tensor], mode: TorchDispatchMode, input: Tensor, weight: Tensor,  # noqa: A002
          bias: Tensor | None = None) -> Tensor:  # fmt: skip
    token = _INSIDE.set(bias is not None and _only_watched_by(mode, bias))
    try:
        return linear(input, weight, bias)
    finally:
        _INSIDE.reset(token)


def _only_watched_by(mode: TorchDispatchMode, bias: Tensor) -> bool:
    """Whether no mode, transform (vmap) or subclass of the module's own makes torch add the bias out of place."""
    alone = _get_current_dispatch_mode() is mode and torch._C._functorch.peek_interpreter_stack() is None
    return alone and (isinstance(bias, FakeTensor) or type(bias).__torch_dispatch__ is Tensor.__torch_dispatch__)
