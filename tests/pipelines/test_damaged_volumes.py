"""NIfTI and DICOM files that are damaged, or hold more than pixels, at the command line."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from data_prep import open_hu, read_hu
from data_prep.storage.nifti import nifti_description, write_nifti_like
from pipelines.commands.prepare import main
from pipelines.reconstruction.inputs import find_inputs
from pipelines.tasks import TASKS
from recon.errors import InputError
from tests.data_prep.hu_files import SPACING, body, series, slice_header, write_nifti, write_series
from tests.pipelines.test_bad_input import refuse


def refused(capfd, path: Path) -> list[str]:
    """The sentences of all that reads the file; nothing else is printed, by nibabel either."""
    sentences = [
        refuse(capfd, main, "simulate", f"--task={task}", path, "--out", path.parent / "out") for task in ("mri", "ct")
    ]
    with pytest.raises(InputError) as caught:
        nifti_description(path)
    return [*sentences, str(caught.value)]


def test_flipped_bits_in_compressed_nifti(capfd, tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(-1000, 1000, (12, 10, 3), np.int16)
    path = write_nifti(tmp_path / "scan.nii.gz", noise, np.diag([5.0, 6, 3, 1]))
    whole = path.read_bytes()
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[int(random.integers(20, len(whole)))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        assert all("scan.nii.gz is not a readable NIfTI" in sentence for sentence in refused(capfd, path))


HEADERS = {  # offset in the header of NIfTI-1, and what is put there
    "an unknown type": (70, np.int16(3)),
    "negative axes": (42, np.int16([-5, 4])),
    "more axes than there can be": (40, np.int16(300)),
    "an offset of infinity": (108, np.float32(np.inf)),
    "an offset of nan": (108, np.float32(np.nan)),
    "an offset within the header": (108, np.float32(16)),
    "a slope without an intercept": (112, np.float32([2, np.inf])),
    "a quaternion of nan": (252, np.array([1, 0], np.int16).tobytes() + np.float32([2, 2, 2]).tobytes()),
    "another magic word": (344, np.frombuffer(b"nope", np.uint8)),
    "32767 columns": (42, np.int16([32767, 32767, 32767])),
    "10^9 columns": (42, np.int16([-1, 1, 1])),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_headers(capfd, tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    whole = write_nifti(tmp_path / "whole.nii", body()).read_bytes()
    for name, (offset, values) in HEADERS.items():
        put = values if isinstance(values, bytes) else values.tobytes()
        damaged = whole[:offset] + put + whole[offset + len(put) :]
        if name == "10^9 columns":  # FreeSurfer's way to say it
            damaged = damaged[:140] + np.int32([10**9]).tobytes() + np.int32([10**9]).tobytes() + damaged[148:]
        path.write_bytes(gzip.compress(damaged) if suffix == ".nii.gz" else damaged)
        assert all(f"scan{suffix}" in sentence for sentence in refused(capfd, path)), name


def test_nifti_in_capital_letters_is_found(tmp_path):
    for name in ("one.NII.GZ", "two.nii.gz", "three.Nii"):
        write_nifti(tmp_path / "here.nii", body()).rename(tmp_path / name)
    found = find_inputs([str(tmp_path)], TASKS["ct"].inputs)
    assert [each.name for each in found] == ["one", "three", "two"]
    np.testing.assert_array_equal(read_hu(open_hu(found[0].path)), body().transpose(0, 2, 1))


def test_a_shear_stands_in_the_sform_alone(tmp_path):
    """A quaternion cannot hold it: programs that read the qform first were 8 mm off. A straight series keeps both."""
    angle = np.radians(12)
    tilted = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    for name, orientation, code in (("tilted", tilted, 0), ("straight", (1, 0, 0, 0, 1, 0), 1)):
        headers = [slice_header(image, (-90, -80, 3 * n), orientation) for n, image in enumerate(body())]
        volume = open_hu(write_series(tmp_path / name, headers))
        write_nifti_like(tmp_path / "out.nii.gz", np.zeros(volume.shape, np.float32), volume.affine, None)
        image = nibabel.load(tmp_path / "out.nii.gz")
        affine, sform_code = image.get_sform(coded=True)
        assert (sform_code, int(image.header["qform_code"])) == (1, code), name
        corner = (31, 35, 2)
        x, y, z = np.array(orientation[:3]) * 31 * SPACING[1] + np.array(orientation[3:]) * 35 * SPACING[0]
        np.testing.assert_allclose(apply_affine(affine, corner), (90 - x, 80 - y, z + 6), atol=1e-3)
        np.testing.assert_allclose(image.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize(("value", "limit"), [(63536, None), (-2000, None), (60000, 65535), (65535, 60000)])
def test_padded_pixels_are_air(tmp_path, value, limit):
    """Stored as 63536, they were 126048 HU with slope 2; signed and unsigned ones are the same bits."""
    headers = series(body())
    for header in headers:
        pixels = np.frombuffer(header.PixelData, "<u2").reshape(header.Rows, header.Columns).copy()
        pixels[:3] = 63536
        header.PixelData = pixels.tobytes()
        header.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        if limit is not None:
            header.add_new("PixelPaddingRangeLimit", "US", limit)
    expected = body()
    expected[:, :3] = -1000
    found = read_hu(open_hu(write_series(tmp_path / "series", headers)))
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 1))


def test_text_beside_slices_is_no_slice(tmp_path):
    folder = write_series(tmp_path / "series", series(body()), suffix="")
    (folder / "README").write_text("The scanner's manual, in Köln: 3 slices.\n")
    (folder / "SHA256SUMS.1").write_text("0f 0_1\n")
    assert open_hu(folder).n_slices == 3


def test_a_cut_slice_is_called_truncated(capsys, tmp_path):
    folder = write_series(tmp_path / "series", series(body()))
    path = folder / "0_1.dcm"
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 67):
        path.write_bytes(whole[:size])
        sentence = refuse(capsys, main, "simulate", "--task=ct", folder, "--out", tmp_path / "out")
        assert "0_1.dcm is truncated" in sentence
        assert "force" not in sentence


def test_one_slice_without_thickness_is_told(capsys, tmp_path):
    header = series(body(1))[0]
    del header.SliceThickness
    volume = open_hu(write_series(tmp_path / "one", [header]))
    assert volume.voxel_size_mm[0] == 1
    assert "it is taken for 1 mm" in capsys.readouterr().err
    header.SliceThickness = 2.5
    assert open_hu(write_series(tmp_path / "other", [header])).voxel_size_mm[0] == 2.5
    assert capsys.readouterr().err == ""


def test_sizes_that_no_scan_has(capsys, tmp_path):
    for shape, size in (((4, 5000, 2), (5.0, 0.1, 1)), ((40, 40, 2), (0.5, 20.0, 1))):
        path = write_nifti(tmp_path / "scan.nii", np.full(shape, -1000, np.int16), np.diag([*size, 1]))
        sentence = refuse(capsys, main, "simulate", "--task=ct", path, "--out", tmp_path / "out")
        assert "simulated of 4096 at most" in sentence
