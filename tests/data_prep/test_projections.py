"""Raw counts of beamlines: flat and dark fields, the centre of rotation, the photons; and the measured tooth."""

import math
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from benchmarks.tomography import phantom
from data_prep.projections.exchange import read_exchange
from recon.errors import InputError
from recon.physics.ct import ParallelBeam, fbp
from recon.physics.rotation import rotation_centre

TOOTH = Path(__file__).parents[2].parent / "shared" / "real_data" / "ct_tooth.h5"
N, CENTRE, N_PHOTONS = 96, 41.3, 20000
SCAN = ParallelBeam(N, N, (N, N), 91, N, N, theta=tuple(np.linspace(0, math.pi, 91).tolist())).rotating_about(CENTRE)


def sinogram(scan, seed=0):
    """Line integrals of up to about 2 in an object that stays on the detector."""
    part = replace(scan, extent=(0.75 * scan.extent[0], 0.75 * scan.extent[1]))
    return phantom(part, seed).sinogram(scan) / 600


def exchange(path, scan=SCAN, noise=True, **changes):
    """A file as a beamline writes it: counts of a camera with an offset, a gain and uneven lighting."""
    generator = np.random.default_rng(0)
    clean = np.stack([sinogram(scan, seed).numpy() for seed in range(2)], 1)
    light = N_PHOTONS * (1 + 0.2 * np.sin(np.arange(N) / 7))

    def frames(photons):
        return 100 + 0.5 * (generator.poisson(photons) if noise else photons)

    data = {
        "data": frames(light * np.exp(-clean)),
        "data_white": frames(np.broadcast_to(light, (10, 2, N))),
        "data_dark": np.full((5, 2, N), 100.0),
        "theta": np.rad2deg(scan.angles.numpy()),
    }
    with h5py.File(path, "w") as file:
        for key, value in (data | changes).items():
            if value is not None:
                file[f"exchange/{key}"] = value
    return path


def test_counts_become_line_integrals(tmp_path):
    found = read_exchange(exchange(tmp_path / "scan.h5", noise=False), pixel_size=2e-3)
    expected = torch.stack([sinogram(SCAN, seed) for seed in range(2)])
    torch.testing.assert_close(found.sinogram.double(), expected, rtol=1e-5, atol=1e-6)
    assert abs(found.rotation_centre - CENTRE) < 0.1
    assert found.n_photons is None, "flat fields that do not scatter"
    assert found.geometry.detector_spacing == pytest.approx(2e-3)
    given = read_exchange(exchange(tmp_path / "scan.h5", noise=False), rotation_centre_at=CENTRE)
    assert replace(given.geometry, theta=SCAN.theta) == SCAN
    torch.testing.assert_close(given.geometry.angles, SCAN.angles)
    assert "column 41.30 (as given)" in given.described()


def test_photons_and_the_centre_of_noisy_counts(tmp_path):
    found = read_exchange(exchange(tmp_path / "scan.h5"), rows=slice(1, 2))
    assert found.sinogram.shape == (1, 91, N)
    assert found.n_photons == pytest.approx(N_PHOTONS, rel=0.2)
    assert abs(found.rotation_centre - CENTRE) < 0.3
    assert "found by registering" in found.described()


@pytest.mark.parametrize("degrees", [np.linspace(0, 180, 91), np.linspace(0, 178, 90), np.arange(-90, 270, 2)])
@pytest.mark.parametrize("centre", [20.25, 47.5, 60.0])
def test_the_centre_is_found(centre, degrees):
    scan = replace(SCAN, n_angles=len(degrees), theta=tuple(np.deg2rad(degrees).tolist())).rotating_about(centre)
    scan = replace(scan, extent=(N / 3, N / 3))
    assert abs(rotation_centre(sinogram(scan)[None], scan.angles) - centre) < 0.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data_dark": None}, "no dataset exchange/data_dark"),
        ({"theta": None}, "no dataset exchange/theta"),
        ({"theta": np.zeros(3)}, r"theta is float64 \(3,\) in 'degrees' for 91 views"),
        ({"theta": np.full(91, math.nan)}, "angles that are not finite"),
        ({"theta": np.linspace(0, 90, 91)}, "no two of the 91 views are half a turn apart"),
        ({"data": np.zeros((91, N))}, r"expected counts \(frames, rows, columns\)"),
        ({"data_white": np.full((3, 2, N), math.inf)}, "data_white has values that are not finite"),
        ({"data_white": np.full((3, 2, N - 1), 200.0)}, "fields of the same detector pixels"),
        ({"data_white": np.full((3, 2, N), 99.0)}, "flat field is not above the dark field in 192 of 192"),
    ],
)
def test_bad_files_are_told_of_in_one_sentence(tmp_path, changes, says):
    path = exchange(tmp_path / "scan.h5", **changes)
    with pytest.raises(InputError, match=says) as error:
        read_exchange(path)
    assert str(path) in str(error.value)


def test_a_centre_off_the_detector(tmp_path):
    with pytest.raises(InputError, match="give 0 to 95"):
        read_exchange(exchange(tmp_path / "scan.h5"), rotation_centre_at=96.0)


@pytest.mark.skipif(not TOOTH.is_file(), reason="the measured tooth is not in ../shared/real_data")
def test_the_measured_tooth():
    tooth = read_exchange(TOOTH)
    assert abs(tooth.rotation_centre - 295.5) < 0.5
    assert 1e4 < tooth.n_photons < 1e5

    def negative(column):  # a tooth has no negative attenuation; a wrong centre doubles its edges and makes some
        return float(fbp(tooth.sinogram[:1], tooth.geometry.rotating_about(column), "hann").clamp(max=0).abs().mean())

    found = negative(tooth.rotation_centre)
    assert found < 0.8 * min(negative(tooth.rotation_centre - 6), negative(tooth.rotation_centre + 6))
    assert found < 0.5 * negative(319.5), "control: the detector's middle"
