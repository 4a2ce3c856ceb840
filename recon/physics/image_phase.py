"""The smooth phase of an MR image, from the calibration lines: what is left of the image without it is nearly real."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sin

import torch
from torch import Tensor

from recon.layers.spectrum import resample
from recon.physics.mri import FourierOperator, calibration_mask, ifft2c

FLOOR = 0.01  # of the image's root mean square
DEGREE, LINES, SPIKE, DARKEST = 25, 3, 1.17, 0.1  # see band_limited_phase


@torch.no_grad()
def image_phase(kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """The phase P = z / |z|, z = x + c, of the low-resolution image x = S^H F^-1 W k of the calibration lines.

    W is a Hann window, cos^2(pi u' / n), over the n calibration lines and over as large a part of the rows. c has the
    phase of the mean of x and a hundredth of its root mean square, so that where there is nothing the phase is that of
    the whole, and not that of rounding errors.

    The phase of an MR image comes from the field and the coils, which are smooth. So conj(P) x is nearly real, its
    k-space nearly Hermitian, and a line that was not measured is nearly told by the one on the other side.

    P moves along with an object that moves by whole pixels before the acquisition, where its coils move along: W is a
    product in k-space, as the movement is. It is not band-limited, so that by fractions of a pixel it does not quite:
    :func:`band_limited_phase` does.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``, 0 where it was not measured.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``; None with one coil.

    Returns:
        P, complex ``(batch, rows, columns)``, |P| = 1; 1 where z is 0. Without a gradient.

    Raises:
        InputError: the mask has no calibration lines, or several coils have no maps.

    Source: McGibney et al., Magnetic Resonance in Medicine 30 (1993), on partial Fourier reconstructions;
    Willig-Onwuachi et al., Journal of Magnetic Resonance 176 (2005), on phase-constrained parallel imaging.
    """
    x = _low_resolution(kspace, mask, maps, None)
    rows, columns = x.shape[1:]
    exact = x.to(torch.complex128)  # the same for a moved image, whose float32 sums would differ by their order
    direction = exact.sum((1, 2)).angle()  # as of their mean, which torch.export knows for one size alone
    size = torch.linalg.vector_norm(torch.view_as_real(exact), dim=(1, 2, 3)) / (rows * columns) ** 0.5
    z = x + torch.polar(FLOOR * size, direction).to(x.dtype)[:, None, None]
    return torch.where(z == 0, 1, z / z.abs().clamp_min(torch.finfo(z.real.dtype).tiny))


@torch.no_grad()
def band_limited_phase(kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """A band-limited P = z q(|z|^2) near the phase z / |z|, on a finer grid, that moves along by every translation.

    t q(t^2) is the polynomial sum_j 4 / pi sinc(n / 27) (-1)^j T_n(t) / n of degree d = 25, n = 2 j + 1: the Chebyshev
    series of the sign of t with Lanczos' factors. It rises from 0 to .8 at t = .1 and is within 3 % of 1 from t = .15
    to 1. z is the image x of :func:`image_phase`, its windows so narrow that 25-fold frequencies are below Nyquist's,
    over 1.17 times its norm of order 50 (which no spike of that width exceeds), plus a constant of .1 with the phase of
    the mean, which is what P has where there is nothing.

    Of sides below 151 pixels d is as much lower as leaves the window 3 lines to each side, and 1.17 to the power of
    25 / d, at most 2, takes the place of 1.17. The smaller the image, the coarser is P; below 19 pixels it is 1.05 z.

    Norm, mean and polynomial do not alias on the fine grid of 3/2 of the sides, nor does the product with an image,
    once it is low-passed (:func:`times_phase`). With several coils the maps' products do, a little.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``, 0 where it was not measured.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``; None with one coil.

    Returns:
        P, complex ``(batch, 3/2 rows, 3/2 columns)``, both rounded up. Without a gradient.

    Raises:
        InputError: the mask has no calibration lines, or several coils have no maps.

    Source: as :func:`image_phase`; Lanczos, Applied Analysis (1956), on sigma factors.
    """
    half = (min(kspace.shape[-2:]) - 1) // 2  # of the frequencies that there are
    degree = max(1, min(DEGREE, (half // LINES - 1) // 2 * 2 + 1))  # odd
    x = _low_resolution(kspace, mask, maps, degree)
    x = resample_complex(x, [-(-3 * n // 2) for n in x.shape[1:]])
    size = x.abs().double()
    largest = size.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    power = (size / largest).pow(2 * degree).mean((1, 2), keepdim=True).pow(1 / (2 * degree))
    norm = (min(2.0, SPIKE ** (DEGREE / degree)) * largest * power).clamp_min(torch.finfo(torch.float32).tiny)
    direction = x.to(torch.complex128).mean((1, 2)).angle()
    dark = torch.polar(torch.full_like(direction, DARKEST), direction).to(x.dtype)[:, None, None]
    z = x * ((1 - DARKEST) / norm).to(x.real.dtype) + dark
    square = z.real.square() + z.imag.square()
    q, before, now = torch.zeros_like(square), torch.ones_like(square), torch.ones_like(square)  # T_n(t) / t, n = -1, 1
    for n in range(1, degree + 1, 2):
        angle = pi * n / (degree + 2)
        q += 4 / pi * sin(angle) / angle * (-1) ** (n // 2) / n * now
        before, now = now, (4 * square - 2) * now - before
    return z * q


def times_phase(phase: Tensor, image: Tensor) -> Tensor:
    """P x, both complex ``(batch, rows, columns)``; of P on a finer grid without aliasing, low-passed to that of x."""
    if phase.shape == image.shape:
        return phase * image
    return resample_complex(phase * resample_complex(image, phase.shape[1:]), image.shape[1:])


def resample_complex(image: Tensor, size: Sequence[int]) -> Tensor:
    """Ideal resampling of complex ``(batch, rows, columns)``: see :func:`recon.layers.spectrum.resample`."""
    planes = resample(torch.view_as_real(image).permute(0, 3, 1, 2), size)
    return torch.view_as_complex(planes.permute(0, 2, 3, 1).contiguous())


def _low_resolution(kspace: Tensor, mask: Tensor, maps: Tensor | None, degree: int | None) -> Tensor:
    """S^H F^-1 W k, W so narrow that `degree` times its frequencies are below Nyquist's; ``(batch, rows, columns)``."""
    n_lines = calibration_mask(mask).sum(-1, keepdim=True)
    rows, columns = kspace.shape[-2:]
    windows = []
    for n, width in ((rows, n_lines * (rows / columns)), (columns, n_lines)):
        windows.append(_hann(n, width if degree is None else width.clamp_max(2 * ((n - 1) // 2 // degree) + 1)))
    window = windows[0][..., :, None] * windows[1][..., None, :]
    combine = FourierOperator(mask, maps).combine
    return combine(ifft2c(kspace * window[..., None, :, :].to(kspace.real.dtype)))


def _hann(n: int, width: Tensor) -> Tensor:
    """cos^2(pi u' / w) where |u'| < w / 2, else 0, for widths w ``(..., 1)``: float64 ``(..., n)``."""
    u = torch.arange(n, dtype=torch.float64, device=width.device) - n // 2
    return torch.where(u.abs() < width / 2, torch.cos(torch.pi * u / width).square(), 0)
