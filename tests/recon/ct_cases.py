"""Small geometries of a CT scanner, and images and sinograms that fit them."""

import math
from dataclasses import replace

import torch

from benchmarks.tomography import lines
from recon.physics.ct import FanBeam, ParallelBeam

SMALL = ParallelBeam(60, 60, (0.26, 0.26), 90, 87, math.hypot(0.26, 0.26))


GEOMETRIES = {
    "square": SMALL,
    "oblong pixels": ParallelBeam(20, 31, (1.5, 1.1), 17, 41, 2.2),
    "short detector": ParallelBeam(24, 16, (1.2, 0.8), 16, 9, 0.5),
    "coarse detector": ParallelBeam(40, 40, (1.0, 1.0), 13, 8, 1.5),
    "fine detector": ParallelBeam(6, 5, (1.0, 1.0), 13, 60, 1.5),
    "one of each": ParallelBeam(1, 1, (0.1, 0.2), 1, 1, 0.1),
    "any angles": ParallelBeam(20, 31, (1.5, 1.1), 7, 41, 2.2, (0.1, -0.05), 0.13, (0, 3, math.pi / 2, 0.3, -1, 5, 4)),
}
FAN = FanBeam(60, 60, (0.26, 0.26), 90, 97, 0.8, source_to_origin=0.5, source_to_detector=1.0)
FANS = {
    "fan": FAN,
    "oblong pixels, any angles": FanBeam(
        *(20, 31, (1.5, 1.1), 6, 41, 3.2, (0.1, -0.05), 0.13, (0, 3, math.pi / 2, 0.3, -1, 5)),
        source_to_origin=2.0,
        source_to_detector=3.0,
    ),
    "short detector": FanBeam(24, 16, (1.2, 0.8), 16, 9, 0.5, source_to_origin=3.0, source_to_detector=4.0),
    "wide fan": FanBeam(40, 40, (1.0, 1.0), 13, 57, 6.0, source_to_origin=0.8, source_to_detector=1.0),
    "level rays": FanBeam(
        6, 5, (1.0, 1.0), 4, 11, 1.5, theta=(0, math.pi / 2, math.pi, 4), source_to_origin=2, source_to_detector=1.0
    ),
    "one of each": FanBeam(1, 1, (0.1, 0.2), 1, 1, 0.1, source_to_origin=1, source_to_detector=2),
}
ALL = {**GEOMETRIES, **{f"fan: {name}": geometry for name, geometry in FANS.items()}}


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def image_like(geometry, batch=(), **options):
    return draw(*batch, geometry.rows, geometry.columns, **options)


def sinogram_like(geometry, batch=(), **options):
    return draw(*batch, geometry.n_angles, geometry.n_detectors, **options)


def relative(actual, expected):
    actual, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (actual, expected))
    assert actual.shape == expected.shape
    return float((actual - expected).norm() / expected.norm())


def grid(geometry):
    """The pixel centres: x ``(rows, 1)`` and y ``(columns,)`` in metres."""
    x, y = (
        (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * size + middle
        for n, size, middle in zip((geometry.rows, geometry.columns), geometry.pixel_size, geometry.centre, strict=True)
    )
    return x[:, None], y


def distance(geometry, centre):
    """From each ray to a point: ``(angles, detectors)``."""
    angle, s = lines(geometry)
    return s - centre[0] * angle.cos() - centre[1] * angle.sin()


def gaussian(geometry, centre=(0.03, -0.05), sigma=0.02, mu=20.0):
    """A smooth phantom in 1/m and its line integrals."""
    x, y = grid(geometry)
    image = mu * torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    peak = mu * sigma * math.sqrt(2 * math.pi)
    return image, peak * torch.exp(-(distance(geometry, centre) ** 2) / (2 * sigma**2))


def disc(geometry, centre=(0.02, -0.04), radius=0.06, mu=20.0, finer=8):
    """A disc, each pixel the mean over finer x finer points, and its line integrals (chords)."""
    x, y = grid(replace(geometry, rows=geometry.rows * finer, columns=geometry.columns * finer))
    inside = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2).double()
    image = mu * torch.nn.functional.avg_pool2d(inside[None], finer)[0]
    return image, 2 * mu * (radius**2 - distance(geometry, centre) ** 2).clamp(min=0).sqrt()
