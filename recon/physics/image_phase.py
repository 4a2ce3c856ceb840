"""The smooth phase of an MR image, from the calibration lines: what is left of the image without it is nearly real."""

from __future__ import annotations

import torch
from torch import Tensor

from recon.physics.mri import FourierOperator, calibration_mask, ifft2c


@torch.no_grad()
def image_phase(kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """The phase P = x / |x| of the low-resolution image x = S^H F^-1 W k of the calibration lines.

    W is a Hann window, cos^2(pi u' / (n + 2)) over the n calibration lines and over as large a part of the rows. The
    phase of an MR image comes from the field and the coils, which are smooth; so conj(P) x is nearly real, its k-space
    nearly Hermitian, and a line that was not measured is nearly told by the one on the other side.

    P moves along with an object that moves by whole pixels before the acquisition, where its coils move along: W is a
    product in k-space, as the movement is. It is not band-limited, so that by fractions of a pixel it does not quite.
    Where x is nearly 0, rounding turns P: in float32 a moved object's may differ by some 1e-4 in the norm.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``; None with one coil.

    Returns:
        P, complex ``(batch, rows, columns)``, |P| = 1; 1 where x is 0. Without a gradient.

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
    size = x.abs()
    return torch.where(size > 0, x / size.clamp_min(torch.finfo(size.dtype).tiny), 1)


def _hann(n: int, width: Tensor) -> Tensor:
    """cos^2(pi u' / (w + 2)) where |u'| < w / 2 + 1, else 0, for widths w ``(..., 1)``: float64 ``(..., n)``."""
    u = torch.arange(n, dtype=torch.float64, device=width.device) - n // 2
    return torch.where(u.abs() < width / 2 + 1, torch.cos(torch.pi * u / (width + 2)).square(), 0)
