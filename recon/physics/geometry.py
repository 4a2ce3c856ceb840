"""Where the pixels and the rays of a CT scan lie, and what they weigh for each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self

import torch
from torch import Tensor

from recon.errors import InputError
from recon.kernels.fan_reference import FanPixels, FanRays
from recon.kernels.tomography_reference import Footprint

WEDGE = 5
"""A gap between neighbouring angles of so many mean gaps is a wedge that nobody measured."""


Table = Footprint | FanRays | FanPixels
LinearMap = tuple[str, str, Table]
"""The name of a map in :mod:`recon.kernels`, the name of its transpose, and the weights that both take."""


@dataclass(frozen=True)
class CTGeometry(ABC):
    """What every CT scan has: an image, a row of detectors, angles. The kinds of beam finish it.

    ``dataclasses.replace(geometry, rows=1000, columns=1000)`` is the same scanner with a finer image.

    Args:
        rows: of the image.
        columns: of the image.
        extent: height and width of the image in metres, from edge to edge.
        n_angles: views of the scan.
        n_detectors: detector pixels in a row.
        detector_extent: length of that row in metres, from edge to edge.
        centre: (x, y) of the image's middle in metres; the centre of rotation is (0, 0).
        detector_offset: where the detector's middle lies in metres; the centre of rotation falls on 0.
        theta: the angles in radians, one for each view, in any order; None for the uniform ones.

    Raises:
        InputError: a number or a length is not positive, or the angles are not as many as the views.

    >>> scan = ParallelBeam(4, 4, (1, 1), n_angles=2, n_detectors=5, detector_extent=5, theta=(0.0, 1.0))
    >>> scan.rotating_about(1.5).detectors.tolist()
    [-1.5, -0.5, 0.5, 1.5, 2.5]
    """

    rows: int
    columns: int
    extent: tuple[float, float]
    n_angles: int
    n_detectors: int
    detector_extent: float
    centre: tuple[float, float] = (0.0, 0.0)
    detector_offset: float = 0.0
    theta: tuple[float, ...] | None = None

    period: ClassVar[float]  # of the angles that see everything once, in radians

    def __post_init__(self) -> None:
        if self.theta is not None:
            object.__setattr__(self, "theta", tuple(map(float, self.theta)))
        counts = (self.rows, self.columns, self.n_angles, self.n_detectors)
        lengths = (*self.extent, self.detector_extent)
        if min(counts) < 1 or not all(0 < length < math.inf for length in lengths):
            raise InputError(f"{self} cannot be: give counts of at least 1 and lengths above 0 m")
        if not all(map(math.isfinite, (*self.centre, self.detector_offset, *(self.theta or ())))):
            raise InputError(f"{self} cannot be: give positions and angles that are finite")
        if self.theta is not None and len(self.theta) != self.n_angles:
            raise InputError(f"theta has {len(self.theta)} angles for {self.n_angles} views: give one for each view")

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
        if self.theta is not None:
            return torch.tensor(self.theta, dtype=torch.float64)
        return (torch.arange(self.n_angles, dtype=torch.float64) + 0.5) * (self.period / self.n_angles)

    @property
    def angular_weights(self) -> Tensor:
        """The angle in radians that each view stands for, float64 ``(angles,)``; see :func:`angular_weights`."""
        if self.theta is None:
            return torch.full((self.n_angles,), self.period / self.n_angles, dtype=torch.float64)
        return angular_weights(self.angles, self.period)

    @property
    def detectors(self) -> Tensor:
        """s in metres, float64 ``(detectors,)``."""
        index = torch.arange(self.n_detectors, dtype=torch.float64)
        return (index - (self.n_detectors - 1) / 2) * self.detector_spacing + self.detector_offset

    def rotating_about(self, column: float) -> Self:
        """The same scan whose centre of rotation falls on this detector index, which need not be whole."""
        return replace(self, detector_offset=((self.n_detectors - 1) / 2 - column) * self.detector_spacing)

    def fitted(self, rows: int, columns: int) -> Self:
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

    def binned(self, angle_bin: int) -> Self:
        """The scan of which each ``angle_bin`` consecutive views, of which there must be whole groups, became one.

        Raises:
            InputError: the views of a group are no neighbours.
        """
        theta = None
        if self.theta is not None:
            groups = self.angles.unflatten(0, (-1, angle_bin))
            if float((groups.amax(1) - groups.amin(1)).max()) > 2 * self.period / self.n_angles * angle_bin:
                raise InputError(
                    f"angle_bin {angle_bin} averages views that are not neighbours: sort the angles, or take 1"
                )
            theta = tuple(groups.mean(1).tolist())
        return replace(self, n_angles=self.n_angles // angle_bin, theta=theta)

    @property
    @abstractmethod
    def projection(self) -> LinearMap:
        """The ray transform by Joseph's weights; the transposed map is its adjoint."""

    @property
    @abstractmethod
    def smearing(self) -> LinearMap:
        """The back-projection of FBP: every pixel interpolates linearly between the detectors, all angles summed."""

    @property
    @abstractmethod
    def filter_spacing(self) -> float:
        """The distance of neighbouring rays in metres where they pass the centre of rotation."""

    def weighted(self, sinogram: Tensor) -> Tensor:
        """What FBP filters: every ray ``(..., angles, detectors)`` with the weight that the kind of beam asks for."""
        return sinogram


