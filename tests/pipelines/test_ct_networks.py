"""CT networks with the sinogram inside, by name: trained, resumed, measured, and used like any other."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data_prep import LoDoPaBDataset, Scan
from pipelines.commands import evaluate, predict, train
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import shifted, sinogram_of
from pipelines.runs.checkpoints import read_checkpoint
from pipelines.runs.config import parse
from pipelines.tasks import TASKS, open_dataset
from recon.errors import InputError
from recon.physics.ct import MU_MAX, fbp, ray_transform
from tests import fresh
from tests.data_prep.ct_files import write_ct
from tests.pipelines.test_bad_input import refuse

TINY = [
    *("--dataset.image_size=[48,48]", "--dataset.batch_size=2", "--dataset.n_workers=0", "--trainer.max_epochs=2"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--threads=1"),
    *("--evaluation.shifts=1", "--evaluation.max_shift=6", "--evaluation.split=test"),
    "--dataset.frequency_scaling=0.641",  # one baseline for all of them
]
NETWORKS = {
    "unrolled": ["--network=unrolled", "--network.n_cascades=2", "--network.widths=[4,6,8]", "--network.angle_bin=2"],
    "primal_dual": ["--network=primal_dual", "--network.n_iterations=2", "--network.width=4", "--network.angle_bin=2"],
    "unet": ["--network=unet", "--network.widths=[4,6,8]"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three images of 32 x 32 each, with 60 angles and 47 detectors."""
    return write_ct(tmp_path_factory.mktemp("ct"), {"train": 2, "val": 1, "test": 1}, n_photons=4096)


