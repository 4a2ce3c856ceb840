"""CT through the same task, evaluator and report as MRI."""

from __future__ import annotations

import csv
import json

import h5py
import nibabel
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from data_prep import LoDoPaBDataset
from pipelines.commands import evaluate, train
from pipelines.commands.predict import main as predict
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import batch_of
from pipelines.runs.open import open_run
from recon.physics.ct import MU_MAX, attenuation_to_hu
from tests.conftest import TINY
from tests.data_prep.ct_files import write_ct

FLAGS = [*TINY, "--dataset.image_size=[40,40]"]


@pytest.fixture(scope="module")
def ct_data(tmp_path_factory):
    """Two files to train on, one to validate, one to test; 3 images of 32 x 32 each."""
    return write_ct(tmp_path_factory.mktemp("ct"), {"train": 2, "val": 1, "test": 1}, n_photons=4096)


@pytest.fixture(scope="module")
def runs(ct_data, tmp_path_factory):
    """A finished run of each sampling."""
    found = []
    for sampling in ("aps", "stride"):
        out = tmp_path_factory.mktemp(sampling)
        command = ["--task", "ct", "--data", str(ct_data), "--out", str(out), *FLAGS, f"--sampling={sampling}"]
        assert train.main(command) == 0
        found.append(out)
    return found


