"""Volumes in HU: the same one from DICOM and NIfTI, in one layout, and back in its own place."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from data_prep import HUDataset, open_hu, read_hu
from data_prep.hounsfield.volume import scanner_for
from data_prep.storage.nifti import write_nifti_like
from recon.errors import InputError
from recon.physics.ct import LODOPAB, MU_MAX, fbp, photon_noise, ray_transform
from tests.data_prep.hu_files import (
    SPACING,
    THICKNESS,
    body,
    series,
    slice_header,
    write_nifti,
    write_series,
)


@pytest.fixture
def hu():
    return body()


def test_dicom_and_nifti_of_one_body_are_one_volume(hu, tmp_path):
    """DICOM's axes are LPS and NIfTI's RAS: signs, order and the half turn of both must agree."""
    dicom = open_hu(write_series(tmp_path / "series", series(hu), suffix=""))
    nifti = open_hu(write_nifti(tmp_path / "body.nii.gz", hu))
    np.testing.assert_allclose(dicom.affine, nifti.affine, atol=1e-9)
    assert dicom.shape == nifti.shape == (32, 36, 3)
    assert (dicom.name, nifti.name) == ("series", "body")
    for volume in (dicom, nifti):
        np.testing.assert_array_equal(read_hu(volume), hu.transpose(0, 2, 1))  # rows from right to left, as LoDoPaB
        assert volume.image_size == (32, 36)
        assert volume.voxel_size_mm == pytest.approx((THICKNESS, SPACING[1], SPACING[0]))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ARS"])
def test_any_order_and_direction_of_the_axes(hu, tmp_path, codes):
    straight = nibabel.load(write_nifti(tmp_path / "straight.nii", hu))
    turn = ornt_transform(io_orientation(straight.affine), axcodes2ornt(codes))
    turned = apply_orientation(np.asanyarray(straight.dataobj), turn)
    affine = straight.affine @ inv_ornt_aff(turn, straight.shape)
    volume = open_hu(write_nifti(tmp_path / "turned.nii", turned, affine))
    assert "".join(nibabel.aff2axcodes(volume.affine)) == codes
    images = read_hu(volume)
    np.testing.assert_array_equal(images, hu.transpose(0, 2, 1))
    np.testing.assert_array_equal(volume.as_stored(images), turned)
    assert volume.voxel_size_mm == pytest.approx((THICKNESS, SPACING[1], SPACING[0]))
    write_nifti_like(tmp_path / "out.nii.gz", volume.as_stored(images), volume.affine, volume.header, "made by")
    out = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(out.get_fdata(), turned)
    np.testing.assert_array_equal(out.affine, volume.affine)
    assert (out.get_sform(coded=True)[1], out.get_qform(coded=True)[1]) == (
        volume.header["sform_code"],
        volume.header["qform_code"],
    )


def test_a_tilted_gantry_keeps_its_shear(hu, tmp_path):
    """The slices are tilted by 20 degrees, the table moves along the body."""
    angle = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    headers = [slice_header(image, (0, 0, 4 * n), orientation) for n, image in enumerate(hu)]
    volume = open_hu(write_series(tmp_path / "head", headers))
    for voxel in np.ndindex(2, 2, 3):
        x, y, z = np.array(orientation[:3]) * voxel[0] * SPACING[1] + np.array(orientation[3:]) * voxel[1] * SPACING[0]
        found = nibabel.affines.apply_affine(volume.affine, voxel)
        np.testing.assert_allclose(found, (-x, -y, z + 4 * voxel[2]), atol=1e-9)
    assert volume.n_slices == 3


def test_slices_from_head_to_feet_and_a_single_one(hu, tmp_path):
    prone = [slice_header(image, (0, 0, 3 * n), (-1, 0, 0, 0, 1, 0)) for n, image in enumerate(hu)]  # normal is down
    volume = open_hu(write_series(tmp_path / "prone", prone))
    assert nibabel.aff2axcodes(volume.affine) == ("R", "P", "I")
    np.testing.assert_array_equal(read_hu(volume), hu[:, :, ::-1].transpose(0, 2, 1))
    one = open_hu(write_series(tmp_path / "one", series(hu[:1])))
    assert one.shape == (32, 36, 1)
    assert one.voxel_size_mm[0] == THICKNESS


def test_the_scanner_is_lodopabs_around_the_image():
    side = 0.26 / 362
    found = scanner_for((362, 362), (side, side))
    assert replace(found, extent=LODOPAB.extent, detector_extent=LODOPAB.detector_extent) == LODOPAB
    assert found.extent == pytest.approx(LODOPAB.extent)
    wide = scanner_for((100, 50), (0.001, 0.003))
    assert wide.extent == pytest.approx((0.1, 0.15))
    assert wide.detector_extent == pytest.approx(np.hypot(0.1, 0.15))
    assert wide.detector_spacing <= 0.001


def test_samples_are_simulated_in_true_size_from_a_finer_grid(hu, tmp_path):
    """Line integrals in metres of the header: twice the pixel gives twice the integral; the projection of the
    reconstruction's own grid (the inverse crime) is another one."""
    nifti = write_nifti(tmp_path / "body.nii", hu)
    dataset = HUDataset(open_hu(nifti), multiple=16, n_photons=1e14)
    geometry = dataset.volumes[0].geometry
    assert dataset.shapes == [(32, 48, True)] * 3
    target = torch.from_numpy((hu.transpose(0, 2, 1) * 0.01998 + 20) / MU_MAX).clamp(0, 1).float()
    for number, sample in enumerate(dataset):
        torch.testing.assert_close(sample.target[0, :, 6:42], target[number])
        assert float(sample.target[0, :, :6].abs().max()) == 0
        assert float(sample.data_range) == pytest.approx(float(target[number].max() - target[number].min()))
    crime = fbp(ray_transform(target, geometry), geometry, "hann", 0.641)
    found = torch.stack([sample.image[0, :, 6:42] * sample.std for sample in dataset])
    difference = float((found - crime).norm() / crime.norm())
    assert 1e-3 < difference < 0.1
    inside = found[:, 14:18, 16:20].mean() / target[:, 14:18, 16:20].mean()
    assert float(inside) == pytest.approx(1, abs=0.03)  # in 1/m, whatever the pixel size


