"""recon-train: what a run leaves behind, and that nothing but its settings decides it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams

import recon
from pipelines.commands.train import main
from pipelines.runs.checkpoints import read_checkpoint
from tests import fresh
from tests.conftest import TINY
from tests.data_prep.files import write_dataset, write_volume

pytestmark = pytest.mark.training


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["state_dict"]


def table(run: Path) -> list[dict[str, str]]:
    """metrics.csv without the wall time."""
    with (run / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert table(first) == table(second)


def test_run_folder_has_its_layout(run):
    files = {
        str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts
    }
    assert files == {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "summary.json",
        "summary.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    }
    assert list((run / "tensorboard").glob("events*"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["network"]["sampling"] == "aps"
    assert config["evaluation"]["split"] == "val"
    environment = json.loads((run / "environment.json").read_text())
    assert {"versions", "seed", "git_commit", "device"} <= environment.keys()
    assert environment["version"] == recon.__version__
    assert [row["epoch"] for row in table(run)] == ["0", "1"]


def test_summary_names_its_data_and_aps_is_exact(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["plain"]["psnr"]["n"] == summary["zero-filled"]["psnr"]["n"] == 3
    assert summary["equivariance"]["n_cases"] == 3 * 3 * 2
    assert summary["equivariance"]["nmse_eq_max"] < 1e-10
    assert "random mask, acceleration 4" in summary["data"]


def test_the_network_learns(run):
    losses = [float(row["train_loss"]) for row in table(run)]
    assert losses[1] < losses[0]
    assert float(table(run)[0]["lr"]) == 0.01


@pytest.mark.parametrize("loss", ["l1", "ssim"])
def test_other_losses_and_sampling_and_augmentation_train(train, loss):
    extra = [
        "--trainer.max_epochs=1",
        "--sampling=lpf",
        "--blur=3",
        "--dataset.max_shift=4",
        "--dataset.accelerations=[8]",
    ]
    run = train(f"--loss.name={loss}", "--dataset.center_fractions=[0.04]", *extra)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["equivariance"]["nmse_eq_max"] > 1e-10  # the control: lpf is not exact
    assert 0 < float(table(run)[0]["train_loss"]) < 2


def test_multicoil_brains_of_several_sizes_train(tmp_path):
    """Batches never mix sizes, and each volume is measured at its own."""
    data = write_dataset(tmp_path / "data", {"train": 2, "val": 1}, n_coils=3)
    for split, size in (("train", (24, 40)), ("val", (40, 28))):
        path = data / f"multicoil_{split}" / "other.h5"
        write_volume(path, n_slices=2, n_coils=4, size=(48, 44), image_size=size, acquisition="AXT2")
    flags = ["--dataset.challenge=multicoil", "--dataset.mask_type=equispaced_fraction", "--trainer.max_epochs=1"]
    assert main(["--task=mri", f"--data={data}", f"--out={tmp_path / 'run'}", *TINY, *flags]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["plain"]["psnr"]["n"] == 2
    assert summary["equivariance"]["nmse_eq_max"] < 1e-10


def test_same_seed_same_run_and_another_seed_another(run, train):
    assert_same_run(run, train())
    other = train("--seed=7")
    assert any(not torch.equal(a, b) for a, b in zip(weights(run).values(), weights(other).values(), strict=True))


def test_loader_processes_change_nothing(run, train):
    assert_same_run(run, train("--dataset.n_workers=2"))


def test_config_alone_repeats_the_run(run, tmp_path):
    assert main(["--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert_same_run(run, tmp_path / "again")


def test_bf16_autocast_keeps_the_state_in_float32(train):
    run = train("--trainer.precision=bf16-mixed", "--trainer.max_epochs=1")
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


def command(data: Path, out: Path, *extra: str) -> list[str]:
    start = [sys.executable, "-m", "pipelines.commands.train", "--task", "mri"]
    return [*start, "--data", str(data), "--out", str(out), *TINY, *extra]


class Interrupted:
    """recon-train in a process of its own, stopped when a condition on its run folder holds."""

    def __init__(self, data: Path, out: Path, *extra: str) -> None:
        self.out = out
        self.process = fresh.Popen(command(data, out, *extra))

    def stop_when(self, n_rows: int, number: signal.Signals) -> tuple[int, str]:
        """Send the signal once metrics.csv has so many rows."""
        deadline = time.monotonic() + 120
        while self._rows() < n_rows and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.wait(), errors

    def _rows(self) -> int:
        path = self.out / "metrics.csv"
        return len(path.read_text().splitlines()) - 1 if path.exists() else -1


LONG = ["--trainer.max_epochs=12", "--evaluation.shifts=0"]


@pytest.fixture(scope="module")
def uninterrupted(train) -> Path:
    return train(*LONG)


KILLED_AT = """
import os, signal, sys
from pipelines.reconstruction.task import ReconstructionTask
from pipelines.commands.train import main

hook, epoch, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
step = getattr(ReconstructionTask, hook)

