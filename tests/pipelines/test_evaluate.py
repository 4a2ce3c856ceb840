"""recon-evaluate: its figures are the field's, its tables tell the variants apart."""

from __future__ import annotations

import argparse
import csv
import json
import math

import fastmri.evaluate
import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from data_prep import FastMRIDataset
from pipelines.commands.evaluate import main
from pipelines.measuring.margins import TIE
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import batch_of
from pipelines.runs.open import open_run
from recon.layers import circular_shift
from tests.data_prep.files import write_dataset, write_volume


@pytest.fixture(scope="module")
def stride_run(train):
    return train("--sampling=stride")


@pytest.fixture(scope="module")
def lpf_run(train):
    return train("--sampling=lpf", "--blur=3")


@pytest.fixture(scope="module")
def evaluation(run, stride_run, lpf_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    runs = [str(path) for path in (run, stride_run, lpf_run)]
    few = ["--protocols", "plain", "equivariance", "margins", "--shifts", "5"]
    assert main([*runs, *few, "--out", str(out), "--save-reconstructions"]) == 0
    return out


def rows(evaluation):
    with (evaluation / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_results_are_long_form_and_finite(evaluation):
    table = rows(evaluation)
    columns = ["run", "protocol", "volume", "slice", "shift_y", "shift_x", "metric", "value", "status"]
    assert list(table[0]) == columns
    assert {row["status"] for row in table} <= {"ok", "exact", "tie"}
    for row in table:
        empty = row["metric"] == "psnr_eq" and row["status"] == "exact"
        assert empty == (row["value"] == "")
        assert empty or math.isfinite(float(row["value"]))
    shifts = {(row["shift_y"], row["shift_x"]) for row in table if row["metric"] == "nmse_eq"}
    assert ("0", "0") not in shifts
    assert len(shifts) > 5  # every image has its own


def test_the_measurement_tells_the_variants_apart(evaluation):
    summary = json.loads((evaluation / "summary.json").read_text())["runs"]
    aps, stride, lpf = (part["equivariance"] for part in summary.values())
    assert aps["nmse_eq_max"] < 1e-10
    assert aps["dpsnr_max"] < 1e-4
    assert stride["nmse_eq_max"] > lpf["nmse_eq_max"] > 1e-8
    assert stride["dpsnr_max"] > 1e-3
    assert aps["n_ties"] == 0
    assert [len(part["margins"]["levels"]) for part in summary.values() if "margins" in part] == [2]
    assert len({json.dumps(part["zero-filled"]) for part in summary.values()}) == 1


def test_saved_reconstructions_score_the_same_in_fastmri(evaluation, data):
    arguments = argparse.Namespace(
        target_path=data / "singlecoil_val",
        predictions_path=next((evaluation / "reconstructions").iterdir()),
        acquisition=None,
        acceleration=None,
    )
    for folder in (evaluation / "reconstructions").iterdir():
        name = folder.name
        summary = json.loads((evaluation / "summary.json").read_text())["runs"][name]["plain"]
        arguments.predictions_path = folder
        theirs = fastmri.evaluate.evaluate(arguments, "reconstruction_esc")
        for metric in ("psnr", "ssim", "nmse"):
            means, deviations = (np.squeeze(values[metric.upper()]) for values in (theirs.means(), theirs.stddevs()))
            assert summary[metric]["mean"] == pytest.approx(float(means), abs=1e-6)
            assert summary[metric]["two_sd"] == pytest.approx(2 * float(deviations), abs=1e-6)


def test_shift_rows_against_a_loop_by_hand(run, evaluation):
    """One shifted slice, put together from the run's own parts with numpy and scikit-image."""
    opened = open_run(run)
    task, sample = opened.task.eval(), opened.dataset[0]
    cases = [row for row in rows(evaluation) if row["run"] == run.name and row["slice"] == "0"]
    row = next(row for row in cases if row["volume"] == "file0" and row["metric"] == "ssim_eq")
    shift = (int(row["shift_y"]), int(row["shift_x"]))
    with torch.no_grad():
        before = task(batch_of(sample.image[None]))[0, 0] * sample.std + sample.mean
        after = task(batch_of(sample.image[None].roll(shift, (2, 3))))[0, 0] * sample.std + sample.mean
    expected, found = before.roll(shift, (0, 1)).double().numpy(), after.double().numpy()
    same = {r["metric"]: r["value"] for r in cases if (r["shift_y"], r["shift_x"]) == (row["shift_y"], row["shift_x"])}
    ssim = structural_similarity(expected, found, data_range=float(sample.data_range))
    assert float(same["ssim_eq"]) == pytest.approx(ssim, abs=1e-6)
    nmse = ((expected - found) ** 2).sum() / (expected**2).sum()
    assert float(same["nmse_eq"]) == pytest.approx(nmse, rel=1e-3, abs=1e-12)
    assert float(same["max_abs"]) == pytest.approx(np.abs(expected - found).max(), abs=1e-6 * expected.max())


def test_a_checkpoint_can_be_named_and_equal_names_are_told_apart(run, tmp_path):
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main([*map(str, (checkpoint, run, run)), "--protocols", "plain", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["runs"]) == [f"{run.name}-last", f"{run.name}-1", f"{run.name}-2"]
    assert "equivariance" not in summary["runs"][f"{run.name}-1"]


def test_files_without_targets_are_measured_for_equivariance_alone(run, tmp_path):
    data = tmp_path / "data"
    mask = np.arange(40) % 4 == 0
    mask[16:24] = True
    write_volume(data / "singlecoil_test" / "secret.h5", target=False, mask=mask)
    where = ["--data", str(data), "--split", "test", "--out", str(tmp_path / "out")]
    assert main([str(run), *where, "--shifts", "2"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["runs"][run.name]
    assert "plain" not in summary
    assert summary["equivariance"]["n_cases"] == 6


def test_blank_and_striped_slices_are_ties_and_enter_no_mean(run, stride_run, tmp_path):
    """No method of this family can be equivariant on an image that is equal to its own odd shift."""
    data = write_dataset(tmp_path / "data", {"val": 1}, size=(32, 32))
    stripes = np.tile(np.array([1.0, 3.0]), 16)[None].repeat(32, 0)
    with h5py.File(data / "singlecoil_val" / "file0.h5", "a") as file:
        axes = (-2, -1)
        kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(stripes), norm="ortho"), axes=axes)
        file["kspace"][1] = 0  # blank
        file["kspace"][2] = kspace
    dataset = FastMRIDataset(data, "val", accelerations=[1], center_fractions=[0.5])
    protocols, settings = ("equivariance", "margins"), Settings(shifts=4)
    plain = RECONSTRUCTION.measure(open_run(stride_run, str(data)).task, dataset, protocols, settings)
    ties = {row.slice for row in plain if row.status == "tie"}
    assert ties == {1, 2}  # an image's own fault, whatever the network
    found = RECONSTRUCTION.measure(open_run(run, str(data)).task, dataset, protocols, settings)
    margins = {row.slice: (row.value, row.status) for row in found if row.metric == "margin_1"}
    assert margins[0][1] == "ok"
    assert margins[1] == (0.0, "tie")
    assert margins[2][1] == "tie"
    assert min(row.value for row in found if row.protocol == "margins" and row.slice == 2) <= TIE
    assert {row.status for row in found if row.metric == "nmse_eq" and row.slice == 2} == {"tie"}


def test_the_same_seed_measures_the_same(run):
    opened = open_run(run)
    task, protocols = opened.task, ("equivariance", "noise")
    first, second = (RECONSTRUCTION.measure(task, opened.dataset, protocols, Settings(2, 16, seed=3)) for _ in range(2))
    assert first == second
    other = RECONSTRUCTION.measure(task, opened.dataset, protocols, Settings(2, 16, seed=4))
    assert [row.shift_y for row in first] != [row.shift_y for row in other]


def test_on_any_shift_the_run_is_what_it_says(run):
    """The acceptance figure once more, straight from the network."""
    opened = open_run(run)
    task, image = opened.task.eval(), opened.dataset[4].image[None]
    with torch.no_grad():
        output = task(batch_of(image))
        for shift in ([1, 0], [-7, 13], [16, -16]):
            moved = torch.tensor([shift])
            error = task(batch_of(circular_shift(image, moved))) - circular_shift(output, moved)
            assert float(error.norm() / output.norm()) < 1e-5
