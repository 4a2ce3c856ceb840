"""The MRI scanner: centred Fourier transform, undersampling, coils, objects that move.

Images and k-space are complex tensors ``(..., rows, columns)``, on any device, with any leading dimensions (batch,
coils). fastMRI's functions keep the real and imaginary parts in a last dimension of size 2 instead:
``torch.view_as_real`` and ``torch.view_as_complex`` lead there and back. Pixel (rows // 2, columns // 2) is the
centre of an image and of its k-space.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from recon.errors import InputError

PLANE = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """The centred, orthonormal 2-D Fourier transform: image to k-space.

    k[u, v] = 1 / sqrt(N M) sum_{n, m} x[n, m] exp(-2 pi i (u' n' / N + v' m' / M)), where a prime counts from the
    centre, n' = n - N // 2. It is unitary: its adjoint is its inverse, :func:`ifft2c`. A circular shift of the
    image by (a, b) pixels multiplies k[u, v] by exp(-2 pi i (u' a / N + v' b / M)).

    Args:
        image: ``(..., rows, columns)``, complex or real.

    Returns:
        k-space ``(..., rows, columns)``, complex.

    Source: the convention of fastMRI, arXiv 1811.08839; equal to ``fastmri.fft2c``.

    >>> point = torch.ones(1, 1)  # in the centre of 4 x 4 pixels it has every frequency, 1 / sqrt(16) of each
    >>> bool((fft2c(torch.nn.functional.pad(point, (2, 1, 2, 1))) - 0.25).abs().max() < 1e-6)
    True
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
    """
    if not kspace.is_complex():
        raise InputError(f"k-space {tuple(kspace.shape)} is real: make it complex with torch.view_as_complex")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, PLANE), norm="ortho"), PLANE)


def apply_mask(kspace: Tensor, mask: Tensor) -> Tensor:
    """Undersample: k-space times mask.

    Args:
        kspace: complex ``(..., rows, columns)``.
        mask: bool or real, True or 1 where k-space was measured: ``(columns,)``, or any shape that broadcasts to
            k-space, such as ``(batch, 1, 1, columns)`` for one mask per sample of several coils, or ``(rows, 1)``.

    Returns:
        Shape and dtype of ``kspace``.

    Raises:
        InputError: the mask does not broadcast to k-space.
    """
    shape = kspace.shape[kspace.dim() - mask.dim() :] if mask.dim() <= kspace.dim() else ()
    if len(shape) != mask.dim() or any(m not in (1, n) for m, n in zip(mask.shape, shape, strict=True)):
        raise InputError(f"a mask {tuple(mask.shape)} does not fit k-space {tuple(kspace.shape)}: give (columns,)")
    return kspace * mask.to(kspace.real.dtype)


def calibration_mask(mask: Tensor) -> Tensor:
    """The columns of the largest fully measured block that lies symmetrically about the centre of k-space.

    Args:
        mask: bool ``(columns,)`` or ``(batch, columns)``.

    Returns:
        bool, the shape of ``mask``.

    Raises:
        InputError: the centre was not measured.

    Source: the rule of fastMRI's E2E-VarNet, arXiv 2004.06688.
    """
    columns = mask.shape[-1]
    centre = columns // 2
    if not mask[..., centre].all():
        raise InputError("the mask has no calibration lines (its centre was not measured): give the coil maps")
    left = mask[..., :centre].flip(-1).long().cumprod(-1).sum(-1)
    right = mask[..., centre:].long().cumprod(-1).sum(-1)
    n_lines = (2 * torch.minimum(left, right)).clamp_min(1)[..., None]
    first = (columns - n_lines + 1) // 2
    index = torch.arange(columns, device=mask.device)
    return (index >= first) & (index < first + n_lines)


def rss(images: Tensor, coil_dim: int) -> Tensor:
    """Combine the coils' images by the root of their sum of squares, sqrt(sum_c |x_c|^2).

    Args:
        images: complex or real, such as ``(batch, coil, rows, columns)``.
        coil_dim: the dimension of the coils, which disappears.

    Returns:
        The magnitude image, real, such as ``(batch, rows, columns)``. Its gradient is 0 where all coils are 0.

    Source: Roemer et al., Magnetic Resonance in Medicine 16 (1990); ``reconstruction_rss`` of fastMRI.

    >>> rss(torch.tensor([[3.0], [4.0]]), coil_dim=0)
    tensor([5.])
    """
    return torch.linalg.vector_norm(images, dim=coil_dim)


def zero_filled(kspace: Tensor, mask: Tensor, coil_dim: int | None = None, size: Sequence[int] | None = None) -> Tensor:
    """The baseline reconstruction: inverse transform of the measured k-space with zeros for the rest.

    |crop(F^-1 M k)|. A mask of bool ``(columns,)`` is fast: the transform along the rows takes the measured columns
    only, and the transform along the columns only the rows that the crop keeps.

    Args:
        kspace: complex ``(..., rows, columns)``, with a dimension for the coils or without.
        mask: as in :func:`apply_mask`.
        coil_dim: the dimension of the coils, combined by :func:`rss`; None for a single coil.
        size: (rows, columns) of the centre to keep, of which the first pixel is (n - size) // 2; None for all.

    Returns:
        The magnitude image, real: the shape of ``kspace`` less ``coil_dim``, its last two sides those of ``size``.

    Raises:
        InputError: k-space is real, the mask does not fit it, or the size is larger than it.
    """
    sides = tuple(kspace.shape[-2:] if size is None else size)
    if len(sides) != 2 or not all(0 < side <= n for side, n in zip(sides, kspace.shape[-2:], strict=True)):
        raise InputError(f"size {sides} does not fit into k-space {tuple(kspace.shape)}: give (rows, columns)")
    if _is_fast(kspace, mask) and mask.any():
        columns = mask.nonzero()[:, 0].to(kspace.device)
        if coil_dim is None:
            return _measured_magnitude(kspace, columns, sides)
        coils = kspace.unbind(coil_dim)  # one after the other: all at once would not fit into a CPU's cache
        squares = (_measured_magnitude(coil, columns, sides).square_() for coil in coils)
        return functools.reduce(Tensor.add_, squares).sqrt_()
    top, left = ((n - side) // 2 for side, n in zip(sides, kspace.shape[-2:], strict=True))
    images = ifft2c(apply_mask(kspace, mask))[..., top : top + sides[0], left : left + sides[1]]
    return images.abs() if coil_dim is None else rss(images, coil_dim)


def _is_fast(kspace: Tensor, mask: Tensor) -> bool:
    """Whether only some columns are measured, and no derivative is wanted."""
    derivative = (torch.is_grad_enabled() and kspace.requires_grad) or unpack_dual(kspace).tangent is not None
    return kspace.is_complex() and mask.dtype == torch.bool and mask.shape == kspace.shape[-1:] and not derivative


def _measured_magnitude(kspace: Tensor, columns: Tensor, size: Sequence[int]) -> Tensor:
    """|crop(F^-1 M k)| with M k = k in ``columns`` and 0 elsewhere.

    Neither fftshift nor crop move anything of their own. Where the centre of k-space lies turns each pixel's phase
    only, which is lost; and the centre of the image is what lies around index 0 before the shift.
    """
    measured = torch.fft.ifft(kspace.gather(-1, columns.expand(*kspace.shape[:-1], -1)), dim=-2, norm="ortho")
    filled = kspace.new_zeros(*kspace.shape[:-2], size[0], kspace.shape[-1])
    for to, part in _halves(filled, measured, size[0], -2):
        to.scatter_(-1, columns.expand(part.shape), part)
    images = torch.fft.ifft(filled, dim=-1, norm="ortho")
    magnitude = torch.empty(*kspace.shape[:-2], *size, dtype=images.real.dtype, device=images.device)
    for to, part in _halves(magnitude, images, size[1], -1):
        _write_magnitude(part, to)
    return magnitude


def _halves(to: Tensor, x: Tensor, n: int, dim: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The n entries that a crop of the fftshifted x keeps, in two parts, each with its place in ``to``."""
    before = x.shape[dim] // 2 - (x.shape[dim] - n) // 2
    yield to.narrow(dim, 0, before), x.narrow(dim, x.shape[dim] - before, before)
    yield to.narrow(dim, before, n - before), x.narrow(dim, 0, n - before)


