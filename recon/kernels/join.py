"""Shift, concatenate and pad in one pass: a custom operator of torch, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recon.kernels import plain
from recon.kernels.switches import must_be_differentiable


def _kernels(x: Tensor) -> ModuleType:
    if x.is_cuda:
        from recon.kernels import join_cuda  # imported here: it loads a compiler

        return join_cuda
    from recon.kernels import join_cpu

    return join_cpu


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
    if must_be_differentiable(grad):
        grads = plain.join_back(grad, ctx.n_channels, ctx.by_phases, ctx.size, shifts, ctx.pads)
    else:
        grads = join_back_op(grad, ctx.n_channels, ctx.by_phases, ctx.size, shifts, ctx.pads)
    return (grads[:-1], grads[-1], None, None) if ctx.by_phases else (grads, None, None, None)


join_op.register_autograd(_join_grad, setup_context=_join_setup)
