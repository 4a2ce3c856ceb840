"""The MRI scanner: centred Fourier transform, undersampling, coils.

Images and k-space are complex tensors ``(..., rows, columns)``, on any device, with any leading dimensions (batch,
coils). fastMRI's functions keep the real and imaginary parts in a last dimension of size 2 instead:
``torch.view_as_real`` and ``torch.view_as_complex`` lead there and back. Pixel (rows // 2, columns // 2) is the
centre of an image and of its k-space.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def rss(images: Tensor, coil_dim: int) -> Tensor:
    """Combine the coils' images by the root of their sum of squares, sqrt(sum_c |x_c|^2).

    Args:
        images: complex or real, such as ``(batch, coil, rows, columns)``.
        coil_dim: the dimension of the coils, which disappears.

    Returns:
        The magnitude image, real, such as ``(batch, rows, columns)``. Its gradient is 0 where all coils are 0.

    Source: Roemer et al., Magnetic Resonance in Medicine 16 (1990); ``reconstruction_rss`` of fastMRI.
    """
    return torch.linalg.vector_norm(images, dim=coil_dim)


def zero_filled(kspace: Tensor, mask: Tensor, coil_dim: int | None = None) -> Tensor:
    """The baseline reconstruction: inverse transform of the measured k-space with zeros for the rest.

    Args:
        kspace: complex ``(..., rows, columns)``, with a dimension for the coils or without.
        mask: as in :func:`apply_mask`.
        coil_dim: the dimension of the coils, combined by :func:`rss`; None for a single coil.

    Returns:
        The magnitude image, real: the shape of ``kspace`` less ``coil_dim``.
    """
    images = ifft2c(apply_mask(kspace, mask))
    return images.abs() if coil_dim is None else rss(images, coil_dim)