def _write_magnitude(images: Tensor, to: Tensor) -> None:
    """The absolute value; on a CPU NumPy's, which takes a fifth of torch's time."""
    if images.is_cpu:
        np.abs(images.numpy(), out=to.numpy())
    else:
        torch.abs(images, out=to)


def move_object(kspace: Tensor, shift: Sequence[float], maps: Tensor | None = None) -> Tensor:
    """The k-space that would have been measured, had the object moved by (a, b) pixels before the acquisition.

    Without maps: k'[u, v] = k[u, v] exp(-2 pi i (u' a / N + v' b / M)), u' and v' counted from the centre, the
    Fourier shift T of the complex image. For whole pixels it is exactly a circular shift; for fractions it is the
    periodic band-limited interpolation. It commutes with :func:`apply_mask`. Of several coils each image moves, and
    so the coils' sensitivities move along with the object.

    With maps the object moves under fixed coils: o = sum_c conj(S_c) F^-1 k_c, and k'_c = k_c + F(S_c (T o - o)).
    What lies outside the span of the maps, such as the noise in it, stays where it is. This mixes the columns, so
    that k-space must be fully sampled.

    The Nyquist frequency of an even side stands for -N/2 alone and is turned by exp(i pi a) as such: T is unitary
    and moves add up for any shift, T(a) T(b) = T(a + b), but a real image with content there becomes complex when
    it moves by a fraction of a pixel.

    Args:
        kspace: complex ``(..., rows, columns)``; with maps ``(..., coils, rows, columns)``.
        shift: (rows, columns) in pixels, whole or not; positive towards larger indices.
        maps: complex ``(coils, rows, columns)``, sum_c |S_c|^2 = 1 (or 0 where there is nothing to see).

    Returns:
        Shape and dtype of ``kspace``; the very values of ``kspace`` for the shift (0, 0).

    Raises:
        InputError: k-space is real, the shift is not two finite numbers, or the maps do not fit k-space.

    Source: the shift theorem; with maps, the coil combination of Roemer et al., Magnetic Resonance in Medicine 16
    (1990), and its adjoint.

    >>> image = torch.arange(16.0).reshape(4, 4)
    >>> moved = ifft2c(move_object(fft2c(image), (1, 0)))
    >>> bool((moved - image.roll(1, 0)).abs().max() < 1e-5)
    True
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
    """The Cartesian acquisition, A x = M F S x: coil sensitivities, centred Fourier transform, mask.

    (A x)_c = M F(S_c x) for coil c. Without maps there is one coil of sensitivity 1. With maps of root sum of squares
    1, |A x| <= |x|. A mask that does not depend on the data commutes with a phase ramp, and so, without maps, A^H A
    commutes with every translation of the image, whole or fractional.

    Args:
        mask: bool ``(columns,)``, or ``(batch, columns)`` for one mask per sample: True where k-space is measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``.

    Raises:
        InputError: the mask or the maps have other dimensions.

    Source: Pruessmann et al., Magnetic Resonance in Medicine 46 (2001).
    """

    mask: Tensor
    maps: Tensor | None

    def __init__(self, mask: Tensor, maps: Tensor | None = None) -> None:
        super().__init__()
        if mask.dtype != torch.bool or mask.dim() not in (1, 2):
            raise InputError(f"the mask is {mask.dtype} {tuple(mask.shape)}: give bool (columns,) or (batch, columns)")
        if maps is not None:
            if maps.dim() not in (3, 4) or not maps.is_complex():
                raise InputError(
                    f"maps {tuple(maps.shape)} are {maps.dtype}: give complex (batch, coil, rows, columns)"
                )
            if maps.shape[-1] != mask.shape[-1]:
                raise InputError(f"maps of {maps.shape[-1]} columns do not fit a mask of {mask.shape[-1]} columns")
        self.register_buffer("mask", mask[..., None, None, :], persistent=False)
        self.register_buffer("maps", maps, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """A x: complex ``(batch, rows, columns)`` to k-space ``(batch, coil, rows, columns)``, 0 where not measured."""
        return apply_mask(fft2c(self.expand(image)), self.mask)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """A^H y: k-space ``(batch, coil, rows, columns)`` to complex ``(batch, rows, columns)``."""
        return self.combine(ifft2c(apply_mask(kspace, self.mask)))

    def normal(self, image: Tensor) -> Tensor:
        """A^H A x: complex ``(batch, rows, columns)`` to the same."""
        return self.adjoint(fft2c(self.expand(image)))  # a mask applied twice is the mask

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
