from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from data_prep import (
    LoDoPaBDataset,
    find_ct_volumes,
    geometry_of,
    observe,
    simulate_observation,
    volume_name,
    write_lodopab,
)
from data_prep.lodopab import simulation as ct_simulation
from data_prep.lodopab.simulation import photons
from recon.errors import InputError
from recon.physics.ct import LODOPAB, MU_MAX, photon_noise, ray_transform
from tests.data_prep.ct_files import N_ANGLES, N_DETECTORS, SIDE, gaussians

SMALL = geometry_of(SIDE, N_ANGLES, N_DETECTORS)


@pytest.fixture(scope="module")
def hu():
    return np.round(gaussians(3)[0] * 4000 - 1000).astype(np.int16)


def clear(images, shift=(0, 0), geometry=SMALL):
    """Observations of so many photons that no noise is left."""
    noise = [np.random.default_rng(0) for _ in images]
    return observe(torch.from_numpy(images), noise, geometry, n_photons=1e14, shift=shift)


def error(a, b) -> float:
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))


def test_ground_truth_is_attenuation_over_lodopabs_largest(hu):
    ground_truth, observation = simulate_observation(hu, "train_000", SMALL)
    assert ground_truth.dtype == observation.dtype == np.float32
    assert (ground_truth.shape, observation.shape) == ((3, SIDE, SIDE), (3, N_ANGLES, N_DETECTORS))
    back = (ground_truth.astype(np.float64) * 81.35858 - 20) * 1000 / 19.98
    added = back - hu
    assert added.min() > -1e-3
    assert added.max() < 1 + 1e-3
    assert added.mean() == pytest.approx(0.5, abs=0.02), "uniform in [0, 1)"
    assert added.std() == pytest.approx(12**-0.5, abs=0.02)


def test_values_outside_the_scale_are_clipped_and_corners_are_kept(hu):
    extreme = hu.copy()
    extreme[0, 0, 0], extreme[0, -1, -1], extreme[0, 5, 5] = -3024, 9000, 3070
    ground_truth, _ = simulate_observation(extreme, "train_000", SMALL)
    assert (ground_truth[0, 0, 0], ground_truth[0, -1, -1]) == (0, 1)
    assert 0.999 < ground_truth[0, 5, 5] < 1


@pytest.mark.parametrize("side", [32, 33, 362])
def test_the_object_is_sampled_as_lodopabs_script_does(side):
    from skimage.transform import resize

    image = np.random.default_rng(0).random((side, side))
    n = round(ct_simulation.FINER * side)
    assert side != 362 or n == 1000
    rows = ct_simulation._sample(torch.from_numpy(image), n, 0)
    found = ct_simulation._sample(rows.mT, n, 0).mT
    np.testing.assert_allclose(found, resize(image, (n, n), order=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-0.25, 1.5)])
def test_observations_are_the_line_integrals_of_the_moved_object(shift):
    """Against the exact sinogram; linear interpolation widens the Gaussians a little."""
    images, _ = gaussians(2, side=64)
    _, expected = gaussians(2, side=64, shift=shift)
    found = clear(images, shift, geometry_of(64, N_ANGLES, 92))
    assert error(found, expected) < 0.02
    assert any(shift) == (error(clear(images, geometry=geometry_of(64, N_ANGLES, 92)), expected) > 0.05), "control"


def test_a_whole_shift_is_that_of_the_image_and_what_leaves_is_gone():
    images = np.random.default_rng(0).random((1, SIDE, SIDE)).astype(np.float32)
    for rows, columns in ((0, -1), (1, -2), (25, 8), (26, 7), (27, 6)):  # where it is cut there is nothing
        images[:, rows] = images[:, :, columns] = 0
    moved = np.zeros_like(images)
    moved[:, 5:, :-7] = images[:, :-5, 7:]
    assert error(clear(images, (5, -7)), clear(moved)) < 1e-5
    assert error(clear(images, (4, -7)), clear(moved)) > 0.1, "control"
    np.testing.assert_allclose(clear(images, (100, 0)), 0, atol=1e-8)


def test_no_inverse_crime(hu):
    """The reconstruction's own grid does not explain the data."""
    ground_truth, _ = simulate_observation(hu, "train_000", SMALL)
    own = ray_transform(torch.from_numpy(ground_truth), SMALL)
    assert error(clear(ground_truth), own) > 3e-4
    finer = replace(SMALL, rows=88, columns=88)
    image = torch.from_numpy(ground_truth)
    fine = ct_simulation._sample(ct_simulation._sample(image, 88, 0).mT, 88, 0).mT.contiguous()
    assert error(clear(ground_truth), ray_transform(fine, finer)) < 2e-6, "control"


def test_noise_is_that_of_so_many_photons():
    flat = torch.full((8, SIDE, SIDE), 0.1)
    noise = [np.random.default_rng(i) for i in range(8)]
    p = clear(flat.numpy()).double() * MU_MAX
    for n_photons in (4096, 100000):
        found = observe(flat, noise, SMALL, n_photons).double() * MU_MAX - p
        scaled = found * (n_photons * torch.exp(-p)).sqrt()
        assert scaled.std() == pytest.approx(1, abs=0.03)
        assert scaled.mean() == pytest.approx(0, abs=0.03)


