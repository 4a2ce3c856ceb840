"""Scans as they are measured: any angles, a centre of rotation off the middle, a fan beam."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from benchmarks import tomography as benchmark
from recon.errors import InputError
from recon.networks.rays import Rays
from recon.physics.ct import LODOPAB, FanBeam, ParallelBeam, back_projection, fbp, ray_transform
from recon.physics.fan_beam import fan_weights
from recon.physics.geometry import angular_weights
from recon.physics.movement import move_sinogram
from recon.physics.photons import line_integrals
from tests.recon.ct_cases import FAN, SMALL, disc, gaussian, image_like, relative, sinogram_like

LARGE_FAN = FanBeam(362, 362, (0.26, 0.26), 1000, 513, 0.8, source_to_origin=0.5, source_to_detector=1.0)


def with_angles(geometry, degrees):
    return replace(geometry, n_angles=len(degrees), theta=tuple(np.deg2rad(degrees).tolist()))


def shuffled(low, high, n=180, seed=0):
    """Angles of uneven steps, in no order, none far from the next."""
    generator = np.random.default_rng(seed)
    return generator.permutation(low + (np.arange(n) + generator.uniform(0, 1, n)) * (high - low) / n)


@pytest.mark.parametrize(("geometry", "limit"), [(FAN, 4e-3), (LARGE_FAN, 2e-4)], ids=["small", "large"])
def test_ray_transform_of_a_gaussian(geometry, limit):
    image, sinogram = gaussian(geometry)
    assert relative(ray_transform(image, geometry), sinogram) < limit
    assert relative(ray_transform(image.flip(0), geometry), sinogram) > 0.1, "control: the mirrored image"


def test_ray_transform_of_a_disc():
    image, sinogram = disc(LARGE_FAN)
    assert relative(ray_transform(image, LARGE_FAN), sinogram) < 4e-3


@pytest.mark.parametrize(("geometry", "limit"), [(FAN, 8e-3), (LARGE_FAN, 3e-4)], ids=["small", "large"])
def test_fbp_gives_back_a_smooth_phantom_in_its_unit(geometry, limit):
    image, sinogram = gaussian(geometry)
    assert relative(fbp(sinogram, geometry), image) < limit
    assert relative(fbp(sinogram.float(), geometry), image) < limit
    parallel = replace(SMALL, rows=geometry.rows, columns=geometry.columns, n_angles=geometry.n_angles)
    as_parallel = replace(parallel, n_detectors=geometry.n_detectors, detector_extent=0.4)
    assert relative(fbp(sinogram, as_parallel), image) > 0.1, "control: taken for parallel rays"


def test_fbp_of_a_fan_gives_back_the_value_inside_a_disc():
    inside = disc(LARGE_FAN, radius=0.05)[0] == 20
    values = fbp(disc(LARGE_FAN, finer=1)[1], LARGE_FAN)[inside]
    assert abs(values.mean() - 20) < 1e-3
    assert values.std() < 1e-2


def test_rays_of_a_source_far_away_are_parallel():
    parallel = with_angles(replace(SMALL, detector_offset=0.01, centre=(0.01, -0.02)), np.arange(0, 360, 4))
    image, sinogram = image_like(parallel), sinogram_like(parallel)
    errors = []
    for far in (10.0, 1e5):
        same = {field.name: getattr(parallel, field.name) for field in fields(parallel)}
        fan = FanBeam(**same, source_to_origin=far, source_to_detector=far)
        pairs = ((ray_transform, image), (back_projection, sinogram), (fbp, sinogram))
        errors.append([relative(function(x, fan), function(x, parallel)) for function, x in pairs])
    assert max(errors[1]) < 1e-4
    assert min(errors[0]) > 1e-3, "control: near enough to tell"


@pytest.fixture
def _astra():
    pytest.importorskip("astra", reason="astra-toolbox has no package for this machine")


@pytest.mark.usefixtures("_astra")
def test_ray_transform_of_a_fan_is_near_astra_s():
    """It adds up lengths in pixels that are constant; the difference of the two is what that leaves."""
    image, sinogram = gaussian(LARGE_FAN)
    ours, theirs = ray_transform(image, LARGE_FAN), benchmark.astra_projection(image.float().numpy(), LARGE_FAN)
    assert relative(ours, theirs) < 1e-3
    assert relative(ours, sinogram) < relative(theirs, sinogram) / 3


@pytest.mark.usefixtures("_astra")
def test_back_projection_of_a_fan_is_near_astra_s():
    sinogram = gaussian(FAN)[1].float()
    ours, theirs = back_projection(sinogram, FAN), benchmark.astra_back_projection(sinogram.numpy(), FAN)
    assert relative(ours, theirs) < 4e-2  # at pixels as wide as a ray what constant pixels leave is noise
    assert relative(ours.flip(1), theirs) > 0.1, "control: the mirrored image"


@pytest.mark.parametrize("geometry", [SMALL, FAN], ids=["parallel", "fan"])
def test_a_detector_off_its_middle_is_part_of_a_wider_one(geometry):
    """Exactly: the middle of detectors 20 to 79 of a wide one lies off the middle of all."""
    wide = replace(geometry, n_detectors=120, detector_extent=0.9)
    part = replace(wide, n_detectors=60, detector_extent=0.45, detector_offset=-10 * wide.detector_spacing)
    assert torch.equal(wide.rotating_about(29.5).detectors, wide.detectors + 30 * wide.detector_spacing)
    torch.testing.assert_close(part.detectors, wide.detectors[20:80], rtol=1e-12, atol=1e-15)
    image, sinogram = image_like(geometry), sinogram_like(part)
    torch.testing.assert_close(ray_transform(image, part), ray_transform(image, wide)[:, 20:80], rtol=1e-9, atol=1e-12)
    padded = torch.nn.functional.pad(sinogram, (20, 40))
    torch.testing.assert_close(back_projection(sinogram, part), back_projection(padded, wide), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("geometry", [SMALL, FAN], ids=["parallel", "fan"])
def test_fbp_with_the_centre_of_rotation_elsewhere(geometry):
    spacing = geometry.detector_spacing
    shifted = replace(geometry, detector_offset=4.3 * spacing, n_detectors=131, detector_extent=131 * spacing)
    image, sinogram = gaussian(shifted)
    assert relative(fbp(sinogram, shifted), image) < 8e-3
    assert relative(fbp(sinogram, replace(shifted, detector_offset=0.0)), image) > 0.2, "control: the detector's middle"


@pytest.mark.parametrize(
    ("geometry", "degrees"),
    [
        (SMALL, shuffled(0, 180)),
        (SMALL, shuffled(0, 360, 360)),
        (SMALL, np.linspace(0, 180, 181)),  # its last angle is its first
        (SMALL, np.concatenate([np.arange(0, 60, 1), np.arange(60, 180, 2)])),
        (FAN, shuffled(0, 360, 360)),
        (FAN, np.linspace(-30, 330, 361)),
        (FAN, np.concatenate([np.arange(0, 60, 1), np.arange(60, 360, 2)])),
        (FAN, np.linspace(10, 240, 231)),  # a short scan: half a circle and the fan
        (FAN, np.linspace(10, 310, 301)),
    ],
)
def test_fbp_of_uneven_angles(geometry, degrees):
    scan = with_angles(geometry, degrees)
    image, sinogram = gaussian(scan)
    assert relative(fbp(sinogram, scan), image) < 1e-2


def test_angles_that_are_not_weighted_leave_an_error():  # the control of the test above
    scan = with_angles(SMALL, np.concatenate([np.arange(0, 60, 1), np.arange(60, 180, 2)]))
    image, sinogram = gaussian(scan)
    assert relative(fbp(sinogram, replace(scan, theta=None)), image) > 0.2, "angles taken for even"
    weights = scan.angular_weights[:, None]
    assert relative(fbp(sinogram / weights * weights.mean(), scan), image) > 0.1, "weights taken for even"


def test_angular_weights():
    even = angular_weights(torch.arange(0, 180, 3) + 7, 180)
    torch.testing.assert_close(even, torch.full((60,), 3.0, dtype=torch.float64))
    uneven = angular_weights(torch.from_numpy(shuffled(0, 360)), 180)
    assert float(uneven.sum()) == pytest.approx(180)
    assert uneven.min() >= 0
    wedge = angular_weights(torch.arange(0, 121, 1), 180)  # 59 degrees were not measured, and stand for nothing
    assert float(wedge.max()) < 1.3
    assert float(wedge.sum()) == pytest.approx(120 + 180 / 121)


def test_averaged_views():
    scan = with_angles(FAN, np.arange(0, 360, 2))
    assert scan.binned(3).theta == pytest.approx(np.deg2rad(np.arange(2, 360, 6)))
    assert SMALL.binned(3) == replace(SMALL, n_angles=30)


@pytest.mark.parametrize("geometry", [FAN, with_angles(replace(SMALL, detector_offset=0.01), shuffled(0, 180))])
def test_the_gradient_of_the_unrolled_networks(geometry):
    """From an image of zeros it points to the measured one, in its unit."""
    image, sinogram = gaussian(geometry)
    start = torch.zeros(1, 1, *image.shape, dtype=image.dtype)
    gradient = Rays(sinogram[None], geometry, 1).gradient(start)
    assert relative(-gradient[0, 0], image) < 0.1


def test_angles_may_be_any_sequence_of_numbers():
    for theta in ([0.0, 1.0], np.array([0.0, 1.0]), torch.tensor([0.0, 1.0])):
        scan = replace(SMALL, n_angles=2, theta=theta)
        assert scan.theta == (0.0, 1.0)
        assert isinstance(hash(scan), int)


def test_counts_may_be_integers():
    counts, white, dark = (torch.tensor(n, dtype=torch.uint8) for n in ([60, 5], [110, 110], [10, 10]))
    expected = line_integrals(counts.double(), white.double(), dark.double())
    torch.testing.assert_close(line_integrals(counts, white, dark), expected)


def test_the_published_geometry_is_as_it_was():
    assert (LODOPAB.theta, LODOPAB.detector_offset) == (None, 0.0)
    assert ParallelBeam(4, 4, (1, 1), 2, 3, 1.0, (0, 0)) == ParallelBeam(4, 4, (1, 1), 2, 3, 1.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: replace(SMALL, theta=(0.0, 1.0)), "theta has 2 angles for 90 views"),
        (lambda: replace(SMALL, n_angles=1, theta=(math.nan,)), "finite"),
        (lambda: replace(SMALL, detector_offset=math.inf), "finite"),
        (lambda: replace(FAN, source_to_detector=0.0), "distances from the source above 0 m"),
        (lambda: replace(FAN, source_to_origin=0.18), "0.18 m .* 0.183848 m: the source must lie outside"),
        (lambda: replace(FAN, rows=0), "at least 1"),
        (lambda: with_angles(SMALL, shuffled(0, 180, 90)).binned(3), "views that are not neighbours"),
        (lambda: fan_weights(with_angles(FAN, (*range(100), *range(180, 280)))), "one wedge of missing views"),
        (lambda: move_sinogram(torch.ones(1, 90, 97), FAN, torch.ones(1, 2)), "only a sinogram of parallel rays"),
        (lambda: fbp(torch.ones(97, 90), FAN), r"sinogram \(97, 90\) .* needs \(\.\.\., 90, 97\)"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
