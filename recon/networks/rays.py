"""What the unrolled CT networks share: the measured rays, and what they say about an image."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from recon.errors import InputError
from recon.physics.ct import RayTransform, ramp_filter
from recon.physics.geometry import CTGeometry

FILTER = "hann", 0.641  # LoDoPaB's baseline
N_POWERS = 8  # of the power iteration; a matrix without negative numbers needs few


class Rays:
    """A measured sinogram y and the transform A of its rays; neighbouring angles can be averaged to one.

    Args:
        sinogram: line integrals without unit, ``(batch, angles, detectors)``.
        geometry: of the scan.
        angle_bin: how many neighbouring angles become one, that in their middle: so many times cheaper.

    Attributes:
        transform: A, of images in 1/m.
        measured: y, ``(batch, angles / angle_bin, detectors)``.

    Raises:
        InputError: the angles cannot be divided so, or the sinogram does not fit the geometry.
    """

    def __init__(self, sinogram: Tensor, geometry: CTGeometry, angle_bin: int) -> None:
        n_angles, n_detectors = geometry.n_angles, geometry.n_detectors
        if sinogram.dim() != 3 or sinogram.shape[1:] != (n_angles, n_detectors):
            raise InputError(
                f"the sinogram {tuple(sinogram.shape)} does not fit a scan of {n_angles} angles and {n_detectors} "
                f"detectors: give (batch, {n_angles}, {n_detectors})"
            )
        if n_angles % angle_bin:
            raise InputError(f"angle_bin {angle_bin} does not divide the {n_angles} angles of the scan: give a divisor")
        self.geometry = geometry.binned(angle_bin)
        self.transform = RayTransform(self.geometry)
        self.measured = sinogram.unflatten(1, (-1, angle_bin)).mean(2)

    @property
    def norm(self) -> float:
        """|A| in metres: :func:`spectral_norm`."""
        return spectral_norm(self.geometry)

    def gradient(self, image: Tensor) -> Tensor:
        """g = pi A^T F W (A x - y) / A^T W 1, the back-projection of what an image x leaves unexplained.

        F is the ramp filter, symmetric, with which A^T F A / A^T 1 is near 1 / pi. W = exp(-A x) weighs a ray by the
        photons that x lets through, the inverse of its variance. So g is a preconditioned gradient of |A x - y|^2,
        weighted by W.

        Args:
            image: x in 1/m, ``(batch, 1, rows, columns)``.

        Returns:
            The shape and unit of x; 0 where no ray goes.
        """
        expected = self.transform(image[:, 0])
        weights = torch.exp(-expected)
        filtered = ramp_filter(weights * (expected - self.measured), self.geometry, *FILTER)
        back, total = self.transform.adjoint(torch.stack([filtered, weights], 1)).split(1, 1)  # as cheap as one of them
        return math.pi * back / total.clamp_min(torch.finfo(total.dtype).tiny)


def low_pass(image: Tensor) -> Tensor:
    """An image with the resolution of LoDoPaB's baseline, of a back-projection with the window hann up to Nyquist.

    Its spectrum times H(f) = cos(pi f / 2 c)^2 / cos(pi f)^2 below c = 0.641 / 2 cycles per pixel and 0 above: the
    baseline's window over that of the image. Circular, so that it commutes with movements by whole pixels.

    Args:
        image: ``(batch, 1, rows, columns)``.

    Returns:
        The same shape; the mean stays.

    >>> bool((low_pass(torch.ones(1, 1, 4, 6)) - 1).abs().max() < 1e-6)
    True
    """
    rows, columns = image.shape[-2:]
    vertical = torch.fft.fftfreq(rows, dtype=image.dtype, device=image.device)
    horizontal = torch.fft.rfftfreq(columns, dtype=image.dtype, device=image.device)
    f, cut = torch.hypot(vertical[:, None], horizontal), FILTER[1] / 2
    response = (torch.cos(math.pi * f.clamp_max(cut) / (2 * cut)) / torch.cos(math.pi * f.clamp_max(cut))).square()
    return torch.fft.irfft2(torch.fft.rfft2(image) * response, s=(rows, columns))


@lru_cache(maxsize=8)
def spectral_norm(geometry: CTGeometry) -> float:
    """|A|, the largest singular value of the ray transform in metres, by the power iteration on A^T A.

    >>> from recon.physics.geometry import ParallelBeam
    >>> scan = ParallelBeam(4, 4, (0.1, 0.1), n_angles=3, n_detectors=6, detector_extent=0.15)
    >>> matrix = RayTransform(scan)(torch.eye(16).view(16, 4, 4)).flatten(1)
    >>> bool(abs(spectral_norm(scan) / torch.linalg.matrix_norm(matrix, 2) - 1) < 1e-2)
    True
    """
    transform, image, size = RayTransform(geometry), torch.ones(1, geometry.rows, geometry.columns), 0.0
    with torch.no_grad():
        for _ in range(N_POWERS):
            image = transform.normal(image / image.norm())
            size = float(image.norm())
    return math.sqrt(size)


def check_counts(steps: str, n_steps: int, angle_bin: int) -> None:
    """Refuse numbers that leave nothing to do.

    Raises:
        InputError: one of them is below 1.
    """
    if n_steps < 1:
        raise InputError(f"{steps} {n_steps} leave nothing to unroll: give 1 or more")
    if angle_bin < 1:
        raise InputError(
            f"angle_bin {angle_bin} leaves no angles: give 1 for all of them, or a divisor of their number"
        )
