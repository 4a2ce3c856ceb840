"""Exact between the pixels by the commands: alias_free and align: centroid, trained, measured and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from data_prep import Sample
from pipelines.commands import evaluate, predict, train
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.local_change import local_change
from pipelines.reconstruction.subjects import Subject, infer
from pipelines.runs.checkpoints import build_task, read_checkpoint
from pipelines.runs.config import parse
from pipelines.runs.open import open_run
from pipelines.tasks import open_dataset
from recon import Centred
from tests.data_prep.files import write_dataset
from tests.pipelines.test_bad_input import refuse

TINY = [
    *("--network=complex_unet", "--network.widths=[4,6,8]", "--network.maps_widths=[2,3]", "--dataset.batch_size=2"),
    *("--dataset.n_workers=0", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--optimizer.lr=0.01"),
    *("--trainer.enable_progress_bar=false", "--threads=1", "--evaluation.shifts=1", "--evaluation.split=val"),
]
VARIANTS = {
    "alias_free": ["--sampling=alias_free"],
    "centred": ["--sampling=stride", "--network.align=centroid"],
    "aps": ["--sampling=aps"],
    "stride": ["--sampling=stride"],
}
EXACT = ("alias_free", "centred")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """k-space of 48 x 40 and targets of 32 x 32, of one coil and of three."""
    root = tmp_path_factory.mktemp("any-translation")
    for n_coils in (0, 3):
        write_dataset(root, {"train": 2, "val": 1}, n_coils, n_slices=2)
    return root


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, given in VARIANTS.items():
        assert train.main(["--task=mri", f"--data={data}", *TINY, *given, f"--out={folder / name}"]) == 0
    return {name: folder / name for name in VARIANTS}


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    protocols = ["plain", "equivariance", "any-shift", "physical-shift", "local-change"]
    given = [*map(str, runs.values()), "--protocols", *protocols, "--shifts=4", "--max-shift=5", "--devices=cpu"]
    assert evaluate.main([*given, f"--out={out}"]) == 0
    return out, json.loads((out / "summary.json").read_text())["runs"]


def test_moved_by_fractions_of_a_pixel(evaluated):
    """Before the magnitude, by quarters and tenths; as it happens, too, each with its own normalisation."""
    _, found = evaluated
    for name in VARIANTS:
        errors = [found[name]["any-shift"]["nmse_eq_max"], *found[name]["shift-curve"].values()]
        fractional, whole = (found[name]["physical-shift"][move] for move in ("fractional", "whole"))
        assert len(errors) == 21
        assert fractional["nmse_eq_input_max"] < 1e-8, "nothing is lost before the network"
        if name in EXACT:
            assert max(errors) < 1e-8
            assert fractional["nmse_eq_max"] < 1e-8
            assert whole["nmse_eq_max"] < 1e-8
        else:
            assert found[name]["any-shift"]["nmse_eq_max"] > 1e-6, "control"
            assert fractional["nmse_eq_max"] > 1e-6, "control"
    assert max(found["aps"]["shift-curve"][t] for t in ("1", "2")) < 1e-8 < found["aps"]["shift-curve"]["1.5"]
    assert found["aps"]["equivariance"]["nmse_eq_max"] < 1e-8


@torch.no_grad()
def test_a_spot_elsewhere(evaluated, data):
    """Of a network that changes nothing, what the spot's own aliases are; of a full measurement, nothing."""
    _, found = evaluated
    for name in VARIANTS:
        assert found[name]["local-change"]["nmse_rest_input"]["mean"] > 0
        assert found[name]["local-change"]["nmse_rest"]["n"] == 2
    config = parse(["--task=mri", f"--data={data}", *TINY, "--sampling=alias_free", "--network.maps_widths=null"])
    task, dataset = build_task(config).eval(), open_dataset(config, "val")  # its last layer is 0 at the start
    full = [dataset[0]._replace(mask=torch.ones(40, dtype=torch.bool))]
    subject = Subject(task, dataset, "file0", 0)
    given = [*subject.samples[:1], *(Sample(*(part[None] for part in sample)) for sample in full)]
    rows = []
    for sample in given:
        subject.samples, subject.inferences = [sample], [infer(task, sample, "file0")]
        subject.names = ["file0"]
        rows.append({row.metric: row.value for row in local_change(subject, Settings())})
    masked, whole = rows
    assert masked["nmse_rest"] == pytest.approx(masked["nmse_rest_input"], rel=0.05)
    assert whole["nmse_rest_input"] < 1e-3 * masked["nmse_rest_input"]


