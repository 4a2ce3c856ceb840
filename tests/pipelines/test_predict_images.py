"""recon-predict on CT images in HU: DICOM folders and NIfTI, and what cannot be such."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, MRImageStorage

from data_prep import HUDataset, open_hu
from pipelines.commands import prepare, train
from pipelines.commands.predict import main, open_network
from pipelines.reconstruction.task import batch_of
from recon.physics.ct import MU_MAX
from tests.conftest import TINY
from tests.data_prep.ct_files import write_ct, write_pair
from tests.data_prep.hu_files import SPACING, THICKNESS, body, series, slice_header, write_nifti, write_series
from tests.pipelines.test_bad_input import refuse


@pytest.fixture(scope="module")
def ct_data(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("lodopab"), {"train": 1, "val": 1, "test": 1}, n_photons=4096)


@pytest.fixture(scope="module")
def ct_run(ct_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ct_run")
    flags = [*TINY, "--dataset.image_size=[32,32]", "--trainer.max_epochs=1"]
    assert train.main(["--task", "ct", "--data", str(ct_data), "--out", str(out), *flags]) == 0
    return out


@pytest.fixture
def hu():
    return body()


def predict(*argv: str | Path) -> None:
    assert main([str(token) for token in argv]) == 0


def expected(run: Path, path: Path) -> np.ndarray:
    """mu / MU_MAX (slices, rows from right to left, columns from front to back), slice by slice."""
    task = open_network(run).task.eval()
    volume = open_hu(path)
    rows, columns = volume.image_size
    found = []
    for sample in HUDataset(volume, task.network.total_stride):
        with torch.no_grad():
            output = task(batch_of(sample.image[None]))[0, 0] * sample.std
        top, left = (output.shape[0] - rows) // 2, (output.shape[1] - columns) // 2
        found.append(output[top : top + rows, left : left + columns].numpy())
    return np.stack(found)


def test_a_folder_of_dicom_slices(ct_run, hu, tmp_path, capsys):
    folder = write_series(tmp_path / "series", series(hu))
    (folder / "notes.txt").write_text("of the scanner")
    for file_format in ("hdf5", "nifti"):
        predict(ct_run, folder, "--out", tmp_path / "out", "--format", file_format)
    printed = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["series.h5", "series.nii.gz"]
    images = expected(ct_run, folder).transpose(0, 2, 1)  # as the slices lie in DICOM
    with h5py.File(tmp_path / "out" / "series.h5") as file:
        np.testing.assert_allclose(file["reconstruction"], images, atol=1e-6)
        assert file["reconstruction"].dtype == np.float32
        affine = file.attrs["affine"]
    nifti = nibabel.load(tmp_path / "out" / "series.nii.gz")
    np.testing.assert_allclose(nifti.get_fdata(), (images.T * MU_MAX - 20) * 1000 / 19.98, atol=0.02)
    np.testing.assert_allclose(nifti.affine, affine, atol=1e-5)
    assert nifti.header.get_zooms() == pytest.approx((SPACING[1], SPACING[0], THICKNESS))
    assert nibabel.aff2axcodes(nifti.affine) == ("L", "P", "S")
    np.testing.assert_allclose(nibabel.affines.apply_affine(nifti.affine, (0, 0, 2)), (90, 80, -14), atol=1e-5)
    goal = np.clip((hu * 0.01998 + 20) / MU_MAX, 0, 1)
    psnr = 10 * np.log10(np.ptp(goal, (1, 2)) ** 2 / ((images - goal) ** 2).mean((1, 2)))
    assert f"{psnr.mean():.2f}" in printed


def test_nifti_in_its_own_axes_and_place(ct_run, hu, tmp_path):
    affine = np.array([[0, 0, 5, -80], [0, 6, 0, -90], [3.0, 0, 0, 7], [0, 0, 0, 1]])  # slices first: S, A, R
    path = write_nifti(tmp_path / "scan.nii.gz", hu.transpose(0, 2, 1), affine)
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(path, folder)
    write_nifti(folder / "other.nii", hu)
    predict(ct_run, folder, "--out", tmp_path / "out", "--format", "nifti")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["other.nii.gz", "scan.nii.gz"]
    found = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    np.testing.assert_array_equal(found.affine, nibabel.load(path).affine)
    assert found.shape == (3, 32, 36)
    assert found.get_data_dtype() == np.float32
    images = expected(ct_run, path)
    stored = images.transpose(0, 2, 1)[:, ::-1, ::-1]  # right to left and front to back, turned
    np.testing.assert_allclose(found.get_fdata(), (stored * MU_MAX - 20) * 1000 / 19.98, atol=0.02)


def test_what_is_done_is_skipped_and_a_changed_slice_noticed(ct_run, hu, tmp_path, capsys):
    folder, out = write_series(tmp_path / "series", series(hu)), tmp_path / "out"
    predict(ct_run, folder, "--out", out)
    before = (out / "series.h5").read_bytes()
    capsys.readouterr()
    predict(ct_run, folder, "--out", out)
    assert "skipped" in capsys.readouterr().err
    assert "not what this run makes of" in refuse(capsys, main, ct_run, folder, "--out", out, "--photons=100")
    (out / "series.h5").unlink()
    predict(ct_run, folder, "--out", out, "--batch-size=2")
    assert (out / "series.h5").stat().st_size == len(before)
    write_series(folder, series(hu + 2))
    assert "not what this run makes of" in refuse(capsys, main, ct_run, folder, "--out", out)


def test_air_alone_has_no_psnr_but_an_image(ct_run, hu, tmp_path, capsys):
    hu[2] = -1024
    predict(ct_run, write_nifti(tmp_path / "scan.nii", hu), "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "inf" not in printed


def without(*keys: str):
    def change(headers):
        for key in keys:
            delattr(headers[1], key)

    return change


def changed(number: int = 1, **values: object):
    def change(headers):
        for key, value in values.items():
            setattr(headers[number], key, value)

    return change


def frames(headers):
    headers[1].NumberOfFrames = 2
    headers[1].PixelData *= 2


def smaller(headers):
    headers[1] = slice_header(body(1, 30, 32)[0], headers[1].ImagePositionPatient)


def missing(headers):
    headers[:] = series(body(6))
    del headers[2]


DICOM = {
    "no slope": (without("RescaleSlope"), "has no RescaleSlope"),
    "no intercept": (without("RescaleIntercept"), "has no RescaleIntercept"),
    "an empty intercept": (changed(RescaleIntercept=None), "has no RescaleIntercept"),
    "no rescale tags": (without("RescaleSlope", "RescaleIntercept"), "no RescaleSlope and no RescaleIntercept"),
    "another unit": (changed(RescaleType="ED"), "RescaleType 'ED'"),
    "a slope of zero": (changed(RescaleSlope=0), "has RescaleSlope 0 "),
    "coronal": (changed(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "is not an axial slice"),
    "sagittal": (changed(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "is not an axial slice"),
    "no orientation": (without("ImageOrientationPatient"), "ImageOrientationPatient is missing"),
    "an orientation of nothing": (changed(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "is not an axial slice"),
    "no position": (without("ImagePositionPatient"), "ImagePositionPatient is missing"),
    "no pixel size": (without("PixelSpacing"), "PixelSpacing is missing"),
    "a pixel of nothing": (changed(PixelSpacing=[0, 5]), "PixelSpacing is"),
    "several frames": (frames, "is a multi-frame file"),
    "mixed sizes": (smaller, "of 30 x 32 and of 36 x 32 pixels"),
    "mixed pixels": (changed(PixelSpacing=[4, 6]), "of 4 x 6 mm and of 5 x 6 mm"),
    "slices that are not parallel": (changed(ImageOrientationPatient=[1, 0, 0, 0, 0.995, 0.0995]), "not parallel"),
    "two series": (changed(SeriesInstanceUID="1.2.3"), "more than one series"),
    "MRI": (changed(Modality="MR", SOPClassUID=MRImageStorage), "is of modality 'MR', not CT"),
    "two at one place": (changed(ImagePositionPatient=[-90, -80, -20]), "lie at the same position"),
    "a gap": (missing, "6 mm apart, where 3 mm is usual"),
    "a slice that is moved aside": (changed(ImagePositionPatient=[-80, -80, -17]), "mm is usual"),
    "windowed values": (
        lambda headers: [setattr(h, "RescaleIntercept", 0) for h in headers],
        "cannot be HU",
    ),
    "colour": (
        changed(SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB", PixelData=b"\0" * 6912),
        "is not one image of grey values",
    ),
}


@pytest.mark.parametrize(("change", "says"), DICOM.values(), ids=DICOM)
def test_dicom_that_is_no_axial_series_in_hu(ct_run, hu, tmp_path, capsys, change, says):
    headers = series(hu)
    change(headers)
    folder = write_series(tmp_path / "series", headers)
    sentence = refuse(capsys, main, ct_run, folder, "--out", tmp_path / "out")
    assert says in sentence
    assert "series" in sentence
    assert "truncated" not in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 100, 140, 400, 1000, -1, -500])
def test_truncated_dicom(ct_run, hu, tmp_path, capsys, size):
    for suffix in (".dcm", ""):
        folder = write_series(tmp_path / f"series{suffix}", series(hu), suffix)
        victim = folder / f"0_1{suffix}"
        victim.write_bytes(victim.read_bytes()[:size])
        sentence = refuse(capsys, main, ct_run, folder, "--out", tmp_path / "out")
        assert f"0_1{suffix}" in sentence
    assert not (tmp_path / "out").exists()


def test_compressed_pixels_that_are_damaged(ct_run, hu, tmp_path, capsys):
    folder = write_series(tmp_path / "series", series(hu))
    header = dcmread(folder / "0_1.dcm")
    header.file_meta.TransferSyntaxUID = JPEG2000Lossless
    header.PixelData = encapsulate([b"no codestream" * 10])
    header["PixelData"].VR = "OB"
    header.save_as(folder / "0_1.dcm")
    assert "compressed as JPEG 2000" in refuse(capsys, main, ct_run, folder, "--out", tmp_path / "out")


NIFTI = {
    "four axes": (lambda a: a[..., None].repeat(2, -1), "has 4 axes"),
    "windowed values": (lambda a: ((a + 1000) / 8).astype(np.uint8), "cannot be HU"),
    "attenuation": (lambda a: (a * 0.00002 + 0.02).astype(np.float32), "cannot be HU"),
    "nan": (lambda a: np.where(a > 0, np.nan, a).astype(np.float32), "nan or inf"),
}


@pytest.mark.parametrize(("change", "says"), NIFTI.values(), ids=NIFTI)
def test_nifti_that_is_no_volume_in_hu(ct_run, hu, tmp_path, capsys, change, says):
    path = write_nifti(tmp_path / "scan.nii.gz", change(hu.transpose(2, 1, 0)), np.diag([5.0, 6, 3, 1]))
    assert says in refuse(capsys, main, ct_run, path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_nifti(ct_run, hu, tmp_path, capsys, suffix):
    path = write_nifti(tmp_path / f"scan{suffix}", hu)
    whole = path.read_bytes()
    for size in (0, 200, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:size])
        assert "not a readable NIfTI" in refuse(capsys, main, ct_run, path, "--out", tmp_path / "out")


def test_inputs_that_cannot_be(ct_run, ct_data, run, hu, tmp_path, capsys):
    def says(*argv: str | Path) -> str:
        sentence = refuse(capsys, main, ct_run, *argv, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return sentence

    folder = write_series(tmp_path / "study" / "series", series(hu))
    assert f"give the folder that does, such as {folder}" in says(folder.parent)
    assert "is one DICOM slice: give the folder" in says(folder / "0_1.dcm")
    write_nifti(folder / "scan.nii", hu)
    mixed = says(folder)
    assert "mixes NIfTI volumes" in mixed
    assert "and DICOM slices" in mixed
    write_pair(folder.parent)
    write_nifti(folder.parent / "scan.nii", hu)
    assert "mixes LoDoPaB observations" in says(folder.parent)
    assert "have one name" in says(folder.parent / "scan.nii", folder / "scan.nii")
    assert "they keep their size" in says(folder / "scan.nii", "--dataset.image_size=[32,32]")
    assert "--photons is for images in HU" in says(ct_data / "observation_test_000.hdf5", "--photons=100")
    assert "--photons is 0" in says(folder / "scan.nii", "--photons=0")
    assert "--photons" in says(folder / "scan.nii", "--photons=many")
    assert "scan.nii" in refuse(capsys, main, run, folder / "scan.nii", "--out", tmp_path / "out")  # a run on MRI


def test_sinograms_of_another_shape_and_truncated_ones(ct_run, ct_data, tmp_path, capsys):
    for name in ("observation_test_000.hdf5", "ground_truth_test_000.hdf5"):
        shutil.copy(ct_data / name, tmp_path)
    path = tmp_path / "observation_test_000.hdf5"
    with h5py.File(path) as file:
        values = file["data"][()]
    for wrong in (values[:, :, :-1], values[:2]):
        with h5py.File(path, "w") as file:
            file["data"] = wrong
        assert "test_000.hdf5" in refuse(capsys, main, ct_run, path, "--out", tmp_path / "out")
    path.write_bytes((ct_data / path.name).read_bytes()[:5000])
    assert "truncated" in refuse(capsys, main, ct_run, path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_on_such_sinograms_is_refused(ct_data, tmp_path, capsys):
    def says(data: Path) -> str:
        sentence = refuse(capsys, train.main, "--task=ct", "--data", data, "--out", tmp_path / "out", *TINY)
        assert not (tmp_path / "out").exists()
        return sentence

    name = "observation_train_000.hdf5"
    whole = (ct_data / name).read_bytes()
    cut = Path(shutil.copytree(ct_data, tmp_path / "cut"))
    (cut / name).write_bytes(whole[:5000])
    assert f"{name} is truncated" in says(cut)
    mixed = Path(shutil.copytree(ct_data, tmp_path / "mixed"))
    write_pair(mixed, "train_001", side=40)
    assert "keep one size in a folder" in says(mixed)
    wrong = Path(shutil.copytree(ct_data, tmp_path / "wrong"))
    with h5py.File(wrong / name, "a") as file:
        values = file["data"][:, :, :-2]
        del file["data"]
        file["data"] = values
    assert "do not fit images of 32 x 32" in says(wrong)


def test_lodopab_files_are_made_of_dicom(tmp_path, capsys):
    hu = np.full((1, 370, 380), -1000, np.int16)
    hu[0, 100:200, 150:300] = 100
    headers = [slice_header(hu[0], (0, 0, 0), spacing=(0.7, 0.7))]
    folder = write_series(tmp_path / "series", headers)
    arguments = ["simulate", "--task=ct", "--split=val", "--out", str(tmp_path / "out")]
    assert prepare.main([*arguments, str(folder)]) == 0
    with h5py.File(tmp_path / "out" / "ground_truth_validation_000.hdf5") as file:
        found = (file["data"][0].astype(np.float64) * MU_MAX - 20) * 1000 / 19.98
    np.testing.assert_allclose(found, hu[0, 4:366, 9:371].T + 0.5, atol=0.51)
    headers[0].Modality = "PT"
    write_series(folder, headers)
    arguments[-1] = str(tmp_path / "other")
    assert "not CT" in refuse(capsys, prepare.main, *arguments, folder)
    assert "holds no DICOM slices" in refuse(capsys, prepare.main, *arguments, tmp_path)
