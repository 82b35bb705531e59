"""What fvcore must be told: multiply-accumulates of each traced operator, from its shapes."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from attnbench.metrics.counters.einsum import einsum_macs
from attnbench.metrics.counters.summed import pooled_product, sum_of_product
from attnbench.metrics.counters.traced_values import Handle, Value, ints, is_tensor, shape, tensors

__all__ = ["HANDLES", "UNSURE"]

# Before the name of an operator whose work the trace does not tell: fvcore has no other way to name it.
UNSURE = "?"


def _contraction(operand: int, *dims: int) -> Handle:
    """Output elements times the summed sizes, which stand at `dims` of the given operand."""

    def handle(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
        sizes = shape(inputs[operand])
        return math.prod(shape(outputs[0])) * math.prod(sizes[dim] for dim in dims)

    return handle


def _convolution(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """Each output element sums the filter's taps; zero-padded taps count. Transposed: each input element spreads."""
    return (_spread if bool(inputs[6].toIValue()) else _taps)(inputs, outputs)


def _taps(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    return math.prod(shape(outputs[0])) * math.prod(shape(inputs[1])[1:])


def _spread(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    return math.prod(shape(inputs[0])) * math.prod(shape(inputs[1])[1:])


def _attention(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """The two products of attention: (..., L, E) x (..., S, E) x (..., S, Ev). Masks count dense."""
    query, key, value = (shape(operand) for operand in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_by_token(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """The kernels beneath, whose heads stand behind the tokens: (B, L, H, E) x (B, S, H, E) x (B, S, H, Ev)."""
    if any(is_tensor(value) for value in inputs[3:6]):
        raise ValueError("an additive mask or packed sequences: their lengths are values")
    query, key, value = (shape(operand) for operand in inputs[:3])
    return math.prod(query[:-1]) * key[-3] * (query[-1] + value[-1])


def _multi_head_attention(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """nn.MultiheadAttention's fused path over (B, L, C) and (B, S, C)."""
    (batch, tokens, channels), (_, keys, _) = shape(inputs[0]), shape(inputs[1])
    return batch * channels * (2 * tokens * channels + 2 * keys * channels + 2 * tokens * keys)


def _encoder_layer(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """nn.TransformerEncoderLayer's fused path over (B, N, C): the attention, and two layers of each token."""
    batch, tokens, channels = shape(inputs[0])
    weights = sum(math.prod(shape(inputs[place])) for place in (3, 5, 14, 16))
    return batch * tokens * (weights + 2 * tokens * channels)


def _recurrent(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """LSTM, GRU, RNN over (T, B, C), or packed (T * B, C): a token meets the matrices of all layers and directions."""
    parameters = tensors(next(value for value in reversed(inputs) if value.node().kind() == "prim::ListConstruct"))
    shapes = [shape(parameter) for parameter in parameters]
    return math.prod(shape(inputs[0])[:-1]) * sum(math.prod(each) for each in shapes if len(each) == 2)


def _cell(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    matrices = sum(math.prod(shape(matrix)) for matrix in inputs[2:4])
    return math.prod(shape(inputs[0])[:-1]) * matrices


def _bilinear(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """(..., I) x (O, I, J) x (..., J): the weights meet the first input, what comes out meets the second."""
    output, (_, first, second) = math.prod(shape(outputs[0])), shape(inputs[2])
    return output * second * (first + 1)


def _chain(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """The cheapest order of a product of matrices, which torch looks for; vectors may stand at its ends."""
    shapes = [shape(matrix) for matrix in tensors(inputs[0])]
    first = [1, *shapes[0]] if len(shapes[0]) == 1 else shapes[0]
    last = [*shapes[-1], 1] if len(shapes[-1]) == 1 else shapes[-1]
    sizes = [first[0], *(each[0] for each in (first, *shapes[1:-1], last)[1:]), last[1]]
    return _cheapest(tuple(sizes))


def _cheapest(sizes: tuple[int, ...]) -> int:
    """Cormen et al., Introduction to Algorithms, 15.2: the best place for the last product."""
    costs: dict[tuple[int, int], int] = {(start, start + 1): 0 for start in range(len(sizes) - 1)}
    for length in range(2, len(sizes)):
        for start in range(len(sizes) - length):
            stop = start + length
            costs[start, stop] = min(
                costs[start, middle] + costs[middle, stop] + sizes[start] * sizes[middle] * sizes[stop]
                for middle in range(start + 1, stop)
            )
    return costs[0, len(sizes) - 1]


def _pairs(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """Each pair of vectors along an axis: as many products as the two spread over each other have elements."""
    left, right = shape(inputs[0]), shape(inputs[1])
    width = max(len(left), len(right))
    both = zip([1] * (width - len(left)) + left, [1] * (width - len(right)) + right, strict=True)
    return math.prod(a if b == 1 else b for a, b in both)


def _tensordot(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    left, right, output = shape(inputs[0]), shape(inputs[1]), math.prod(shape(outputs[0]))
    # Both operands hold the summed sizes once: left * right = output * summed².
    return output * math.isqrt(math.prod(left) * math.prod(right) // output) if output else 0


def _einsum(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    path = ints(inputs[2]) if len(inputs) > 2 else None
    return einsum_macs(inputs[0].toIValue(), [shape(operand) for operand in tensors(inputs[1])], path)


def _grouped(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """A matrix for each group: rows are grouped, or batched, or the summed axis is what the groups share."""
    left, right = shape(inputs[0]), shape(inputs[1])
    if len(left) == len(right) == 2:
        return math.prod(left) * right[-1]
    return math.prod(shape(outputs[0])) * left[-1]


def _norm(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """A norm holds no contraction, unless it is a matrix's by its singular values."""
    order = inputs[1].toIValue()
    if order in (2, -2, "nuc") and len(shape(inputs[0])) - len(shape(outputs[0])) != 1:
        raise ValueError("singular values, perhaps")
    return 0


def _unsummed(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """It sums as well, but by another rule: what it does with a product is not known."""
    if sum_of_product(inputs, outputs):
        raise ValueError("a product is summed")
    return 0


def _bag(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    """Sums of looked-up rows; with weights of their own they would be products."""
    if len(inputs) > 6 and is_tensor(inputs[6]):
        raise ValueError("rows are weighted")
    return 0


def _nobody_knows(inputs: Sequence[Value], outputs: Sequence[Value]) -> int:
    raise ValueError("what is called here is not in the trace")


def _sure(name: str, handle: Handle) -> Callable[[Sequence[Value], Sequence[Value]], int | Counter[str]]:
    """A complex product is four real ones; where the handle cannot tell, the operator is named."""

    def counted(inputs: Sequence[Value], outputs: Sequence[Value]) -> int | Counter[str]:
        try:
            macs = handle(inputs, outputs)
        except (ValueError, IndexError, TypeError):
            return Counter({UNSURE + name: 1})
        return macs * _real_products(outputs) if handle not in (sum_of_product, pooled_product) else macs

    return counted


def _real_products(outputs: Sequence[Value]) -> int:
    dtype = outputs[0].type().dtype() if outputs and is_tensor(outputs[0]) else None
    return 4 if dtype is not None and dtype.is_complex else 1


_BY_NAME: Mapping[str, Handle] = {
    "matmul mm bmm mv dot vdot inner linear linalg_matmul _int_mm": _contraction(0, -1),
    "addmm addmv baddbmm _addmm_activation": _contraction(1, -1),
    "addbmm": _contraction(1, 0, -1),
    "conv_tbc": _contraction(1, 0, 1),
    "convolution _convolution convolution_overrideable": _convolution,
    "_convolution_mode conv1d conv2d conv3d thnn_conv2d _slow_conv2d_forward slow_conv3d slow_conv3d_forward": _taps,
    "slow_conv_dilated2d slow_conv_dilated3d _conv_depthwise2d conv_depthwise3d cudnn_convolution": _taps,
    "cudnn_convolution_relu cudnn_convolution_add_relu mkldnn_convolution miopen_convolution": _taps,
    "miopen_depthwise_convolution _mps_convolution _nnpack_spatial_convolution": _taps,
    "conv_transpose1d conv_transpose2d conv_transpose3d slow_conv_transpose2d slow_conv_transpose3d": _spread,
    "cudnn_convolution_transpose miopen_convolution_transpose _mps_convolution_transpose": _spread,
    "scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable": _attention,
    "_flash_attention_forward _efficient_attention_forward": _attention_by_token,
    "_native_multi_head_attention": _multi_head_attention,
    "_transformer_encoder_layer_fwd": _encoder_layer,
    "lstm gru rnn_tanh rnn_relu": _recurrent,
    "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell": _cell,
    "bilinear": _bilinear,
    "chain_matmul linalg_multi_dot": _chain,
    "linalg_vecdot cosine_similarity": _pairs,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "_grouped_mm": _grouped,
    "sum mean cumsum": sum_of_product,
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d": pooled_product,
    "nansum nanmean": _unsummed,
    "linalg_norm linalg_matrix_norm": _norm,
    "embedding_bag": _bag,
}
# Code that the trace holds in blocks of its own, where fvcore does not look: scripted, forked, compiled.
_HIDDEN = "prim::CallMethod prim::If prim::Loop prim::fork prim::TracedFork prim::rpc_async prim::PythonOp"
HANDLES = {
    f"aten::{name}{inplace}": _sure(f"aten::{name}", handle)
    for names, handle in _BY_NAME.items()
    for name in names.split()
    for inplace in ("", "_")
}
HANDLES |= {name: _sure(name, _nobody_knows) for name in _HIDDEN.split()}
