"""The MRI scanner: centred Fourier transform, undersampling, coils, objects that move.

Images and k-space are complex tensors ``(..., rows, columns)``, on any device, with any leading dimensions (batch,
coils). The centre of an image and of its k-space is index (rows // 2, columns // 2). fastMRI's own functions keep the
real and imaginary parts in a last dimension of size 2: ``torch.view_as_complex`` makes one of ours of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.physics.measured_columns import magnitude_of_columns, takes_columns

PLANE = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """The centred, orthonormal 2-D Fourier transform F: image to k-space.

    k[u, v] = 1 / sqrt(N M) sum_{n, m} x[n, m] exp(-2 pi i (u' n' / N + v' m' / M)) for N rows and M columns, where a
    prime means counted from the centre: n' = n - N // 2, m' = m - M // 2, and likewise u' and v'. F is unitary: its
    adjoint is its inverse, :func:`ifft2c`. A circular shift of the image by (a, b) pixels multiplies k[u, v] by
    exp(-2 pi i (u' a / N + v' b / M)).

    Args:
        image: ``(..., rows, columns)``, complex or real.

    Returns:
        k-space ``(..., rows, columns)``, complex.

    Example:
        >>> fft2c(torch.ones(2, 4)).abs().round(decimals=3)  # a flat image is one value at the centre, sqrt(2 * 4)
        tensor([[0.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 2.8280, 0.0000]])
        >>> torch.allclose(fft2c(torch.eye(4)).norm(), torch.eye(4).norm())  # unitary
        True

    Source: the convention of fastMRI, arXiv 1811.08839; equal to ``fastmri.fft2c``.
    """
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, PLANE), norm="ortho"), PLANE)


def ifft2c(kspace: Tensor) -> Tensor:
    """The centred, orthonormal 2-D inverse Fourier transform: k-space to image.

    The inverse and the adjoint of :func:`fft2c`.

    Args:
        kspace: complex ``(..., rows, columns)``.

    Returns:
        The image ``(..., rows, columns)``, complex.

    Raises:
        InputError: k-space is real, as fastMRI's ``(..., rows, columns, 2)`` is.

    Example:
        >>> image = torch.arange(8.0).view(2, 4)
        >>> torch.allclose(ifft2c(fft2c(image)).real, image, atol=1e-5)
        True

    Source: the convention of fastMRI, arXiv 1811.08839; equal to ``fastmri.ifft2c``.
    """
    if not kspace.is_complex():
        raise InputError(f"k-space {tuple(kspace.shape)} is real: make it complex with torch.view_as_complex")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, PLANE), norm="ortho"), PLANE)


def apply_mask(kspace: Tensor, mask: Tensor) -> Tensor:
    """Undersample: k-space times mask, M k.

    Args:
        kspace: complex ``(..., rows, columns)``.
        mask: bool or real, True or 1 where k-space was measured: ``(columns,)``, or any shape that broadcasts to
            k-space, such as ``(batch, 1, 1, columns)`` for one mask per sample of several coils, or ``(rows, 1)``.

    Returns:
        Shape and dtype of ``kspace``.

    Raises:
        InputError: the mask does not broadcast to k-space.

    Example:
        >>> apply_mask(torch.ones(2, 4) + 0j, torch.tensor([False, True, True, False])).real
        tensor([[0., 1., 1., 0.],
                [0., 1., 1., 0.]])
    """
    shape = kspace.shape[kspace.dim() - mask.dim() :] if mask.dim() <= kspace.dim() else ()
    if len(shape) != mask.dim() or any(m not in (1, n) for m, n in zip(mask.shape, shape, strict=True)):
        raise InputError(f"a mask {tuple(mask.shape)} does not fit k-space {tuple(kspace.shape)}: give (columns,)")
    return kspace * mask.to(kspace.real.dtype)


def calibration_mask(mask: Tensor) -> Tensor:
    """The calibration lines: the largest block of measured columns that lies symmetrically about k-space's centre.

    With l measured columns in a row to the left of column ``columns // 2``, and r in a row from it to the right, the
    block has n = max(1, 2 min(l, r)) columns, the first of which is (columns - n + 1) // 2.

    Args:
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.

    Returns:
        bool, the shape of ``mask``, True in the block.

    Raises:
        InputError: the centre was not measured.

    Example:
        >>> mask = torch.tensor([1, 0, 0, 1, 1, 1, 1, 0, 1, 0], dtype=torch.bool)
        >>> calibration_mask(mask).int()  # two columns to the left of column 5, two from it to the right
        tensor([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=torch.int32)

    Source: the rule of fastMRI's E2E-VarNet, arXiv 2004.06688.
    """
    columns = mask.shape[-1]
    centre = columns // 2
    if not torch.compiler.is_exporting() and not mask[..., centre].all():  # a program cannot ask
        raise InputError("the mask has no calibration lines: its centre was not measured")
    left = mask[..., :centre].flip(-1).long().cumprod(-1).sum(-1)
    right = mask[..., centre:].long().cumprod(-1).sum(-1)
    n_lines = (2 * torch.minimum(left, right)).clamp_min(1)[..., None]
    first = (columns - n_lines + 1) // 2
    index = torch.arange(columns, device=mask.device)
    return (index >= first) & (index < first + n_lines)


def rss(images: Tensor, coil_dim: int) -> Tensor:
    """Combine the coils' images x_c by the root of their sum of squares, sqrt(sum_c |x_c|^2).

    Args:
        images: complex or real, such as ``(batch, coil, rows, columns)``.
        coil_dim: the dimension of the coils, which disappears.

    Returns:
        The magnitude image, real, such as ``(batch, rows, columns)``. Its gradient is 0 where all coils are 0.

    Example:
        >>> rss(torch.full((4, 1, 2), 3.0), coil_dim=0)  # four equal coils: sqrt(4) times one
        tensor([[6., 6.]])

    Source: Roemer et al., Magnetic Resonance in Medicine 16 (1990); ``reconstruction_rss`` of fastMRI.
    """
    parts = torch.view_as_real(images) if images.is_complex() else images.unsqueeze(-1)
    energy = parts.square().sum(-1).sum(coil_dim)  # torch's norm of complex numbers takes many times as long
    return torch.where(energy == 0, 0, torch.where(energy == 0, 1, energy).sqrt())


def zero_filled(kspace: Tensor, mask: Tensor, coil_dim: int | None = None, size: Sequence[int] | None = None) -> Tensor:
    """The baseline reconstruction: zeros where k-space was not measured, inverse transform, crop, magnitude.

    x = |crop(F^-1 M k)|; of several coils, their :func:`rss`. A mask that is bool ``(columns,)`` is fast.

    Args:
        kspace: complex ``(..., rows, columns)``, with a dimension for the coils or without.
        mask: as in :func:`apply_mask`.
        coil_dim: the dimension of the coils, combined by :func:`rss`; None for a single coil.
        size: (rows, columns) of the centre to keep, of which the first pixel is (n - size) // 2; None for all.

    Returns:
        The magnitude image, real: the shape of ``kspace`` less ``coil_dim``, its last two sides those of ``size``.

    Raises:
        InputError: k-space is real, the mask does not fit it, or the size is larger than it.

    Example:
        >>> kspace, centre = fft2c(torch.tensor([[1.0, 3.0, 1.0, 3.0], [2.0, 2.0, 4.0, 4.0]])), torch.arange(4) == 2
        >>> zero_filled(kspace, centre).round(decimals=3)  # with its centre column alone: the mean of each row
        tensor([[2., 2., 2., 2.],
                [3., 3., 3., 3.]])
    """
    sides = tuple(kspace.shape[-2:] if size is None else size)
    if len(sides) != 2 or not all(0 < side <= n for side, n in zip(sides, kspace.shape[-2:], strict=True)):
        raise InputError(f"size {sides} does not fit into k-space {tuple(kspace.shape)}: give (rows, columns)")
    if takes_columns(kspace, mask) and mask.any():
        columns = mask.nonzero()[:, 0].to(kspace.device)
        if coil_dim is None:
            return magnitude_of_columns(kspace, columns, sides)
        coils = kspace.unbind(coil_dim)  # one after the other: all at once would not fit into a CPU's cache
        squares = (magnitude_of_columns(coil, columns, sides).square_() for coil in coils)
        return functools.reduce(Tensor.add_, squares).sqrt_()
    top, left = ((n - side) // 2 for side, n in zip(sides, kspace.shape[-2:], strict=True))
    images = ifft2c(apply_mask(kspace, mask))[..., top : top + sides[0], left : left + sides[1]]
    return images.abs() if coil_dim is None else rss(images, coil_dim)


def move_object(kspace: Tensor, shift: Sequence[float], maps: Tensor | None = None) -> Tensor:
    """The k-space that would have been measured, had the object moved by (a, b) pixels before the acquisition.

    Without maps: k'[u, v] = k[u, v] exp(-2 pi i (u' a / N + v' b / M)), with u' and v' counted from the centre. This is
    the Fourier shift T of the complex image: for whole pixels a circular shift, for fractions of a pixel the periodic
    band-limited interpolation. It commutes with :func:`apply_mask`. Each coil's image moves, as if the coils'
    sensitivities moved along with the object.

    With maps the object moves and the coils stay: o = sum_c conj(S_c) F^-1 k_c is the object, and k'_c = k_c +
    F(S_c (T o - o)). What the maps cannot explain, such as part of the noise, stays where it is. This mixes the
    columns, so that k-space must be fully sampled.

    If N is even, the Nyquist frequency, index 0, is taken as u' = -N / 2 and turned by exp(i pi a). So T is unitary
    and moves add up, T(a) T(b) = T(a + b), for any shifts; but a real image with content at that frequency becomes
    complex when it moves by a fraction of a pixel.

    Args:
        kspace: complex ``(..., rows, columns)``; with maps ``(..., coils, rows, columns)``.
        shift: (a, b), along the rows' and the columns' index, in pixels, whole or not; positive towards larger indices.
        maps: complex ``(coils, rows, columns)``, sum_c |S_c|^2 = 1 (or 0 where there is nothing to see).

    Returns:
        Shape and dtype of ``kspace``; the very values of ``kspace`` for the shift (0, 0).

    Raises:
        InputError: k-space is real, the shift is not two finite numbers, or the maps do not fit k-space.

    Example:
        >>> kspace = fft2c(torch.arange(16.0).view(4, 4))
        >>> moved = ifft2c(move_object(kspace, (1, -1))).real
        >>> torch.allclose(moved, torch.arange(16.0).view(4, 4).roll((1, -1), (0, 1)), atol=1e-5)
        True
        >>> torch.allclose(move_object(move_object(kspace, (0.3, 0)), (0.7, 0)), move_object(kspace, (1, 0)), atol=1e-5)
        True

    Source: the shift theorem; with maps, the coil combination of Roemer et al., Magnetic Resonance in Medicine 16
    (1990), and its adjoint.
    """
    if not kspace.is_complex():
        raise InputError(f"k-space {tuple(kspace.shape)} is real: make it complex with torch.view_as_complex")
    if len(shift) != 2 or not all(math.isfinite(pixels) for pixels in shift):
        raise InputError(f"the shift is {list(shift)}: give two finite numbers of pixels, rows and columns")
    ramp = _phase_ramp(kspace, shift)
    if maps is None:
        return kspace * ramp
    if maps.shape != kspace.shape[-3:]:
        raise InputError(f"maps {tuple(maps.shape)} do not fit k-space {tuple(kspace.shape)}: give one for each coil")
    maps = maps.to(kspace.dtype)
    combined = (maps.conj() * ifft2c(kspace)).sum(-3, keepdim=True)
    return kspace + fft2c(maps * ifft2c(fft2c(combined) * (ramp - 1)))


def _phase_ramp(kspace: Tensor, shift: Sequence[float]) -> Tensor:
    """exp(-2 pi i (u' a / N + v' b / M)) as (rows, columns), computed in float64, like k-space in dtype and device."""
    ramps = []
    for n, pixels in zip(kspace.shape[-2:], shift, strict=True):
        frequency = torch.arange(n, dtype=torch.float64) - n // 2
        ramps.append(torch.polar(torch.ones_like(frequency), -2 * math.pi * frequency * (float(pixels) / n)))
    return (ramps[0][:, None] * ramps[1]).to(kspace.dtype).to(kspace.device)


class FourierOperator(nn.Module):
    """The Cartesian acquisition A = M F S: coil sensitivities, centred Fourier transform, mask.

    (A x)_c = M F(S_c x) for coil c. Without maps there is one coil, of sensitivity 1, and A^H A = F^H M F commutes with
    every translation of the image, since both multiply k-space point by point.

    Args:
        mask: bool ``(columns,)``, or ``(batch, columns)`` for one mask per sample: True where k-space is measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``.

    Raises:
        InputError: the mask or the maps have other dimensions or another dtype, or not equally many columns.

    Example:
        >>> operator = FourierOperator(torch.tensor([True, False, True, True]))
        >>> x, y = torch.arange(8.0).view(1, 2, 4) + 0j, torch.ones(1, 1, 2, 4) + 0j  # <A x, y> = <x, A^H y>:
        >>> torch.allclose((operator(x).conj() * y).sum(), (x.conj() * operator.adjoint(y)).sum())
        True

    Source: Pruessmann et al., Magnetic Resonance in Medicine 46 (2001).
    """

    mask: Tensor
    maps: Tensor | None
    frequencies: Tensor  # the mask in the order of torch.fft, from frequency 0 on

    def __init__(self, mask: Tensor, maps: Tensor | None = None) -> None:
        super().__init__()
        if mask.dtype != torch.bool or mask.dim() not in (1, 2):
            raise InputError(f"the mask is {mask.dtype} {tuple(mask.shape)}: give bool (columns,) or (batch, columns)")
        if maps is not None:
            if maps.dim() not in (3, 4) or not maps.is_complex():
                raise InputError(f"maps {tuple(maps.shape)} {maps.dtype}: give complex (batch, coil, rows, columns)")
            if maps.shape[-1] != mask.shape[-1]:
                raise InputError(f"maps of {maps.shape[-1]} columns do not fit a mask of {mask.shape[-1]} columns")
        self.register_buffer("mask", mask[..., None, None, :], persistent=False)
        self.register_buffer("maps", maps, persistent=False)
        self.register_buffer("frequencies", torch.fft.ifftshift(self.mask, -1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """A x: complex ``(batch, rows, columns)`` to k-space ``(batch, coil, rows, columns)``, 0 where not measured."""
        return apply_mask(fft2c(self.expand(image)), self.mask)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """A^H y: k-space ``(batch, coil, rows, columns)`` to complex ``(batch, rows, columns)``."""
        return self.combine(ifft2c(apply_mask(kspace, self.mask)))

    def normal(self, image: Tensor) -> Tensor:
        """A^H A x: complex ``(batch, rows, columns)`` to the same; the transforms along the rows cancel."""
        return self.combine(torch.fft.ifft(torch.where(self.frequencies, torch.fft.fft(self.expand(image)), 0)))

    def expand(self, image: Tensor) -> Tensor:
        """S x, what each coil sees: ``(batch, rows, columns)`` to ``(batch, coil, rows, columns)``."""
        image = image.unsqueeze(-3)
        return image if self.maps is None else self.maps * image

    def combine(self, images: Tensor) -> Tensor:
        """S^H x, the adjoint of :meth:`expand`: sum_c conj(S_c) x_c.

        Raises:
            InputError: several coils without maps.
        """
        if self.maps is not None:
            return (self.maps.conj() * images).sum(-3)
        if images.shape[-3] != 1:
            raise InputError(f"k-space of {images.shape[-3]} coils cannot be combined without maps: give maps")
        return images.squeeze(-3)
