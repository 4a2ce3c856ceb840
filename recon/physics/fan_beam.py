"""The fan beam: one source and a flat detector that turn about the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from recon.errors import InputError
from recon.kernels.fan_reference import FanPixels, FanRays
from recon.physics.geometry import WEDGE, CTGeometry, LinearMap


@dataclass(frozen=True)
class FanBeam(CTGeometry):
    """Rays from a point to a flat detector: what a ray transform needs to know.

    With x the position in metres along the rows' index and y along the columns', source and detector k of angle a are

        source_to_origin (sin(theta_a), -cos(theta_a))
        (source_to_detector - source_to_origin) (-sin(theta_a), cos(theta_a)) + s_k (cos(theta_a), sin(theta_a)),

    s_k as in :class:`recon.physics.geometry.ParallelBeam`, whose rays these become as the source moves away. A ray is
    the whole line, so that the detector may lie anywhere before or behind the image.

    The fields are those of :class:`CTGeometry` and two distances in metres, which must be named. Without ``theta`` the
    angles are uniform over [0, 2 pi), each in the middle of its step.

    Args:
        source_to_origin: from the source to the centre of rotation; longer than that centre is from any pixel.
        source_to_detector: from the source to the detector, along the ray that meets it at right angles.

    Raises:
        InputError: as :class:`CTGeometry`, or the source is inside the image.

    Source: the convention of ASTRA's ``fanflat``, with its x axis along our rows.

    >>> scan = FanBeam(
    ...     4, 4, (0.1, 0.1), n_angles=4, n_detectors=3, detector_extent=0.3, source_to_origin=1, source_to_detector=2
    ... )
    >>> (scan.angles / torch.pi).tolist()
    [0.25, 0.75, 1.25, 1.75]
    >>> round(scan.filter_spacing, 3)  # half as wide at the centre of rotation as on the detector
    0.05
    """

    source_to_origin: float = field(kw_only=True)
    source_to_detector: float = field(kw_only=True)

    period: ClassVar[float] = 2 * math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 < length < math.inf for length in (self.source_to_origin, self.source_to_detector)):
            raise InputError(f"{self} cannot be: give distances from the source above 0 m")
        sides = (abs(middle) + side / 2 for middle, side in zip(self.centre, self.extent, strict=True))
        if (farthest := math.hypot(*sides)) >= self.source_to_origin:
            raise InputError(
                f"the source is {self.source_to_origin:g} m from the centre of rotation and the image's corner "
                f"{farthest:g} m: the source must lie outside, so give a smaller extent or lengths of one unit"
            )

    @property
    def projection(self) -> LinearMap:
        """See :func:`fan_rays`."""
        return "project_rays", "transpose_rays", fan_rays(self)

    @property
    def smearing(self) -> LinearMap:
        """See :func:`fan_pixels`."""
        return "transpose_pixels", "project_pixels", fan_pixels(self)

    @property
    def filter_spacing(self) -> float:
        """That of the detectors, seen from the source at the centre of rotation."""
        return self.detector_spacing * self.source_to_origin / self.source_to_detector

    def weighted(self, sinogram: Tensor) -> Tensor:
        """Every ray times the cosine of its angle to the central one, and its share of what is measured twice."""
        return sinogram * fan_weights(self).to(sinogram)


@lru_cache(maxsize=4)
def fan_rays(geometry: FanBeam) -> FanRays:
    """Joseph's weights: linear between the two pixels beside a ray, times the length from one row to the next."""
    (height, width), (row, column) = geometry.pixel_size, _middle(geometry)
    cos, sin, s = geometry.angles.cos()[:, None], geometry.angles.sin()[:, None], geometry.detectors
    near, far = geometry.source_to_origin, geometry.source_to_detector - geometry.source_to_origin
    source_row, source_column = row + near * sin / height, column - near * cos / width  # as indices of pixels
    down = row + (s * cos - far * sin) / height - source_row
    along = column + (s * sin + far * cos) / width - source_column
    over_rows = down.abs() >= along.abs()
    slope = torch.where(over_rows, along / down, down / along)
    start = torch.where(over_rows, source_column - source_row * along / down, source_row - source_column * down / along)
    rise = torch.where(over_rows, slope * width, slope * height)
    step = torch.where(over_rows, height, width)
    return FanRays(geometry.rows, geometry.columns, start, slope, torch.hypot(rise, step), over_rows)