@dataclass(frozen=True)
class ParallelBeam(CTGeometry):
    """Parallel rays through an image: what a ray transform needs to know.

    The pixel centres lie symmetrically about the centre, the detector centres about the offset. With x the position in
    metres along the rows' index and y along the columns', angle a and detector k measure the line x cos(theta_a) + y
    sin(theta_a) = s_k, where s_k = (k - (n_detectors - 1) / 2) detector_spacing + detector_offset, and theta_a =
    (a + 1/2) pi / n_angles unless ``theta`` is given.

    The fields are those of :class:`CTGeometry`. Without ``theta`` the angles are uniform over [0, pi), each in the
    middle of its step.

    Source: the convention of ODL's ``parallel_beam_geometry``, with its first image axis as our rows.

    >>> scan = ParallelBeam(4, 8, (0.1, 0.2), n_angles=2, n_detectors=3, detector_extent=0.3)
    >>> scan.pixel_size, round(scan.detector_spacing, 3)
    ((0.025, 0.025), 0.1)
    >>> (scan.angles / torch.pi).tolist()  # each in the middle of its step
    [0.25, 0.75]
    """

    period: ClassVar[float] = math.pi

    @property
    def projection(self) -> LinearMap:
        """See :func:`joseph_footprint`."""
        return "project", "transpose", joseph_footprint(self)

    @property
    def smearing(self) -> LinearMap:
        """See :func:`linear_footprint`."""
        return "transpose", "project", linear_footprint(self)

    @property
    def filter_spacing(self) -> float:
        """Of the detectors."""
        return self.detector_spacing


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
    """Linear interpolation between the detectors, summed over the half circle."""
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
        offset=(geometry.n_detectors - 1) / 2 - geometry.detector_offset / geometry.detector_spacing - middle,
        per_row=per_row,
        per_column=per_column,
        width=torch.ones_like(per_row),
        scale=geometry.angular_weights,
    )


def angular_weights(angles: Tensor, period: float) -> Tensor:
    """The angle that each view stands for: half the way to its neighbours on both sides, on a circle of the period.

    Views of the same direction share it. A gap of more than WEDGE mean gaps is a wedge that nobody measured: the views
    beside it count as if it were a mean gap, and what lies in it is missing.

    Args:
        angles: in radians, in any order, ``(angles,)``.
        period: of the circle; pi for parallel rays, which see the same from both sides.

    Returns:
        The weights in radians, float64 ``(angles,)``; their sum is the period where no wedge is missing.

    >>> angular_weights(torch.tensor([0.0, 90.0, 45.0, 180.0]), 180)  # 0 and 180 are the same direction
    tensor([45.0000, 67.5000, 45.0000, 22.5000], dtype=torch.float64)
    """
    n = len(angles)
    around, order = (angles.double() % period).sort(stable=True)
    gaps = torch.cat([around, around[:1] + period]).diff()  # after each one
    gaps = torch.where(gaps > WEDGE * period / n, period / n, gaps)
    weights = torch.empty_like(gaps)
    weights[order] = (gaps + gaps.roll(1)) / 2
    return weights
