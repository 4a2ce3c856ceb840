"""Where the pixels and the rays of a CT scan lie, and what they weigh for each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from recon.errors import InputError
from recon.kernels.tomography_reference import Footprint


@dataclass(frozen=True)
class ParallelBeam:
    """Parallel rays through an image: what a ray transform needs to know.

    The pixel centres lie symmetrically about the centre, the detector centres about 0. With x the position in metres
    along the rows' index and y along the columns', angle a and detector k measure the line x cos(theta_a) + y
    sin(theta_a) = s_k, where theta_a = (a + 1/2) pi / n_angles and s_k = (k - (n_detectors - 1) / 2)
    detector_spacing.

    ``dataclasses.replace(geometry, rows=1000, columns=1000)`` is the same scanner with a finer image.

    Args:
        rows: of the image.
        columns: of the image.
        extent: height and width of the image in metres, from edge to edge.
        n_angles: uniform over [0, pi), each in the middle of its step.
        n_detectors: detector pixels in a row.
        detector_extent: length of that row in metres, from edge to edge.
        centre: (x, y) of the image's middle in metres.

    Raises:
        InputError: a number or a length is not positive.

    Source: the convention of ODL's ``parallel_beam_geometry``, with its first image axis as our rows.

    >>> scan = ParallelBeam(4, 8, (0.1, 0.2), n_angles=2, n_detectors=3, detector_extent=0.3)
    >>> scan.pixel_size, round(scan.detector_spacing, 3)
    ((0.025, 0.025), 0.1)
    >>> (scan.angles / torch.pi).tolist()  # each in the middle of its step
    [0.25, 0.75]
    """

    rows: int
    columns: int
    extent: tuple[float, float]
    n_angles: int
    n_detectors: int
    detector_extent: float
    centre: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        counts = (self.rows, self.columns, self.n_angles, self.n_detectors)
        lengths = (*self.extent, self.detector_extent)
        if min(counts) < 1 or not all(0 < length < math.inf for length in lengths):
            raise InputError(f"{self} cannot be: give counts of at least 1 and lengths above 0 m")

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in metres."""
        return self.extent[0] / self.rows, self.extent[1] / self.columns

    @property
    def detector_spacing(self) -> float:
        """Distance of neighbouring detector centres in metres."""
        return self.detector_extent / self.n_detectors

    @property
    def angles(self) -> Tensor:
        """theta in radians, float64 ``(angles,)``."""
        return (torch.arange(self.n_angles, dtype=torch.float64) + 0.5) * (torch.pi / self.n_angles)

    @property
    def detectors(self) -> Tensor:
        """s in metres, float64 ``(detectors,)``."""
        index = torch.arange(self.n_detectors, dtype=torch.float64)
        return (index - (self.n_detectors - 1) / 2) * self.detector_spacing

    def fitted(self, rows: int, columns: int) -> ParallelBeam:
        """The same scan of an image that is cropped or padded about its centre, its pixels as large as before.

        Where a side grows by an odd number of pixels, one more comes after than before, so that the middle moves by
        half a pixel; where it shrinks, the first pixel that is kept is (n - size) // 2.
        """
        extent, centre = [], []
        for n, new, length, middle in zip(
            (self.rows, self.columns), (rows, columns), self.extent, self.centre, strict=True
        ):
            first = -((new - n) // 2) if new > n else (n - new) // 2  # of the new pixels, in the old one's index
            extent.append(length / n * new)
            centre.append(middle + (first + (new - n) / 2) * length / n)
        return replace(self, rows=rows, columns=columns, extent=(extent[0], extent[1]), centre=(centre[0], centre[1]))


LODOPAB = ParallelBeam(362, 362, (0.26, 0.26), 1000, 513, math.hypot(0.26, 0.26))
"""LoDoPaB-CT's reconstruction: 362 x 362 pixels on [-0.13, 0.13]^2 m, 1000 angles, 513 detectors on the diagonal.

Source: Leuschner et al., Scientific Data 8, 109 (2021). Its simulation has 1000 x 1000 pixels.
"""


@lru_cache(maxsize=8)
def joseph_footprint(geometry: ParallelBeam) -> Footprint:
    """Joseph's weights: a triangle as wide as a pixel's step across the rays, in area that of the pixel."""
    footprint = linear_footprint(geometry)
    width = torch.maximum(footprint.per_row.abs(), footprint.per_column.abs())
    area = geometry.pixel_size[0] * geometry.pixel_size[1]
    return footprint._replace(width=width, scale=area / geometry.detector_spacing / width)


@lru_cache(maxsize=8)
def linear_footprint(geometry: ParallelBeam) -> Footprint:
    """Linear interpolation between the detectors, averaged over the half circle."""
    height, width = (size / geometry.detector_spacing for size in geometry.pixel_size)
    sides = (geometry.rows, geometry.columns)
    per_row, per_column = geometry.angles.cos() * height, geometry.angles.sin() * width
    rows, columns = (
        (n - 1) / 2 - x * n / length for n, x, length in zip(sides, geometry.centre, geometry.extent, strict=True)
    )
    middle = rows * per_row + columns * per_column
    return Footprint(
        rows=geometry.rows,
        columns=geometry.columns,
        n_detectors=geometry.n_detectors,
        offset=(geometry.n_detectors - 1) / 2 - middle,
        per_row=per_row,
        per_column=per_column,
        width=torch.ones_like(per_row),
        scale=torch.full_like(per_row, torch.pi / geometry.n_angles),
    )
