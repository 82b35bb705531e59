"""What CUDA takes beside the tensors: blocks are rounded up, cuBLAS keeps a workspace, attention kernels take scratch.

All of it is known from documentation and source, not from a measurement on this machine.
"""

import os
import re
from math import prod

import torch
from torch.torch_version import TorchVersion

from attnbench.metrics.footprint.calls import Call, TensorSpec

__all__ = ["BLOCK", "blas_workspace", "keeps_workspace", "kernel_scratch", "uses_blas"]

# The caching allocator gives blocks of a multiple of this many bytes.
BLOCK = 512

_KIB = 1024
# Two blocks of 4 MiB and eight of 16 KiB, and 32 MiB from compute capability 9.0 (Hopper) on.
_WORKSPACE, _WORKSPACE_HOPPER = (2 * 4096 + 8 * 16) * _KIB, 8 * 4096 * _KIB

_BLAS = frozenset({"mm", "bmm", "addmm", "_addmm_activation", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot"})
# From here on torch gives each call of cuBLAS a workspace and takes it back, unless it is told to keep it.
_GIVES_BACK = "2.15"


def uses_blas(name: str) -> bool:
    """Whether the operator `aten.name` goes to cuBLAS."""
    return name.removeprefix("aten.") in _BLAS


def keeps_workspace() -> bool:
    """Whether a thread's first call of cuBLAS takes a workspace that is kept for all later ones."""
    return TorchVersion(torch.__version__) < _GIVES_BACK or os.environ.get("TORCH_CUBLAS_WORKSPACE_CACHE") == "1"


def blas_workspace(capability: tuple[int, int]) -> int:
    """Bytes of cuBLAS's workspace; cuBLASLt shares it. `CUBLAS_WORKSPACE_CONFIG=:KIB:COUNT...` overrides it."""
    pairs = re.findall(r":(\d+):(\d+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if pairs:
        return sum(int(kib) * int(count) for kib, count in pairs) * _KIB
    return _WORKSPACE_HOPPER if capability >= (9, 0) else _WORKSPACE


def kernel_scratch(call: Call) -> int:
    """Bytes that the kernel takes and gives back within the call, where that is known; else 0.

    Flash attention's backward adds up the gradient of the queries in fp32, padded to blocks of 128 queries and 32 (from
    128 channels on 64) channels, and one number for each of those queries; the memory-efficient one likewise without
    padding. A softmax's backward makes its operands contiguous.
    """
    match call.name.removeprefix("aten."):
        case "_scaled_dot_product_flash_attention_backward":
            return _flash_backward(call.arguments[1], call.arguments[2])
        case "_scaled_dot_product_efficient_attention_backward":
            query: TensorSpec = call.arguments[1]
            sums = torch.float32.itemsize * prod(query.shape[:3])
            return _blocks(sums) + (_blocks(4 * prod(query.shape)) if query.dtype != torch.float32 else 0)
        case "_softmax_backward_data" | "_log_softmax_backward_data":
            return sum(_blocks(each.bytes) for each in call.tensors if not each.zeros("meta").is_contiguous())
    return 0


def _flash_backward(query: TensorSpec, key: TensorSpec) -> int:
    batch, heads, tokens, dim = query.shape
    tokens = -(-tokens // 128) * 128
    dim = -(-dim // 32) * 32 if dim <= 128 else -(-dim // 64) * 64
    expanded = 2 * key.dtype.itemsize * prod((batch, heads, *key.shape[2:])) if key.shape[1] != heads else 0
    return _blocks(4 * batch * heads * tokens * dim) + _blocks(4 * batch * heads * tokens) + _blocks(expanded)


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