@pytest.fixture(scope="module")
def evaluation(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "out"
    assert evaluate.main([*map(str, runs), "--shifts", "4", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_what_a_run_leaves(runs):
    names = {path.name for path in runs[0].iterdir()}
    assert {"config.yaml", "metrics.csv", "summary.json", "summary.png", "checkpoints"} <= names
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["fbp"]["psnr"]["n"] == summary["tv"]["psnr"]["n"] == summary["plain"]["psnr"]["n"] == 3
    assert summary["equivariance"]["nmse_eq_max"] < 1e-10


def test_every_protocol_tells_the_variants_apart(runs, evaluation):
    summary = json.loads((evaluation / "summary.json").read_text())["runs"]
    aps, stride = (summary[run.name] for run in runs)
    circular = [name for name, part in aps.items() if "n_cases" in part and name != "realistic-shift"]
    assert {"equivariance", "all-phases", "white-noise", "natural", "brain-mri", "flip-vertical"} <= set(circular)
    assert "chest-ct" not in aps
    for protocol in circular:
        if aps[protocol]["n_ties"] < aps[protocol]["n_cases"]:
            assert aps[protocol]["nmse_eq_max"] < 1e-10, protocol
            assert stride[protocol]["nmse_eq_max"] > 1e-9, protocol
    for metric in ("psnr_fr", "ssim_fr", "hu_lung"):  # the phantoms have hardly any soft tissue
        assert aps["plain"][metric]["n"] == aps["fbp"][metric]["n"] == aps["tv"][metric]["n"] == 3
    assert aps["tv"] == stride["tv"]
    assert set(aps["physical-shift"]) == {"whole", "fractional", "note"}
    page = (evaluation / "report.html").read_text()
    for part in ("FBP", "TV", "HU"):
        assert f">{part}<" in page or part == "HU", part
    assert "HU" in page


def test_quality_is_that_of_each_image_without_its_padding(runs, evaluation, ct_data):
    """Against numpy and scikit-image, on the file's own 32 x 32 pixels."""
    run = open_run(runs[0])
    with (evaluation / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["run"] == runs[0].name and row["protocol"] == "plain"]
    with h5py.File(ct_data / "ground_truth_test_000.hdf5") as file:
        truth = file["data"][()].astype(np.float64)
    for number, target in enumerate(truth):
        sample = run.dataset[number]
        with torch.no_grad():
            output = run.task(batch_of(sample.image[None]))[0, 0] * sample.std
        preds = output[4:36, 4:36].double().numpy()
        spread, error = target.max() - target.min(), ((preds - target) ** 2).mean()
        hu, found = (attenuation_to_hu(torch.from_numpy(x) * MU_MAX).numpy() for x in (target, preds))
        lung = (hu >= -1350) & (hu <= 150)
        expected = {
            "psnr": 10 * np.log10(spread**2 / error),
            "ssim": structural_similarity(target, preds, data_range=spread),
            "psnr_fr": 10 * np.log10(1 / error),
            "ssim_fr": structural_similarity(target, preds, data_range=1),
            "hu_lung": np.abs(found - hu)[lung].mean(),
        }
        values = {row["metric"]: float(row["value"]) for row in rows if row["slice"] == str(number)}
        for metric, value in expected.items():
            assert values[metric] == pytest.approx(value, rel=1e-4), metric


def test_an_object_moved_by_whole_pixels(runs, ct_data):
    """Where it has air around it, a moved object's reconstruction is the moved one, but for the discretisation."""
    run = open_run(runs[0])
    rows = RECONSTRUCTION.measure(run.task, run.dataset, ["physical-shift"], Settings(4, max_shift=3))
    whole = [row for row in rows if float(row.shift_y).is_integer() and float(row.shift_x).is_integer()]
    values = {
        metric: np.mean([row.value for row in whole if row.metric == metric])
        for metric in ("nmse_eq_network", "nmse_eq_acquisition", "nmse_eq")
    }
    assert values["nmse_eq_network"] < 1e-10
    assert values["nmse_eq_acquisition"] == pytest.approx(values["nmse_eq"], rel=1e-6)  # the constants are fixed
    assert values["nmse_eq"] > 1e-6  # projected and back-projected anew, with noise that does not move


def test_inputs_have_one_scale(ct_data):
    dataset = LoDoPaBDataset(ct_data, "test", image_size=[32, 32])
    image, mean, std = dataset.as_input(torch.full((32, 32), 7.0))
    assert (mean, std) == (0, 1 / 16)
    assert float(image.max()) * std == 1


def test_observations_are_reconstructed_into_files(runs, ct_data, tmp_path, capsys):
    observation = ct_data / "observation_test_000.hdf5"
    for file_format in ("hdf5", "nifti"):
        assert predict([str(runs[0]), str(observation), "--out", str(tmp_path), "--format", file_format]) == 0
    printed = capsys.readouterr().out
    run = open_run(runs[0])
    sample = run.dataset[1]
    with torch.no_grad():
        expected = (run.task(batch_of(sample.image[None]))[0, 0] * sample.std)[4:36, 4:36]
    with h5py.File(tmp_path / "observation_test_000.h5") as file:
        assert file["reconstruction"].shape == (3, 32, 32)
        np.testing.assert_allclose(file["reconstruction"][1], expected, atol=1e-6)
        with h5py.File(ct_data / "ground_truth_test_000.hdf5") as truth:
            targets, images = truth["data"][()], file["reconstruction"][()]
    errors = ((images - targets) ** 2).mean((1, 2))
    psnr = 10 * np.log10(np.ptp(targets, (1, 2)) ** 2 / errors)
    assert f"{psnr.mean():.2f}" in printed
    image = nibabel.load(tmp_path / "observation_test_000.nii.gz")
    hu = (expected.double() * MU_MAX - 20) * 1000 / 19.98
    np.testing.assert_allclose(image.get_fdata()[:, :, 1], hu, atol=0.05)  # rows of LoDoPaB run to the patient's left
    np.testing.assert_allclose(image.header.get_zooms(), (260 / 32, 260 / 32, 1), rtol=1e-6)


def test_careless_input(runs, ct_data, capsys, tmp_path):
    def refused(main, *argv):
        capsys.readouterr()
        assert main([str(token) for token in argv]) == 2
        sentences = capsys.readouterr().err.strip().splitlines()
        assert len(sentences) == 1, sentences
        return sentences[0]

    (tmp_path / "empty").mkdir()
    out = ["--out", tmp_path / "out"]
    assert "empty" in refused(train.main, "--task=ct", f"--data={tmp_path / 'empty'}", *out)
    assert "hann" in refused(train.main, "--task=ct", f"--data={ct_data}", "--dataset.window=han", *FLAGS, *out)
    assert "multiple" in refused(
        train.main, "--task=ct", f"--data={ct_data}", *TINY, "--dataset.image_size=[31,32]", *out
    )
    assert "mask_type" in refused(train.main, "--task=ct", f"--data={ct_data}", "--dataset.mask_type=random", *out)
    (tmp_path / "kspace.h5").write_bytes(b"nothing")
    assert "kspace.h5" in refused(predict, runs[0], tmp_path / "kspace.h5", *out)
    assert "or LoDoPaB observations" in refused(predict, runs[0], tmp_path / "empty", *out)
    assert "no setting" in refused(evaluate.main, runs[0], "--dataset.challenge=multicoil", *out)
    assert not (tmp_path / "out").exists()


def test_mri_and_ct_runs_are_not_mixed(runs, run, tmp_path, capsys):
    assert evaluate.main([str(runs[0]), str(run), "--out", str(tmp_path / "out")]) == 2
    assert "different tasks" in capsys.readouterr().err
