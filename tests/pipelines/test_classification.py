"""Classifiers end to end: training, resume, several processes, evaluation, report, and careless input."""

from __future__ import annotations

import csv
import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from data_prep import LabelledImage
from pipelines.classification.protocols import PROTOCOLS
from pipelines.classification.subjects import ImageGroup
from pipelines.classification.summary import summarise
from pipelines.classification.task import learning_rates
from pipelines.commands import evaluate, train, tune
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from recon.layers import circular_shift
from tests import fresh
from tests.data_prep.vision_files import write_cifar, write_imagenet
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_train import assert_same_run, table

TINY = [
    "--network.architecture=resnet20",
    "--dataset.batch_size=8",
    "--dataset.n_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--optimizer.lr=0.05",
    "--threads=1",
    "--evaluation.shifts=4",
]
FEW = Settings(shifts=4, max_shift=3, batch_size=7)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> Path:
    return write_cifar(tmp_path_factory.mktemp("cifar"), n_train=40, n_test=11)


@pytest.fixture(scope="module")
def trained(cifar, tmp_path_factory):
    def run(*extra: str, out: Path | None = None) -> Path:
        folder = out or tmp_path_factory.mktemp("run")
        assert train.main(["--task=cifar10", f"--data={cifar}", f"--out={folder}", *TINY, *extra]) == 0
        return folder

    return run


@pytest.fixture(scope="module")
def aps(trained) -> Path:
    return trained()


@pytest.fixture(scope="module")
def stride(trained) -> Path:
    return trained("--sampling=stride", "--dataset.protocol=crop", "--network.padding=zeros")


def test_run_folder_records_what_the_data_decide(aps):
    config = yaml.safe_load((aps / "config.yaml").read_text())
    assert config["network"]["n_classes"] == 10
    assert config["network"]["in_channels"] == 3
    assert (config["network"]["sampling"], config["network"]["blur"]) == ("aps", 1)
    rows = table(aps)
    assert list(rows[0]) == ["epoch", "step", "lr", "train_loss", "val_accuracy", "val_loss", "val_consistency"]
    assert [float(row["val_consistency"]) for row in rows] == [1.0, 1.0]
    assert (aps / "summary.png").stat().st_size > 10_000


def test_aps_is_consistent_and_plain_striding_is_not(aps, stride):
    ours, control = (json.loads((run / "summary.json").read_text())["circular-shift"] for run in (aps, stride))
    assert ours["consistency"] == 1
    assert ours["logit_change_max"] < 1e-5
    assert ours["n_pairs"] == 11 * 2
    assert ours["worst_accuracy"] == ours["accuracy"] == ours["shifted_accuracy"]
    assert control["logit_change_max"] > 1e-3


