"""recon-prepare import: what it writes can be trained on, and what it cannot take is refused in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import scipy.io
from ismrmrd.xsd import (
    accelerationFactorType,
    limitType,
    multibandCalibrationType,
    multibandSpacingType,
    multibandType,
    parallelImagingType,
    trajectoryType,
)
from PIL import Image

from data_prep import FastMRIDataset, find_volumes
from data_prep.raw.files import read_raw
from pipelines.commands import train
from pipelines.commands.prepare import main
from pipelines.runs.open import open_run
from tests.conftest import TINY
from tests.data_prep.raw_files import SHAPE, Scan, centred, fft2, known_object, other_line, space
from tests.pipelines.test_bad_input import refuse

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "real_data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the measured data are not in ../shared/real_data")


def bring(out: Path, *arguments: object) -> Path:
    """Import into a folder; gives the one file that is written."""
    assert main(["import", *map(str, arguments), "--out", str(out)]) == 0
    (written,) = out.rglob("*.h5")
    return written


def scan(**settings):
    return Scan([fft2(known_object(SHAPE))], **settings)


def test_what_is_written_can_be_read_and_the_files_mask_is_used(tmp_path, capsys):
    kept, out = sorted({*range(1, 20, 3), 9, 11}), tmp_path / "out"
    path = Scan([centred((2, 1, 24, 20))], kept).write(tmp_path / "knee.h5")
    written = bring(out, path, "--split", "test", "--subject", "anna", "--acquisition", "T2")
    said = capsys.readouterr()
    assert "9 of 20 columns were measured" in said.err
    assert "singlecoil_test/knee.h5" in said.out
    (volume,) = find_volumes(out, "singlecoil", "test")
    assert (volume.acquisition, volume.has_mask, volume.has_target) == ("T2", True, False)
    assert np.flatnonzero(FastMRIDataset(out, "test").mask(0)).tolist() == kept
    with h5py.File(written) as file:
        assert file.attrs["patient_id"] == "anna"
    assert main(["index", str(out)]) == 0
    assert "already" in refuse(capsys, main, "import", path, "--split=test", "--out", out)
    with Image.open(written.with_suffix(".png")) as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) == 255


def test_several_coils_and_files(tmp_path):
    shape, out = (3, 4, 24, 20), tmp_path / "out"
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", centred(shape))
    files = [str(tmp_path / f"{name}.npy") for name in "ab"]
    assert main(["import", *files, "--axes", "slice,coil,readout,phase", "--out", str(out)]) == 0
    assert sorted(path.name for path in (out / "multicoil_train").iterdir()) == ["a.h5", "a.png", "b.h5", "b.png"]
    dataset = FastMRIDataset(out, "train", "multicoil")
    assert len(dataset) == 6
    with h5py.File(out / "multicoil_train" / "a.h5") as file:
        assert [file.attrs["patient_id"], file["kspace"].shape] == ["a", shape]


@pytest.mark.parametrize("size", [(21, 18), (24, 20), (32, 16)])
def test_sides_are_filled_up_with_zeros_around_the_same_centre(size, tmp_path):
    """The image of the same field of view, interpolated: what a network can take, with a target all the same."""
    np.save(tmp_path / "a.npy", centred((1, 1, *size))[0, 0])
    plain = bring(tmp_path / "plain", tmp_path / "a.npy")
    filled = bring(tmp_path / "filled", tmp_path / "a.npy", "--multiple=16")
    with h5py.File(plain) as one, h5py.File(filled) as other:
        before, after = one["kspace"][0], other["kspace"][0]
        sides = [-(-n // 16) * 16 for n in size]
        assert after.shape == tuple(sides)
        first = [m // 2 - n // 2 for m, n in zip(sides, size, strict=True)]
        inside = tuple(slice(start, start + n) for start, n in zip(first, size, strict=True))
        np.testing.assert_array_equal(after[inside], before)
        assert np.count_nonzero(after) == np.count_nonzero(before)
        assert "mask" not in other
        energies = [np.square(file["reconstruction_esc"][0]).sum() for file in (one, other)]
        assert energies[1] == pytest.approx(energies[0], rel=1e-4)


@pytest.mark.training
def test_three_people_are_trained_on_in_folds(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    for name in ("anna", "bert", "carl"):
        np.save(tmp_path / f"{name}.npy", centred((2, 1, 24, 20))[:, 0])
        arguments = [str(tmp_path / f"{name}.npy"), "--axes=slice,readout,phase", f"--out={data}", f"--subject={name}"]
        assert main(["import", *arguments]) == 0
    flags = [f"--data={data}", f"--out={out}", *TINY, "--trainer.max_epochs=1", "--dataset.folds=3", "--dataset.fold=1"]
    assert train.main(["--task=mri", *flags, "--evaluation.split=test"]) == 0
    said = json.loads((out / "summary.json").read_text())
    assert "fold 1 of 3 by subject" in said["data"]
    run = open_run(out)
    assert [volume.name for volume in run.dataset.volumes] == ["bert"]
    assert [volume.name for volume in open_run(out, split="val").dataset.volumes] == ["carl"]


class TestMeasured:
    """On real measurements."""

    @real
    def test_the_cup_phantom(self, tmp_path, capsys):
        written = bring(tmp_path, REAL / "cup_phantom.mat")
        assert capsys.readouterr().err.count("note:") == 0
        expected = scipy.io.loadmat(REAL / "cup_phantom.mat")["ksp"]
        with h5py.File(written) as file:
            np.testing.assert_allclose(file["kspace"][0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
            image = file["reconstruction_esc"][0]
        assert image[70:85, 45:85].min() > 5 * image[:20].mean()  # the cup, and air

    @real
    def test_low_field(self, tmp_path):
        """The same array in NumPy's file and in HDF5; its zero filling is found without being told."""
        with h5py.File(REAL / "mri_lowfield.h5") as file:
            values, known = file["7B/FLAIR"][()], file["7B/FLAIR"].attrs["measured_columns"]
        np.save(tmp_path / "array.npy", values)
        (raw,) = read_raw(tmp_path / "array.npy", axes="slice,readout,phase")
        (same,) = read_raw(REAL / "mri_lowfield.h5", "7B/FLAIR", "slice,readout,phase")
        np.testing.assert_array_equal(raw.kspace, same.kspace)
        np.testing.assert_allclose(raw.kspace[:, 0], values, rtol=0, atol=1e-6 * np.abs(values).max())
        np.testing.assert_array_equal(raw.measured, known)
        assert raw.is_complete
        assert raw.remarks() == []


