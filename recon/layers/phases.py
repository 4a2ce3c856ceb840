"""Polyphase components, and the two circular shifts everything else is made of: align and restore.

For a stride s and an offset r in {0..s-1}^d the polyphase component is x_r[n] = x[s n + r]. A *phase* names one
component per sample: an int64 tensor ``(batch,)`` that counts the offsets in row-major order, or None for
offset 0 in every sample (the ordinary strided grid, for which nothing needs to move).

A selector that learns needs a gradient, which the number of a component does not have. So a phase may also be the
*weights* of all components, floats ``(batch, stride^d)``: what is done by a phase is done by each of them then, and
summed up with these weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.errors import InputError
from recon.kernels import reference
from recon.kernels.join import shift_join_pad
from recon.kernels.switches import has_kernels, runs_eagerly
from recon.layers.padding import circular_pad

AXES = ("depth", "height", "width")

Phase = Tensor | None
Stride = int | Sequence[int]
"""The same on each spatial axis, or one for each."""


def _per_axis(stride: Stride, spatial_dims: int) -> tuple[int, ...]:
    return (stride,) * spatial_dims if isinstance(stride, int) else tuple(stride)


def check_multiples(size: torch.Size | tuple[int, ...], multiples: Stride) -> None:
    """Refuse spatial sizes that are not multiples of the (total) stride.

    Raises:
        InputError: names the side, the multiple and the two remedies.
    """
    for name, n, multiple in zip(AXES[-len(size) :], size, _per_axis(multiples, len(size)), strict=True):
        if n == 0 or n % multiple:
            smaller, larger = n // multiple * multiple, (n // multiple + 1) * multiple
            crop = f"crop it to {smaller} or " if smaller else ""
            raise InputError(f"{name} {n} is not a multiple of the total stride {multiple}: {crop}pad it to {larger}")


def split_phases(x: Tensor, stride: Stride) -> Tensor:
    """Split into polyphase components, x_r[n] = x[stride n + r].

    Args:
        x: ``(batch, channel, *spatial)``.
        stride: the stride s, the same on each spatial axis or one for each.

    Returns:
        ``(batch, phase, channel, *spatial / stride)``, phases in row-major order of their offsets r.

    Raises:
        InputError: a side is not a multiple of the stride.
    """
    spatial = x.shape[2:]
    d = len(spatial)
    check_multiples(spatial, stride)
    x = x.reshape(
        *x.shape[:2], *(part for n, s in zip(spatial, _per_axis(stride, d), strict=True) for part in (n // s, s))
    )
    offsets, positions = range(3, 3 + 2 * d, 2), range(2, 2 + 2 * d, 2)
    return x.permute(0, *offsets, 1, *positions).flatten(1, d)


def merge_phases(components: Tensor, stride: int) -> Tensor:
    """The inverse of :func:`split_phases`.

    Args:
        components: ``(batch, phase, channel, *spatial / stride)`` with stride^d phases.
        stride: the stride s.

    Returns:
        ``(batch, channel, *spatial)``.
    """
    batch, n_phases, channels, *coarse = components.shape
    d = len(coarse)
    if n_phases != stride**d:
        raise ValueError(f"{n_phases} phases do not make a stride of {stride} in {d} dimensions: expected {stride**d}")
    x = components.reshape(batch, *(stride,) * d, channels, *coarse)
    order = [part for axis in range(d) for part in (2 + d + axis, 1 + axis)]
    return x.permute(0, 1 + d, *order).reshape(batch, channels, *(n * stride for n in coarse))


def phase_offsets(phase: Tensor, stride: Stride, spatial_dims: int) -> Tensor:
    """The offsets r ``(batch, spatial_dims)`` that a phase ``(batch,)`` names."""
    strides = _per_axis(stride, spatial_dims)
    return torch.stack([phase // prod(strides[axis + 1 :]) % s for axis, s in enumerate(strides)], dim=1)


class _CircularShift(torch.autograd.Function):
    """y[b, c, n] = x[b, c, (n - shifts[b]) mod size]; its gradient is the shift back."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, shifts: Tensor) -> Tensor:
        ctx.save_for_backward(shifts)
        return _roll_samples(x, shifts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (shifts,) = ctx.saved_tensors
        return circular_shift(grad, -shifts), None


def _roll_samples(x: Tensor, shifts: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return reference.shift(x, shifts)
    dims = tuple(range(1, x.dim() - 1))  # reading the shifts costs nothing here, and a roll is a copy
    return torch.stack([sample.roll(shift, dims) for sample, shift in zip(x, shifts.tolist(), strict=True)])


def circular_shift(x: Tensor, shifts: Tensor) -> Tensor:
    """Shift each sample circularly by its own vector: y[b, c, n] = x[b, c, (n - shifts[b]) mod size].

    Args:
        x: ``(batch, channel, *spatial)``.
        shifts: int64 ``(batch, spatial_dims)``, in pixels; positive moves towards higher indices.

    Returns:
        Shape and dtype of ``x``. Differentiable in ``x``; without a host-device sync on a GPU.

    There are three forms, with one result: which runs when is in the table of recon/kernels/README.md.
    """
    if shifts.shape != (x.shape[0], x.dim() - 2):
        raise ValueError(f"shifts have shape {tuple(shifts.shape)}, expected {(x.shape[0], x.dim() - 2)}")
    if has_kernels(x):
        return shift_join_pad([x], shifts=shifts)
    return _CircularShift.apply(x, shifts) if runs_eagerly(x) else reference.shift(x, shifts)


def is_weighted(phase: Phase) -> TypeGuard[Tensor]:
    """Whether a phase is the weights of all components, not the number of one."""
    return phase is not None and phase.is_floating_point()


def _correlate(x: Tensor, weights: Tensor, side: int, step: int = 1) -> Tensor:
    """y[b, c, n] = sum_r weights[b, r] x[b, c, step n + r], r in {0..side-1}^d, wherever all of it lies in x."""
    d, (batch, channels) = x.dim() - 2, x.shape[:2]
    kernel = weights.to(x.dtype).reshape(batch, 1, 1, *(side,) * d).expand(-1, channels, *(-1,) * (d + 1)).flatten(0, 1)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[d - 1]
    return convolve(x.flatten(0, 1)[None], kernel, stride=step, groups=len(kernel))[0].unflatten(0, (batch, channels))


def align(x: Tensor, phase: Phase, stride: int) -> Tensor:
    """Shift each sample circularly by minus its phase's offset, so that an ordinary strided operation samples it.

    Args:
        x: ``(batch, channel, *spatial)``.
        phase: int64 ``(batch,)``, None for offset 0 (``x`` itself is returned), or weights ``(batch, stride^d)``.
        stride: the stride the phase belongs to.

    Source: docs/definitions.md; an exact reformulation of APS-D (arXiv 2011.14214, section 4).
    """
    if is_weighted(phase):
        return _correlate(circular_pad(x, [(0, stride - 1)] * (x.dim() - 2)), phase, stride)
    return x if phase is None else circular_shift(x, -phase_offsets(phase, stride, x.dim() - 2))


def restore(x: Tensor, phase: Phase, stride: int) -> Tensor:
    """The inverse of :func:`align`: shift each sample circularly by plus its phase's offset.

    After a transposed convolution of the same stride this is APS-U (arXiv 2105.04040, section 3). Of weights it is the
    adjoint, the inverse where one of them is 1 and all others are 0.
    """
    if is_weighted(phase):
        return _correlate(circular_pad(x, [(stride - 1, 0)] * (x.dim() - 2)), phase.flip(1), stride)
    return x if phase is None else circular_shift(x, phase_offsets(phase, stride, x.dim() - 2))


class _Decimate(torch.autograd.Function):
    """Pick one component per sample; the gradient is written into zeros once."""

    @staticmethod
    def forward(ctx, x: Tensor, phase: Tensor, stride: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(phase)
        ctx.stride, ctx.shape = stride, x.shape
        if x.device.type != "cpu":
            return _pick_by_index(x, phase, stride)
        grids = _grids(x.shape, phase, stride)
        return torch.stack([sample[grid] for sample, grid in zip(x, grids, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (phase,) = ctx.saved_tensors
        if grad.device.type != "cpu" or torch.is_grad_enabled() or not runs_eagerly(grad):
            return _place_by_index(grad, phase, ctx.stride), None, None
        out = grad.new_zeros(ctx.shape)
        for sample, part, grid in zip(out, grad, _grids(ctx.shape, phase, ctx.stride), strict=True):
            sample[grid] = part
        return out, None, None


def _grids(shape: torch.Size, phase: Tensor, stride: int) -> list[tuple[slice, ...]]:
    offsets = phase_offsets(phase, stride, len(shape) - 2).tolist()
    return [(slice(None), *(slice(r, None, stride) for r in offset)) for offset in offsets]


def _pick_by_index(x: Tensor, phase: Tensor, stride: int) -> Tensor:
    """Decimate as one gather, so that a GPU need not tell the host its phases, and torch can transform it."""
    components = split_phases(x, stride)
    batch, _, *rest = components.shape
    index = phase.view(batch, 1, *(1,) * len(rest)).expand(batch, 1, *rest)
    return components.gather(1, index).squeeze(1)


def _place_by_index(y: Tensor, phase: Tensor, stride: int) -> Tensor:
    """The adjoint of :func:`_pick_by_index`: y in its component, zeros in the others."""
    index = phase.view(-1, *(1,) * y.dim()).expand(-1, 1, *y.shape[1:])
    components = y.new_zeros(y.shape[0], stride ** (y.dim() - 2), *y.shape[1:])
    return merge_phases(components.scatter(1, index, y[:, None]), stride)


def decimate(x: Tensor, phase: Phase, stride: int) -> Tensor:
    """Keep the polyphase component that the phase names: y[n] = x[stride n + r].

    Equal to striding the aligned input, ``align(x, phase, stride)[..., ::stride, ::stride]``, without moving what is
    dropped. There are two forms, with one result: which runs when is in the table of recon/kernels/README.md.

    Args:
        x: ``(batch, channel, *spatial)``.
        phase: int64 ``(batch,)``, None for offset 0, or weights ``(batch, stride^d)``.
        stride: the stride s.

    Returns:
        ``(batch, channel, *spatial / stride)``.
    """
    check_multiples(x.shape[2:], stride)
    if is_weighted(phase):
        return _correlate(x, phase, stride, step=stride)
    if phase is None:
        return x[(slice(None), slice(None)) + (slice(None, None, stride),) * (x.dim() - 2)]
    return _Decimate.apply(x, phase, stride) if runs_eagerly(x) else _pick_by_index(x, phase, stride)
