"""Operations of PyTorch by what they do with the units of a model."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: These look only at the shape of what they are given.
CONSTANT = _names("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty")
SAME = _names("clone detach alias contiguous _to_copy lift_fresh")
AXES_ALONE = _names("t transpose permute unsqueeze")
RESHAPE = _names("view reshape _unsafe_view _reshape_alias")
MOVE = _names(
    """expand squeeze select slice split split_with_sizes unsafe_split unbind chunk flip roll narrow
    diagonal unfold repeat pixel_shuffle pixel_unshuffle channel_shuffle index index_select"""
)
HOMOGENEOUS = _names("relu leaky_relu neg abs")
SUMS = _names("add sub rsub maximum minimum where")
REDUCE = _names(
    """sum mean amax amin max min std var var_mean logsumexp norm linalg_vector_norm prod all
    any"""
)
REDUCE_KEEPING = _names("softmax _softmax _safe_softmax log_softmax _log_softmax")
HOMOGENEOUS_REDUCE = _names("sum mean amax amin max min std")
BATCH_NORM = _names(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    cudnn_batch_norm miopen_batch_norm _batch_norm_no_update"""
)
LAYER_NORM = _names("native_layer_norm _fused_rms_norm")
POOL = _names(
    """max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d
    adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d
    upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d"""
)
#: Entry by entry, where PyTorch does not say so.
POINTWISE = _names(
    """relu leaky_relu add sub mul div sigmoid tanh clamp clamp_min clamp_max hardtanh hardswish
    hardsigmoid gelu silu mish elu selu celu softplus threshold softshrink
    hardshrink log_sigmoid_forward _prelu_kernel masked_fill"""
)
