"""Small geometries of a CT scanner, and images and sinograms that fit them."""

import math

import torch

from recon.physics.ct import ParallelBeam

SMALL = ParallelBeam(60, 60, (0.26, 0.26), 90, 87, math.hypot(0.26, 0.26))


GEOMETRIES = {
    "square": SMALL,
    "oblong pixels": ParallelBeam(20, 31, (1.5, 1.1), 17, 41, 2.2),
    "short detector": ParallelBeam(24, 16, (1.2, 0.8), 16, 9, 0.5),
    "coarse detector": ParallelBeam(40, 40, (1.0, 1.0), 13, 8, 1.5),
    "fine detector": ParallelBeam(6, 5, (1.0, 1.0), 13, 60, 1.5),
    "one of each": ParallelBeam(1, 1, (0.1, 0.2), 1, 1, 0.1),
}


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
