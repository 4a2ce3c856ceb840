"""The smooth phase of an MR image, from the calibration lines: what is left of the image without it is nearly real."""

from __future__ import annotations

import torch
from torch import Tensor

from recon.physics.mri import FourierOperator, calibration_mask, ifft2c

FLOOR = 0.01  # of the image's root mean square


@torch.no_grad()
def image_phase(kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """The phase P = z / |z|, z = x + c, of the low-resolution image x = S^H F^-1 W k of the calibration lines.

    W is a Hann window, cos^2(pi u' / n), over the n calibration lines and over as large a part of the rows. c has the
    phase of the mean of x and a hundredth of its root mean square, so that where there is nothing the phase is that of
    the whole, and not that of rounding errors.

    The phase of an MR image comes from the field and the coils, which are smooth. So conj(P) x is nearly real, its
    k-space nearly Hermitian, and a line that was not measured is nearly told by the one on the other side.

    P moves along with an object that moves by whole pixels before the acquisition, where its coils move along: W is a
    product in k-space, as the movement is. It is not band-limited, so that by fractions of a pixel it does not quite.

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
    lines = calibration_mask(mask)
    rows, columns = kspace.shape[-2:]
    n_lines = lines.sum(-1, keepdim=True)
    window = _hann(columns, n_lines)[..., None, :] * _hann(rows, n_lines * (rows / columns))[..., :, None]
    x = FourierOperator(mask, maps).combine(ifft2c(kspace * window[..., None, :, :].to(kspace.real.dtype)))
    exact = x.to(torch.complex128)  # the same for a moved image, whose float32 sums would differ by their order
    size = torch.linalg.vector_norm(torch.view_as_real(exact), dim=(1, 2, 3)) / (rows * columns) ** 0.5
    z = x + torch.polar(FLOOR * size, exact.mean((1, 2)).angle()).to(x.dtype)[:, None, None]
    return torch.where(z == 0, 1, z / z.abs().clamp_min(torch.finfo(z.real.dtype).tiny))


def _hann(n: int, width: Tensor) -> Tensor:
    """cos^2(pi u' / w) where |u'| < w / 2, else 0, for widths w ``(..., 1)``: float64 ``(..., n)``."""
    u = torch.arange(n, dtype=torch.float64, device=width.device) - n // 2
    return torch.where(u.abs() < width / 2, torch.cos(torch.pi * u / width).square(), 0)
