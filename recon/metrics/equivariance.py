"""Shift equivariance: how far f(T x) is from T f(x), T a circular shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError
from recon.metrics.quality import as_slices, check_range, differences, own_range, ssim, to_decibel


def draw_shifts(n: int, max_shift: int, seed: int | Sequence[int], spatial_dims: int = 2) -> Tensor:
    """Draw circular shifts, uniform in {-m, ..., m}^d without the zero vector.

    A shift can be drawn more than once, so that n may be any number. The result depends on the arguments alone, and
    with a larger n the first shifts are the same.

    Args:
        n: how many shifts.
        max_shift: m in pixels, at least 1; shifts by m itself are among them.
        seed: one number, or several such as (seed, volume, slice), all >= 0.
        spatial_dims: d, the number of axes.

    Returns:
        int64 ``(n, spatial_dims)`` in pixels, on the CPU.

    Raises:
        InputError: ``max_shift`` or ``spatial_dims`` is below 1, or n or a seed below 0.

    Example:
        >>> shifts = draw_shifts(1000, max_shift=2, seed=0)
        >>> len(shifts.unique(dim=0)), shifts.abs().max().item()  # all of the 5 x 5 vectors but (0, 0)
        (24, 2)
        >>> torch.equal(draw_shifts(3, max_shift=2, seed=0), shifts[:3])
        True
    """
    if max_shift < 1 or spatial_dims < 1:
        raise InputError(f"max_shift and spatial_dims must be at least 1, not {max_shift} and {spatial_dims}")
    if n < 0 or np.min(seed) < 0:
        raise InputError(f"the number of shifts and the seed must not be negative: {n}, {seed}")
    side = 2 * max_shift + 1
    n_vectors = side**spatial_dims
    index = np.random.default_rng(seed).integers(n_vectors - 1, size=n)
    index += index >= n_vectors // 2  # the zero vector is the middle one in row-major order
    shifts = np.stack(np.unravel_index(index, (side,) * spatial_dims), axis=1) - max_shift
    return torch.from_numpy(shifts.astype(np.int64))


class EquivarianceError(NamedTuple):
    """How far f(T x) is from T f(x) in each slice; :func:`equivariance` gives it.

    Example:
        >>> image = torch.eye(8)[None]
        >>> error = equivariance(image + 0.5, image)
        >>> error.nmse, error.max_abs  # 64 pixels of 0.5^2, against 8 of 1
        (tensor([2.], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """

    nmse: Tensor
    """|T f(x) - f(T x)|^2 / |T f(x)|^2, float64 ``(slices,)``; inf where only T f(x) is zero everywhere."""
    psnr: Tensor
    """In dB, with T f(x) as reference, float64 ``(slices,)``; inf where ``equal``, which reports call "exact"."""
    ssim: Tensor
    """With T f(x) as reference, float64 ``(slices,)``."""
    max_abs: Tensor
    """The largest absolute difference of two pixels, in the unit of the images, float64 ``(slices,)``."""
    equal: Tensor
    """Whether all pixels have equal values (-0 equals 0), bool ``(slices,)``."""


@torch.no_grad()
def equivariance(preds: Tensor, target: Tensor, data_range: float | Tensor | None = None) -> EquivarianceError:
    """Compare f(T x), the output for a shifted input, with T f(x), the shifted output; slice by slice.

    Both are images in the unit of the data, de-normalised with the constants of the unshifted input. A perfectly
    shift-equivariant f has NMSE 0 and SSIM 1, up to rounding. PSNR is inf exactly where both are equal. No figure is
    nan unless an image holds nan.

    Args:
        preds: f(T x), ``(slices, rows, columns)`` or ``(slices, 1, rows, columns)``, at least 7 x 7 pixels.
        target: T f(x), shape of ``preds``.
        data_range: R of PSNR and SSIM, one number or ``(slices,)``: that of the quality metric (MRI: the maximum of
            the ground truth's volume; CT: max(g) - min(g) of the ground truth). None, when there is no ground
            truth: max - min of T f(x) in each slice, and 1 where that is 0.

    Returns:
        The five figures of :class:`EquivarianceError`; no gradient passes through them.

    Raises:
        InputError: the shapes differ or are not stacks of images, an image is complex or has a side below 7, or R is
            not positive or has another shape.

    Example:
        >>> def f(x):  # keeps every second column, as a stride of 2 does
        ...     return x * (torch.arange(8) % 2 == 0)
        >>> x = torch.ones(1, 8, 8)
        >>> equivariance(f(x.roll(1, -1)), f(x).roll(1, -1)).nmse  # by one column: all that is kept is elsewhere
        tensor([2.], dtype=torch.float64)
        >>> equivariance(f(x.roll(2, -1)), f(x).roll(2, -1)).equal
        tensor([True])

    Source: docs/definitions.md, shift equivariance.
    """
    preds, target = as_slices(preds, target)
    errors, energies, max_abs = differences(preds, target)
    if data_range is None:
        spread = own_range(target)
        data_range = torch.where(spread > 0, spread, 1.0)
    equal = (preds == target).flatten(1).all(1)
    return EquivarianceError(
        nmse=torch.where(equal, 0.0, errors / energies),
        psnr=to_decibel(errors / check_range(data_range, target) ** 2 / target[0].numel()),
        ssim=ssim(preds, target, data_range, per_slice=True),
        max_abs=max_abs,
        equal=equal,
    )


def equals_own_shift(images: Tensor, total_stride: int, tolerance: float = 1e-12) -> Tensor:
    """Whether an image equals its own circular shift by some vector t that is not a multiple of the total stride.

    Such an image (a blank slice, stripes) is a tie. Shifted by t it is the same input, so that a network chooses the
    same grid again, although the grid ought to move by t modulo the stride: no choice by content can be equivariant.

    All shifts are tried at once: |x - T_t x|^2 = 2 (r(0) - r(t)), where r is the circular autocorrelation of x, which
    an FFT gives for every t.

    Args:
        images: ``(slices, rows, columns)``, or ``(slices, channel, rows, columns)`` where all channels shift together.
        total_stride: the product of the network's strides, in pixels; t is a multiple of it if both components are.
        tolerance: how large |x - T_t x|^2 / (2 |x|^2) may be, since the FFT rounds.

    Returns:
        bool ``(slices,)``.

    Example:
        >>> blank, ramp = torch.zeros(8, 8), torch.arange(64.0).view(8, 8)
        >>> stripes = torch.tensor([0.0, 1.0]).repeat(8, 4)  # equal their own shift by 2 columns
        >>> equals_own_shift(torch.stack([blank, stripes, ramp]), total_stride=4)
        tensor([ True,  True, False])

    Source: docs/definitions.md, ties.
    """
    x = images.double().reshape(len(images), -1, *images.shape[-2:])
    correlation = torch.fft.irfft2(torch.fft.rfft2(x).abs().square().sum(1), s=x.shape[-2:])
    energy = correlation[:, :1, :1].clone()
    correlation[:, ::total_stride, ::total_stride] = -torch.inf
    return (correlation >= energy * (1 - tolerance)).flatten(1).any(1)