@lru_cache(maxsize=4)
def fan_pixels(geometry: FanBeam) -> FanPixels:
    """Linear interpolation between the detectors, weighted by the squared distance, summed over the full circle."""
    (height, width), (row, column), theta = geometry.pixel_size, _middle(geometry), geometry.angles
    cos, sin = theta.cos(), theta.sin()
    depth_per_row, depth_per_column = -sin * height / geometry.source_to_origin, cos * width / geometry.source_to_origin
    depth = 1 - row * depth_per_row - column * depth_per_column
    first = float(geometry.detectors[0]) / geometry.detector_spacing
    per_row, per_column = (
        across / geometry.filter_spacing - first * deeper
        for across, deeper in ((cos * height, depth_per_row), (sin * width, depth_per_column))
    )
    offset = -first - row * per_row - column * per_column
    return FanPixels(
        rows=geometry.rows,
        columns=geometry.columns,
        n_detectors=geometry.n_detectors,
        offset=offset,
        per_row=per_row,
        per_column=per_column,
        depth=depth,
        depth_per_row=depth_per_row,
        depth_per_column=depth_per_column,
        scale=geometry.angular_weights,
    )


def _middle(geometry: CTGeometry) -> tuple[float, float]:
    """The row and the column index, not rounded, of the centre of rotation."""
    sides = (geometry.rows, geometry.columns)
    row, column = (
        (n - 1) / 2 - x * n / length for n, x, length in zip(sides, geometry.centre, geometry.extent, strict=True)
    )
    return row, column


def fan_weights(geometry: FanBeam) -> Tensor:
    """cos(gamma) m of each ray, float64 ``(angles, detectors)``; gamma is its angle to the central ray.

    m is the ray's share of the line that it measures: 1/2 on a full circle, on which the source sees every line from
    both ends. Where the angles leave a wedge out, a view counts by c = sin(pi b / L)^2, b being how far it is from the
    first of the L radians that were measured, and m = c / (c + c'), c' being that of the line's other end, or 0.

    Raises:
        InputError: the angles leave several wedges out.

    Source: Kak and Slaney (1988), section 3.4.2; m as in Noo et al., Physics in Medicine and Biology 47 (2002).

    >>> scan = FanBeam(4, 4, (1, 1), 6, n_detectors=3, detector_extent=3, source_to_origin=2, source_to_detector=1)
    >>> fan_weights(scan)[0]  # half the cosines of 45, 0 and 45 degrees
    tensor([0.3536, 0.5000, 0.3536], dtype=torch.float64)
    """
    gamma = torch.atan(geometry.detectors / geometry.source_to_detector)
    around = geometry.angles % geometry.period
    ordered = around.sort().values
    gaps = torch.cat([ordered, ordered[:1] + geometry.period]).diff()
    if float(gaps.max()) <= WEDGE * geometry.period / geometry.n_angles:
        return (gamma.cos() / 2).expand(geometry.n_angles, -1)
    if int((gaps > WEDGE * geometry.period / geometry.n_angles).sum()) > 1:
        raise InputError(
            "a fan's FBP knows weights for one wedge of missing views, and these angles leave more: give "
            "the views of one part"
        )
    first, measured = ordered.roll(-1)[gaps.argmax()], geometry.period - gaps.max()

    def window(angle: Tensor) -> Tensor:
        since = (angle - first) % geometry.period
        return torch.where(since < measured, torch.sin(torch.pi * since / measured) ** 2, 0.0)

    own, other = window(around)[:, None], window(around[:, None] + torch.pi - 2 * gamma)
    return gamma.cos() * own / (own + other).clamp_min(torch.finfo(own.dtype).tiny)
