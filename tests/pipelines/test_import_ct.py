"""Raw counts imported as scans, and recon-predict on them with their own geometry, parallel and fan."""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.projections.dataset import ScanDataset
from data_prep.projections.inputs import SCANS
from data_prep.projections.scan_file import is_scan, read_scan, write_scan
from pipelines.commands import train
from pipelines.commands.predict import main as predict
from pipelines.commands.predict import open_network
from pipelines.commands.prepare import main as prepare
from pipelines.reconstruction.task import batch_of
from recon.errors import InputError
from recon.physics.ct import FanBeam, ParallelBeam, fbp, ray_transform
from tests.conftest import TINY
from tests.data_prep.ct_files import write_ct
from tests.data_prep.test_projections import CENTRE, SCAN, TOOTH, N, exchange
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_ct_networks import flags

SIDE, MU = 48, 300.0
PARALLEL = ParallelBeam(SIDE, SIDE, (0.048, 0.048), 60, SIDE, 0.048).rotating_about(21.3)
FAN = replace(
    FanBeam(SIDE, SIDE, (0.024, 0.024), 90, SIDE, 0.048, source_to_origin=0.2, source_to_detector=0.4),
    theta=tuple(np.linspace(0.1, 0.1 + 2 * math.pi, 90, endpoint=False).tolist()),
)
GEOMETRIES = {"parallel": PARALLEL, "fan": FAN}


def disc():
    """A smooth disc off the middle, (1, rows, columns) in 1/m; none of its symmetries hides a turned image."""
    x = (torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2) / SIDE
    distance = torch.hypot(x[:, None] - 0.12, 1.5 * (x + 0.06))
    return MU * torch.sigmoid((0.2 - distance) / 0.03)[None]


def scan_of(path, geometry, mu_max=MU):
    write_scan(path, ray_transform(disc(), geometry), geometry, mu_max)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("lodopab"), {"train": 1, "val": 1, "test": 1}, n_photons=4096)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    small = [*TINY, "--dataset.image_size=[32,32]", "--trainer.max_epochs=1"]
    assert train.main(["--task", "ct", "--data", str(data), "--out", str(out), *small]) == 0
    return out


def test_raw_counts_become_a_scan(tmp_path, capsys):
    raw, out = exchange(tmp_path / "tooth.h5"), tmp_path / "out"
    assert prepare(["import", "--task=ct", str(raw), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "found by registering" in said.out
    assert f"{raw}: no --pixel-size was given" in said.err
    assert sorted(path.name for path in out.iterdir()) == ["tooth.h5", "tooth.png"]
    scan = read_scan(out / "tooth.h5")
    assert (scan.n_slices, scan.image_size, scan.geometry.n_angles) == (2, (N, N), 91)
    assert scan.geometry.detector_spacing == pytest.approx(1e-3)
    assert scan.geometry.detector_offset == pytest.approx(1e-3 * SCAN.detector_offset, abs=3e-4)
    with h5py.File(out / "tooth.h5") as file:
        assert file.attrs["n_photons"] == pytest.approx(2e4, rel=0.2)
    assert 0.5 < ScanDataset(scan)[0].image.max() / 16 < 1.5, "of order 1 before std, as LoDoPaB's images"
    with Image.open(out / "tooth.png") as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) == 255
    assert "already" in refuse(capsys, prepare, "import", "--task=ct", raw, "--out", out)


def test_flags_of_import(tmp_path):
    raw, out = exchange(tmp_path / "tooth.h5", noise=False), tmp_path / "out"
    given = ["--every=3", "--rows=1:2", f"--rotation-centre={CENTRE}", "--pixel-size=0.5"]
    assert prepare(["import", "--task=ct", str(raw), "--out", str(out), *given]) == 0
    scan = read_scan(out / "tooth.h5")
    expected = torch.tensor(SCAN.theta, dtype=torch.float64)[::3]
    assert (scan.n_slices, scan.geometry.detector_spacing) == (1, pytest.approx(0.5e-3))
    assert scan.geometry.detector_offset == pytest.approx(0.5e-3 * SCAN.detector_offset)
    torch.testing.assert_close(scan.geometry.angles, expected)


@pytest.mark.parametrize("beam", GEOMETRIES)
def test_a_scan_is_back_projected_by_its_own_geometry(beam, tmp_path):
    geometry = GEOMETRIES[beam]
    dataset = SCANS.open(
        scan_of(tmp_path / "scan.h5", geometry), {"window": "hann", "frequency_scaling": 1.0}, 32, 4096
    )
    assert (dataset[0].image.shape, dataset.volumes[0].has_target) == ((1, 64, 64), False)
    image = dataset.without_padding(dataset[0].image * dataset[0].std, 0)[0].double() * MU
    expected = disc()[0]

    def error(image):
        return float((image - expected).norm() / expected.norm())

    assert error(image) < 0.08, "the filter, and few views"
    assert error(image.mT) > 0.2, "control: turned"
    centred = replace(geometry, detector_offset=0.003 + geometry.detector_offset)
    other = fbp(ray_transform(disc(), geometry), centred, "hann")[0]
    assert error(other) > 0.2, "control: another centre of rotation"


@pytest.mark.training
@pytest.mark.parametrize("beam", GEOMETRIES)
def test_prediction(beam, run, tmp_path):
    path, out = scan_of(tmp_path / "scan.h5", GEOMETRIES[beam], mu_max=250.0), tmp_path / "out"
    for file_format in ("hdf5", "nifti"):
        assert predict([str(run), str(path.parent), "--out", str(out), "--format", file_format]) == 0
    network = open_network(run)
    sample = ScanDataset(read_scan(path), network.task.total_stride)[0]
    with torch.inference_mode():
        mu = (network.task.eval()(batch_of(sample.image[None]))[0, 0] * sample.std * 250).numpy()
    with h5py.File(out / "scan.h5") as file:
        np.testing.assert_allclose(file["reconstruction"][0], mu, rtol=1e-4, atol=1e-3)
    nifti = nibabel.load(out / "scan.nii.gz")
    np.testing.assert_allclose(nifti.get_fdata()[..., 0], mu, rtol=1e-4, atol=1e-3)
    assert nifti.header.get_zooms() == pytest.approx([1e3 * GEOMETRIES[beam].pixel_size[0]] * 3)


@pytest.mark.training
def test_what_prediction_refuses(run, data, tmp_path, capsys):
    scan, raw, out = scan_of(tmp_path / "scan.h5", PARALLEL), exchange(tmp_path / "raw.h5"), tmp_path / "out"

    def says(*arguments):
        return refuse(capsys, predict, *arguments, "--out", out)

    assert "raw counts" in says(run, raw)
    assert "they keep their size" in says(run, scan, "--dataset.image_size=[32,32]")
    assert "measured has its noise already" in says(run, scan, "--photons=9")
    inside = tmp_path / "inside"
    assert train.main([*flags(data, "primal_dual"), "--trainer.max_epochs=1", f"--out={inside}"]) == 0
    capsys.readouterr()
    assert "give a run of --network unet" in says(inside, scan)
    assert not out.exists()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--axes=slice,rows,columns", "--axes is for --task mri"),
        ("--split=test", "--split is for --task mri"),
        ("--rows=7:3", "'7:3' are no rows"),
        ("--rows=5:6", "empty in the rows"),
        ("--every=50", "leaves one of 91 views"),
        ("--rotation-centre=96", "give 0 to 95"),
        ("--pixel-size=0", "not a number from"),
    ],
)
def test_flags_that_are_refused(tmp_path, capsys, flag, says):
    raw, out = exchange(tmp_path / "tooth.h5"), tmp_path / "out"
    assert says in refuse(capsys, prepare, "import", "--task=ct", raw, "--out", out, flag)
    assert not out.exists()


