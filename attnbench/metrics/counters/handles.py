"""What fvcore must be told: multiply-accumulates of each traced operator from its shapes, and which have none."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["HANDLES", "HARMLESS", "einsum_macs"]

# A traced value; its type is torch._C.Value, which torch does not export for type checkers.
Value = Any
Handle = Callable[[Sequence[Value], Sequence[Value]], int]


def _shape(value: Value) -> list[int]:
    """Sizes of a traced tensor; an operand without known sizes raises, so that nothing is counted by guess."""
    sizes = value.type().sizes()
    if sizes is None:
        raise ValueError(f"the trace does not know the shape of {value.debugName()}")
    return list(sizes)


def _contraction(operand: int, *dims: int) -> Handle:
    """Output elements times the summed sizes, which stand at `dims` of the given operand."""

    def handle(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
        shape = _shape(inputs[operand])
        return math.prod(_shape(outputs[0])) * math.prod(shape[dim] for dim in dims)

    return handle


def _convolution(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """Each output element sums the filter's taps; zero-padded taps count. Transposed: each input element spreads."""
    transposed = bool(inputs[6].toIValue())
    over = _shape(inputs[0]) if transposed else _shape(outputs[0])
    return math.prod(over) * math.prod(_shape(inputs[1])[1:])


def _convolution_mode(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    return math.prod(_shape(outputs[0])) * math.prod(_shape(inputs[1])[1:])


def _sdpa(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """The two products of attention: (..., L, E) x (..., S, E) x (..., S, Ev). Masks count dense."""
    query, key, value = (_shape(operand) for operand in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _tensordot(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    left, right, output = _shape(inputs[0]), _shape(inputs[1]), math.prod(_shape(outputs[0]))
    # Both operands hold the summed sizes once: left * right = output * summed².
    return output * math.isqrt(math.prod(left) * math.prod(right) // output)


def _sum_of_product(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """A `sum`, `mean` or `cumsum` over an explicit product is a contraction when both factors vary along it.

    A map times a gate of one value a channel, pooled over the positions, is not: the gate could stand outside the sum.
    Nor is a product that is also used for itself: a gated map that goes on, and is pooled besides.
    """
    product = inputs[0].node()
    if product.kind() not in ("aten::mul", "aten::mul_") or len(inputs[0].uses()) > 1:
        return 0
    factors = list(product.inputs())
    if not all(_is_tensor(factor) for factor in factors):
        return 0
    left, right = (_aligned(_shape(factor), len(_shape(inputs[0]))) for factor in factors)
    summed = _summed_dims(inputs, len(left))
    return math.prod(_shape(inputs[0])) if any(left[dim] > 1 and right[dim] > 1 for dim in summed) else 0


def _aligned(shape: list[int], rank: int) -> list[int]:
    """The shape with the leading ones that broadcasting gives it."""
    return [1] * (rank - len(shape)) + shape


def _summed_dims(inputs: Sequence[Value], rank: int) -> list[int]:
    """Which axes are summed: those listed, the one named, or all where none is."""
    listed = inputs[1].node()
    if listed.kind() == "prim::ListConstruct":
        dims = [value.toIValue() for value in listed.inputs()]
        return dims or list(range(rank))
    # `sum(x)` and `mean(x)` have a dtype where `cumsum(x, dim)` has its axis.
    whole = len(inputs) == 2 or inputs[1].toIValue() is None
    return list(range(rank)) if whole else [inputs[1].toIValue()]


def _is_tensor(value: Value) -> bool:
    return bool(value.type().kind() == "TensorType")


def _einsum(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    operands = [_shape(operand) for operand in inputs[1].node().inputs()]
    return einsum_macs(inputs[0].toIValue(), operands)


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """Exact MACs of an einsum contracted from left to right, two operands at a time.

    A label that only one of two operands has, and nobody needs later, is summed before the product, as torch does. A
    product without a summed label is no contraction and counts 0.
    """
    terms, output = _labels(equation, shapes)
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    total = 0
    left = set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        right = set(term)
        later = set(output).union(*terms[position + 1 :])
        both = left & right
        used = both | ((left | right) & later)
        if both - later:
            total += math.prod(sizes[label] for label in used)
        left = used & later
    return total


def _labels(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """Operand labels and output labels, an ellipsis written out in capital Greek letters."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    widths = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
    extra = "".join(chr(0x391 + index) for index in range(max(widths)))
    terms = [term.replace("...", extra[len(extra) - width :]) for term, width in zip(terms, widths, strict=True)]
    if not arrow:
        counts = Counter("".join(terms))
        once = sorted(label for label in counts if counts[label] == 1 and label not in extra)
        return terms, extra + "".join(once)
    return terms, output.replace("...", extra)


def _complex_is_four(handle: Handle) -> Handle:
    """A complex product is four real ones."""

    def counted(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
        dtype = outputs[0].type().dtype()
        return handle(inputs, outputs) * (4 if dtype is not None and dtype.is_complex else 1)

    return counted


HANDLES: dict[str, Handle] = {
    "aten::matmul": _contraction(0, -1),
    "aten::mm": _contraction(0, -1),
    "aten::bmm": _contraction(0, -1),
    "aten::mv": _contraction(0, -1),
    "aten::dot": _contraction(0, -1),
    "aten::vdot": _contraction(0, -1),
    "aten::inner": _contraction(0, -1),
    "aten::linear": _contraction(0, -1),
    "aten::addmm": _contraction(1, -1),
    "aten::addmv": _contraction(1, -1),
    "aten::baddbmm": _contraction(1, -1),
    "aten::addbmm": _contraction(1, 0, -1),
    "aten::tensordot": _tensordot,
    "aten::einsum": _einsum,
    "aten::_convolution": _convolution,
    "aten::_convolution_mode": _convolution_mode,
    "aten::scaled_dot_product_attention": _sdpa,
    "aten::sum": _sum_of_product,
    "aten::mean": _sum_of_product,
    "aten::cumsum": _sum_of_product,
}
HANDLES = {name: _complex_is_four(handle) for name, handle in HANDLES.items()}
HANDLES |= {f"{name}_": HANDLES[name] for name in ("aten::addmm", "aten::addmv", "aten::baddbmm", "aten::addbmm")}

# Operators that hold no contraction: they move, compare, make, or work on each element, or they are norms and pools.
_HARMLESS = """
    __iand__ __ior__ __ixor__ __or__ __xor__ _cast_Double _cast_Float _shape_as_tensor _unsafe_view abs absolute acos
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d add addcdiv
    addcmul adjoint alias all alpha_dropout amax amin aminmax any arange argmax argmin argsort as_strided asin atan
    atan2 avg_pool1d avg_pool2d avg_pool3d batch_norm bernoulli bitwise_and bitwise_not bitwise_or bitwise_xor
    broadcast_tensors broadcast_to bucketize cat ceil celu channel_shuffle chunk clamp clamp_max clamp_min clip clone
    complex concat concatenate constant_pad_nd contiguous copy cos cosh cummax cummin cumprod detach diag diag_embed
    diagonal diff dim div divide dropout dsplit elu embedding empty empty_like eq equal erf erfc erfinv exp exp2 expand
    expand_as expm1 eye feature_dropout fill flatten flip floor floor_divide fmod frac full full_like gather ge gelu glu
    group_norm gt hardshrink hardsigmoid hardswish hardtanh hsplit hstack hypot im2col imag index index_add index_copy
    index_fill index_put index_select instance_norm is_floating_point isfinite isinf isnan item kthvalue layer_norm le
    leaky_relu lerp lift_fresh linalg_norm linalg_vector_norm linspace log log10 log1p log2 log_sigmoid log_softmax
    logaddexp logcumsumexp logical_and logical_not logical_or logical_xor logit logsumexp lt masked_fill masked_scatter
    masked_select matrix_H max max_pool1d max_pool2d max_pool3d maximum median meshgrid mH min minimum mish
    moveaxis movedim mT mul multinomial multiply nan_to_num narrow ne neg negative new_empty new_full new_ones new_zeros
    nonzero norm normal not_equal numel numpy_T one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle
    polar pow prelu prod quantile rand rand_like randint randn randn_like randperm real reciprocal reflection_pad1d
    reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad2d reshape reshape_as resolve_conj
    resolve_neg rms_norm roll rot90 round rrelu rsqrt rsub scatter scatter_add scatter_reduce select select_scatter selu
    sgn sigmoid sign silu sin sinh size slice slice_scatter softmax softplus softshrink softsign sort split
    split_with_sizes sqrt square squeeze stack std std_mean stft_window sub subtract swapaxes swapdims t take
    take_along_dim tan tanh tensor_split threshold tile to topk transpose tril tril_indices triu triu_indices
    true_divide trunc type_as unbind unflatten unfold unfold_copy unsafe_chunk unsafe_split unsqueeze upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_trilinear3d vander var var_mean
    view view_as view_as_complex view_as_real vsplit vstack where xlogy zero zeros zeros_like
"""
HARMLESS = frozenset(f"aten::{name}{inplace}" for name in _HARMLESS.split() for inplace in ("", "_"))
