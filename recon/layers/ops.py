"""What the layers run in fast kernels, as operators of torch: autograd, torch.compile and export see one node each.

The plain forms in torch stay where they were (padding, phases, pooling; MONAI's own modules for normalisation) and are
the kernels' truth. ``has_kernels`` says which of the two runs. Where torch transforms what runs, or exports it, the
plain forms do; and where a gradient is differentiated again or mapped, it is that of :mod:`recon.layers.plain`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recon.compiled import compiles, is_transformed, switched_off


def has_kernels(x: Tensor) -> bool:
    """Whether there are kernels for images like ``x``, and nobody switched them off; else the plain form must run.

    Args:
        x: there are kernels for ``(batch, channel, rows, columns)`` of float32 or float64 on a CPU; and on CUDA, where
            ``RECON_KERNELS=1`` asks for them: no GPU has run these yet, only Triton's interpreter.
    """
    if x.dim() != 4 or x.dtype not in (torch.float32, torch.float64) or x.numel() == 0:
        return False
    if torch.compiler.is_exporting():  # a program that needs torch's operators alone runs anywhere
        return False
    return _run_on(x.device.type) and (torch.compiler.is_compiling() or not is_transformed(x))


@torch.compiler.assume_constant_result
def _run_on(device: str) -> bool:
    if device == "cuda":
        return os.environ.get("RECON_KERNELS") == "1" and not switched_off() and find_spec("triton") is not None
    return device == "cpu" and compiles()


def _kernels(x: Tensor) -> ModuleType:
    """The kernels for a tensor that has some."""
    if x.device.type == "cuda":
        from recon.layers import _cuda  # here: it loads a compiler

        return _cuda
    from recon.layers import _cpu

    return _cpu


def _needs_plain(grad: Tensor) -> bool:
    """Whether a gradient is to be differentiated again (create_graph) or mapped (is_grads_batched, vmap)."""
    return torch.is_grad_enabled() or is_transformed(grad)


@torch.library.custom_op("recon::join", mutates_args=())
def join_op(images: Sequence[Tensor], phases: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """See :func:`join`."""
    result: Tensor = _kernels(images[0]).join(images, phases, shifts, pads)
    return result


def join(
    images: Sequence[Tensor],
    phases: Tensor | None = None,
    shifts: Tensor | None = None,
    pads: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    """Concatenate the channels of images, the last of them shifted circularly, and pad circularly, in one pass.

    Args:
        images: each ``(batch, channel, rows, columns)``.
        phases: one more image, by its phases in the order of pixel_shuffle:
            ``(batch, 4 channel, rows / 2, columns / 2)``.
        shifts: int64 ``(batch, 2)`` for the last image (``phases``, if given), or None.
        pads: (top, bottom, left, right).

    Returns:
        ``(batch, channels, rows + top + bottom, columns + left + right)``.
    """
    result: Tensor = join_op(images, phases, shifts, pads)
    return result


@join_op.register_fake
def _(images: Sequence[Tensor], phases: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    (batch, _, rows, columns), (top, bottom, left, right) = images[0].shape, pads
    n_channels = sum(x.shape[1] for x in images) + (0 if phases is None else phases.shape[1] // 4)
    return images[0].new_empty(batch, n_channels, rows + top + bottom, columns + left + right)


@torch.library.custom_op("recon::join_back", mutates_args=())
def join_back_op(
    grad: Tensor,
    n_channels: Sequence[int],
    by_phases: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The adjoint of :func:`join`: what was copied is added back, an image for each number of channels."""
    results: list[Tensor] = _kernels(grad).join_back(grad, n_channels, by_phases, size, shifts, pads)
    return results


@join_back_op.register_fake
def _(
    grad: Tensor,
    n_channels: Sequence[int],
    by_phases: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    results = [grad.new_empty(grad.shape[0], n, *size) for n in n_channels]
    if by_phases:
        results[-1] = grad.new_empty(grad.shape[0], 4 * n_channels[-1], size[0] // 2, size[1] // 2)
    return results


def _join_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, phases, shifts, ctx.pads = inputs
    ctx.n_channels, ctx.size, ctx.by_phases = [x.shape[1] for x in images], images[0].shape[2:], phases is not None
    if phases is not None:
        ctx.n_channels.append(phases.shape[1] // 4)
    ctx.save_for_backward(*([] if shifts is None else [shifts]))


def _join_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # read once: a checkpoint computes them anew, and once only
    shifts = saved[0] if saved else None
    if _needs_plain(grad):
        from recon.layers.plain import join_back

        grads = join_back(grad, ctx.n_channels, ctx.by_phases, ctx.size, shifts, ctx.pads)
    else:
        grads = join_back_op(grad, ctx.n_channels, ctx.by_phases, ctx.size, shifts, ctx.pads)
    return (grads[:-1], grads[-1], None, None) if ctx.by_phases else (grads, None, None, None)


join_op.register_autograd(_join_grad, setup_context=_join_setup)


@torch.library.custom_op("recon::pool", mutates_args=())
def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """2 x 2 circular max-pooling in each sample's phase of the most energy (l2 of the dense maximum, float64).

    Returns:
        The pooled images ``(batch, channel, rows / 2, columns / 2)``, the phases int64 ``(batch,)``, and the place of
        each maximum in its window, uint8: 0 to 3 in row-major order, the first one where there are several.
    """
    found: tuple[Tensor, Tensor, Tensor] = _kernels(x).pool(x)
    return found


@pool.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pooled = x.new_empty(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
    return pooled, x.new_empty(x.shape[0], dtype=torch.int64), torch.empty_like(pooled, dtype=torch.uint8)


@torch.library.custom_op("recon::pool_back", mutates_args=())
def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima; windows of one phase do not overlap."""
    result: Tensor = _kernels(grad).pool_back(grad, phase, where)
    return result


@pool_back.register_fake
def _(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    return grad.new_empty(*grad.shape[:2], 2 * grad.shape[2], 2 * grad.shape[3])


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _pool_grad(ctx: Any, grad: Tensor, *_: Any) -> Tensor:
    phase, where = ctx.saved_tensors
    if _needs_plain(grad):
        from recon.layers import plain

        return plain.pool_back(grad, phase, where)
    return pool_back(grad, phase, where)


pool.register_autograd(_pool_grad, setup_context=_pool_setup)


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
    padded = x.new_empty(batch, channels, rows + 2 * pad, columns + 2 * pad)
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
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _normalise_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.over, ctx.eps, ctx.slope, ctx.pad = inputs
    ctx.save_for_backward(x, weight, bias, output[1])
    ctx.mark_non_differentiable(output[1])


def _normalise_grad(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    x, weight, bias, statistics = ctx.saved_tensors
    if _needs_plain(grad):
        from recon.layers import plain

        grads = plain.normalise_back(grad, x, weight, bias, statistics, ctx.over, ctx.eps, ctx.slope, ctx.pad)
    else:
        grads = normalise_back(grad, x, weight, bias, statistics, ctx.over, ctx.slope, ctx.pad)
    return *grads, None, None, None, None, None


normalise.register_autograd(_normalise_grad, setup_context=_normalise_setup)
