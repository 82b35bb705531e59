"""Operators that hold no contraction, by their names in ATen: whatever is neither here nor handled is named."""

__all__ = ["HARMLESS"]

# They make, move, compare, look up or draw; they work on each element; or they are norms, softmax, pooling, sorting,
# interpolation and losses. The work of an FFT is no contraction: it is counted in FLOPs of its own, elsewhere.
_NAMES = """
    abs absolute acos acosh _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add _add_relu addcdiv addcmul
    addr adjoint alias alias_copy align_as align_tensors align_to all allclose alpha_dropout amax amin _aminmax
    aminmax __and__ angle any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort
    argwhere as_strided as_strided_copy as_strided_scatter as_tensor asin asinh _assert_async _assert_scalar
    _assert_tensor_metadata atan atan2 atanh atleast_1d atleast_2d atleast_3d _autocast_to_full_precision
    _autocast_to_reduced_precision avg_pool1d avg_pool2d avg_pool3d bartlett_window batch_norm batch_norm_elemt
    batch_norm_gather_stats batch_norm_gather_stats_with_counts _batch_norm_impl_index _batch_norm_no_update
    batch_norm_stats batch_norm_update_stats _batch_norm_with_update _batch_norm_with_update_functional bernoulli
    binary_cross_entropy binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window block_diag Bool broadcast_tensors
    broadcast_to bucketize cartesian_prod _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int
    _cast_Long _cast_Short cat cauchy ccol_indices ceil celu chalf channel_shuffle chunk _chunk_cat clamp clamp_max
    clamp_min clip clone col2im column_stack combinations Complex complex ComplexImplicit concat concatenate _conj
    conj _conj_copy _conj_physical conj_physical constant_pad_nd __contains__ contiguous copy copysign cos cosh
    count_nonzero cpu cross cuda cudnn_batch_norm cudnn_grid_sampler cummax _cummax_helper cummin _cummin_helper
    cumprod data deg2rad detach detach_copy device diag diag_embed diagflat diagonal diagonal_copy diagonal_scatter
    diff digamma dim _dim_arange dist div divide dropout dsplit _efficientzerotensor element_size elu embedding
    embedding_renorm empty empty_like empty_permuted empty_strided eq equal erf erfc erfinv exp exp2 expand
    expand_as expand_copy expm1 exponential eye fake_quantize_per_channel_affine fake_quantize_per_tensor_affine
    feature_alpha_dropout feature_dropout _fft_c2c _fft_c2r fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift
    fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn
    fft_irfft fft_irfft2 fft_irfftn _fft_r2c fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn fill fill_diagonal_
    _fill_mem_eff_dropout_mask_ fix flatten flip fliplr flipud Float float_power FloatImplicit floor floor_divide
    floordiv fmax fmin fmod frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like
    fused_moving_avg_obs_fake_quant _fused_rms_norm gather gcd ge gelu geometric ger get_device __getitem__ glu
    _grad_sum_to_size gradient greater greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gt
    hamming_window hann_window hardshrink hardsigmoid hardswish hardtanh hash_tensor heaviside hinge_embedding_loss
    histc histogram hsplit hstack huber_loss hypot i0 __iand__ igamma igammac __ilshift__ im2col imag index
    index_add index_copy index_fill index_put _index_put_impl index_reduce index_select instance_norm Int
    IntImplicit __ior__ __irshift__ __is__ _is_all_true _is_any_true is_coalesced is_complex is_conj is_contiguous
    is_distributed is_floating_point is_inference is_leaf is_neg is_nonzero is_pinned is_same_size is_signed
    _is_zerotensor isclose isfinite isin isinf isnan isneginf __isnot__ isposinf isreal istft item __ixor__
    _jagged_to_padded_dense_forward kaiser_window kron kthvalue l1_loss layer_norm _lazy_clone lcm ldexp le
    leaky_relu len lerp less less_equal lgamma lift lift_fresh _linalg_check_errors linalg_cross linalg_diagonal
    linalg_vander linalg_vector_norm linspace _local_scalar_dense log log10 log1p log2 log_normal log_sigmoid
    log_sigmoid_forward _log_softmax log_softmax logaddexp logaddexp2 _logcumsumexp logcumsumexp logical_and
    logical_not logical_or logical_xor logit logspace logsumexp __lshift__ lt margin_ranking_loss masked_fill
    _masked_scale masked_scatter masked_select _masked_softmax matrix_H max max_pool1d max_pool1d_with_indices
    max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum median
    meshgrid mH min minimum miopen_batch_norm mish mode modf moveaxis movedim mse_loss msort mT mul
    multi_margin_loss multilabel_margin_loss multinomial multiply mvlgamma nan_to_num nanmedian nanquantile narrow
    narrow_copy native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training native_channel_shuffle native_dropout native_group_norm native_layer_norm
    native_norm ne neg _neg_view _neg_view_copy negative new_empty new_empty_strided new_full new_ones new_zeros
    _new_zeros_with_same_feature_meta nextafter nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd
    _no_grad_fill_ _no_grad_normal_ _no_grad_uniform_ _no_grad_zero_ nonzero nonzero_numpy nonzero_static norm
    norm_except_dim normal normal_functional __not__ not_equal numel numpy_T one_hot ones ones_like __or__ outer
    _pack_padded_sequence pad _pad_circular _pad_enum _pad_packed_sequence pad_sequence
    _padded_dense_to_jagged_forward pairwise_distance permute permute_copy _pin_memory pin_memory pixel_shuffle
    pixel_unshuffle poisson poisson_nll_loss polar polygamma positive pow prelu _prelu_kernel prod promote_types put
    quantile rad2deg rand rand_like randint randint_like randn randn_like random randperm range __range_length ravel
    real reciprocal refine_names reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder rename
    renorm repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d requires_grad_ reshape
    _reshape_alias reshape_as _reshape_from_tensor resize resize_as _resize_output resolve_conj resolve_neg
    result_type rms_norm roll rot90 round row_stack rrelu rrelu_with_noise rrelu_with_noise_functional __rshift__
    rsplit rsqrt rsub _safe_softmax scalar_tensor ScalarImplicit scatter scatter_add scatter_reduce searchsorted
    segment_reduce select select_copy select_scatter selu set sgn _shape_as_tensor sigmoid sign signbit silu sin
    sinc sinh size slice slice_copy slice_scatter smooth_l1_loss soft_margin_loss _softmax softmax softplus
    softshrink softsign sort special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1
    special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_digamma special_entr special_erf
    special_erfc special_erfcx special_erfinv special_exp2 special_expit special_expm1 special_gammainc
    special_gammaincc special_gammaln special_hermite_polynomial_h special_hermite_polynomial_he special_i0
    special_i0e special_i1 special_i1e special_laguerre_polynomial_l special_legendre_polynomial_p special_log1p
    special_log_ndtr special_log_softmax special_logit special_logsumexp special_modified_bessel_i0
    special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1 special_multigammaln
    special_ndtr special_ndtri special_polygamma special_psi special_round special_scaled_modified_bessel_k0
    special_scaled_modified_bessel_k1 special_sinc special_softmax special_spherical_bessel_j0 special_xlog1py
    special_xlogy special_zeta split split_copy split_with_sizes split_with_sizes_copy sqrt square squeeze
    squeeze_copy _stack stack _standard_gamma std std_mean stft stft_window storage_offset stride sub subtract
    sum_to_size swapaxes swapdims sym_numel sym_size sym_storage_offset sym_stride t t_copy take take_along_dim tan
    tanh tensor tensor_split _thnn_fused_gru_cell _thnn_fused_lstm_cell threshold tile to _to_copy _to_cpu to_dense
    topk trace _transform_bias_rescale_qkv transpose transpose_copy tril tril_indices triplet_margin_loss triu
    triu_indices true_divide trunc type_as unbind unbind_copy unflatten unfold unfold_copy uniform _unique _unique2
    unique_consecutive unique_dim unique_dim_consecutive unsafe_chunk _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate unsafe_split unsafe_split_with_sizes _unsafe_view
    unsqueeze unsqueeze_copy upsample_bicubic2d _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d vander var
    var_mean view view_as view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit
    vstack wait warn _weight_norm _weight_norm_interface where xlogy __xor__ zero zeros zeros_like
"""
# What torch.utils.checkpoint of older torch puts around a forward.
_NO_OPERATORS = {"prim::PythonOp._NoopSaveInputs"}
HARMLESS = frozenset(f"aten::{name}{inplace}" for name in _NAMES.split() for inplace in ("", "_")) | _NO_OPERATORS
