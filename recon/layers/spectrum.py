"""Band-limited signals: ideal resampling, and a nonlinearity that does not alias.

A signal on n points is band-limited here if only the frequencies |k| <= (n - 1) // 2 are there, so that the Nyquist
frequency of an even n is empty. Such signals can be moved by any real number of pixels; circular convolutions, means
and variances over the plane, and what is in this file commute with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from recon.layers import plane_spectra


def resample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Ideal resampling to another grid: the spectrum is cut or filled up with zeros, the values stay.

    The Nyquist frequency of the smaller grid is left out: to the same size, this is the ideal low-pass.

    Args:
        x: real ``(batch, channel, *spatial)``.
        size: of the new grid, one side for each spatial axis.

    Returns:
        ``(batch, channel, *size)``.
    """
    if plane_spectra.can_run(x):
        return plane_spectra.resample(x, size)
    return _from_spectrum(_spectrum(x), x.shape[2:], size)


def _spectrum(x: Tensor) -> Tensor:
    x = x if x.dtype == torch.float64 else x.float()  # in a training with 16 bits, too
    spectrum: Tensor = torch.fft.rfftn(x, dim=tuple(range(2, x.dim())))
    return spectrum


def _from_spectrum(spectrum: Tensor, old: Sequence[int], size: Sequence[int]) -> Tensor:
    """The signal on a grid of ``size`` whose spectrum on a grid of ``old`` is given."""
    kept = [(min(n, m) - 1) // 2 for n, m in zip(old, size, strict=True)]
    last = spectrum.dim() - 1
    for axis, (keep, m) in enumerate(zip(kept, size, strict=True), start=2):
        if axis == last:
            part = spectrum.narrow(axis, 0, keep + 1)
            spectrum = nn.functional.pad(part, (0, m // 2 - keep))
        else:
            gap = spectrum.new_zeros(*spectrum.shape[:axis], m - 2 * keep - 1, *spectrum.shape[axis + 1 :])
            upper = spectrum.narrow(axis, spectrum.shape[axis] - keep, keep)
            spectrum = torch.cat([spectrum.narrow(axis, 0, keep + 1), gap, upper], axis)
    y: Tensor = torch.fft.irfftn(spectrum, s=tuple(size), dim=tuple(range(2, spectrum.dim())))
    return y * (prod(size) / prod(old))


class Product(nn.Module):
    """y_c = a_c x_c + b_c x_c x_(c-1), neighbouring channels, on a grid of 3/2 the sides where it does not alias.

    The product of signals with |k| <= K has |k| <= 2 K. On m >= 3 K + 1 points its frequencies above m / 2 fold back to
    |k| > K, which the low-pass removes. Channel 0 is multiplied by the last.

    Args:
        channels: of the input, each with an a and a b of its own that are learned.
        linear: a at the start.
        product: b at the start.

    Source: the 3/2 rule of spectral methods (Orszag, 1971); polynomials as activations without aliasing: Michaeli et
    al., arXiv 2303.08085; products of channels: Chen et al., NAFNet, arXiv 2204.04676.
    """

    def __init__(self, channels: int, linear: float = 0.7, product: float = 0.3) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.full((channels,), linear))
        self.product = nn.Parameter(torch.full((channels,), product))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to a band-limited signal.

        Args:
            x: ``(batch, channel, *spatial)``.

        Returns:
            The same shape, band-limited.
        """
        size = x.shape[2:]
        fine_size = [-(-3 * n // 2) for n in size]
        if plane_spectra.can_run(x):
            return plane_spectra.product(x, self.linear, self.product, fine_size)
        fine = resample(x, fine_size)
        a, b = (w.view(-1, *(1,) * (x.dim() - 2)) for w in (self.linear, self.product))
        return resample(fine * (a + b * fine.roll(1, 1)), size)
