"""Multiply-accumulates of the operators that torch's dispatcher sees, from the shapes of what goes in and comes out.

By the convention of this project: one for each product that is added to a sum. Zero-padded taps of a convolution count,
masks of an attention count dense, and a complex product counts four.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["CONTRACTIONS", "Uncountable", "Work", "packet_name"]


class Uncountable(Exception):  # noqa: N818 - no mistake: the shapes alone do not tell
    """The operator's work depends on values."""


@dataclass(frozen=True, slots=True)
class Work:
    """`macs` of the mathematics, and what a fused kernel computes a second time to save memory."""

    macs: int
    recomputed: int = 0


# Positional arguments, keyword arguments and the output of one call.
Formula = Callable[[Sequence[Any], Mapping[str, Any], Any], Work]


def packet_name(operator: Any) -> str:
    """`aten.addmm_.default` -> `addmm`: the name without overload and without the mark of in-place forms."""
    name: str = operator.overloadpacket.__name__
    return name if name.startswith("_") and name.endswith("__") else name.rstrip("_")


def _times(*tensors: Tensor) -> int:
    """How many real products one product of these numbers is."""
    return math.prod(2 if tensor.dtype.is_complex else 1 for tensor in tensors)


def _summed_last(operand: int) -> Formula:
    """Output elements times the last axis of the given operand, which is summed."""

    def formula(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
        left, right = args[operand], args[operand + 1]
        return Work(out.numel() * left.shape[-1] * _times(left, right))

    return formula


def _addbmm(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    """Products over the batch too: (b, n, m) x (b, m, p) -> (n, p)."""
    left, right = args[1], args[2]
    return Work(left.numel() * right.shape[-1] * _times(left, right))


def _grouped(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    """Each row meets one group's matrix; where the summed axis is what is grouped, each group sums its own share."""
    left, right = args[0], args[1]
    both_flat = left.dim() == right.dim() == 2
    return Work(left.numel() * right.shape[-1] if both_flat else out.numel() * left.shape[-1])


def _convolution_macs(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """Each output element sums the filter's taps; of a transposed one each input element spreads over them."""
    over = x if transposed else out
    return over.numel() * math.prod(weight.shape[1:]) * _times(x, weight)


def _convolution(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    transposed = args[6] if len(args) > 6 else kwargs.get("transposed", False)
    return Work(_convolution_macs(args[0], args[1], out, bool(transposed)))


def _plain_convolution(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    return Work(_convolution_macs(args[0], args[1], out, transposed=False))


def _convolution_backward(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """The gradient of the input and that of the weight are each as many products as the forward."""
    grad, x, weight = args[:3]
    transposed, mask = args[7], args[10]
    return Work((bool(mask[0]) + bool(mask[1])) * _convolution_macs(x, weight, grad, bool(transposed)))


def _attention(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """The two products of attention: (..., L, E) x (..., S, E), then (..., L, S) x (..., S, Ev)."""
    query, key, value = args[:3]
    return Work(math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _attention_backward(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """Two gradients for each of the two products; the scores are not kept but computed again.

    Dao et al. 2022, FlashAttention, arXiv:2205.14135, algorithm 4: five products, of which one is the forward's.
    """
    query, key, value = args[1:4]
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return Work(2 * pairs * (query.shape[-1] + value.shape[-1]), recomputed=pairs * query.shape[-1])


def _flash(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """The kernel under scaled_dot_product_attention: (B, L, heads, E), unless sequences of many lengths are packed."""
    query, key, value = args[:3]
    if query.dim() != 4 or any(isinstance(each, Tensor) for each in args[3:5]):
        raise Uncountable
    batch, length, heads, width = query.shape
    return Work(batch * heads * length * key.shape[1] * (width + value.shape[-1]))


def _flex_backward(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """As any fused attention's; the query, key and value stand first."""
    return _attention_backward((None, *args), kwargs, out)


def _trilinear(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    """Two products one after the other, as ATen does it: a and b first, summed over what c does not have.

    Each tensor is spread along its `expand` axes; nn.Bilinear is x W, B*O*I*J MACs, and that times y, B*O*J.
    """
    spread = [set(axes) for axes in args[3:6]]
    factors = [_spread(factor, axes) for factor, axes in zip(args[:3], spread, strict=True)]
    sizes = [max(sizes) for sizes in zip(*factors, strict=True)]
    every, summed = set(range(len(sizes))), set(args[6])
    first = summed & spread[2]
    steps = ((every - (spread[0] & spread[1]), first), (every - first, summed - first))
    return Work(sum(math.prod(sizes[axis] for axis in axes) for axes, over in steps if over))


def _spread(factor: Tensor, axes: set[int]) -> list[int]:
    sizes = list(factor.shape)
    for axis in sorted(axes):
        sizes.insert(axis, 1)
    return sizes


def _conv_tbc(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    """A convolution over (T, B, C) with a weight of (taps, C, C_out)."""
    return Work(out.numel() * math.prod(args[1].shape[:2]))


def _distances(args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Work:
    """Euclidean distances of all pairs are |x|^2 - 2xy + |y|^2: the products of all pairs. Other norms have none."""
    if len(args) > 2 and args[2] != 2:
        raise Uncountable
    return Work(out.numel() * args[0].shape[-1])


def _rnn_layer(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """One layer over (T, B, C): every step multiplies the input's and the hidden state's matrices of all gates."""
    steps = math.prod(args[0].shape[:-1])
    return Work(steps * (args[1].numel() + args[2].numel()))


def _rnn_layer_backward(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    return Work(2 * _rnn_layer(args, kwargs, out).macs)


def _cudnn_rnn(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """All layers at once: every matrix is used once for each step of each sequence; biases are vectors."""
    steps = math.prod(args[0].shape[:-1])
    return Work(steps * sum(weight.numel() for weight in args[1] if weight.dim() == 2))


def _cudnn_rnn_backward(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    return Work(2 * _cudnn_rnn(args, kwargs, out).macs)


def _fused_mha(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """nn.MultiheadAttention's fused path: four projections and two products over (B, N, C)."""
    query, key = args[0], args[1]
    batch, tokens, channels = query.shape
    projections = batch * tokens * (args[5].numel() + args[7].numel())
    return Work(projections + 2 * batch * tokens * key.shape[1] * channels)


def _fused_encoder_layer(args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Work:
    """nn.TransformerEncoderLayer's fused path: the attention, and two linear layers."""
    batch, tokens, channels = args[0].shape
    weights = (args[3], args[5], args[14], args[16])
    return Work(batch * tokens * (sum(weight.numel() for weight in weights) + 2 * tokens * channels))


_SDPA = """
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable
"""

# Operators by their names in ATen, without the mark of in-place forms.
_BY_NAME: Mapping[str, Formula] = {
    "mm bmm mv dot vdot _int_mm _scaled_mm _weight_int8pack_mm _weight_int4pack_mm": _summed_last(0),
    "addmm addmv baddbmm _addmm_activation": _summed_last(1),
    "addbmm": _addbmm,
    "_grouped_mm _scaled_grouped_mm": _grouped,
    "convolution _convolution convolution_overrideable": _convolution,
    "mkldnn_convolution cudnn_convolution _slow_conv2d_forward _conv_depthwise2d": _plain_convolution,
    "conv_tbc": _conv_tbc,
    "convolution_backward": _convolution_backward,
    _SDPA: _attention,
    " ".join(f"{name}_backward" for name in _SDPA.split()): _attention_backward,
    "_flash_attention_forward": _flash,
    "flex_attention": _attention,  # dense: what its block mask skips does not follow from shapes
    "flex_attention_backward": _flex_backward,
    "_trilinear": _trilinear,
    "_euclidean_dist _cdist_forward": _distances,
    "mkldnn_rnn_layer": _rnn_layer,
    "mkldnn_rnn_layer_backward": _rnn_layer_backward,
    "_cudnn_rnn": _cudnn_rnn,
    "_cudnn_rnn_backward": _cudnn_rnn_backward,
    "_native_multi_head_attention": _fused_mha,
    "_transformer_encoder_layer_fwd": _fused_encoder_layer,
}
CONTRACTIONS = {name: formula for names, formula in _BY_NAME.items() for name in names.split()}
