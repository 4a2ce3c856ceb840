"""Coil maps without training, from the calibration lines: ESPIRiT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon.physics.mri import apply_mask, calibration_mask, ifft2c

CALIBRATION = 24  # rows and columns of k-space's centre that are looked at
KERNEL = 6  # rows and columns of the windows
THRESHOLD = 0.02  # of the largest singular value: signals well above it count, noise well below does not
START = 1e-3  # of the largest value: where there is less, the power iteration starts from the virtual coil
N_STEPS = 30  # of the power iteration, which starts near its end
ELEMENTS = 2**22  # of the matrices at once


@torch.no_grad()
def espirit(kspace: Tensor, mask: Tensor) -> Tensor:
    """Estimate coil maps from the calibration lines, without training and without a gradient.

    All windows of 6 x 6 points of k-space (fewer columns where there are fewer than 10 calibration lines) are the
    columns of a matrix B, (coils times points, windows). What can be a window of such coils is its column space, onto
    which P = C (C + t^2 s^2)^-1 projects, C = B B^H, s^2 its largest eigenvalue and t = 0.02. The paper cuts the
    singular values at t s; here they fade, so that rounding cannot move one across. At a pixel r, P becomes the matrix
    G(r) of coils by coils, and the maps are its first eigenvector: a fixed number of steps of v <- G v / |G v|, from
    the image of the calibration lines and a little of the virtual coil below, so that rounding decides nowhere.

    Each pixel's phase is chosen so that the first virtual coil, the principal component of the calibration lines over
    the coils, has a real and positive sensitivity; the largest entry of that component is real and positive.

    A movement of object and coils by t before the acquisition multiplies k-space by a ramp, and then G(r) becomes
    G(r - t), for fractions of a pixel as well; the virtual coil stays. So the maps move along: by whole pixels they
    are the same numbers at their new places.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``; only calibration lines are looked at.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.

    Returns:
        Complex, the shape of ``kspace``; sum_c |S_c|^2 = 1 everywhere, with or without an object, but 0 where the
        calibration lines say nothing at all, as those of a blank slice do.

    Raises:
        InputError: the mask has no calibration lines.

    Source: Uecker et al., Magnetic Resonance in Medicine 71 (2014).
    """
    lines = calibration_mask(mask).expand(len(kspace), -1)
    return torch.stack([_maps(k, own) for k, own in zip(kspace, lines, strict=True)])


def _maps(kspace: Tensor, lines: Tensor) -> Tensor:
    """The maps of one sample, (coil, rows, columns), from its calibration lines (columns,)."""
    measured = apply_mask(kspace, lines)
    height, n_lines = min(CALIBRATION, kspace.shape[1]), int(lines.sum())
    width = min(CALIBRATION, n_lines)
    left = int(lines.int().argmax()) + (n_lines - width) // 2
    region = measured.narrow(1, kspace.shape[1] // 2 - height // 2, height).narrow(2, left, width).to(torch.complex128)
    kernel = min(KERNEL, height), min(KERNEL, width // 2 + 1)
    lags = _lags(_projection(region, kernel), kernel).to(kspace.dtype)
    image, virtual = ifft2c(measured), _virtual_coil(region).to(kspace.dtype)[:, None, None]
    maps = _eigenvectors(lags, image / _positive(image.abs().amax()) + START * virtual)
    maps = maps * _phase((virtual.conj() * maps).sum(0)).conj()
    return _unit(maps)


def _projection(region: Tensor, kernel: tuple[int, int]) -> Tensor:
    """P, onto what can be a window of these coils: (coil, *kernel, coil, *kernel)."""
    windows = region.unfold(1, kernel[0], 1).unfold(2, kernel[1], 1).permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1)
    values, vectors = torch.linalg.eigh(windows @ windows.mH)
    values = values.clamp_min(0)
    weights = values / _positive(values + THRESHOLD**2 * values[-1])
    return ((vectors * weights) @ vectors.mH).view(len(region), *kernel, len(region), *kernel)


def _lags(projection: Tensor, kernel: tuple[int, int]) -> Tensor:
    """The sums of P over the pairs of points that lie a distance d apart: (coil, coil, 2 * rows - 1, 2 * columns - 1).

    Their Fourier transform at a pixel r is G(r)."""
    rows, columns = kernel
    lags = projection.new_zeros(projection.shape[0], projection.shape[0], 2 * rows - 1, 2 * columns - 1)
    for y in range(rows):
        for x in range(columns):
            part = projection[..., y, x].permute(0, 3, 1, 2)
            lags[..., rows - 1 - y : 2 * rows - 1 - y, columns - 1 - x : 2 * columns - 1 - x] += part
    return lags / (rows * columns)


def _eigenvectors(lags: Tensor, start: Tensor) -> Tensor:
    """The first eigenvector of each pixel's G, (coil, rows, columns), from a start of that shape."""
    rows, columns = (_waves(n, side, lags) for n, side in zip(start.shape[1:], lags.shape[2:], strict=True))
    in_columns = lags @ columns.T  # (coil, coil, lag, columns)
    n_rows = max(1, ELEMENTS // in_columns[:, :, 0].numel())
    found = []
    for some, v in zip(rows.split(n_rows), start.split(n_rows, 1), strict=True):
        matrices = torch.einsum("yd,abdx->abyx", some, in_columns)
        for _ in range(N_STEPS):
            v = _times(matrices, _unit(v))
        found.append(v)
    return torch.cat(found, 1)


def _times(matrices: Tensor, v: Tensor) -> Tensor:
    """G v at each pixel: coil by coil, which needs no more memory and takes a quarter of the time."""
    product = matrices[:, 0] * v[0]
    for coil in range(1, len(v)):
        product.addcmul_(matrices[:, coil], v[coil])
    return product


def _waves(n_pixels: int, n_lags: int, like: Tensor) -> Tensor:
    """exp(2 pi i d r / n), r the pixels and d the lags, both counted from their middle: (pixels, lags)."""
    pixel, lag = (torch.arange(n, dtype=torch.float64, device=like.device) - n // 2 for n in (n_pixels, n_lags))
    angle = 2 * math.pi / n_pixels * pixel[:, None] * lag
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _virtual_coil(region: Tensor) -> Tensor:
    """The principal component over the coils, (coil,), its largest entry real and positive."""
    values = region.flatten(1)
    first = torch.linalg.eigh(values @ values.mH)[1][:, -1]
    return first * _phase(first[first.abs().argmax()]).conj()


def _phase(x: Tensor) -> Tensor:
    """x / |x|; 1 where x is 0."""
    return torch.where(x == 0, torch.ones_like(x), x / _positive(x.abs()))


def _unit(v: Tensor) -> Tensor:
    """v / |v| over the coils; what ``rss`` computes takes ten times as long for complex numbers."""
    squares = torch.view_as_real(v).square()
    return v / _positive((squares[..., 0] + squares[..., 1]).sum(0).sqrt())


def _positive(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)
