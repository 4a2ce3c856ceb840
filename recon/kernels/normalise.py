"""Normalise, activate and pad in one pass: a custom operator of torch, with its gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recon.kernels import reference
from recon.kernels.switches import is_channels_last, must_be_differentiable, new_images


def _kernels(x: Tensor) -> ModuleType:
    if x.is_cuda:
        from recon.kernels import normalise_cuda  # imported here: it loads a compiler

        return normalise_cuda
    if is_channels_last(x):
        from recon.kernels import normalise_rows_cpu

        return normalise_rows_cpu
    from recon.kernels import normalise_cpu

    return normalise_cpu


@torch.library.custom_op("recon::normalise", mutates_args=())
def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """Normalise, activate and pad circularly in one pass over x.

        z = (x - mean) / sqrt(variance + eps) * weight + bias;  y = z if z > 0 else slope * z

    Args:
        x: ``(batch, channel, rows, columns)``.
        weight: ``(channel,)``.
        bias: ``(channel,)``.
        given: float64 ``(channel, 2)``, mean and 1 / deviation, where ``over`` is "given".
        over: the statistics are of each "plane", of each channel over the "batch", or "given". They are float64 sums:
            in float32 their order alone moves the outputs by some 6e-7.
        eps: what is added to the variance.
        slope: of the leaky ReLU; 0 for ReLU.
        pad: pixels on each side.

    Returns:
        ``(batch, channel, rows + 2 pad, columns + 2 pad)``, and the statistics float64 ``(batch, channel, 2)``.
    """
    found: tuple[Tensor, Tensor] = _kernels(x).normalise(x, weight, bias, given, over, eps, slope, pad)
    return found


@normalise.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    batch, channels, rows, columns = x.shape
    padded = new_images(x, batch, channels, rows + 2 * pad, columns + 2 * pad)
    return padded, x.new_empty(batch, channels, 2, dtype=torch.float64)


@torch.library.custom_op("recon::normalise_back", mutates_args=())
def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    found: tuple[Tensor, Tensor, Tensor] = _kernels(x).normalise_back(
        grad, x, weight, bias, statistics, over, slope, pad
    )
    return found


@normalise_back.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    return new_images(x, *x.shape), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _normalise_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.over, ctx.eps, ctx.slope, ctx.pad = inputs
    ctx.save_for_backward(x, weight, bias, output[1])
    ctx.mark_non_differentiable(output[1])


def _normalise_grad(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, bias, statistics = ctx.saved_tensors
    if must_be_differentiable(grad):
        grads = reference.normalise_back(grad, x, weight, bias, statistics, ctx.over, ctx.eps, ctx.slope, ctx.pad)
    else:
        grads = normalise_back(grad, x, weight, bias, statistics, ctx.over, ctx.slope, ctx.pad)
    return *grads, None, None, None, None, None


normalise.register_autograd(_normalise_grad, setup_context=_normalise_setup)
