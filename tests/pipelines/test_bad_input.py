"""Careless input at the command line: one sentence, exit code 2, nothing half-written."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from pipelines.commands import evaluate, prepare, train
from tests import fresh
from tests.conftest import TINY
from tests.data_prep.files import write_volume


def refuse(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int], *argv: str | Path) -> str:
    """Run a command that must refuse; gives its one sentence."""
    capsys.readouterr()
    assert main([str(token) for token in argv]) == 2
    error = capsys.readouterr().err
    sentences = [line for line in error.splitlines() if line.strip()]
    assert len(sentences) == 1, error
    assert sentences[0].startswith("error: ")
    return sentences[0]


def train_on(capsys: pytest.CaptureFixture[str], data: Path, *extra: str) -> str:
    """A training that must be refused before it leaves anything behind."""
    out = data.parent / "out"
    sentence = refuse(capsys, train.main, "--task=mri", f"--data={data}", f"--out={out}", *TINY, *extra)
    assert not out.exists()
    return sentence


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    """The tiny data set, to be broken."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def test_a_folder_that_is_not_there_or_holds_no_files(capsys, tmp_path):
    assert "nowhere" in train_on(capsys, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "singlecoil_train" in train_on(capsys, tmp_path / "empty")
    (tmp_path / "empty" / "singlecoil_train").mkdir()
    assert "no fastMRI files" in train_on(capsys, tmp_path / "empty")


def test_a_truncated_file(capsys, copy):
    path = copy / "singlecoil_train" / "file1.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "file1.h5" in train_on(capsys, copy)


@pytest.mark.parametrize("key", ["kspace", "ismrmrd_header", "reconstruction_esc"])
def test_a_missing_key(capsys, copy, key):
    with h5py.File(copy / "singlecoil_val" / "file0.h5", "a") as file:
        del file[key]
    sentence = train_on(capsys, copy)
    assert key in sentence
    assert "file0.h5" in sentence


def test_a_header_that_is_not_ismrmrd(capsys, copy):
    with h5py.File(copy / "singlecoil_train" / "file2.h5", "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = b"<html><body>404</body></html>"
    assert "file2.h5" in train_on(capsys, copy)


def test_a_size_that_the_network_cannot_take(capsys, copy):
    write_volume(copy / "singlecoil_train" / "odd.h5", size=(48, 40), image_size=(32, 30))
    sentence = train_on(capsys, copy)
    assert "odd.h5" in sentence
    assert "width 30" in sentence
    assert "[32, 28]" in sentence
    assert "multiple of the network's total stride 4" in sentence


SETTINGS = {
    "unknown sampling": (["--sampling=apps"], "did you mean 'aps'"),
    "blur 9": (["--blur=9"], "1 to 7"),
    "stride with a blur": (["--sampling=stride", "--blur=3"], "lpf or aps"),
    "linf on max-pool": (["--network.criterion=linf"], "linf cannot choose"),
    "mistyped key": (["--trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
    "mistyped value": (["--network.blur=x"], "expected int"),
    "unknown loss": (["--loss.name=l3"], "mse, l1, ssim"),
    "unknown mask": (["--dataset.mask_type=radial"], "random"),
    "unknown task": (["--task=mir"], "mri"),
    "no batch": (["--dataset.batch_size=0"], "1 or more"),
    "no such device": (["--trainer.accelerator=gpu"], "trainer settings"),
    "no config file": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "unknown split": (["--evaluation.split=tset"], "tset"),
    "negative learning rate": (["--optimizer.lr=-1"], "optimizer.lr is -1"),
    "no step": (["--scheduler.step_size=0"], "scheduler.step_size is 0"),
    "no channels": (["--network.widths=[0,4]"], "without channels"),
    "dropout 2": (["--network.dropout=2"], "dropout 2"),
    "negative seed": (["--seed=-1"], "seed is -1"),
    "betas": (["--optimizer.betas=[2,3]"], "optimizer or scheduler"),
    "a precision we cannot measure": (["--trainer.precision=64-true"], "bf16-mixed"),
    "one number for a list": (["--dataset.accelerations=4"], "such as [4]"),
    "an image too small for the levels": (["--dataset.image_size=[8,4]"], "pools to one|smaller than"),
    "a value that is missing": (["--seed"], "seed"),
}


@pytest.mark.parametrize(("flags", "says"), SETTINGS.values(), ids=SETTINGS)
def test_settings(capsys, data, here, flags, says):
    shutil.copytree(data, here / "data")
    assert re.search(says.replace("[", r"\["), train_on(capsys, here / "data", *flags))


def test_a_config_file_with_an_unknown_key_or_no_yaml(capsys, copy, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("network:\n  samplin: aps\n")
    assert "did you mean network.sampling" in train_on(capsys, copy, f"--config={path}")
    path.write_text("network: [")
    assert "not valid YAML" in train_on(capsys, copy, f"--config={path}")


def test_a_run_folder_that_is_not_one(capsys, tmp_path):
    for main, flags in ((train.main, ["--resume", tmp_path]), (evaluate.main, [tmp_path, "--out", tmp_path / "out"])):
        assert "no config.yaml" in refuse(capsys, main, *flags)
    assert "there is no run folder" in refuse(capsys, evaluate.main, tmp_path / "nowhere")


def test_an_output_folder_in_use_or_not_writable(capsys, data, run, tmp_path):
    common = ["--task=mri", f"--data={data}", *TINY]
    assert "is not empty" in refuse(capsys, train.main, *common, f"--out={run}")
    (tmp_path / "file").touch()
    assert "cannot write to" in refuse(capsys, train.main, *common, f"--out={tmp_path / 'file' / 'run'}")
    assert "cannot write to" in refuse(capsys, evaluate.main, run, "--out", tmp_path / "file" / "out")


def test_a_checkpoint_of_another_network(capsys, run, tmp_path):
    broken = Path(shutil.copytree(run, tmp_path / "broken"))
    config = broken / "config.yaml"
    config.write_text(config.read_text().replace("- 8\n", "- 12\n"))
    for main, flags in ((evaluate.main, [broken, "--out", tmp_path / "out"]), (train.main, ["--resume", broken])):
        assert "checkpoint of another network" in refuse(capsys, main, *flags)
    assert not (tmp_path / "out" / "results.csv").exists()


class Bomb:
    """Would write a file if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_truncated_checkpoint_and_one_with_code_in_it(capsys, run, here):
    broken = Path(shutil.copytree(run, here / "broken"))
    path = broken / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    assert "truncated" in refuse(capsys, evaluate.main, broken, "--out", here / "out")
    torch.save({"state_dict": {}, "bomb": Bomb()}, path)
    assert "not a checkpoint of plain data" in refuse(capsys, evaluate.main, broken, "--out", here / "out")
    assert not (here / "exploded").exists()
    path.unlink()
    assert "there is no checkpoint" in refuse(capsys, evaluate.main, broken, "--out", here / "out")


def test_resume_keeps_its_folder_and_network(capsys, run, tmp_path):
    assert "leave out --out" in refuse(capsys, train.main, "--resume", run, "--out", tmp_path / "other")
    assert "cannot change network.blur" in refuse(capsys, train.main, "--resume", run, "--blur=3")


def test_a_file_that_a_loader_process_finds_broken(capsys, copy, tmp_path):
    path = copy / "singlecoil_train" / "file1.h5"
    with h5py.File(path, "a") as file:
        kspace = file["kspace"][()]
        del file["kspace"]
        dataset = file.create_dataset("kspace", data=kspace, chunks=(1, *kspace.shape[1:]), compression="gzip")
        where = dataset.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)
    flags = ["--task=mri", f"--data={copy}", f"--out={tmp_path / 'run'}", *TINY, "--dataset.n_workers=1"]
    assert "file1.h5" in refuse(capsys, train.main, *flags)


def test_evaluate_and_prepare_flags(capsys, run, tmp_path):
    assert "RUN" in refuse(capsys, evaluate.main)  # no run at all
    assert "without images" in refuse(capsys, prepare.main, "simulate", "--out", tmp_path / "out", "--noise=0.1")
    assert "--shifts" in refuse(capsys, evaluate.main, run, "--shifts=-1")
    assert "no device" in refuse(capsys, evaluate.main, run, "--devices=abacus")
    assert "singlecoil_train" in refuse(capsys, prepare.main, "index", tmp_path)
    (tmp_path / "image.nii").write_bytes(b"nothing")
    assert "image.nii" in refuse(capsys, prepare.main, "simulate", tmp_path / "image.nii", "--out", tmp_path / "out")


@pytest.mark.process
def test_a_full_disk(data, tmp_path):
    """No file may grow past 50 kB: the checkpoint cannot be written, and says so without a half of it left."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "pipelines.commands.train", "--task=mri", f"--data={data}", f"--out={run}", *TINY]
    done = fresh.run(command, largest_file=50_000)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (run / "checkpoints").iterdir()] == []


@pytest.mark.process
def test_a_full_disk_while_reconstructions_are_saved(run, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.evaluate",
        str(run),
        "--protocols=plain",
        "--save-reconstructions",
    ]
    out = tmp_path / "out"
    done = fresh.run([*command, f"--out={out}"], largest_file=8_000)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert {path.name for path in out.rglob("*") if path.is_file()} == {"evaluation.json", "000000.csv"}  # whole ones
    assert evaluate.main(["--resume", str(out)]) == 0
    assert len(list(out.rglob("*.h5"))) == 3


@pytest.mark.training
def test_a_loss_that_is_not_finite_names_its_batch(capsys, data, tmp_path):
    flags = [*TINY, "--optimizer.lr=1e30", "--trainer.gradient_clip_val=null"]
    sentence = refuse(capsys, train.main, "--task=mri", f"--data={data}", f"--out={tmp_path / 'run'}", *flags)
    assert "the loss became nan in epoch 0, batch 1" in sentence
    assert re.search(r"file\d slice \d", sentence)
