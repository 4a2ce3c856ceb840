"""What the unrolled CT networks share: the rays of one step, and how large their transform is."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from recon.errors import InputError
from recon.physics.ct import RayTransform
from recon.physics.geometry import ParallelBeam

N_POWERS = 8  # of the power iteration; a matrix without negative numbers needs few


class Rays:
    """A part of the rays: the transform A of every ``n_subsets``-th angle, and what was measured along them.

    Args:
        sinogram: ``(batch, angles, detectors)``, all of it.
        geometry: of the scan.
        number: the first angle.
        n_subsets: how many parts there are.

    Attributes:
        transform: A.
        measured: y, ``(batch, angles / n_subsets, detectors)``.

    Raises:
        InputError: the angles cannot be divided into so many equal parts.
    """

    def __init__(self, sinogram: Tensor, geometry: ParallelBeam, number: int, n_subsets: int) -> None:
        part = geometry.subset(number, n_subsets)
        self.transform, self.measured = RayTransform(part), sinogram[:, number::n_subsets]
        self.norm = spectral_norm(geometry.subset(0, n_subsets))

    def gradient(self, image: Tensor) -> Tensor:
        """A^T (A x - y) / |A|^2, an image ``(batch, 1, rows, columns)`` as x is."""
        residual = self.transform(image[:, 0]) - self.measured
        return self.transform.adjoint(residual)[:, None] / self.norm**2


@lru_cache(maxsize=64)
def spectral_norm(geometry: ParallelBeam) -> float:
    """|A|, the largest singular value of the ray transform in metres, by the power iteration on A^T A.

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
    return size**0.5


def check_counts(n_cascades: int, n_subsets: int, what: str = "n_cascades") -> None:
    """Refuse numbers that leave nothing to do.

    Raises:
        InputError: one of them is below 1.
    """
    if n_cascades < 1:
        raise InputError(f"{what} {n_cascades} leave nothing to unroll: give 1 or more")
    if n_subsets < 1:
        raise InputError(f"n_subsets {n_subsets} leave no rays: give 1 for all angles, or a divisor of their number")