def killed_step(self, batch_, batch_idx):
    if (self.current_epoch, batch_idx) == (epoch, batch):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch_, batch_idx)

setattr(ReconstructionTask, hook, killed_step)
main(sys.argv[4:])
"""


@pytest.mark.process
@pytest.mark.parametrize("place", [("training_step", 0, 1), ("training_step", 3, 2), ("validation_step", 6, 0)])
def test_sigkill_in_any_epoch_and_resume(uninterrupted, data, tmp_path, place):
    """Before the first checkpoint, in the middle of an epoch, and in a validation."""
    run = tmp_path / "run"
    arguments = [*map(str, place), *command(data, run, *LONG)[3:]]
    done = fresh.run([sys.executable, "-c", KILLED_AT, *arguments])
    assert done.returncode == -signal.SIGKILL
    assert len(table(run)) == place[1]
    assert main(["--resume", str(run)]) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_in_mid_epoch_and_says_how_to_resume(uninterrupted, data, tmp_path, number):
    run = tmp_path / "run"
    code, errors = Interrupted(data, run, *LONG).stop_when(2, number)
    assert code == 130
    assert f"recon-train --resume {run}" in errors
    assert "Traceback" not in errors
    assert main(["--resume", str(run)]) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.parametrize("place", ["last batch", "validation"])
def test_a_signal_at_the_end_of_an_epoch_saves_the_epoch(uninterrupted, data, tmp_path, monkeypatch, capsys, place):
    from pipelines.reconstruction.task import ReconstructionTask

    hook = {"last batch": "training_step", "validation": "validation_step"}[place]
    step = getattr(ReconstructionTask, hook)

    def interrupted_step(self, batch, batch_idx):
        if self.current_epoch == 3 and (place == "validation" or batch_idx == 4):
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(ReconstructionTask, hook, step)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ReconstructionTask, hook, interrupted_step)
    run = tmp_path / "run"
    assert main(["--task", "mri", "--data", str(data), "--out", str(run), *TINY, *LONG]) == 130
    assert f"--resume {run}" in capsys.readouterr().err
    assert {"epoch": 4, "batch": 0}.items() <= read_checkpoint(run / "checkpoints" / "last.ckpt")["Loaders"].items()
    assert main(["--resume", str(run)]) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.parametrize("batch", [0, 2])
def test_stopped_after_a_given_batch_and_resumed_with_workers(uninterrupted, data, tmp_path, monkeypatch, batch):
    """A mid-epoch stop at an exact place: epoch 3, after this batch of its five."""
    from pipelines.training.recorder import RunRecorder

    run = tmp_path / "run"
    ask = RunRecorder._must_stop
    place = lambda self, trainer, batch_idx: trainer.current_epoch == 3 and batch_idx == batch  # noqa: E731
    monkeypatch.setattr(RunRecorder, "_must_stop", place)
    assert main(["--task", "mri", "--data", str(data), "--out", str(run), *TINY, *LONG]) == 130
    position = read_checkpoint(run / "checkpoints" / "last.ckpt")["Loaders"]
    assert {"epoch": 3, "batch": batch + 1}.items() <= position.items()
    monkeypatch.setattr(RunRecorder, "_must_stop", ask)
    assert main(["--resume", str(run), "--dataset.n_workers=1"]) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.process
def test_two_processes_validate_as_one(train, data, tmp_path):
    """An odd number of volumes and of slices, so that one process repeats some; stride, so that errors are errors."""
    settings = ["--dataset.batch_size=1", "--optimizer.lr=0.0", "--sampling=stride"]
    devices = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        command(data, tmp_path / "two", *settings, *devices), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    one = train(*settings)
    for ours, theirs in zip(table(tmp_path / "two"), table(one), strict=True):
        for key in ("val_psnr", "val_ssim", "val_nmse", "val_nmse_eq"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), abs=1e-6)
    assert float(table(one)[0]["val_nmse_eq"]) > 1e-4
    assert (tmp_path / "two" / "summary.png").exists()


def test_tensorboard_shows_settings_beside_final_figures(run):
    """Read by TensorBoard's own reader and its plugin's."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    content = events.summary_metadata[hparams.SESSION_START_INFO_TAG].plugin_data.content
    settings = hparams.parse_session_start_info_plugin_data(content).hparams
    assert settings["network.sampling"].string_value == "aps"
    assert settings["optimizer.lr"].number_value == 0.01
    summary = json.loads((run / "summary.json").read_text())
    worst = summary["equivariance"]["nmse_eq_max"]
    wanted = {"plain/psnr": summary["plain"]["psnr"]["mean"], "equivariance/nmse_eq_max": worst}
    for tag, value in wanted.items():
        assert events.Scalars(tag)[-1].value == pytest.approx(value, rel=1e-6)
    described = events.summary_metadata[hparams.EXPERIMENT_TAG].plugin_data.content
    named = {info.name.tag for info in hparams.parse_experiment_plugin_data(described).metric_infos}
    assert wanted.keys() <= named
