"""The networks that come with the package: small, as good and as exact as their cards say, and never written to."""

from __future__ import annotations

import configparser
import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
import yaml

from data_prep import bundled
from data_prep.labelled import fashion_mnist
from pipelines.commands import evaluate, predict
from pipelines.commands.train import main as train_command
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.settings import Settings
from pipelines.runs.checkpoints import build_task, load_weights
from pipelines.runs.open import open_run
from pipelines.runs.zoo import ZOO, zoo_names
from tests.conftest import TINY
from tests.pipelines.test_bad_input import refuse

NAMES = ("ct", "fashion_mnist", "mri")
RECONSTRUCTION = ("ct", "mri")
MOVED = dict.fromkeys(RECONSTRUCTION, ("equivariance", "nmse_eq_max", 1e-10)) | {
    "fashion_mnist": ("circular-shift", "logit_change_max", 1e-5)
}  # the protocol, its worst error and what it stays below


@pytest.fixture
def whole_subjects(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled samples hold all slices of those who are tested on, and no one else."""
    folder = Path(tmp_path_factory.getbasetemp()) / "zoo-subjects"
    tested = {name: split for name, split in bundled.CT_SUBJECTS.items() if split == "test"}
    monkeypatch.setattr(bundled, "SUBJECTS", [subject for subject in bundled.SUBJECTS if subject.split == "test"])
    monkeypatch.setattr(bundled, "CT_SUBJECTS", tested)
    monkeypatch.setenv("RECON_CACHE", str(folder))


@pytest.fixture
def few_images(few_slices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled samples hold two slices of each person, and every fortieth image of clothes."""
    whole = fashion_mnist.read_bundled

    def every_fortieth(name: str) -> Any:
        part = whole(name)
        return part._replace(images=part.images[::40], labels=part.labels[::40])

    monkeypatch.setattr(fashion_mnist, "read_bundled", every_fortieth)


@pytest.fixture(autouse=True)
def _stays_as_it_is() -> Iterator[None]:
    """Nothing here writes into the package."""
    before = {path: path.lstat().st_mtime_ns for path in ZOO.rglob("*")}
    yield
    assert {path: path.lstat().st_mtime_ns for path in ZOO.rglob("*")} == before


@pytest.fixture(scope="module")
def stride_run(train: Any) -> Path:
    return train("--sampling=stride")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name].to(value.dtype)) for name, value in found.items())


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def on_card(name: str, figure: str) -> float:
    found = re.search(rf"^\| {figure} \| ([\d.]+)", (ZOO / name / "README.md").read_text(), re.MULTILINE)
    assert found, f"{name}'s card tells no {figure}"
    return float(found[1])


def measure(run: AnyRun, protocol: str, n_shifts: int = 1) -> dict[str, Any]:
    found = run.kind.measure(run.task, run.dataset, [protocol], Settings(n_shifts, batch_size=1))
    return run.kind.summarise(found, run.dataset)[protocol]


def test_there_is_one_for_each_bundled_sample():
    assert tuple(zoo_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_weights_alone_and_no_path(name):
    folder = ZOO / name
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert list(checkpoint) == ["state_dict"]
    assert {value.dtype for value in checkpoint["state_dict"].values() if value.is_floating_point()} == {torch.float16}
    for file in ("config.yaml", "environment.json"):
        assert not re.search(r"(?<![\w.)])/\w", (folder / file).read_text())
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] is None
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Data", "Training", "Figures", "What it must not be used for"))


def test_they_are_small_and_in_the_package():
    files = [path.relative_to(ZOO.parent) for path in ZOO.rglob("*") if path.is_file()]
    sizes = {path: (ZOO.parent / path).stat().st_size for path in files}
    assert max(sizes.values()) < 4e6
    assert sum(sizes.values()) < 6e6
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = setup["options.package_data"]["pipelines"].split(", ")
    assert set(files) <= {found.relative_to(ZOO.parent) for pattern in patterns for found in ZOO.parent.glob(pattern)}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_reconstructions_are_as_good_as_the_card_says(name, whole_subjects):
    found = measure(open_run(Path(f"zoo:{name}")), "plain")
    assert found["psnr"]["mean"] == pytest.approx(on_card(name, "PSNR"), abs=0.0151)  # .01, and the card's rounding
    assert found["ssim"]["mean"] == pytest.approx(on_card(name, "SSIM"), abs=0.0105)


@pytest.mark.slow
def test_answers_are_as_good_as_the_card_says():
    found = measure(open_run(Path("zoo:fashion_mnist")), "plain")
    assert found["accuracy"] * 100 == pytest.approx(on_card("fashion_mnist", "accuracy"), abs=0.2)  # two images


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_are_exact_and_with_stride_they_are_not(name, few_images):
    run = open_run(Path(f"zoo:{name}"))
    protocol, worst, bound = MOVED[name]
    assert measure(run, protocol, 2)[worst] < bound
    run.config.network.sampling = "stride"
    control = build_task(run.config).eval()
    load_weights(control, run.checkpoint)
    assert measure(run._replace(task=control), protocol, 2)[worst] > 1e4 * bound


