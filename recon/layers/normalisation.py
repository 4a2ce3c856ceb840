"""Normalisation, activation and circular padding of images in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recon.kernels.normalise import normalise
from recon.kernels.switches import has_kernels


def negative_slope(activation: nn.Module) -> float | None:
    """The slope of an activation max(z, slope z) for negative values; None for any other activation."""
    if type(activation) is nn.ReLU:
        return 0.0
    return activation.negative_slope if type(activation) is nn.LeakyReLU else None


def can_fuse(x: Tensor, norm: nn.Module, activation: nn.Module) -> bool:
    """Whether :func:`normalise_activate` can stand for ``activation(norm(x))``: kernels for x, and layers it knows."""
    if not has_kernels(x) or torch.is_autocast_enabled(x.device.type):
        return False
    if negative_slope(activation) is None or x.shape[2] * x.shape[3] < 2:
        return False
    if type(norm) is nn.InstanceNorm2d:
        return not norm.track_running_stats
    return type(norm) is nn.BatchNorm2d


def normalise_activate(x: Tensor, norm: nn.Module, activation: nn.Module, pad: int = 0) -> Tensor:
    """Return circular_pad(activation(norm(x))), reading x once; statistics are float64 sums.

    Args:
        x: ``(batch, channel, rows, columns)`` for which :func:`can_fuse` is true.
        norm: InstanceNorm2d or BatchNorm2d, in training (its running statistics move on) or in evaluation.
        activation: ReLU or LeakyReLU.
        pad: pixels on each side.

    Returns:
        ``(batch, channel, rows + 2 pad, columns + 2 pad)``.
    """
    assert isinstance(norm, nn.InstanceNorm2d | nn.BatchNorm2d)
    weight = x.new_ones(x.shape[1]) if norm.weight is None else norm.weight
    bias = x.new_zeros(x.shape[1]) if norm.bias is None else norm.bias
    given, over = None, "plane"
    if isinstance(norm, nn.BatchNorm2d):
        over = "batch"
        if not norm.training and norm.running_mean is not None and norm.running_var is not None:
            deviation = (norm.running_var.double() + norm.eps).sqrt()
            given, over = torch.stack([norm.running_mean.double(), 1 / deviation], dim=1), "given"
    y, statistics = normalise(x, weight, bias, given, over, norm.eps, negative_slope(activation) or 0.0, pad)
    if over == "batch" and norm.training and norm.track_running_stats:
        _track(norm, statistics[0], x.numel() // x.shape[1])
    return y


@torch.no_grad()
def _track(norm: nn.InstanceNorm2d | nn.BatchNorm2d, statistics: Tensor, n: int) -> None:
    """Move the running statistics on, as torch does: the variance over n values as an unbiased one."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    variance = (statistics[:, 1] ** -2 - norm.eps) * n / (n - 1)
    norm.running_mean.lerp_(statistics[:, 0].to(norm.running_mean), factor)
    norm.running_var.lerp_(variance.to(norm.running_var), factor)
