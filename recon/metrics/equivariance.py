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

    With replacement, so n may exceed the number of different shifts. The result is a function of the arguments
    alone, and the first shifts do not depend on n.

    Args:
        n: how many.
        max_shift: m in pixels, at least 1; it is drawn too.
        seed: one number, or several such as (seed, volume, slice), all >= 0.
        spatial_dims: d.

    Returns:
        int64 ``(n, spatial_dims)``, on the CPU.

    Raises:
        InputError: ``max_shift`` or ``spatial_dims`` is below 1, or n or a seed below 0.
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
    """How far f(T x) is from T f(x), each ``(slices,)``; ``equal`` (every pixel; -0 is 0) is bool, others float64."""

    nmse: Tensor
    """|T f(x) - f(T x)|^2 / |T f(x)|^2; inf where only T f(x) is zero everywhere."""
    psnr: Tensor
    """In dB, T f(x) as reference; inf where equal: report "exact"."""
    ssim: Tensor
    """T f(x) as reference."""
    max_abs: Tensor
    """The largest absolute difference, in the unit of the images."""
    equal: Tensor
    """All pixels have the same value."""


@torch.no_grad()
def equivariance(preds: Tensor, target: Tensor, data_range: float | Tensor | None = None) -> EquivarianceError:
    """Compare f(T x) with T f(x), slice by slice.

    Both are de-normalised with the constants of the unshifted image. A perfectly shift-equivariant f has NMSE 0 and
    SSIM 1 up to rounding. psnr is inf exactly where equal is True; nothing is ever nan unless an image is.

    Args:
        preds: f(T x), ``(slices, rows, columns)`` or ``(slices, 1, rows, columns)``, at least 7 x 7 pixels.
        target: T f(x), shape of ``preds``.
        data_range: R of PSNR and SSIM, one number or ``(slices,)``: that of the quality metric (MRI: the maximum of
            the ground truth's volume; CT: max(g) - min(g) of the ground truth). None, when there is no ground
            truth: max - min of T f(x) in each slice, and 1 where that is 0.

    Returns:
        :class:`EquivarianceError`, not differentiable.

    Raises:
        InputError: as :func:`recon.metrics.psnr` and :func:`recon.metrics.ssim`.

    >>> image, shift = torch.arange(64.0).reshape(1, 8, 8), ((0, 1), (1, 2))
    >>> equivariance((image**2).roll(*shift), image.roll(*shift) ** 2).equal  # a square commutes with a shift
    tensor([True])
    >>> equivariance(image.cumsum(2).roll(*shift), image.roll(*shift).cumsum(2)).equal  # a running sum does not
    tensor([False])
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
    """Whether an image is equal to its own circular shift by some vector that is not a multiple of the total stride.

    Then no method that picks a grid by content can be equivariant on it (a blank slice, stripes, a period of 3): a
    tie, for whatever network. From |x - T x|^2 = 2 (r(0) - r(t)) with r the circular autocorrelation, by FFT.

    Args:
        images: ``(slices, rows, columns)``, or ``(slices, channel, rows, columns)`` where all channels shift together.
        total_stride: the product of the network's strides.
        tolerance: on |x - T x|^2 relative to 2 |x|^2, for the rounding of the FFT in float64.

    Returns:
        bool ``(slices,)``.

    >>> stripes = torch.tensor([1.0, 2.0, 3.0]).repeat(1, 6, 2)
    >>> equals_own_shift(stripes, total_stride=2)  # by 3 columns
    tensor([True])
    """
    x = images.double().reshape(len(images), -1, *images.shape[-2:])
    correlation = torch.fft.irfft2(torch.fft.rfft2(x).abs().square().sum(1), s=x.shape[-2:])
    energy = correlation[:, :1, :1].clone()
    correlation[:, ::total_stride, ::total_stride] = -torch.inf
    return (correlation >= energy * (1 - tolerance)).flatten(1).any(1)