@pytest.mark.slow
@pytest.mark.parametrize("challenge", ["singlecoil", "multicoil"])
def test_predicts_without_training(challenge, few_slices, tmp_path):
    file = bundled.bundled_mri(challenge=challenge) / f"{challenge}_test" / "brain2.h5"
    assert predict.main(["zoo:mri", str(file), "--out", str(tmp_path)]) == 0
    with h5py.File(tmp_path / "brain2.h5") as found, h5py.File(file) as given:
        preds = found["reconstruction"][()]
        target = given["reconstruction_esc" if challenge == "singlecoil" else "reconstruction_rss"][()]
    assert ((preds - target) ** 2).sum() < 0.03 * (target**2).sum()


@pytest.mark.slow
def test_evaluates_goes_on_and_calls_it_by_its_name(few_slices, tmp_path, capsys):
    out = str(tmp_path / "e")
    assert evaluate.main(["zoo:mri", "--protocols", "plain", "--save-reconstructions", "--out", out]) == 0
    assert (tmp_path / "e" / "reconstructions" / "zoo-mri" / "brain2.h5").exists()
    assert "zoo-mri" in (tmp_path / "e" / "report.html").read_text()
    (tmp_path / "e" / ".parts").mkdir()  # as after an interruption
    assert evaluate.main(["--resume", out]) == 0


def test_a_name_that_is_not_there(capsys, data, here):
    out = ["--out", "out"]
    commands = [(evaluate.main, ["zoo:mir"]), (predict.main, ["zoo:mir", str(data / "singlecoil_val"), *out])]
    commands.append((train_command, ["--task=mri", f"--data={data}", *TINY, "--init=zoo:mir", *out]))
    for main, argv in commands:
        sentence = refuse(capsys, main, *argv)
        assert "did you mean 'mri'?" in sentence
        assert "ct, fashion_mnist, mri" in sentence
    assert not (here / "out").exists()


def test_a_classifier_makes_no_images(capsys, data, tmp_path):
    assert "makes no images" in refuse(capsys, predict.main, "zoo:fashion_mnist", data, "--out", tmp_path)


@pytest.mark.parametrize(
    "flags", [["--resume", "zoo:mri"], ["--resume", str(ZOO / "mri")], ["--out=zoo:mri"], [f"--out={ZOO / 'other'}"]]
)
def test_they_are_not_trained_on(capsys, flags):
    sentence = refuse(capsys, train_command, *flags)
    assert "--init" in sentence
    assert not (ZOO / "other").exists()


@pytest.mark.parametrize("sampling", ["aps", "stride"])
def test_a_training_starts_from_the_weights_of_another(sampling, train, run, stride_run):
    """Without learning the first figure is that of the source, whose sampling may be another; with it, it is not."""
    source = {"aps": run, "stride": stride_run}[sampling]
    started = train(f"--init={source}", "--optimizer.lr=0", "--trainer.max_epochs=1", f"--sampling={sampling}")
    best = max(float(row["val_psnr"]) for row in rows(source))
    assert float(rows(started)[0]["val_psnr"]) == pytest.approx(best, abs=1e-4)
    fresh = train("--optimizer.lr=0", "--trainer.max_epochs=1", f"--sampling={sampling}")
    assert abs(float(rows(fresh)[0]["val_psnr"]) - best) > 1e-2


def test_aps_starts_from_stride_and_goes_on_without_it(train, stride_run, tmp_path):
    source = shutil.copytree(stride_run, tmp_path / "source")
    started = train(f"--init={source / 'checkpoints' / 'best.ckpt'}", "--optimizer.lr=0", "--trainer.max_epochs=1")
    before = weights(source / "checkpoints" / "best.ckpt")
    shutil.rmtree(source)
    assert all(
        torch.equal(value, before[name]) for name, value in weights(started / "checkpoints" / "last.ckpt").items()
    )
    assert train_command(["--resume", str(started), "--trainer.max_epochs=2"]) == 0
    assert len(rows(started)) == 2
    assert f"init: {source}" in (started / "config.yaml").read_text()


def test_a_run_that_saved_nothing_starts_from_them_again(train, run, capsys):
    started = train(f"--init={run}", "--optimizer.lr=0", "--trainer.max_epochs=1")
    for file in (started / "checkpoints").iterdir():
        file.unlink()
    assert "cannot change init" in refuse(capsys, train_command, "--resume", started, "--init=zoo:mri")
    assert train_command(["--resume", str(started)]) == 0
    before = weights(run / "checkpoints" / "best.ckpt")
    assert all(
        torch.equal(value, before[name]) for name, value in weights(started / "checkpoints" / "last.ckpt").items()
    )


def test_a_training_starts_from_the_zoo(train):
    same = ["--network=varnet", "--network.widths=[8,16,32]", "--network.norm=null", "--network.n_cascades=6"]
    started = train("--init=zoo:mri", *same, "--optimizer.lr=0", "--trainer.max_epochs=1")
    assert "init: zoo:mri" in (started / "config.yaml").read_text()
    found, before = (weights(folder / "checkpoints" / "best.ckpt") for folder in (started, ZOO / "mri"))
    assert {value.dtype for value in found.values() if value.is_floating_point()} == {torch.float32}
    assert_same(found, before)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sampling=stride", "--network.widths=[4,6]"], "network.widths is [4, 6, 8] there and [4, 6] here"),
        (["--network=complex_unet"], "network.name is unet there and complex_unet here"),
    ],
)
def test_another_network_is_refused_by_its_key(capsys, data, run, here, flags, said):
    sentence = refuse(
        capsys, train_command, "--task=mri", f"--data={data}", "--out=out", *TINY, f"--init={run}", *flags
    )
    assert said in sentence
    assert not (here / "out").exists()
