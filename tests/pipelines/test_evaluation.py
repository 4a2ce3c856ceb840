"""An evaluation in parts: interrupted anywhere and resumed, on several devices, it ends with the very same table."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
import time

import h5py
import numpy as np
import pytest
import torch

from pipelines.commands.evaluate import main
from pipelines.measuring.evaluation import PARTS, Evaluation
from pipelines.runs.open import open_run
from tests import fresh
from tests.data_prep.files import write_dataset, write_volume

FLAGS = ["--protocols", "plain", "equivariance", "noise", "margins", "--shifts", "3"]


@pytest.fixture(scope="module")
def reference(run, tmp_path_factory):
    """The table of an evaluation that nobody interrupted."""
    out = tmp_path_factory.mktemp("reference") / "out"
    assert main([str(run), *FLAGS, "--out", str(out)]) == 0
    assert not (out / PARTS).exists()
    return (out / "results.csv").read_bytes()


@pytest.mark.parametrize("n_parts", [0, 1, 5, 11])
def test_interrupted_and_resumed(n_parts, run, reference, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    store, stored = Evaluation._store, []

    def stop(self, path, rows):
        if len(stored) == n_parts:
            raise KeyboardInterrupt
        stored.append(path)
        store(self, path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", stop)
        assert main([str(run), *FLAGS, "--out", str(out)]) == 130
    said = capsys.readouterr().err
    assert f"{n_parts} of 12 parts are saved" in said
    assert f"recon-evaluate --resume {out}" in said
    assert not (out / "results.csv").exists()

    again = []
    monkeypatch.setattr(Evaluation, "_store", lambda self, path, rows: again.append(path) or store(self, path, rows))
    assert main(["--resume", str(out)]) == 0
    assert (out / "results.csv").read_bytes() == reference
    assert len(again) == 12 - n_parts  # nothing is computed twice
    assert not set(again) & set(stored)
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "report.html", "results.csv", "summary.json"}


@pytest.mark.process
def test_killed_and_resumed(run, reference, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.commands.evaluate", str(run), *FLAGS, "--out", str(out)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as the reference
    process = fresh.Popen(command, env=one_thread)
    while process.poll() is None and not list((out / PARTS).rglob("*.csv")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    n_stored = len(list((out / PARTS).rglob("*.csv")))
    assert 0 < n_stored <= 12
    assert main(["--resume", str(out)]) == 0
    assert (out / "results.csv").read_bytes() == reference


def test_two_devices_give_the_same_table(run, reference, tmp_path):
    assert main([str(run), *FLAGS, "--devices", "cpu", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == reference


def test_a_complete_evaluation_has_nothing_left_to_do(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(run), "--protocols", "plain", "--out", str(out)]) == 0
    before = (out / "results.csv").stat().st_mtime_ns
    assert main(["--resume", str(out)]) == 0
    assert "complete" in capsys.readouterr().out
    assert (out / "results.csv").stat().st_mtime_ns == before


@pytest.fixture
def halfway(run, tmp_path, monkeypatch):
    """An interrupted evaluation of a run of its own."""
    own = shutil.copytree(run, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([str(own), *FLAGS, "--out", str(tmp_path / "out")]) == 130
    return tmp_path / "out"


def refused(capsys, *argv):
    capsys.readouterr()
    assert main([str(token) for token in argv]) == 2
    sentences = capsys.readouterr().err.strip().splitlines()
    assert len(sentences) == 1
    return sentences[0]


def test_resuming_with_something_else(halfway, run, capsys, tmp_path):
    assert "leave out --shifts" in refused(capsys, "--resume", halfway, "--shifts", "7")
    assert "leave out the runs" in refused(capsys, run, "--resume", halfway)
    assert "not empty" in refused(capsys, run, *FLAGS, "--out", halfway)
    assert "no folder of recon-evaluate" in refused(capsys, "--resume", run)
    task = open_run(tmp_path / "run").task
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": task.state_dict()}, checkpoint)
    assert "changed since" in refused(capsys, "--resume", halfway)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "truncated" in refused(capsys, "--resume", halfway)


def test_what_a_killed_process_left_goes_when_the_evaluation_is_resumed(halfway):
    left = halfway / ".0123456789ab.tmp"
    left.touch()
    assert main(["--resume", str(halfway)]) == 0
    assert not left.exists()


def test_resuming_on_other_data(train, tmp_path, capsys, monkeypatch):
    data = write_dataset(tmp_path / "data", {"train": 1, "val": 2})
    own = train("--data", str(data))
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([str(own), *FLAGS, "--out", str(tmp_path / "out")]) == 130
    other = write_volume(tmp_path / "other.h5", seed=9)  # of the same size
    other.replace(data / "singlecoil_val" / "file1.h5")
    assert "file1.h5 changed since" in refused(capsys, "--resume", tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{", '{"arguments": [], "inputs": {}}', '{"arguments": {}, "inputs": {}}'])
def test_resuming_what_is_no_evaluation(content, tmp_path, capsys):
    (tmp_path / "evaluation.json").write_text(content)
    assert "no folder of recon-evaluate" in refused(capsys, "--resume", tmp_path)


def test_an_error_on_one_device_stops_the_others(run, tmp_path, capsys):
    data = write_dataset(tmp_path / "data", {"val": 8})
    with h5py.File(data / "singlecoil_val" / "file1.h5", "a") as file:
        file["kspace"][0] = float("nan")
    flags = ["--data", str(data), "--protocols", "plain", "equivariance", "--shifts", "40", "--devices", "cpu", "cpu"]
    assert main([str(run), *flags, "--out", str(tmp_path / "out")]) == 2
    assert "file1 slice 0 is not finite" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / PARTS).rglob("*.csv"))) < 8


def test_flags_that_cannot_be(capsys, run, tmp_path):
    out = ["--out", tmp_path / "out"]
    assert "at least one RUN" in refused(capsys, *out)
    assert "did you mean 'equivariance'" in refused(capsys, run, *out, "--protocols", "equivarience")
    assert "--noise-levels" in refused(capsys, run, *out, "--noise-levels", "-1")
    assert "no device" in refused(capsys, run, *out, "--devices", "cuda:99")
    assert "--shifts" in refused(capsys, run, *out, "--shifts", "-3")
    assert "--batch-size" in refused(capsys, run, *out, "--batch-size", "0")
    assert "side of 32" in refused(capsys, run, *out, "--max-shift", "10000")
    assert "twice" in refused(capsys, run, *out, "--noise-levels", "0.1", "0.10")
    assert "folder multicoil_val" in refused(capsys, run, *out, "--dataset.challenge", "multicoil")
    assert "image height 30" in refused(capsys, run, *out, "--dataset.image_size", "[30, 32]")
    assert not (tmp_path / "out").exists()


def test_no_file_holds_what_is_not_a_number(run, train, tmp_path):
    """All protocols, on three runs: inf and nan are nowhere, and the report shows the summary's figures."""
    out = tmp_path / "out"
    runs = [run, train("--sampling=stride"), train("--sampling=lpf")]
    assert main([*map(str, runs), "--shifts", "2", "--out", str(out)]) == 0
    for name in ("results.csv", "summary.json"):
        assert not re.search(r"\b(nan|inf|infinity)\b", (out / name).read_text(), re.IGNORECASE), name
    summary = json.loads((out / "summary.json").read_text())["runs"]
    page = (out / "report.html").read_text()
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, part in summary.items():
        assert name in page
        for metric in ("psnr", "ssim", "nmse"):
            found = [
                float(row["value"])
                for row in rows
                if (row["run"], row["protocol"]) == (name, "plain") and row["metric"] == metric
            ]
            assert part["plain"][metric]["mean"] == np.mean(found)
            assert f'data-value="{np.mean(found).item()!r}" data-key="{name}/plain/{metric}/mean"' in page
        errors = [row for row in rows if row["run"] == name and row["protocol"] == "equivariance"]
        worst = max(float(row["value"]) for row in errors if row["metric"] == "nmse_eq")
        assert f'data-value="{worst!r}" data-key="{name}/equivariance/nmse_eq_max"' in page
    assert "exact" in page