def test_noise_depends_on_name_and_slice_alone(hu, tmp_path):
    one, same, other = (
        HUDataset(open_hu(write_nifti(tmp_path / folder / f"{name}.nii", hu)), n_photons=1000)
        for folder, name in (("a", "body"), ("b", "body"), ("a", "other"))
        if (tmp_path / folder).mkdir(exist_ok=True) is None
    )
    assert torch.equal(one[1].image, same[1].image)
    assert not torch.equal(one[1].image, other[1].image)
    single = HUDataset(open_hu(tmp_path / "a" / "body.nii"), n_photons=1000)
    single._batch = 1
    assert torch.equal(single[2].image, one[2].image)  # whatever is measured together
    volume = one.volumes[0]
    target = torch.from_numpy(hu.transpose(0, 2, 1)[1] * 0.01998 + 20).float()
    noisy = photon_noise(ray_transform(target, volume.geometry), np.random.default_rng(0), 1000)
    expected = fbp(noisy, volume.geometry, "hann", 0.641).std()
    assert float(one[1].image.std() / 16 * MU_MAX) == pytest.approx(float(expected), rel=0.05)


def test_more_photons_are_less_noise(hu, tmp_path):
    volume = open_hu(write_nifti(tmp_path / "body.nii", hu))
    few, more, many = (HUDataset(volume, n_photons=n)[1].image for n in (1e5, 1.6e6, 1e14))
    assert float((few - many).std() / (more - many).std()) == pytest.approx(4, rel=0.2)


def test_a_flat_slice_is_a_slice_too(hu, tmp_path):
    hu[1] = -1024
    dataset = HUDataset(open_hu(write_nifti(tmp_path / "body.nii", hu)))
    assert float(dataset[1].data_range) == 0
    assert dataset[1].image.isfinite().all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.astype(np.float32) / 1000, "cannot be HU"),
        (lambda a: (a + 1000).astype(np.uint8), "from 0 to"),
        (lambda a: np.where(a > 0, np.nan, a), "nan or inf"),
        (lambda a: a.astype(np.int32) * 1000, "cannot be HU"),
        (lambda a: a.astype(np.complex64), "complex64"),
        (lambda a: a[..., None].repeat(2, -1), "has 4 axes"),
    ],
)
def test_nifti_that_is_no_volume_in_hu(hu, tmp_path, change, says):
    path = write_nifti(tmp_path / "body.nii", change(hu), np.diag([5.0, 5, 5, 1]))
    with pytest.raises(InputError, match=says):
        open_hu(path)


def test_nifti_in_no_place(hu, tmp_path):
    for scale, says in ((0.001, "mm, which no CT image is"), (200, "mm, which no CT image is")):
        path = write_nifti(tmp_path / "body.nii", hu, np.diag([scale, scale, scale, 1]))
        with pytest.raises(InputError, match=says):
            open_hu(path)
    tilted = np.eye(4)
    tilted[1:3, 1:3] = [[0.75, -0.66], [0.66, 0.75]]
    with pytest.raises(InputError, match="tilted"):
        open_hu(write_nifti(tmp_path / "body.nii", hu, tilted))