def test_rays_that_no_photon_survives_count_a_tenth_of_one():
    dense = torch.ones(1, SIDE, SIDE)
    found = observe(dense, [np.random.default_rng(0)], SMALL)
    assert found.max() == pytest.approx(np.log(4096 / 0.1) / MU_MAX, rel=1e-6)


def test_noise_is_a_function_of_seed_name_and_slice(hu, monkeypatch):
    first = simulate_observation(hu, "train_000", SMALL)
    monkeypatch.setattr(ct_simulation, "BATCH", 1)
    for a, b in zip(first, simulate_observation(hu, "train_000", SMALL), strict=True):
        assert np.array_equal(a, b)
    same = np.stack([hu[0]] * 3)
    for options in ({"name": "train_001"}, {"name": "train_000", "seed": 1}):
        other = simulate_observation(hu, geometry=SMALL, **options)
        assert all((a != b).mean() > 0.5 for a, b in zip(first, other, strict=True))
    ground_truth, observation = simulate_observation(same, "train_000", SMALL)
    assert (ground_truth[0] != ground_truth[1]).mean() > 0.9
    residue = observation - observation.mean(0)
    assert abs(np.corrcoef(residue[0].ravel(), residue[1].ravel())[0, 1] + 0.5) < 0.1, "independent: -1/2 of three"


def test_moving_by_nothing_gives_the_very_observation_and_sample(hu, tmp_path):
    name = volume_name("val", 3)
    ground_truth, observation = simulate_observation(hu, name, SMALL, n_photons=500)
    write_lodopab(tmp_path, "val", 3, ground_truth, observation, n_photons=500)
    again = observe(torch.from_numpy(ground_truth[1:2]), [photons(0, name, 1)], SMALL, 500)
    assert np.array_equal(again[0], observation[1])
    data = LoDoPaBDataset(tmp_path, "val", progress=False)
    assert torch.equal(data.moved(1, (0, 0)).image, data[1].image)
    assert not torch.equal(data.moved(1, (1, 0)).image, data[1].image)


def test_written_files_are_lodopabs(hu, tmp_path):
    ground_truth, observation = simulate_observation(hu, "validation_007", SMALL)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_lodopab(tmp_path / folder, "val", 7, ground_truth, observation)
    names = ["ground_truth_validation_007.hdf5", "observation_validation_007.hdf5"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name, values in zip(names, (ground_truth, observation), strict=True):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        with h5py.File(tmp_path / "a" / name) as file:
            assert [*file] == ["data"]
            assert file["data"].dtype == np.float32
            assert np.array_equal(file["data"][()], values)
            assert dict(file.attrs) == {"n_photons": 4096.0, "simulated_from": "CT image"}
    (volume,) = find_ct_volumes(tmp_path / "a", "val", progress=False)
    assert (volume.name, volume.n_slices, volume.geometry, volume.n_photons) == ("validation_007", 3, SMALL, 4096)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x[0], {}, r"a: the images are int16 of shape \(32, 32\)"),
        (lambda x: x.astype(complex), {}, "complex128"),
        (lambda x: x * np.nan, {}, "give finite numbers"),
        (lambda x: x[:, 1:], {}, "images of 31 x 32, and the scanner's have 32 x 32: crop or pad"),
        (lambda x: x, {"geometry": LODOPAB}, "the scanner's have 362 x 362"),
        (lambda x: np.where(np.arange(3)[:, None, None] == 1, -2000, x), {}, "slice 1 is flat"),
        (lambda x: x, {"n_photons": 0}, "n_photons 0"),
    ],
)
def test_bad_images(hu, change, options, message):
    with pytest.raises(InputError, match=message):
        simulate_observation(change(hu), "a", **{"geometry": SMALL, **options})


def test_what_cannot_be_written(hu, tmp_path):
    images, sinograms = gaussians(3)
    with pytest.raises(InputError, match="unknown split 'validation'"):
        write_lodopab(tmp_path, "validation", 0, images, sinograms)
    with pytest.raises(InputError, match="3 images and 2 observations cannot be a file"):
        write_lodopab(tmp_path, "val", 0, images, sinograms[:2])
    with pytest.raises(InputError, match=r"129 images and 129 .* at most 128"):
        write_lodopab(tmp_path, "val", 0, np.zeros((129, 2, 2)), np.zeros((129, 2, 2)))
    with pytest.raises(InputError, match=r"ground_truth_test_000\.hdf5 cannot be written \(No such file"):
        write_lodopab(tmp_path / "nowhere", "test", 0, images, sinograms)
    assert not list(tmp_path.iterdir())


def test_more_photons_than_can_be_counted():
    with pytest.raises(InputError, match=r"1e\+300 photons through line integrals .* are more than 1e\+18"):
        photon_noise(torch.zeros(2, 3), np.random.default_rng(0), 1e300)
    assert photon_noise(torch.zeros(2, 3), np.random.default_rng(0), 1e18).abs().max() < 1e-8
