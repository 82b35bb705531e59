"""Which kernel of scaled_dot_product_attention a CUDA device would run, and running a module as if on one.

Fake tensors on a machine without CUDA live on the CPU, where torch makes the CPU's choices. These are put in place of
them: attention by the flash or the memory-efficient kernel, dropout by the fused one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attnbench.core.errors import UnsupportedError

__all__ = ["Kernel", "as_on_cuda", "kernel_on_cuda"]

Kernel = Literal["flash", "efficient", "math", "cudnn"]

_HALF = (torch.float16, torch.bfloat16)
_MOST_HEAD_DIM = 256


def kernel_on_cuda(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
                   grouped: bool = False) -> Kernel:  # fmt: skip
    """The kernel that torch chooses on a device of compute capability 8.0 or later.

    Flash takes fp16 and bf16 without a mask, up to 256 channels a head; the memory-efficient kernel takes masks and
    fp32 too, but no grouped heads; math takes the rest. Kernels that the user switched off are passed over; cuDNN's,
    which takes what flash takes, is chosen only where math is off.

    Raises:
        UnsupportedError: none of those that are switched on takes these inputs.
    """
    if any(each.dim() != 4 for each in (query, key, value)) or query.dtype not in (*_HALF, torch.float32):
        return _last_resort(cudnn=False)
    alike = query.shape[-1] == key.shape[-1] == value.shape[-1]
    flash = query.dtype in _HALF and mask is None and alike and query.shape[-1] <= _MOST_HEAD_DIM
    if flash and torch.backends.cuda.flash_sdp_enabled():  # type: ignore[no-untyped-call]
        return "flash"
    grouped = grouped and query.shape[1] != key.shape[1]
    step = 8 if query.dtype in _HALF else 4
    aligned = query.shape[-1] % step == 0 and value.shape[-1] % step == 0
    efficient = aligned and not grouped and query.shape[:2] == key.shape[:2] == value.shape[:2]
    switched_on = torch.backends.cuda.mem_efficient_sdp_enabled()  # type: ignore[no-untyped-call]
    return "efficient" if efficient and switched_on else _last_resort(cudnn=flash)


def _last_resort(*, cudnn: bool) -> Kernel:
    if torch.backends.cuda.math_sdp_enabled():  # type: ignore[no-untyped-call]
        return "math"
    if cudnn and torch.backends.cuda.cudnn_sdp_enabled():  # type: ignore[no-untyped-call]
        return "cudnn"
    raise UnsupportedError("no kernel of scaled_dot_product_attention that is switched on takes these inputs")


def _attention(seen: set[Kernel], query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
               dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
               enable_gqa: bool = False) -> Tensor:  # fmt: skip
    """scaled_dot_product_attention by the kernel that CUDA would run; (B, H, N, D) as there."""
    kernel = kernel_on_cuda(query, key, value, attn_mask, grouped=enable_gqa)
    seen.add(kernel)
    ops, operands = torch.ops.aten, (query, key, value)
    output: Tensor
    if kernel in ("flash", "cudnn"):  # both give the output and one number for each row of scores
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        padded = (_to_multiple(each, 8) for each in operands)
        output, *_ = ops._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, False, scale=scale)
        output = output[..., : query.shape[-1]]
    elif kernel == "efficient":
        keep = torch.is_grad_enabled() and any(each.requires_grad for each in operands)
        bias = _bias(attn_mask, query, key)
        output, *_ = ops._scaled_dot_product_efficient_attention(*operands, bias, keep, dropout_p, is_causal,
                                                                 scale=scale)  # fmt: skip
    else:
        output, *_ = ops._scaled_dot_product_attention_math(*operands, attn_mask, dropout_p, is_causal, scale=scale,
                                                            enable_gqa=enable_gqa)  # fmt: skip
    return output


def _to_multiple(tensor: Tensor, of: int) -> Tensor:
    short = -tensor.shape[-1] % of
    return F.pad(tensor, (0, short)) if short else tensor


def _bias(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask as the memory-efficient kernel reads it: numbers, expanded, rows of a multiple of eight."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        zeros = torch.zeros_like(mask, dtype=query.dtype)
        mask = zeros.masked_fill_(mask.logical_not(), -torch.inf)
    mask = _to_multiple(mask, 8)[..., : mask.shape[-1]]
    return mask.expand(*query.shape[:3], key.shape[2])


def _dropout(tensor: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout by the fused kernel, which keeps a mask of one byte an element."""
    if not training or p == 0:
        return tensor
    dropped: Tensor = torch.native_dropout(tensor, p, True)[0]
    return tensor.copy_(dropped) if inplace else dropped


class _Instead(TorchFunctionMode):
    """Calls other functions instead of some of torch's."""

    def __init__(self, instead: dict[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self._instead = instead

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._instead.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def as_on_cuda() -> Iterator[set[Kernel]]:
    """Inside, attention and dropout run as on CUDA; the set that is given fills with the kernels that were chosen."""
    seen: set[Kernel] = set()
    attention, dropout = F.scaled_dot_product_attention, F.dropout
    instead: dict[Callable[..., Any], Callable[..., Any]] = {
        attention: partial(_attention, seen),
        dropout: _dropout,
    }
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The mode reaches whoever calls torch; torch's own Python (multi_head_attention_forward) finds these by name.
    F.scaled_dot_product_attention, F.dropout = instead[attention], instead[dropout]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Instead(instead):
            yield seen
    finally:
        F.scaled_dot_product_attention, F.dropout = attention, dropout
        torch.backends.mha.set_fastpath_enabled(fast_path)