def test_flags_of_ct_are_not_of_mri(tmp_path, capsys):
    said = refuse(capsys, prepare, "import", tmp_path / "a.npy", "--out", tmp_path / "out", "--every=2")
    assert "--every is for --task ct" in said


def test_nothing_attenuates(tmp_path, capsys):
    white = np.full((91, 2, N), 200.0)
    raw = exchange(tmp_path / "air.h5", data=white, data_white=white)
    said = refuse(capsys, prepare, "import", "--task=ct", raw, "--rotation-centre=40", "--out", tmp_path / "out")
    assert "nothing that attenuates" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": None}, "no dataset data"),
        ({"theta": None}, "no dataset theta"),
        ({"data": np.zeros((1, 60, SIDE))}, "data is float64"),
        ({"data": np.full((1, 60, SIDE), np.nan, np.float32)}, "slice 0 has values that are not finite"),
        ({"theta": np.zeros(59)}, "for 60 views"),
        ({"theta": np.full(60, np.inf)}, "no scanner that can be"),
        ({"beam": "cone"}, "beam is 'cone'"),
        ({"beam": "fan"}, "attribute source_to_origin is None"),
        ({"mu_max": 0.0}, "above 0"),
        ({"mu_max": "much"}, "attribute mu_max is 'much'"),
        ({"detector_spacing": -1.0}, "no scanner that can be"),
    ],
)
def test_damaged_scans(tmp_path, changes, says):
    path = scan_of(tmp_path / "scan.h5", PARALLEL)
    assert is_scan(path)
    with h5py.File(path, "a") as file:
        for key, value in changes.items():
            if key in ("data", "theta"):
                del file[key]
                if value is not None:
                    file[key] = value
            else:
                file.attrs[key] = value
    with pytest.raises(InputError, match=says) as error:
        read_scan(path)
    assert str(path) in str(error.value)


@pytest.mark.skipif(not TOOTH.is_file(), reason="the measured tooth is not in ../shared/real_data")
def test_the_measured_tooth(tmp_path):
    assert prepare(["import", "--task=ct", str(TOOTH), "--out", str(tmp_path), "--every=3", "--rows=0:1"]) == 0
    scan = read_scan(tmp_path / TOOTH.name)
    assert (scan.geometry.n_angles, scan.image_size) == (61, (640, 640))
    image = ScanDataset(scan)[0].image[0] / 16
    assert image[420:440, 280:300].mean() > 0.6, "the wall of the tooth"
    assert image[150:200, 100:150].mean().abs() < 0.1, "air"
