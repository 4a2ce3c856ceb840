"""recon-train --resume with other settings: refused, or truly applied; and what a run may never save."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml

from pipelines.commands import train
from pipelines.runs.checkpoints import read_checkpoint
from pipelines.runs.train import train as train_here
from pipelines.runtime.shell import run_command
from tests.conftest import TINY
from tests.data_prep.files import write_volume
from tests.data_prep.vision_files import write_cifar
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_train import table


def last(run: Path) -> dict:
    return read_checkpoint(run / "checkpoints" / "last.ckpt")


def rates(run: Path) -> list[float]:
    return [float(row["lr"]) for row in table(run)]


@pytest.fixture
def done(run, tmp_path) -> Path:
    """A run of two epochs, to go on with."""
    return Path(shutil.copytree(run, tmp_path / "done"))


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory) -> Path:
    """A run of two epochs that stopped after two of the five batches of its second."""
    from pipelines.training.recorder import RunRecorder

    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "_must_stop", lambda self, trainer, batch: (trainer.current_epoch, batch) == (1, 1))
        assert train.main(["--task=mri", f"--data={data}", f"--out={run}", *TINY]) == 130
    return run


@pytest.fixture
def halfway(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "halfway"))


def test_the_training_loss_does_not_hang_on_accumulated_gradients(train):
    flags = ["--optimizer.lr=0", "--trainer.max_epochs=1", "--evaluation.shifts=0"]
    one, several = (train(*flags, f"--trainer.accumulate_grad_batches={n}") for n in (1, 3))
    assert float(table(several)[0]["train_loss"]) == pytest.approx(float(table(one)[0]["train_loss"]), rel=1e-6)


def test_other_settings_of_the_optimizer_and_the_schedule_are_applied(done):
    before = last(done)["state_dict"]
    flags = ["--optimizer.lr=0.004", "--optimizer.weight_decay=0.2", "--scheduler.step_size=3", "--scheduler.gamma=0.1"]
    assert train.main(["--resume", str(done), "--trainer.max_epochs=4", *flags]) == 0
    assert rates(done) == pytest.approx([0.01, 0.01, 0.004, 0.0004])
    after = last(done)
    assert after["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.2
    config = yaml.safe_load((done / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == 0.004
    assert config["scheduler"]["step_size"] == 3
    assert any(not torch.equal(before[name], value) for name, value in after["state_dict"].items())


def test_a_changed_run_that_is_killed_before_it_saves_goes_on_with_the_changes(done):
    """config.yaml is written at the start, the checkpoint an epoch later: between them a kill."""

    class Killed(pl.Callback):
        def on_train_batch_start(self, *_):
            raise SystemExit(9)

    flags = ["--resume", str(done), "--trainer.max_epochs=3", "--optimizer.lr=0.002"]
    assert run_command(lambda argv: train_here(argv, [Killed()]), flags) == 9
    assert train.main(["--resume", str(done)]) == 0
    assert rates(done) == pytest.approx([0.01, 0.01, 0.002])


FIXED = {
    "seed": "--seed=5",
    "dataset.accelerations": "--dataset.accelerations=[8]",
    "network.widths": "--network.widths=[4,4,4]",
    "optimizer.amsgrad": "--optimizer.amsgrad=true",
    "trainer.limit_val_batches": "--trainer.limit_val_batches=2",
}


@pytest.mark.parametrize("key", FIXED)
def test_what_a_run_cannot_change(capsys, run, key):
    config = (run / "config.yaml").read_bytes()
    assert f"cannot change {key}" in refuse(capsys, train.main, "--resume", run, FIXED[key])
    assert (run / "config.yaml").read_bytes() == config


def test_a_run_of_another_task_and_fewer_epochs_than_are_done(capsys, run):
    assert "is a run of the task mri" in refuse(capsys, train.main, "--resume", run, "--task=ct")
    assert "has done 2 epochs" in refuse(capsys, train.main, "--resume", run, "--trainer.max_epochs=1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.batch_size", 3),
        ("trainer.accumulate_grad_batches", 2),
        ("trainer.limit_train_batches", 2),
        ("loss.name", "l1"),
        ("clamp", 5.0),
    ],
)
def test_what_cannot_change_in_the_middle_of_an_epoch(capsys, halfway, key, value):
    config = (halfway / "config.yaml").read_bytes()
    sentence = refuse(capsys, train.main, "--resume", halfway, f"--{key}={value}")
    assert f"cannot change {key} in the middle of epoch 1" in sentence
    assert (halfway / "config.yaml").read_bytes() == config


def test_a_run_in_mid_epoch_of_other_processes_or_data_is_refused_and_still_goes_on(capsys, halfway, data, run):
    config, place = (halfway / "config.yaml").read_bytes(), halfway / "checkpoints" / "last.ckpt"
    good, other = place.read_bytes(), last(halfway)
    other["Loaders"]["n_processes"] = 2
    torch.save(other, place)
    assert "with 2 processes, and now there are 1" in refuse(capsys, train.main, "--resume", halfway)
    place.write_bytes(good)
    more = Path(shutil.copytree(data, halfway.parent / "more"))
    write_volume(more / "singlecoil_train" / "more.h5", size=(48, 40), image_size=(32, 32))
    assert "with 9 training samples" in refuse(capsys, train.main, "--resume", halfway, f"--data={more}")
    assert (halfway / "config.yaml").read_bytes() == config
    assert train.main(["--resume", str(halfway)]) == 0
    assert table(halfway) == table(run)


def test_another_batch_size_at_the_end_of_an_epoch(done):
    assert train.main(["--resume", str(done), "--trainer.max_epochs=3", "--dataset.batch_size=3"]) == 0
    assert [row["step"] for row in table(done)] == ["5", "10", "13"]


def test_what_a_killed_process_left_is_gone_once_the_run_has_ended(done):
    left = [done / "checkpoints" / ".last.ckpt.0123456789ab.tmp", done / ".metrics.csv.0123456789ab.tmp"]
    for path in left:
        path.write_bytes(b"half")
    assert train.main(["--resume", str(done)]) == 0
    assert not [path for path in left if path.exists()]


OF_CIFAR = [
    "--network.architecture=resnet20",
    "--dataset.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--optimizer.lr=0.05",
    "--scheduler.name=cosine",
    "--dataset.n_workers=0",
    "--threads=1",
    "--evaluation.shifts=0",
]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> list[str]:
    return ["--task=cifar10", f"--data={write_cifar(tmp_path_factory.mktemp('cifar'), n_train=32, n_test=8)}"]


@pytest.mark.training
def test_a_cosine_with_more_epochs_falls_to_its_new_end(cifar, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    assert train.main([*cifar, *OF_CIFAR, f"--out={short}", "--trainer.max_epochs=2"]) == 0
    assert train.main(["--resume", str(short), "--trainer.max_epochs=4"]) == 0
    assert train.main([*cifar, *OF_CIFAR, f"--out={long}", "--trainer.max_epochs=4"]) == 0
    assert rates(short)[:2] == pytest.approx([0.05, 0.025])
    assert rates(short)[2:] == rates(long)[2:] == pytest.approx([0.025, 0.05 * (1 - 2**-0.5) / 2])


@pytest.mark.parametrize("epochs", ["null", "-1"])
def test_a_cosine_needs_an_end(capsys, cifar, tmp_path, epochs):
    flags = [*cifar, *OF_CIFAR, f"--out={tmp_path / 'out'}", f"--trainer.max_epochs={epochs}"]
    assert "give trainer.max_epochs" in refuse(capsys, train.main, *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.training
def test_weights_that_are_not_finite_are_never_saved(capsys, cifar, tmp_path):
    """nan weights after the last step of an epoch: the loss was still finite, and nan logits have an argmax."""

    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 1):
                next(pl_module.network.parameters()).data.fill_(torch.nan)

    out = tmp_path / "out"
    flags = [*cifar, *OF_CIFAR, f"--out={out}", "--trainer.max_epochs=2"]
    sentence = refuse(capsys, lambda argv: run_command(lambda own: train_here(own, [Poison()]), argv), *flags)
    assert re.search(r"network\.\S+ became inf or nan in epoch 1: .* last checkpoint is from before", sentence)
    assert len(table(out)) == 1
    for name in ("last", "best"):
        state = read_checkpoint(out / "checkpoints" / f"{name}.ckpt")["state_dict"]
        assert all(value.isfinite().all() for value in state.values())
