"""Where the object lies, read from k-space, and moving it by any number of pixels, each sample by its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon.physics.mri import calibration_mask, fft2c, ifft2c


def centroid(kspace: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The circular centroid of the object's energy, from the calibration lines of k-space.

    t = -N arg(S) / (2 pi), S = sum k[u + 1] conj(k[u]) over coils and neighbours along an axis, both in the calibration
    lines. An object that moves by any real (a, b) before the acquisition turns S by exp(-2 pi i a / N), so that t moves
    by exactly (a, b), modulo the sides.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        mask: bool ``(columns,)`` or ``(batch, columns)``.

    Returns:
        In pixels from the image's centre, float64 ``(batch, 2)``; and the margin |S| / energy ``(batch, 2)``, near 1
        for a small object, 0 where nothing can be said.

    Raises:
        InputError: the mask has no calibration lines.

    >>> image = torch.zeros(1, 8, 8)
    >>> image[0, 5, 2] = 1  # one row below the centre and two columns left of it
    >>> position, margin = centroid(fft2c(image)[:, None], torch.ones(8, dtype=torch.bool))
    >>> position.round(decimals=4)
    tensor([[ 1., -2.]], dtype=torch.float64)
    """
    lines = calibration_mask(mask)[..., None, None, :]
    k = torch.where(lines, kspace, 0).to(torch.complex128)
    energy = k.abs().square().sum((1, 2, 3))
    positions, margins = [], []
    for axis, n in ((-2, k.shape[-2]), (-1, k.shape[-1])):
        s = (k.narrow(axis, 1, n - 1) * k.narrow(axis, 0, n - 1).conj()).sum((1, 2, 3))
        positions.append(-n * s.angle() / (2 * math.pi))
        margins.append(s.abs() / energy)
    return torch.stack(positions, 1), torch.stack(margins, 1).nan_to_num()


def move_kspace(kspace: Tensor, shifts: Tensor) -> Tensor:
    """k-space of the object moved by (a, b): k[u, v] exp(-2 pi i (u' a / N + v' b / M)), each sample by its own shift.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        shifts: real ``(batch, 2)`` in pixels.
    """
    ramp = torch.ones((), dtype=torch.complex128, device=kspace.device)
    for axis, n in enumerate(kspace.shape[-2:]):
        frequency = torch.arange(n, dtype=torch.float64, device=kspace.device) - n // 2
        angle = -2 * math.pi / n * shifts[:, axis, None].double() * frequency
        turned = torch.polar(torch.ones_like(angle), angle)
        ramp = ramp * (turned[:, None, :, None] if axis == 0 else turned[:, None, None, :])
    return kspace * ramp.to(kspace.dtype)


def move_image(image: Tensor, shifts: Tensor) -> Tensor:
    """The Fourier shift of images, complex or real.

    The Nyquist frequency of an even side can be moved as -N/2 in a complex image; from a real one it is left out.

    Args:
        image: ``(batch, rows, columns)``.
        shifts: real ``(batch, 2)`` in pixels.

    >>> image = torch.arange(9.0).reshape(1, 3, 3)
    >>> bool((move_image(image, torch.tensor([[0.0, 1.0]])) - image.roll(1, 2)).abs().max() < 1e-5)
    True
    """
    kspace = fft2c(image)[:, None]
    if not image.is_complex():
        for axis, n in ((-2, image.shape[-2]), (-1, image.shape[-1])):
            if n % 2 == 0:
                kspace = kspace.index_fill(axis, torch.zeros(1, dtype=torch.long, device=image.device), 0)
    moved = ifft2c(move_kspace(kspace, shifts))[:, 0]
    return moved if image.is_complex() else moved.real
