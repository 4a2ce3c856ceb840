"""The iterative baseline of CT."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle

from data_prep import find_ct_volumes, geometry_of, read_ct_volume
from data_prep.lodopab.total_variation import STRENGTH, _weights, tv_images
from recon.errors import InputError
from recon.physics.ct import MU_MAX, fbp, photon_noise, ray_transform
from tests.data_prep.ct_files import write_ct, write_data

SIDE, N_ANGLES, N_PHOTONS = 64, 120, 500.0
GEOMETRY = geometry_of(SIDE, N_ANGLES, 92)


@pytest.fixture
def noisy(tmp_path):
    """Three discs of other densities, their noisy observations as a file, and the noise-free back-projections."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    images = torch.from_numpy(np.stack([(np.hypot(y, x) < 24) * mu for mu in (8.0, 12.0, 16.0)]))
    clean = ray_transform(images, GEOMETRY)
    measured = torch.stack([photon_noise(p, np.random.default_rng(i), N_PHOTONS) for i, p in enumerate(clean)])
    path = write_data(tmp_path / "observation_test_000.hdf5", (measured / MU_MAX).float().numpy(), n_photons=N_PHOTONS)
    write_data(tmp_path / "ground_truth_test_000.hdf5", (images / MU_MAX).float().numpy())
    volume = read_ct_volume(path, tmp_path / "ground_truth_test_000.hdf5")
    return volume, (images / MU_MAX).numpy(), (fbp(clean, GEOMETRY, "cosine") / MU_MAX).numpy()


def observations(volume) -> np.ndarray:
    with h5py.File(volume.path) as file:
        return file["data"][()]


def test_the_noise_is_known_beforehand(noisy):
    """The weight is STRENGTH times the noise's true deviation: of the back-projection, with noise less without."""
    volume, _, clean = noisy
    found = fbp(torch.from_numpy(observations(volume)), GEOMETRY, "cosine").numpy()
    middle = (slice(None), slice(12, 52), slice(12, 52))
    true = (found - clean)[middle].std((1, 2))
    weights = np.array(_weights(observations(volume), volume))
    assert true.max() > 1.3 * true.min()
    np.testing.assert_allclose(weights / STRENGTH, true, rtol=0.35)  # linear interpolation smooths a little


def test_images_are_scikit_images_and_better(noisy):
    volume, truth, _ = noisy
    measured = observations(volume)
    sharp = fbp(torch.from_numpy(measured), GEOMETRY, "cosine").numpy()
    usual = fbp(torch.from_numpy(measured), GEOMETRY, "hann", 0.641).numpy()
    images = np.stack(list(tv_images(volume)))
    assert images.dtype == np.float32
    for image, weight, before in zip(images, _weights(measured, volume), sharp, strict=True):
        expected = denoise_tv_chambolle(before.astype(np.float64), weight, eps=1e-4, max_num_iter=200)
        np.testing.assert_allclose(image, expected, atol=1e-4)
    errors = [((found - truth) ** 2).mean((1, 2)) for found in (images, usual, sharp)]
    assert (errors[0] < errors[1]).all()
    assert (errors[0] < errors[2]).all()
    middle = (slice(None), slice(20, 44), slice(20, 44))  # without an edge
    assert (images[middle].std((1, 2)) < sharp[middle].std((1, 2)) / 2).all()


def test_a_slice_depends_on_itself_alone(noisy, tmp_path):
    volume, truth, _ = noisy
    together = list(tv_images(volume))
    torch.set_num_threads(2)
    threads = list(tv_images(volume))
    write_data(tmp_path / "one" / "observation_test_000.hdf5", observations(volume)[2:], n_photons=N_PHOTONS)
    write_data(tmp_path / "one" / "ground_truth_test_000.hdf5", truth[2:].astype(np.float32))
    (alone,) = tv_images(find_ct_volumes(tmp_path / "one", "test")[0])
    assert all(torch.equal(one, other) for one, other in zip(together, threads, strict=True))
    assert torch.equal(alone, together[2])


def test_observations_that_are_not_finite(tmp_path):
    root = write_ct(tmp_path, {"test": 1})
    volume = find_ct_volumes(root, "test")[0]
    with h5py.File(volume.path, "a") as file:
        file["data"][1] = np.nan
    with pytest.raises(InputError, match="nan or inf"):
        list(tv_images(volume))