@pytest.mark.parametrize(("sampling", "blur"), [("lpf", 5), ("lps", 1)])  # lps draws in training, by the same seed
def test_the_papers_name_says_all(trained, tmp_path, sampling, blur):
    name = f"--network.architecture=resnet20_{sampling}{blur}"
    run = trained(name, "--trainer.max_epochs=1", out=tmp_path / "run")
    network = yaml.safe_load((run / "config.yaml").read_text())["network"]
    assert (network["architecture"], network["sampling"], network["blur"]) == ("resnet20", sampling, blur)
    change = json.loads((run / "summary.json").read_text())["circular-shift"]["logit_change_max"]
    assert (change < 1e-5) == (sampling == "lps")
    assert train.main(["--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert_same_run(run, tmp_path / "again")


def test_schedules():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = learning_rates(optimizer, 4, "cosine")
    rates = []
    for _ in range(4):
        rates.append(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()
    assert rates == pytest.approx([1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2])


@pytest.fixture(scope="module")
def uninterrupted(trained) -> Path:
    return trained("--trainer.max_epochs=4", "--dataset.max_shift=3", "--evaluation.shifts=0")


def test_stopped_in_mid_epoch_and_resumed_with_workers(uninterrupted, cifar, tmp_path, monkeypatch):
    from pipelines.training.recorder import RunRecorder

    run, ask = tmp_path / "run", RunRecorder._must_stop
    place = lambda self, trainer, batch_idx: trainer.current_epoch == 2 and batch_idx == 1  # noqa: E731
    monkeypatch.setattr(RunRecorder, "_must_stop", place)
    flags = ["--trainer.max_epochs=4", "--dataset.max_shift=3", "--evaluation.shifts=0"]
    assert train.main(["--task=cifar10", f"--data={cifar}", f"--out={run}", *TINY, *flags]) == 130
    monkeypatch.setattr(RunRecorder, "_must_stop", ask)
    assert train.main(["--resume", str(run), "--dataset.n_workers=1"]) == 0
    assert_same_run(uninterrupted, run)


KILLED = """
import os, signal, sys
from pipelines.classification.task import ClassificationTask
from pipelines.commands.train import main

step = ClassificationTask.training_step

def killed_step(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

ClassificationTask.training_step = killed_step
main(sys.argv[1:])
"""


@pytest.mark.process
def test_killed_and_resumed(uninterrupted, cifar, tmp_path):
    run = tmp_path / "run"
    flags = ["--trainer.max_epochs=4", "--dataset.max_shift=3", "--evaluation.shifts=0"]
    arguments = ["--task=cifar10", f"--data={cifar}", f"--out={run}", *TINY, *flags]
    done = fresh.run([sys.executable, "-c", KILLED, *arguments])
    assert done.returncode == -signal.SIGKILL
    assert train.main(["--resume", str(run)]) == 0
    assert_same_run(uninterrupted, run)


@pytest.mark.process
def test_two_processes_validate_as_one(cifar, tmp_path):
    """A number of images that two processes cannot share evenly; stride, so that shifts change answers.

    One batch without a step, the first process's, which is also the single process's: equal running statistics.
    """
    settings = ["--dataset.batch_size=3", "--optimizer.lr=0", "--optimizer.weight_decay=0", "--sampling=stride"]
    settings += ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--evaluation.shifts=0"]
    for name, extra in (("one", []), ("two", ["--trainer.devices=2", "--trainer.strategy=ddp"])):
        flags = [f"--data={cifar}", f"--out={tmp_path / name}", *TINY, *settings, *extra]
        start = [sys.executable, "-m", "pipelines.commands.train", "--task=cifar10"]
        done = fresh.run([*start, *flags])
        assert done.returncode == 0, done.stderr
    ours, theirs = table(tmp_path / "two")[0], table(tmp_path / "one")[0]
    for key in ("val_accuracy", "val_loss", "val_consistency"):
        assert float(ours[key]) == pytest.approx(float(theirs[key]), abs=1e-6)


def test_a_sweep_measures_its_best_trial_as_a_classifier(aps, tmp_path):
    config = yaml.safe_load((aps / "config.yaml").read_text())
    assert tune._measure(tmp_path, aps, config) == "evaluation/report.html"


@pytest.fixture(scope="module")
def evaluation(aps, stride, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    flags = ["--shifts=4", "--max-shift=3", "--batch-size=7"]
    assert evaluate.main([str(aps), str(stride), *flags, "--out", str(out)]) == 0
    return out


def test_every_protocol_has_its_figures(evaluation):
    summary = json.loads((evaluation / "summary.json").read_text())["runs"]
    ours, control = summary.values()
    for protocol in ("circular-shift", "flip", "erase"):
        assert ours[protocol]["consistency"] == 1
        assert ours[protocol]["logit_change_max"] < 1e-5 < control[protocol]["logit_change_max"]
    assert ours["view-shift"]["logit_change_max"] > 1e-3  # zeros enter: nobody is exact
    assert len(ours["plain"]["confusion"]) == 10
    assert sum(map(sum, ours["plain"]["confusion"])) == 11
    assert len(ours["margins"]["levels"]) == 2
    assert "margins" not in control


def test_the_summary_can_be_counted_from_the_table(evaluation):
    summary = json.loads((evaluation / "summary.json").read_text())["runs"]
    with (evaluation / "results.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["protocol"] == "circular-shift"]
    for run, parts in summary.items():
        rows = [row for row in found if row["run"] == run]
        part = parts["circular-shift"]
        correct = {}
        for row in rows:
            if row["metric"] == "correct":
                correct.setdefault(row["slice"], []).append(float(row["value"]))
        assert part["worst_accuracy"] == pytest.approx(sum(map(min, correct.values())) / len(correct))
        pairs = [float(row["value"]) for row in rows if row["metric"] == "consistent"]
        assert part["consistency"] == pytest.approx(sum(pairs) / len(pairs))
        assert ("0", "0") not in {(row["shift_y"], row["shift_x"]) for row in rows}


def test_the_report_is_one_page_with_its_sections(evaluation):
    page = (evaluation / "report.html").read_text()
    for words in ("Answers against the distance of a shift", "Confusion", "Consistency", "Phase margins", "Training"):
        assert words in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"https?:", page)


def test_interrupted_evaluation_resumes_to_the_same_table(aps, tmp_path, monkeypatch):
    from pipelines.measuring.evaluation import Evaluation

    flags = ["--shifts=2", "--max-shift=3"]
    assert evaluate.main([str(aps), *flags, "--out", str(tmp_path / "whole")]) == 0
    store, stored = Evaluation._store, []

    def stop(self, path, rows):
        if len(stored) == 2:
            raise KeyboardInterrupt
        stored.append(path)
        store(self, path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", stop)
        assert evaluate.main([str(aps), *flags, "--out", str(tmp_path / "part")]) == 130
    assert evaluate.main(["--resume", str(tmp_path / "part")]) == 0
    tables = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "part")]
    assert tables[0] == tables[1]


class _Numbers(torch.utils.data.Dataset):
    """Images whose class is where they are brightest: the left or the right half; one is blank."""

    class_names = ["left", "right"]
    image_size, n_channels, view_reach = (8, 8), 1, 2

    def __init__(self) -> None:
        self.images = torch.zeros(4, 1, 8, 8)
        for i, column in enumerate((1, 3, 6)):
            self.images[i, 0, 2, column] = 1.0
        self.labels = torch.tensor([0, 0, 1, 0]).numpy()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> LabelledImage:
        return LabelledImage(self.images[index], torch.tensor(int(self.labels[index])), torch.tensor(index))

    def sample_name(self, index: int) -> str:
        return f"image-{index}"

    def shifted_view(self, index, shift):
        return circular_shift(self.images[index][None], torch.tensor([shift]))[0]


class _Halves(torch.nn.Module):
    """Which half is brighter: an answer that shifts do change."""

    total_stride = 2

    def forward(self, x):
        return torch.stack([x[..., :4].sum((1, 2, 3)), x[..., 4:].sum((1, 2, 3))], 1)


def test_protocols_against_counting_by_hand():
    task = type("Task", (), {"network": _Halves(), "device": torch.device("cpu"), "total_stride": 2})
    dataset = _Numbers()
    group = ImageGroup(task(), dataset, "images-0-3", 0)
    rows = list(PROTOCOLS["circular-shift"](group, FEW))
    column = {0: 1, 1: 3, 2: 6}
    for row in rows:
        if row.slice == 3:
            assert row.status == "tie"  # blank
        elif row.metric in ("predicted", "correct"):
            answer = int((column[row.slice] + (row.shift_x or 0)) % 8 >= 4)
            assert row.value == (answer if row.metric == "predicted" else int(answer == dataset.labels[row.slice]))
        elif row.metric == "logit_change":
            same = (column[row.slice] >= 4) == ((column[row.slice] + row.shift_x) % 8 >= 4)
            assert row.value == (0.0 if same else 1.0)
    part = summarise(rows, dataset.class_names)["circular-shift"]
    assert (part["n_images"], part["n_ties"], part["n_pairs"]) == (4, 1, 6)
    moved = list(PROTOCOLS["view-shift"](group, FEW))
    assert {abs(row.shift_y) for row in moved if row.shift_y != ""} <= {0, 1, 2}
    assert isinstance(rows[0], Row)


@pytest.mark.training
def test_imagenet_folders_train_and_evaluate(tmp_path):
    data = write_imagenet(tmp_path / "data", n_classes=3, n_per_class=4)
    flags = ["--network.architecture=resnet18", "--dataset.resize=40", "--dataset.image_size=[32,32]"]
    out = tmp_path / "run"
    assert train.main(["--task=imagenet", f"--data={data}", f"--out={out}", *TINY, *flags]) == 0
    found = json.loads((out / "summary.json").read_text())["circular-shift"]
    assert (found["consistency"], found["n_images"]) == (1, 12)
    assert evaluate.main([str(out), "--shifts=2", "--max-shift=2", "--out", str(tmp_path / "evaluation")]) == 0
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert next(iter(summary["runs"].values()))["view-shift"]["n_images"] == 12


def test_careless_input(cifar, aps, run, tmp_path, capsys):
    def on(*flags: str) -> str:
        sentence = refuse(capsys, train.main, "--task=cifar10", f"--out={tmp_path / 'out'}", *TINY, *flags)
        assert not (tmp_path / "out").exists()
        return sentence

    assert "needs --data" in on()
    assert "cifar-100-python" in refuse(capsys, train.main, "--task=cifar100", f"--data={cifar}", *TINY)
    assert "did you mean 'resnet20'" in on(f"--data={cifar}", "--network.architecture=resnet21")
    assert "network.n_classes is 12" in on(f"--data={cifar}", "--network.n_classes=12")
    assert "step, cosine" in on(f"--data={cifar}", "--scheduler.name=linear")
    fashion = ["--task=fashion_mnist", "--dataset.image_size=[30,32]", *TINY]
    assert "height 30" in refuse(capsys, train.main, *fashion, "--out", tmp_path / "e")
    assert "different tasks" in refuse(capsys, evaluate.main, aps, run, "--out", tmp_path / "e")
    assert "all-phases" in refuse(capsys, evaluate.main, aps, "--protocols", "all-phases", "--out", tmp_path / "e")
    assert "--save-rec" in refuse(capsys, evaluate.main, aps, "--save-reconstructions", "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.training
def test_a_loss_that_is_not_finite_names_the_images(cifar, tmp_path, capsys):
    flags = ["--optimizer.lr=1e30", f"--data={cifar}", f"--out={tmp_path / 'out'}"]
    sentence = refuse(capsys, train.main, "--task=cifar10", *TINY, *flags)
    assert "train-" in sentence
    assert not (tmp_path / "out" / "checkpoints").exists()
