"""Shift, concatenate and pad in one pass: a custom operator of torch, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recon.kernels import reference
from recon.kernels.switches import is_channels_last, must_be_differentiable, new_images


def _kernels(x: Tensor) -> ModuleType:
    if x.is_cuda:
        from recon.kernels import join_cuda  # imported here: it loads a compiler

        return join_cuda
    if is_channels_last(x):
        from recon.kernels import join_rows_cpu

        return join_rows_cpu
    from recon.kernels import join_cpu

    return join_cpu


@torch.library.custom_op("recon::join", mutates_args=())
def join_op(images: Sequence[Tensor], components: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """See :func:`shift_join_pad`."""
    result: Tensor = _kernels(images[0]).join(images, components, shifts, pads)
    return result


def shift_join_pad(
    images: Sequence[Tensor],
    components: Tensor | None = None,
    shifts: Tensor | None = None,
    pads: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    """Shift the last of the images circularly, concatenate the channels of all, and pad circularly, in one pass.

    Of a single image it is a shift (given ``shifts`` alone) or a circular pad (given ``pads`` alone).

    Args:
        images: each ``(batch, channel, rows, columns)``.
        components: one more image, by its polyphase components of stride 2 in the order of pixel_shuffle:
            ``(batch, 4 channel, rows / 2, columns / 2)``.
        shifts: int64 ``(batch, 2)`` for the last image (``components``, if given), or None.
        pads: (top, bottom, left, right).

    Returns:
        ``(batch, channels, rows + top + bottom, columns + left + right)``.
    """
    result: Tensor = join_op(images, components, shifts, pads)
    return result


@join_op.register_fake
def _(images: Sequence[Tensor], components: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    (batch, _, rows, columns), (top, bottom, left, right) = images[0].shape, pads
    n_channels = sum(x.shape[1] for x in images) + (0 if components is None else components.shape[1] // 4)
    return new_images(images[0], batch, n_channels, rows + top + bottom, columns + left + right)


@torch.library.custom_op("recon::join_back", mutates_args=())
def join_back_op(
    grad: Tensor,
    n_channels: Sequence[int],
    by_components: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The adjoint of :func:`shift_join_pad`: what was copied is added back, an image for each number of channels."""
    results: list[Tensor] = _kernels(grad).join_back(grad, n_channels, by_components, size, shifts, pads)
    return results


@join_back_op.register_fake
def _(
    grad: Tensor,
    n_channels: Sequence[int],
    by_components: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    results = [new_images(grad, grad.shape[0], n, *size) for n in n_channels]
    if by_components:
        results[-1] = new_images(grad, grad.shape[0], 4 * n_channels[-1], size[0] // 2, size[1] // 2)
    return results


def _join_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, components, shifts, ctx.pads = inputs
    ctx.n_channels, ctx.size = [x.shape[1] for x in images], images[0].shape[2:]
    ctx.by_components = components is not None
    if components is not None:
        ctx.n_channels.append(components.shape[1] // 4)
    ctx.save_for_backward(*([] if shifts is None else [shifts]))


def _join_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # read once: a checkpoint computes them anew, and once only
    shifts = saved[0] if saved else None
    if must_be_differentiable(grad):
        grads = reference.join_back(grad, ctx.n_channels, ctx.by_components, ctx.size, shifts, ctx.pads)
    else:
        grads = join_back_op(grad, ctx.n_channels, ctx.by_components, ctx.size, shifts, ctx.pads)
    return (grads[:-1], grads[-1], None, None) if ctx.by_components else (grads, None, None, None)


join_op.register_autograd(_join_grad, setup_context=_join_setup)
