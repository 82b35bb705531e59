"""What kind of work each operator of the dispatcher is: none, on each element, a reduction, an FFT, or unknown.

The world is closed: what is neither a contraction nor on one of these lists is unknown, and makes a count incomplete.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attnbench.metrics.counters.arithmetic import packet_name

__all__ = ["Kind", "elements", "fft_flops", "kind_of", "tensors_of"]

Kind = Literal["nothing", "elementwise", "reduction", "fft", "unknown"]

# They make, move, or look up; no arithmetic.
_NOTHING = """
    __irshift__ _assert_async _assert_scalar _assert_tensor_metadata _chunk_cat _copy_from _copy_from_and_resize
    _efficientzerotensor _embedding_bag_forward_only _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _has_same_storage_numel _index_put_impl
    _jagged_to_padded_dense_forward _lazy_clone _linalg_check_errors _local_scalar_dense _mkldnn_reshape
    _mkldnn_transpose _pack_padded_sequence _padded_dense_to_jagged_forward _pin_memory _print _reshape_copy
    _resize_output _stack _to_copy _to_dense _unsafe_index _unsafe_index_put _unsafe_masked_index
    _unsafe_masked_index_put_accumulate _unsafe_view affine_grid_generator arange argsort as_strided as_strided_scatter
    bartlett_window bernoulli blackman_window block_diag cat cauchy channel_shuffle clone col2im complex constant_pad_nd
    copy copy_ data detach device diag_embed diagonal_scatter embedding empty empty_like empty_permuted empty_strided
    exponential eye fill flip full full_like gather geometric hamming_window hann_window im2col index index_copy
    index_fill index_put index_select is_coalesced is_pinned is_same_size is_set_to item kaiser_window layout lift
    lift_fresh linspace log_normal logspace masked_scatter masked_select max_unpool2d max_unpool3d multinomial new_empty
    new_empty_strided new_full new_ones new_zeros nonzero nonzero_static normal normal_functional one_hot ones ones_like
    permute pixel_shuffle pixel_unshuffle poisson put rand rand_like randint randint_like randn randn_like random
    randperm range record_stream reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d resize resize_as roll rot90 scalar_tensor scatter scatter_add
    scatter_reduce select_scatter set size slice_scatter sort split stack storage_offset stride sym_constrain_range
    sym_constrain_range_for_size sym_numel sym_size sym_storage_offset sym_stride take topk transpose tril tril_indices
    triu triu_indices uniform unsafe_chunk unsafe_split unsafe_split_with_sizes upsample_nearest1d upsample_nearest2d
    upsample_nearest3d zero zeros zeros_like
"""
# One operation for each element that comes out, besides all that ATen tags as pointwise.
_ELEMENTWISE = """
    _add_relu _cummax_helper _cummin_helper _fill_mem_eff_dropout_mask _logcumsumexp _masked_scale _prelu_kernel
    _standard_gamma _thnn_fused_gru_cell _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl
    _transform_bias_rescale_qkv _unsafe_masked_index _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm_interface addr
    batch_norm_elemt binary_cross_entropy binary_cross_entropy_with_logits bucketize count_nonzero cross cummax cummin
    cumprod cumsum dist floor_divide glu grid_sampler_2d grid_sampler_3d hardswish huber_loss index_add index_reduce
    isin linalg_cross log_sigmoid_forward polar logcumsumexp mse_loss native_dropout renorm rrelu_with_noise
    rrelu_with_noise_functional searchsorted smooth_l1_loss soft_margin_loss threshold upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_trilinear3d
"""
# One operation for each element that goes in: sums, extremes, norms, softmax and pooling.
_REDUCTION = """
    log_softmax _adaptive_avg_pool2d _adaptive_avg_pool3d _aminmax _batch_norm_no_update _batch_norm_with_update
    _batch_norm_with_update_functional _embedding_bag _fused_rms_norm _is_all_true _is_any_true _log_softmax
    _masked_softmax _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _safe_softmax _softmax _unique _unique2 adaptive_max_pool2d adaptive_max_pool3d all amax amin aminmax any argmax
    argmin avg_pool2d avg_pool3d batch_norm_gather_stats batch_norm_stats batch_norm_update_stats bincount
    cudnn_batch_norm equal fractional_max_pool2d fractional_max_pool3d hash_tensor histc kthvalue linalg_vector_norm
    logsumexp max max_pool2d_with_indices max_pool3d_with_indices mean median min miopen_batch_norm mode nanmedian
    nansum native_batch_norm native_group_norm native_layer_norm native_norm nll_loss2d_forward nll_loss_forward norm
    prod softmax std std_mean sum trace unique_consecutive unique_dim unique_dim_consecutive var var_mean
"""
_FFT = "_fft_c2c _fft_c2r _fft_r2c"
# Their gradients hold products that nobody has written down here.
_OPAQUE_BACKWARD = "_cdist_backward linear_backward slow_conv linalg lstm mkldnn_linear rnn grouped"

_LISTS: Mapping[str, Kind] = {
    **dict.fromkeys(_NOTHING.split(), "nothing"),
    **dict.fromkeys(_ELEMENTWISE.split(), "elementwise"),
    **dict.fromkeys(_REDUCTION.split(), "reduction"),
    **dict.fromkeys(_FFT.split(), "fft"),
}


@cache
def kind_of(operator: Any) -> Kind:
    """What an operator is that is no contraction."""
    if operator.namespace not in ("aten", "prim", "prims"):
        return "unknown"
    name = packet_name(operator)
    if name in _LISTS:
        return _LISTS[name]
    forms = _forms(name)
    if operator.namespace == "prim" or any(form.is_view for form in forms):
        return "nothing"
    if any(torch.Tag.pointwise in form.tags for form in forms):
        return "elementwise"
    if "_backward" in name and not any(part in name for part in _OPAQUE_BACKWARD.split()):
        return "elementwise"
    return "nothing" if name.endswith("_copy") else "unknown"


def _forms(name: str) -> list[Any]:
    """The operator in all its overloads: the tags of in-place forms are those of the plain ones."""
    packet = getattr(torch.ops.aten, name, None)
    return [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]


def tensors_of(*values: Any) -> list[Tensor]:
    """All tensors within arguments or outputs."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def elements(tensors: Sequence[Tensor]) -> int:
    """Elements of the first tensor: the input of a reduction, the output of an operator on each element."""
    return tensors[0].numel() if tensors else 0


def fft_flops(args: Sequence[Any], out: Tensor) -> int:
    """5 n log2 n FLOPs for each complex transform of n points, half of it where one side is real.

    The customary count of a radix-2 transform (Cooley and Tukey 1965); rounded to a whole number for other n.
    """
    x, axes = args[0], args[1]
    real = not (x.dtype.is_complex and out.dtype.is_complex)
    longer = out if real and x.dtype.is_complex else x
    points = math.prod(longer.shape[axis] for axis in axes)
    transforms = longer.numel() // points if points else 0
    flops = 5 * points * math.log2(points) * transforms if points > 1 else 0
    return round(flops / 2 if real else flops)
