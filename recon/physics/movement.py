"""Where the object lies, read from k-space; and moving it by any number of pixels, each sample by its own shift."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon.errors import InputError
from recon.physics.geometry import ParallelBeam
from recon.physics.mri import calibration_mask, fft2c, ifft2c


def centroid(kspace: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The circular centroid of the object's energy, from the calibration lines of k-space.

    Along each axis t = -N arg(S) / (2 pi), where S is the sum of k[u + 1] conj(k[u]) over the coils and all pairs of
    neighbours of which both lie in the calibration lines. An object that moves by (a, b) before the acquisition, by
    whole pixels or not, turns the S of the rows by exp(-2 pi i a / N) and that of the columns by exp(-2 pi i b / M). So
    t moves by exactly (a, b), modulo the sides.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.

    Returns:
        The centroid in pixels from the image's centre, float64 ``(batch, 2)``. And the margin of each axis, float64
        ``(batch, 2)``: |S| relative to the energy of the calibration lines, near 1 for a small object, and 0 where
        the centroid is undefined, as that of an even spread over the whole axis.

    Raises:
        InputError: the mask has no calibration lines.

    Example:
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> image[0, 0, 4 + 1, 4 - 2] = 1  # a point, (1, -2) from the centre
        >>> centroid(fft2c(image), torch.ones(8, dtype=torch.bool))[0].round(decimals=3)
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
    """k-space of objects moved by (a, b): k[u, v] exp(-2 pi i (u' a / N + v' b / M)), each sample by its own shift.

    What :func:`recon.physics.mri.move_object` does without maps, for shifts that are tensors; differentiable in both.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        shifts: (a, b) of each sample, real ``(batch, 2)`` in pixels; positive towards larger indices.

    Returns:
        Shape and dtype of ``kspace``.

    Example:
        >>> images = torch.arange(32.0).view(2, 1, 4, 4)
        >>> moved = ifft2c(move_kspace(fft2c(images), torch.tensor([[1, 0], [0, 2]]))).real
        >>> torch.allclose(moved, torch.stack([images[0].roll(1, -2), images[1].roll(2, -1)]), atol=1e-4)
        True

    Source: the shift theorem.
    """
    rows, columns = (_ramp(n, shifts[:, axis], kspace) for axis, n in enumerate(kspace.shape[-2:]))
    return kspace * rows[:, None, :, None] * columns[:, None, None, :]


def move_image(image: Tensor, shifts: Tensor) -> Tensor:
    """The Fourier shift of images: periodic band-limited interpolation, each image by its own shift.

    If a side N is even, its Nyquist frequency counts as -N / 2 in a complex image. From a real image it is removed,
    for any shift, since moved by a fraction of a pixel it would make the image complex.

    Args:
        image: ``(batch, rows, columns)``, complex or real.
        shifts: real ``(batch, 2)`` in pixels, whole or not; positive towards larger indices.

    Returns:
        Shape of ``image``, real where it is real.

    Example:
        >>> position = torch.arange(8.0).expand(1, 8, 8)  # along the columns
        >>> moved = move_image(torch.cos(2 * torch.pi * position / 8), torch.tensor([[0.0, 0.5]]))
        >>> torch.allclose(moved, torch.cos(2 * torch.pi * (position - 0.5) / 8), atol=1e-6)
        True

    Source: the shift theorem.
    """
    spectrum = torch.fft.fft2(image)
    ramps = []
    for axis, n in enumerate(image.shape[-2:]):
        ramp = torch.fft.ifftshift(_ramp(n, shifts[:, axis], spectrum), -1)
        if n % 2 == 0 and not image.is_complex():
            ramp = ramp.index_fill(1, torch.full((1,), n // 2, device=image.device), 0)
        ramps.append(ramp)
    rows, columns = ramps
    moved = torch.fft.ifft2(spectrum * rows[:, :, None] * columns[:, None, :])
    return moved if image.is_complex() else moved.real


def _ramp(n: int, shift: Tensor, spectrum: Tensor) -> Tensor:
    """exp(-2 pi i u a / N) for u from -N / 2 on, ``(batch, N)``, in the dtype and on the device of a spectrum."""
    frequency = torch.arange(n, dtype=torch.float64, device=spectrum.device) - n // 2
    angle = -2 * math.pi / n * shift[:, None].double() * frequency
    return torch.polar(torch.ones_like(angle), angle).to(spectrum.dtype)


def move_maps(maps: Tensor, shifts: Tensor) -> Tensor:
    """The maps of coils that move along with the object: the Fourier shift of each, each sample by its own shift.

    Args:
        maps: complex ``(batch, coil, rows, columns)``.
        shifts: real ``(batch, 2)`` in pixels, whole or not; positive towards larger indices.

    Returns:
        Shape and dtype of ``maps``; moved by fractions of a pixel, their root sum of squares is near 1, not 1.

    Example:
        >>> maps = torch.arange(8.0).view(1, 2, 2, 2) + 0j
        >>> torch.allclose(move_maps(maps, torch.tensor([[1, 0]])), maps.roll(1, -2), atol=1e-5)
        True
    """
    return ifft2c(move_kspace(fft2c(maps), shifts))


def move_sinogram(sinogram: Tensor, geometry: ParallelBeam, shifts: Tensor) -> Tensor:
    """Sinograms of objects moved by (a, b) pixels: what each angle sees moves along its detectors.

    p'[theta](s) = p[theta](s - a h cos(theta) - b w sin(theta)), for pixels of height h and width w: the law of the
    ray transform, by periodic band-limited interpolation between the detectors. The noise moves along. What leaves the
    detectors comes in at their other end, where there should be air. Of an even number of detectors the Nyquist
    frequency is damped, as the real part of its shift.

    Args:
        sinogram: real ``(batch, angles, detectors)``.
        geometry: of the scan.
        shifts: (a, b) of each sample, real ``(batch, 2)`` in pixels of the image, whole or not.

    Returns:
        Shape and dtype of ``sinogram``.

    Raises:
        InputError: the rays are not parallel; what moves in a fan does not move along its detectors.

    Example:
        >>> scan = ParallelBeam(8, 8, (0.1, 0.1), n_angles=1, n_detectors=8, detector_extent=0.1)
        >>> sinogram = torch.rand(1, 1, 8)  # along the rows: theta is pi / 2
        >>> torch.allclose(move_sinogram(sinogram, scan, torch.tensor([[9, 3]])), sinogram.roll(3), atol=1e-5)
        True

    Source: Natterer, The Mathematics of Computerized Tomography (1986), section II.1.
    """
    if not isinstance(geometry, ParallelBeam):
        raise InputError("only a sinogram of parallel rays moves along its detectors: give the scan of one")
    n = geometry.n_detectors
    height, width = geometry.pixel_size
    angles, t = geometry.angles.to(sinogram.device), shifts.double()[..., None]
    by = (t[:, 0] * height * angles.cos() + t[:, 1] * width * angles.sin()) / geometry.detector_spacing
    turn = -2 * math.pi / n * by[..., None] * torch.arange(n // 2 + 1, dtype=torch.float64, device=sinogram.device)
    spectrum = torch.fft.rfft(sinogram, dim=-1)
    ramp = torch.polar(torch.ones_like(turn), turn).to(spectrum.dtype)
    return torch.fft.irfft(spectrum * ramp, n, dim=-1)
