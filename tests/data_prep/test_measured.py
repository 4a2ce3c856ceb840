"""Objects that are acquired anew for networks with the measurement inside: flipped, or from outside."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from data_prep import FastMRIDataset, coil_maps
from data_prep.fastmri.measured import flip_image, flip_kspace, flip_mask
from recon.physics import mri
from tests.data_prep.files import write_volume


@pytest.mark.parametrize("n", [8, 9])
def test_a_mask_flips_as_kspace_does(n):
    """What a flipped object has at a column is what the object has at its mirror, for even and odd sides."""
    image = torch.randn(5, n, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(n, dtype=torch.bool)
    mask[[0, 1, 5]] = True
    there = mri.apply_mask(mri.fft2c(image), mask)
    flipped = flip_kspace(there, -1, image.shape)
    assert (flipped[:, ~flip_mask(mask)].abs() < 1e-12).all()
    assert not (flipped[:, ~mask].abs() < 1e-12).all(), "control: the mask itself"


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("shown", [(6, 6), (5, 7), (8, 9)])
def test_what_the_target_shows_is_flipped(axis, shown):
    image = torch.arange(72.0).view(8, 9)
    top, left = (8 - shown[0]) // 2, (9 - shown[1]) // 2
    part = (slice(top, top + shown[0]), slice(left, left + shown[1]))
    assert torch.equal(flip_image(image, axis, shown)[part], image[part].flip(axis))


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("n_coils", [0, 3])
def test_a_flipped_object_is_measured_with_the_same_mask(axis, n_coils, tmp_path):
    path = write_volume(tmp_path / "a.h5", n_coils=n_coils)
    challenge = "multicoil" if n_coils else "singlecoil"
    data = FastMRIDataset(path, None, challenge, measured=True)
    still, flipped = data[1], data.flipped(1, axis)
    assert torch.equal(flipped.mask, still.mask)
    assert torch.equal(flipped.target, still.target.flip(axis))
    with h5py.File(path) as file:
        full = np.asarray(file["kspace"][1]).reshape(-1, 48, 40)
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(full, axes=axes), norm="ortho"), axes=axes)
    again = np.fft.fft2(np.fft.ifftshift(np.flip(images, axis), axes=axes), norm="ortho")
    expected = np.fft.fftshift(again, axes=axes) * still.mask.numpy()
    np.testing.assert_allclose(flipped.kspace * flipped.std, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("n_coils", [0, 3])
def test_a_window_of_an_object_is_measured_with_the_middle_of_the_mask(n_coils, tmp_path):
    path = write_volume(tmp_path / "a.h5", n_coils=n_coils)
    data = FastMRIDataset(path, None, "multicoil" if n_coils else "singlecoil", measured=True)
    still, window = data[1], data.in_window(1, (3, 7), (40, 32))
    assert torch.equal(window.mask, still.mask[4:36])
    assert window.mask[16], "the centre of k-space stays the centre"
    with h5py.File(path) as file:
        full = np.asarray(file["kspace"][1]).reshape(-1, 48, 40)
    images = mri.ifft2c(torch.from_numpy(full))[..., 3:43, 7:39]
    expected = mri.apply_mask(mri.fft2c(images), still.mask[4:36])
    torch.testing.assert_close(window.kspace * window.std, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    assert not window.target.numel()


def test_of_what_is_undersampled_already_the_mask_is_flipped(tmp_path):
    mask = (np.arange(40) % 3 == 0) | (np.abs(np.arange(40) - 20) < 3)
    path = write_volume(tmp_path / "a.h5", mask=mask)
    data = FastMRIDataset(path, None, measured=True)
    flipped = data.flipped(0, -1)
    torch.testing.assert_close(flipped.image, data[0].image.flip(-1), rtol=1e-3, atol=1e-3)
    assert torch.equal(data.flipped(0, -2).mask, data[0].mask)
    assert not torch.equal(flipped.mask, data[0].mask)


def test_any_object_is_acquired_through_as_many_coils(tmp_path):
    path = write_volume(tmp_path / "a.h5", n_coils=3)
    with h5py.File(path, "a") as file:
        file["sensitivity_maps"] = coil_maps(3, 48, 40).numpy()
    data = FastMRIDataset(path, None, "multicoil", measured=True, given_maps=True)
    image = torch.rand(48, 40, generator=torch.Generator().manual_seed(0))
    sample = data.acquired(image)
    assert sample.target.numel() == 0
    torch.testing.assert_close(sample.maps, coil_maps(3, 48, 40))
    expected = mri.apply_mask(mri.fft2c(image * coil_maps(3, 48, 40)), data.mask(0))
    torch.testing.assert_close(sample.kspace * sample.std, expected, rtol=1e-4, atol=1e-5)
