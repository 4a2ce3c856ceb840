"""The table of all functions of torch that a map may meet, by name; what is not here is refused.

Names stand without underscores at their ends: ``add`` is ``add``, ``add_`` and ``__add__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recon.networks.conversion import pointwise as p
from recon.networks.conversion import shapes, strided

Rule = Callable[..., Any]


def _by(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_by(strided.convolve, "conv1d conv2d conv3d"),
    **_by(strided.convolve_transposed, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_by(strided.max_pool, "max_pool1d max_pool2d max_pool3d"),
    **_by(strided.avg_pool, "avg_pool1d avg_pool2d avg_pool3d"),
    **_by(strided.adaptive_pool, "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"),
    **_by(strided.adaptive_pool, "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"),
    **_by(strided.interpolate, "interpolate"),
    **_by(strided.pixel_shuffle, "pixel_shuffle"),
    **_by(strided.pixel_unshuffle, "pixel_unshuffle"),
    **_by(strided.pad, "pad"),
    **_by(shapes.view, "permute transpose swapaxes swapdims movedim moveaxis squeeze unsqueeze expand select narrow"),
    **_by(shapes.view, "getitem chunk split split_with_sizes tensor_split unbind T mT t"),
    **_by(shapes.reshape, "reshape view flatten unflatten"),
    **_by(shapes.repeat, "repeat"),
    **_by(shapes.roll, "roll"),
    **_by(shapes.expand_as, "expand_as view_as"),
    # arithmetic
    **_by(p.pointwise, "add radd iadd sub rsub isub subtract mul rmul imul multiply div rdiv idiv divide true_divide"),
    **_by(p.pointwise, "truediv rtruediv itruediv floor_divide floordiv remainder fmod mod pow rpow ipow square sqrt"),
    **_by(p.pointwise, "rsqrt exp expm1 exp2 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan atan2 abs"),
    **_by(p.pointwise, "absolute sign sgn neg negative pos positive reciprocal round floor ceil trunc frac erf erfc"),
    **_by(p.pointwise, "maximum minimum fmax fmin where lerp addcmul addcdiv clamp clip clamp_min clamp_max hypot"),
    **_by(
        p.pointwise, "eq ne lt le gt ge logical_and logical_or logical_not logical_xor and or xor invert isnan isinf"
    ),
    **_by(p.pointwise, "isfinite nan_to_num masked_fill copysign heaviside real imag angle conj"),
    # activations and dropout
    **_by(p.pointwise, "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid logit softplus softsign hardtanh"),
    **_by(p.pointwise, "softshrink hardshrink tanhshrink threshold hardswish hardsigmoid logsigmoid bernoulli"),
    **_by(p.pointwise, "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout"),
    # the same values, or none of them
    **_by(
        p.pointwise, "clone contiguous detach data copy zero fill zeros_like ones_like full_like rand_like randn_like"
    ),
    **_by(p.of_the_first, "to float double half bfloat16 type type_as cpu cuda"),
    **_by(p.of_the_first, "prelu rrelu channel_shuffle local_response_norm"),
    **_by(p.over_statistics, "batch_norm instance_norm group_norm softmax log_softmax softmin normalize"),
    **_by(p.layer_norm, "layer_norm rms_norm"),
    **_by(p.linear, "linear"),
    **_by(p.matmul, "matmul"),
    **_by(p.join, "cat concat concatenate stack"),
    **_by(p.reduce, "mean sum amax amin max min prod std var var_mean std_mean norm vector_norm logsumexp any all"),
    **_by(p.reduce, "argmax argmin median"),
    # no values
    **_by(p.pass_on, "shape size dim ndim ndimension numel nelement stride dtype device layout itemsize element_size"),
    **_by(p.pass_on, "is_cuda is_cpu is_meta is_mkldnn is_sparse is_quantized is_contiguous is_complex is_nested"),
    **_by(p.pass_on, "is_floating_point is_leaf is_inference is_conj is_neg is_same_size get_device len hash grad_fn"),
    **_by(p.pass_on, "requires_grad names has_names dim_order result_type new_zeros new_ones new_full new_empty repr"),
    **_by(p.pass_on, "register_hook retain_grad assert format"),
}