PARALLEL = accelerationFactorType(kspace_encoding_step_1=1, kspace_encoding_step_2=1)
BANDS = multibandType(
    spacing=[multibandSpacingType(dZ=[1.0])],
    deltaKz=1.0,
    multiband_factor=2,
    calibration=multibandCalibrationType.FULL3_D,
    calibration_encoding=0,
)
SCANS = {
    "radial": (scan(header={"trajectory": trajectoryType.RADIAL}), "trajectory radial"),
    "3-D": (scan(header={"encodedSpace": space(8, 6, 4)}), "3-D scan of 4 steps"),
    "3-D by its limits": (
        scan(header={"encodingLimits.kspace_encoding_step_2": limitType(minimum=0, maximum=4, center=2)}),
        "3-D scan of 5 steps",
    ),
    "3-D by its lines": (scan(line={"kspace_encode_step_2": 1}), "3-D scan"),
    "EPI": (scan(flags={3: (ismrmrd.ACQ_IS_REVERSE,)}), "holds lines read in reverse (EPI"),
    "EPI by its trajectory": (scan(header={"trajectory": trajectoryType.EPI}), "holds lines read in reverse (EPI"),
    "several bands": (
        scan(header={"parallelImaging": parallelImagingType(accelerationFactor=PARALLEL, multiband=BANDS)}),
        "2 slices at once",
    ),
    "several encodings": (scan(line={"encoding_space_ref": 1}), "several encodings"),
    "coils that differ": (scan(before=[other_line(2, ismrmrd.ACQ_FIRST_IN_SLICE)]), "1 and 2 coils"),
    "noise alone": (scan(columns=[3], flags={3: (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,)}), "no lines of an image"),
    "a line outside": (scan(line={"kspace_encode_step_1": 6}), "into the encoded matrix of 8 x 6"),
    "a readout outside": (scan(line={"center_sample": 3}), "into the encoded matrix of 8 x 6"),
    "slices that differ": (scan(before=scan(columns=[3], line={"slice": 7}).lines()), "slice 7 was measured on 1"),
    "nan": (Scan([np.full(SHAPE, np.nan)]), "nan, inf"),
    "zero": (Scan([np.zeros(SHAPE)]), "zero everywhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCANS)
def test_scans_that_are_refused(tmp_path, capsys, name):
    given, message = SCANS[name]
    path = given.write(tmp_path / "scan.h5")
    assert message in (said := refuse(capsys, main, "import", path, "--out", tmp_path / "out"))
    assert str(path) in said
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each kind, whole or not."""
    folder, kspace = tmp_path_factory.mktemp("files"), centred()
    np.save(folder / "four.npy", kspace)
    np.save(folder / "two.npy", kspace[0, 0])
    np.save(folder / "real.npy", np.abs(kspace[0, 0]))
    np.save(folder / "inf.npy", np.where(kspace[0, 0] == 100, np.inf, kspace[0, 0]))
    np.save(folder / "huge.npy", kspace[0, 0] * 1e60)
    np.save(folder / "empty.npy", kspace[:, :, :0])
    np.save(folder / "coils.npy", centred((1, 4, 24, 20))[0])
    (folder / "cut.npy").write_bytes((folder / "two.npy").read_bytes()[:300])
    (folder / "damaged.npy").write_bytes((folder / "two.npy").read_bytes().replace(b"(8, 6)", b"(8, 6("))
    scipy.io.savemat(folder / "several.mat", {"a": kspace, "b": kspace[0]})
    (folder / "cut.mat").write_bytes((folder / "several.mat").read_bytes()[:700])
    (folder / "words.txt").write_text("words")
    with h5py.File(folder / "arrays.h5", "w") as file:
        file["7B/FSE"], file["7B/GRE"], file["mask"] = kspace, kspace, np.ones((3, 3))
    with h5py.File(folder / "reals.h5", "w") as file:
        file["mask"] = np.ones((3, 3))
    scan().write(folder / "scan.h5")
    scan().write(folder / "scans.h5", "first")
    scan().write(folder / "scans.h5", "second")
    with h5py.File(Scan([kspace]).write(folder / "words.h5"), "r+") as file:
        file["dataset/xml"][0] = b"no header"
    with h5py.File(Scan([kspace]).write(folder / "numbers.h5"), "r+") as file:
        del file["dataset/data"]
        file["dataset/data"] = np.arange(5)
    (folder / "cut.h5").write_bytes((folder / "scan.h5").read_bytes()[:9000])
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.h5", "there is no such file"),
        (".", "it is a folder"),
        ("words.txt", "unknown kind"),
        ("four.npy", "has 4 dimensions (2 x 1 x 8 x 6): say by --axes"),
        ("four.npy --axes slice,readout,phase", "but --axes slice,readout,phase names 3"),
        ("two.npy --axes readout,phaze", "'phaze' (did you mean 'phase'?)"),
        ("two.npy --axes readout,readout", "names readout twice"),
        ("two.npy --axes rows,readout", "names readout twice"),
        ("two.npy --axes slice,phase", "has no readout"),
        ("two.npy --axes readout,phase --phase-encoding rows", "leave it out"),
        ("two.npy --variable a", "leave --variable out"),
        ("real.npy", "holds float64, not complex numbers"),
        ("inf.npy", "nan, inf"),
        ("huge.npy", "beyond float32"),
        ("empty.npy --axes slice,coil,readout,phase", "has the shape 2 x 1 x 0 x 6"),
        ("coils.npy --axes coil,readout,phase --challenge singlecoil", "has 4 coils: give --challenge multicoil"),
        ("cut.npy", "not a readable .npy file"),
        ("damaged.npy", "not a readable .npy file"),
        ("several.mat", "choose by --variable one of a (2 x 1 x 8 x 6), b (1 x 8 x 6)"),
        ("several.mat --variable c", "no array c: give --variable one of a (2 x 1 x 8 x 6), b (1 x 8 x 6)"),
        ("cut.mat --variable a", "not a readable MATLAB file"),
        ("arrays.h5", "several arrays: choose by --variable one of 7B/FSE (2 x 1 x 8 x 6), 7B/GRE"),
        ("arrays.h5 --variable 7B", "no array 7B"),
        ("arrays.h5 --variable mask", "not complex numbers"),
        ("reals.h5", "no complex array"),
        ("scan.h5 --axes readout,phase", "tells its axes"),
        ("scans.h5", "several scans: choose by --variable one of first, second"),
        ("words.h5", "'dataset/xml' is not a usable ISMRMRD header"),
        ("numbers.h5", "the acquisitions are damaged"),
        ("cut.h5", "cut.h5"),
    ],
)
def test_files_that_are_refused(files, tmp_path, capsys, arguments, message):
    name, *flags = arguments.split()
    assert message in refuse(capsys, main, "import", files / name, *flags, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_of_two_scans_in_a_file(files, tmp_path):
    assert bring(tmp_path, files / "scans.h5", "--variable", "second").name == "scans-second.h5"


def test_without_the_package(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ismrmrd.file", None)
    assert "install 'shift-equivariant-recon[import]'" in refuse(
        capsys, main, "import", files / "scan.h5", "--out", tmp_path / "out"
    )