def flags(data: Path, name: str, *extra: str) -> list[str]:
    return ["--task=ct", f"--data={data}", *NETWORKS[name], *TINY, *extra]


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    """A finished run of each network."""
    folder = tmp_path_factory.mktemp("runs")
    for name in NETWORKS:
        assert train.main([*flags(data, name), f"--out={folder / name}"]) == 0
    return {name: folder / name for name in NETWORKS}


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory) -> tuple[Path, dict]:
    """All of them in one evaluation."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    settings = ["--shifts=3", "--max-shift=6", "--save-reconstructions", "--devices=cpu"]
    assert evaluate.main([*map(str, runs.values()), *settings, f"--out={out}"]) == 0
    return out, json.loads((out / "summary.json").read_text())["runs"]


def test_what_the_projector_leaves_stands_beside_the_error_of_the_chain(evaluated):
    out, found = evaluated
    for name in ("unrolled", "primal_dual"):
        for protocol in ("equivariance", "all-phases"):
            assert 1e-8 < found[name][protocol]["nmse_eq_input_mean"] < 1e-1, "back-projections alone"
            assert found[name][protocol]["nmse_eq_mean"] > 1e-8, "not exact, and not said to be"
        assert found[name]["fbp"] == found["unet"]["fbp"]
        assert found[name]["tv"] == found["unet"]["tv"]
    assert "nmse_eq_input_mean" not in found["unet"]["equivariance"]
    assert found["unet"]["equivariance"]["nmse_eq_max"] < 1e-10, "its input is an image that is moved exactly"
    assert not {"noise-0.1", "flip-vertical", "realistic-shift", "photograph"} & found["unrolled"].keys()
    assert len(found["unrolled"]["margins"]["levels"]) == 2 * 2
    assert set(found["unrolled"]["physical-shift"]) == {"whole", "fractional", "note"}
    assert "back-projected before and after the movement" in (out / "report.html").read_text()


def test_predict_writes_what_was_measured(evaluated, runs, data, tmp_path):
    out, found = evaluated
    observation = data / "observation_test_000.hdf5"
    for name in ("unrolled", "primal_dual"):
        assert predict.main([str(runs[name]), str(observation), "--out", str(tmp_path / name), "--device", "cpu"]) == 0
        with h5py.File(tmp_path / name / "observation_test_000.h5") as file:
            images = file["reconstruction"][()]
        with h5py.File(out / "reconstructions" / name / "test_000.h5") as file:
            np.testing.assert_allclose(images, file["reconstruction"][()], atol=1e-6)
        with h5py.File(data / "ground_truth_test_000.hdf5") as file:
            truth = file["data"][()]
        assert images.shape == truth.shape == (3, 32, 32)
        psnr = 10 * np.log10(np.ptp(truth, (1, 2)) ** 2 / ((images - truth) ** 2).mean((1, 2)))
        assert psnr.mean() == pytest.approx(found[name]["plain"]["psnr"]["mean"], abs=1e-3)


def test_predict_measures_images_in_hu_anew(runs, tmp_path):
    """An odd side, padded off its centre to a multiple of the total stride."""
    hu = np.full((31, 34, 2), -1000, np.int16)
    hu[9:23, 8:27] = 40
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([7.0, 7.0, 5.0, 1.0])), tmp_path / "body.nii.gz")
    out = tmp_path / "out"
    given = [str(runs["unrolled"]), str(tmp_path / "body.nii.gz"), "--out", str(out), "--device", "cpu"]
    assert predict.main([*given, "--format", "nifti"]) == 0
    found = nibabel.load(out / "body.nii.gz").get_fdata()
    assert found.shape == hu.shape
    assert abs(found[13:19, 13:22].mean() - 40) < 250
    assert found[:4].mean() < -800


@pytest.mark.parametrize("name", ["unrolled", "primal_dual"])
def test_resume_ends_where_an_uninterrupted_run_ends(name, runs, data, tmp_path):
    halves = tmp_path / "halves"
    assert train.main([*flags(data, name, "--trainer.max_epochs=1"), f"--out={halves}"]) == 0
    assert train.main(["--resume", str(halves), "--trainer.max_epochs=2"]) == 0
    one, two = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (runs[name], halves))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.training
@pytest.mark.parametrize("name", ["unrolled", "primal_dual"])
def test_bf16_trains_and_what_is_measured_is_in_float32(name, data, tmp_path):
    """Autocast is for convolutions: ray transforms, filters and statistics stay in float32."""
    precision = ["--trainer.precision=bf16-mixed", "--trainer.max_epochs=1"]
    states, figures = {}, {}
    for rate in ("0.001", "0.0"):
        run = tmp_path / rate
        assert train.main([*flags(data, name, *precision, f"--optimizer.lr={rate}"), f"--out={run}"]) == 0
        states[rate] = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        figures[rate] = json.loads((run / "summary.json").read_text())
    one, two = states.values()
    assert {tensor.dtype for tensor in one.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in one.values())
    assert not all(torch.equal(one[key], two[key]) for key in one)
    whole = tmp_path / "float32"
    assert train.main([*flags(data, name, "--trainer.max_epochs=1", "--optimizer.lr=0.0"), f"--out={whole}"]) == 0
    expected = json.loads((whole / "summary.json").read_text())
    assert figures["0.0"]["plain"] == expected["plain"], "the same weights, measured in the same arithmetic"


@pytest.mark.process
@pytest.mark.training
@pytest.mark.parametrize("name", ["unrolled", "primal_dual"])
def test_two_processes_validate_as_one(name, data, tmp_path):
    """With an odd number of slices for two processes."""
    settings = ["--optimizer.lr=0.0", "--dataset.batch_size=1", "--trainer.max_epochs=1"]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", f"--out={tmp_path / 'two'}"]
    command = [sys.executable, "-m", "pipelines.commands.train", *flags(data, name, *settings), *two]
    done = fresh.run(command)
    assert done.returncode == 0, done.stderr
    assert train.main([*flags(data, name, *settings), f"--out={tmp_path / 'one'}"]) == 0
    pages = [(tmp_path / folder / "metrics.csv").read_text() for folder in ("two", "one")]
    ours, theirs = ([*csv.DictReader(page.splitlines())] for page in pages)
    assert len(ours) == len(theirs) == 1
    for key in ("val_psnr", "val_ssim", "val_nmse", "val_nmse_eq"):
        assert float(ours[0][key]) == pytest.approx(float(theirs[0][key]), abs=1e-6)
    assert float(ours[0]["val_nmse_eq"]) > 1e-6


def test_a_sample_holds_the_sinogram_and_how_it_was_scanned(data):
    dataset = LoDoPaBDataset(data, "test", image_size=[48, 47], measured=True)
    sample = dataset[1]
    with h5py.File(data / "observation_test_000.hdf5") as file:
        np.testing.assert_allclose(sample.sinogram * sample.std, file["data"][1], rtol=1e-6)
    batch = default_collate([sample])
    scan = Scan.of(batch)
    assert (scan.geometry, scan.window, scan.frequency_scaling) == (dataset.volumes[0].geometry, "hann", 0.641)
    image = dataset.without_padding(batch.image, 0)[0]
    torch.testing.assert_close(image, fbp(batch.sinogram, scan.geometry, "hann", 0.641), rtol=1e-5, atol=1e-4)
    sinogram, geometry, start = sinogram_of(batch, 6.0)
    assert (geometry.rows, geometry.columns) == start.shape[-2:] == (48, 47)
    target = dataset.volume_target(0)[1:2] * MU_MAX
    assert (ray_transform(target, geometry) - sinogram).norm() < 0.1 * sinogram.norm()


def test_a_moved_object_is_back_projected_anew(data):
    batch = default_collate([LoDoPaBDataset(data, "test", image_size=[48, 48], measured=True)[0]])
    shifts = torch.tensor([[4, -3], [0, 0]])
    moved = shifted(batch, shifts)
    assert moved.image.shape == (2, 1, 48, 48)
    assert (moved.image[1] - batch.image[0]).norm() < 1e-4 * batch.image.norm()
    rolled = batch.image[0].roll((4, -3), (-2, -1))
    assert 1e-5 * rolled.norm() < (moved.image[0] - rolled).norm() < 0.1 * rolled.norm()


def test_rolled_in_training(data):
    still, rolled = (
        LoDoPaBDataset(data, "train", image_size=[48, 48], measured=True, training=True, max_shift=reach)[0, 0]
        for reach in (0, 8)
    )
    shift = next((y, x) for y in range(-8, 9) for x in range(-8, 9)
                 if torch.equal(still.target.roll((y, x), (-2, -1)), rolled.target))  # fmt: skip
    assert shift != (0, 0)
    expected = shifted(default_collate([still]), torch.tensor([shift]))
    torch.testing.assert_close(rolled.sinogram, expected.sinogram[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(rolled.image, still.image.roll(shift, (-2, -1)))


def test_a_network_of_images_carries_nothing_more(data):
    batch = default_collate([open_dataset(parse(flags(data, "unet")), "val")[0]])
    assert batch.sinogram.numel() == batch.scan.numel() == 0
    with pytest.raises(InputError, match=r"unknown option --dataset\.measured"):
        parse(["--task=ct", "--dataset.measured=true"])


BAD = {
    "no cascades": ("unrolled", "--network.n_cascades=0", "n_cascades 0 leave nothing to unroll"),
    "angles": ("unrolled", "--network.angle_bin=7", ".hdf5: network.angle_bin 7 does not divide its 60 angles"),
    "cropped": ("unrolled", "--dataset.image_size=[28,28]", "dataset.image_size [28, 28] crops the images of"),
    "a side": ("unrolled", "--dataset.image_size=[34,32]", "stride 4; pad with --dataset.image_size '[36, 36]'"),
    "rolled": ("primal_dual", "--dataset.max_shift=9", "dataset.max_shift 9 moves the images of"),
    "no sampling": ("primal_dual", "--sampling=aps", "unknown option --network.sampling"),
}


@pytest.mark.parametrize(("name", "flag", "says"), BAD.values(), ids=BAD)
def test_refused_in_one_sentence(name, flag, says, data, tmp_path, capsys):
    said = refuse(capsys, train.main, *flags(data, name, flag), f"--out={tmp_path / 'out'}")
    assert says in said
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_the_other_network(runs, tmp_path, capsys):
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.yaml").write_bytes((runs["unrolled"] / "config.yaml").read_bytes())
    (other / "checkpoints" / "best.ckpt").write_bytes((runs["primal_dual"] / "checkpoints" / "best.ckpt").read_bytes())
    assert "is a checkpoint of another network" in refuse(capsys, evaluate.main, other, "--out", tmp_path / "out")


def test_a_sinogram_that_does_not_fit(runs, tmp_path, capsys):
    path = tmp_path / "observation_test_000.hdf5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((1, 30, 40), np.float32)
    said = refuse(capsys, predict.main, runs["unrolled"], path, "--out", tmp_path / "out", "--device", "cpu")
    assert "sinograms of 30 x 40" in said


def test_every_network_is_measured_at_the_end(data):
    for network in TASKS["ct"].networks.values():
        dataset = LoDoPaBDataset(data, "val", image_size=[48, 48], measured=network.measured)
        assert set(RECONSTRUCTION.at_the_end) <= set(RECONSTRUCTION.usable_protocols(dataset))