def test_the_rows_and_the_page(evaluated, capsys):
    out, found = evaluated
    lines = (out / "results.csv").read_text().splitlines()
    rows = [row for row in csv.DictReader(lines) if row["run"] == "stride"]
    moves = {
        (row["volume"], row["slice"], row["shift_y"], row["shift_x"]) for row in rows if row["protocol"] == "any-shift"
    }
    assert len(moves) == found["stride"]["any-shift"]["n_cases"] == 2 * 4
    assert not any(float(shift).is_integer() for *_, y, x in moves for shift in (y, x))
    curve = [float(row["shift_y"]) for row in rows if row["protocol"] == "shift-curve"]
    assert curve == [t / 10 for t in range(1, 21)]
    page = (out / "report.html").read_text()
    assert "Worst NMSE_eq of complex images moved by quarters and tenths of a pixel" in page
    assert "shift along both axes (pixels)" in page
    assert "Local change: a bright spot" in page


def test_the_alignment_is_recorded_and_resumed(runs, data, tmp_path):
    config = yaml.safe_load((runs["centred"] / "config.yaml").read_text())
    assert config["network"]["align"] == "centroid"
    assert isinstance(open_run(runs["centred"]).task.network, Centred)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    given = ["--task=mri", f"--data={data}", *TINY, *VARIANTS["centred"]]
    assert train.main([*given, "--trainer.max_epochs=2", f"--out={whole}"]) == 0
    assert train.main([*given, f"--out={halves}"]) == 0
    assert train.main(["--resume", str(halves), "--trainer.max_epochs=2"]) == 0
    one, two = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (whole, halves))
    assert all(torch.equal(one[name], two[name]) for name in one.keys() | two.keys())


def test_a_run_from_before_there_was_an_alignment_is_as_it_was(runs, capsys):
    old = runs["stride"] / "config.yaml"
    config = yaml.safe_load(old.read_text())
    for key in ("align", "blur", "norm", "activation", "padding", "criterion"):
        del config["network"][key]
    old.write_text(yaml.safe_dump(config))
    assert not isinstance(open_run(runs["stride"]).task.network, Centred)
    said = refuse(capsys, train.main, "--resume", runs["stride"], "--network.align=centroid")
    assert "--resume cannot change network.align" in said


@pytest.mark.training
def test_predict_with_several_coils(data, tmp_path):
    """By maps of their own, aligned."""
    out, volume = tmp_path / "coils", data / "multicoil_val" / "file0.h5"
    given = ["--task=mri", f"--data={data}", "--dataset.challenge=multicoil", *TINY, *VARIANTS["centred"]]
    assert train.main([*given, f"--out={out}"]) == 0
    assert predict.main([str(out), str(volume), "--out", str(tmp_path / "images"), "--device", "cpu"]) == 0
    assert (tmp_path / "images" / "file0.h5").exists()


BAD = {
    "blur": (["--sampling=alias_free", "--blur=3"], "sampling alias_free has no blur: leave it out"),
    "padding": (["--sampling=alias_free", "--network.padding=zeros"], "sampling alias_free has no padding"),
    "criterion": (["--sampling=alias_free", "--network.criterion=l1"], "sampling alias_free has no criterion"),
    "norm": (["--sampling=alias_free", "--network.norm=batch"], "sampling alias_free has no norm"),
    "activation": (["--sampling=alias_free", "--network.activation=relu"], "sampling alias_free has no activation"),
    "align": (["--network.align=center"], "unknown network.align 'center' (did you mean 'centroid'?)"),
    "a blur of nothing": (["--sampling=stride", "--blur=3"], "sampling stride has no blur"),
    "a side": (["--network.widths=[2,2,2,2,2]"], ".h5: k-space has 48 x 40 points, and its"),
}


@pytest.mark.parametrize("network", ["complex_unet", "varnet", "modl"])
@pytest.mark.parametrize(("given", "says"), BAD.values(), ids=BAD)
def test_refused_in_one_sentence(network, given, says, data, tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"
    said = refuse(capsys, train.main, "--task=mri", f"--data={data}", *TINY, f"--network={network}", *given, out)
    assert says in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["mri", "ct"])
def test_networks_of_magnitudes_have_neither(task, capsys):
    unet = f"--task={task}", "--network=unet"
    said = refuse(capsys, train.main, *unet, "--sampling=alias_free")
    assert "one of the networks complex_unet, varnet and modl" in said
    assert "unknown option --network.align" in refuse(capsys, train.main, *unet, "--network.align=centroid")


@pytest.mark.training
def test_what_needs_k_space_is_not_measured_of_images(data, tmp_path, capsys):
    images = [flag for flag in TINY if not flag.startswith(("--network=", "--network.maps"))]
    assert train.main(["--task=mri", f"--data={data}", *images, f"--out={tmp_path / 'unet'}"]) == 0
    said = refuse(capsys, evaluate.main, tmp_path / "unet", "--protocols", "any-shift", "--out", tmp_path / "no")
    assert said == "error: protocol any-shift cannot be measured of unet: leave it out"


def test_the_settings_are_those_of_the_network(data):
    config = parse(["--task=mri", f"--data={data}", "--network=varnet", "--sampling=aps", "--blur=5"])
    assert config.network.blur == 5
    assert config.network.align == "none"
