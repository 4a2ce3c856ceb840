"""Networks with the measurement inside, by name: trained, resumed, measured, and used like any other."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data_prep import FastMRIDataset
from pipelines.commands import evaluate, predict, train
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import denormalise, shifted
from pipelines.runs.checkpoints import build_task, read_checkpoint
from pipelines.runs.config import load, parse
from pipelines.runs.train import configuration
from pipelines.tasks import TASKS, open_dataset
from recon.errors import InputError
from recon.layers import circular_shift
from tests import fresh
from tests.data_prep.files import write_dataset, write_volume
from tests.pipelines.test_bad_input import refuse

TINY = [
    *("--network.n_cascades=2", "--network.widths=[4,6,8]", "--network.maps_widths=[2,3]"),
    *("--dataset.batch_size=2", "--dataset.n_workers=0", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--threads=1", "--evaluation.shifts=1", "--evaluation.split=val"),
]
COILS = {"singlecoil": 0, "multicoil": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """k-space of 48 x 40 and targets of 32 x 32, of one coil and of three."""
    root = tmp_path_factory.mktemp("measured")
    for n_coils in COILS.values():
        write_dataset(root, {"train": 2, "val": 1}, n_coils, n_slices=2)
    return root


def flags(data: Path, challenge: str, *extra: str) -> list[str]:
    return ["--task=mri", f"--data={data}", f"--dataset.challenge={challenge}", *TINY, *extra]


def trained(data: Path, out: Path, *extra: str, challenge: str = "singlecoil") -> Path:
    assert train.main([*flags(data, challenge, *extra), f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    """Runs on one coil: the exact network, its control, and a U-Net."""
    folder = tmp_path_factory.mktemp("runs")
    found = {name: trained(data, folder / name, "--network=varnet", f"--sampling={name}") for name in ("aps", "stride")}
    unet = [flag for flag in TINY if "cascades" not in flag and "maps" not in flag]
    assert train.main(["--task=mri", f"--data={data}", *unet, f"--out={folder / 'unet'}"]) == 0
    return found | {"unet": folder / "unet"}


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory) -> tuple[Path, dict]:
    """All protocols of all three in one evaluation."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    settings = ["--shifts=2", "--max-shift=5", "--noise-levels=0.1", "--save-reconstructions", "--devices=cpu"]
    assert evaluate.main([*map(str, runs.values()), *settings, f"--out={out}"]) == 0
    return out, json.loads((out / "summary.json").read_text())["runs"]


def test_what_moves_before_the_acquisition_moves_the_image(evaluated):
    _, found = evaluated
    for protocol in ("equivariance", "all-phases"):
        assert found["aps"][protocol]["nmse_eq_max"] < 1e-10
        assert found["stride"][protocol]["nmse_eq_max"] > 1e-6, "control"
        assert found["aps"][protocol]["n_exact"] < found["aps"][protocol]["n_cases"], "Fourier transforms round"
        assert found["aps"][protocol]["dpsnr_max"] < 1e-3 < found["stride"][protocol]["dpsnr_max"]
    for step in ("input", "network", "acquisition"):
        assert found["aps"]["physical-shift"]["whole"][f"nmse_eq_{step}_max"] < 1e-10
    assert found["aps"]["physical-shift"]["whole"]["nmse_eq_max"] < 1e-10, "with the moved image's own scale"
    assert found["stride"]["physical-shift"]["whole"]["nmse_eq_max"] > 1e-6, "control"
    assert found["aps"]["physical-shift"]["fractional"]["nmse_eq_max"] > 1e-6, "control: aps is not for fractions"
    assert len(found["aps"]["margins"]["levels"]) == 2 * 2  # cascades and levels


def test_new_content_is_measured_in_a_smaller_field_of_view(evaluated):
    _, found = evaluated
    for run in ("unet", "stride", "aps"):
        assert found[run]["realistic-shift"]["n_cases"] > 0
        assert found[run]["realistic-shift"]["nmse_eq_max"] > 1e-8, "what enters is new"


CHANGED = ("noise-0.1", "flip-vertical", "flip-horizontal", "white-noise", "natural", "chest-ct")


def test_changed_objects_are_acquired_and_leave_the_network_exact(evaluated):
    _, found = evaluated
    for protocol in CHANGED:
        assert found["aps"][protocol]["nmse_eq_max"] < 1e-10
        assert found["stride"][protocol]["nmse_eq_max"] > 1e-7, "control"
        assert found["aps"][protocol]["n_cases"] == found["unet"][protocol]["n_cases"]
    quality = {name: found["aps"][name]["psnr"]["mean"] for name in ("plain", "flip-vertical", "noise-0.1")}
    assert quality["flip-vertical"] == pytest.approx(quality["plain"], abs=1.5)
    assert quality["noise-0.1"] < quality["plain"]


def test_all_runs_have_one_baseline(evaluated):
    _, found = evaluated
    first, second = (found[name]["zero-filled"]["psnr"]["mean"] for name in ("aps", "unet"))
    assert first == pytest.approx(second, abs=1e-3)


def test_predict_writes_what_was_measured(evaluated, runs, data, tmp_path):
    out, found = evaluated
    volume = data / "singlecoil_val" / "file0.h5"
    assert predict.main([str(runs["aps"]), str(volume), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    written = [tmp_path / "out" / "file0.h5", out / "reconstructions" / "aps" / "file0.h5"]
    images = [h5py.File(path)["reconstruction"][:] for path in written]
    np.testing.assert_allclose(*images, rtol=1e-4, atol=1e-6 * images[0].max())  # layers where margins are recorded
    target = h5py.File(volume)["reconstruction_esc"][:]
    assert images[0].shape == target.shape == (2, 32, 32)
    psnr = 10 * np.log10(target.max() ** 2 / np.square(images[0] - target).mean())
    assert psnr == pytest.approx(found["aps"]["plain"]["psnr"]["mean"], abs=1e-3)


@pytest.mark.parametrize("network", ["varnet", "modl"])
def test_resume_ends_where_an_uninterrupted_run_ends(network, runs, data, tmp_path):
    challenge = "multicoil" if network == "modl" else "singlecoil"
    whole = (
        runs["aps"] if network == "varnet" else trained(data, tmp_path / "whole", "--network=modl", challenge=challenge)
    )
    halves = trained(data, tmp_path / "halves", f"--network={network}", "--trainer.max_epochs=1", challenge=challenge)
    assert train.main(["--resume", str(halves), "--trainer.max_epochs=2"]) == 0
    one, two = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (whole, halves))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.training
@pytest.mark.parametrize("network", ["varnet", "modl"])
def test_bf16_trains_and_what_is_measured_is_exact(network, data, tmp_path):
    """Autocast is for convolutions: transforms, steps of conjugate gradients and statistics stay in float32."""
    precision = ["--trainer.precision=bf16-mixed", "--trainer.max_epochs=1"]
    run = trained(data, tmp_path / "run", f"--network={network}", *precision, challenge="multicoil")
    before = trained(
        data, tmp_path / "still", f"--network={network}", *precision, "--optimizer.lr=0.0", challenge="multicoil"
    )
    one, two = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, before))
    assert {tensor.dtype for tensor in one.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in one.values())
    assert not all(torch.equal(one[name], two[name]) for name in one)
    found = json.loads((run / "summary.json").read_text())["equivariance"]["nmse_eq_max"]
    assert found < 1e-10


@pytest.mark.process
@pytest.mark.training
@pytest.mark.parametrize("network", ["varnet", "modl"])
def test_two_processes_validate_as_one(network, data, tmp_path):
    """With an odd number of slices for two processes, and stride, so that errors are errors."""
    settings = [f"--network={network}", "--sampling=stride", "--optimizer.lr=0.0", "--dataset.batch_size=1"]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", f"--out={tmp_path / 'two'}"]
    command = [sys.executable, "-m", "pipelines.commands.train", *flags(data, "multicoil", *settings), *two]
    done = fresh.run(command)
    assert done.returncode == 0, done.stderr
    one = trained(data, tmp_path / "one", *settings, challenge="multicoil")
    pages = [(folder / "metrics.csv").read_text() for folder in (tmp_path / "two", one)]
    tables = [list(csv.DictReader(page.splitlines())) for page in pages]
    assert len(tables[0]) == len(tables[1]) == 2
    for ours, theirs in zip(*tables, strict=True):
        for key in ("val_psnr", "val_ssim", "val_nmse", "val_nmse_eq"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), abs=1e-6)
    assert float(tables[0][0]["val_nmse_eq"]) > 1e-6


@pytest.mark.parametrize("challenge", COILS)
@pytest.mark.parametrize("network", ["varnet", "modl"])
def test_the_whole_chain_commutes(network, challenge, data):
    errors = {}
    for sampling in ("aps", "stride"):
        config = parse(flags(data, challenge, f"--network={network}", f"--sampling={sampling}"))
        dataset = open_dataset(config, "val")
        RECONSTRUCTION.fit_to_data(config, dataset)
        task = build_task(config).eval()
        batch, shifts = default_collate([dataset[0]]), torch.tensor([[3, -1], [2, 6]])
        with torch.inference_mode():
            expected = circular_shift(denormalise(task(batch), batch).expand(2, -1, -1, -1), shifts)
            difference = denormalise(task(shifted(batch, shifts)), batch) - expected
        errors[sampling] = float(difference.square().sum() / expected.square().sum())
    assert errors["aps"] < 1e-10
    assert errors["stride"] > 1e-6, "control"


def test_a_batch_of_different_masks_is_each_slice_alone(data):
    config = parse(flags(data, "multicoil", "--network=varnet"))
    dataset = open_dataset(config, "train", training=True)
    samples = [dataset[0, 0], dataset[1, 0]]
    assert not torch.equal(samples[0].mask, samples[1].mask)
    task = build_task(config).eval()
    with torch.inference_mode():
        together = task(default_collate(samples))
        for sample, output in zip(samples, together, strict=True):
            torch.testing.assert_close(task(default_collate([sample]))[0], output, rtol=1e-4, atol=1e-4)
    loss = task.loss(together, default_collate(samples), task.clamp)
    assert together.shape[-2:] == (48, 40), "the whole matrix"
    assert loss.isfinite(), "against targets of its centre"


def test_a_network_of_images_carries_nothing_more(data):
    config = parse(["--task=mri", f"--data={data}"])
    batch = default_collate([open_dataset(config, "val")[0]])
    assert batch.kspace.numel() == batch.mask.numel() == 0
    assert batch.image.shape[-2:] == (32, 32)
    with pytest.raises(InputError, match=r"unknown option --dataset\.measured"):
        parse(["--task=mri", "--dataset.measured=true"])


def test_a_sample_holds_the_measurement(data):
    dataset = FastMRIDataset(data, "val", "multicoil", measured=True)
    sample = dataset[0]
    images = torch.fft.ifft2(torch.fft.ifftshift(sample.kspace, (-2, -1)), norm="ortho")
    magnitude = torch.fft.fftshift(images, (-2, -1)).abs().square().sum(0).sqrt()
    torch.testing.assert_close(magnitude * sample.std, sample.image[0] * sample.std + sample.mean)
    assert not sample.kspace[..., ~sample.mask].any()
    assert 0.5 < float(magnitude.std()) < 2
    still = dataset.moved(0, (0, 0))
    assert torch.equal(still.kspace, sample.kspace)
    moved = dataset.moved(0, (3, -2))
    torch.testing.assert_close(moved.image, sample.image.roll((3, -2), (-2, -1)), rtol=1e-4, atol=1e-4)


def test_rolled_in_training(tmp_path):
    write_dataset(tmp_path, {"train": 1}, n_slices=1, size=(16, 16), image_size=(16, 16))
    still, rolled = (
        FastMRIDataset(tmp_path, "train", measured=True, training=True, max_shift=reach)[0, 0] for reach in (0, 5)
    )
    shift = next((y, x) for y in range(-5, 6) for x in range(-5, 6)
                 if torch.equal(still.image.roll((y, x), (-2, -1)), rolled.image))  # fmt: skip
    assert torch.equal(still.target.roll(shift, (-2, -1)), rolled.target)
    image = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(rolled.kspace[0]), norm="ortho")).abs()
    torch.testing.assert_close(image * rolled.std, (rolled.image * rolled.std + rolled.mean)[0], rtol=1e-4, atol=1e-8)


BAD = {
    "not offered": (["--task=ct", "--network=varnet"], "unknown network of the task ct 'varnet'"),
    "no cascades": (["--network=varnet", "--cascades=0"], "n_cascades 0 leave nothing to unroll"),
    "no cascades of MoDL": (["--network=modl", "--network.n_cascades=0"], "n_cascades 0 and n_cg_steps"),
    "a side": (["--network=modl", "--network.widths=[2,2,2,2,2]"], ".h5: k-space has 48 x 40 points, and its"),
    "image_size": (["--network=varnet", "--dataset.image_size=[32,32]"], "leave dataset.image_size out"),
    "no maps": (
        ["--network=varnet", "--dataset.challenge=multicoil", "--network.maps_widths=null"],
        ".h5 has 3 coils, but the network has no network.maps_widths",
    ),
    "rolled": (["--network=varnet", "--dataset.max_shift=4"], "set dataset.max_shift to 0"),
}


@pytest.mark.parametrize(("given", "says"), BAD.values(), ids=BAD)
def test_refused_in_one_sentence(given, says, data, tmp_path, capsys):
    if given[0] == "--task=ct":
        said = refuse(capsys, train.main, *given)
    else:
        said = refuse(capsys, train.main, *flags(data, "singlecoil", *given), f"--out={tmp_path / 'out'}")
    assert says in said
    assert not (tmp_path / "out").exists()


def test_several_coils_without_calibration_lines(tmp_path, capsys):
    mask = np.arange(40) % 3 == 0  # not 20, the centre
    root = write_dataset(tmp_path / "data", {"train": 1, "val": 1}, n_coils=2, n_slices=1, mask=mask)
    given = flags(root, "multicoil", "--network=varnet", f"--out={tmp_path / 'out'}")
    assert "file0.h5: the mask has no calibration lines" in refuse(capsys, train.main, *given)


def test_a_checkpoint_of_the_other_network(runs, tmp_path, capsys):
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.yaml").write_bytes((runs["aps"] / "config.yaml").read_bytes())
    (other / "checkpoints" / "best.ckpt").write_bytes((runs["unet"] / "checkpoints" / "best.ckpt").read_bytes())
    assert "is a checkpoint of another network" in refuse(capsys, evaluate.main, other, "--out", tmp_path / "out")


def test_a_varnets_run_whose_checkpoint_is_modls(runs, data, tmp_path, capsys):
    modl = trained(data, tmp_path / "modl", "--network=modl", "--trainer.max_epochs=1")
    other = tmp_path / "other"
    shutil.copytree(runs["aps"], other)
    for name in ("last", "best"):
        shutil.copy(modl / "checkpoints" / f"{name}.ckpt", other / "checkpoints" / f"{name}.ckpt")
    for main, *given in (
        (evaluate.main, other, "--out", tmp_path / "out"),
        (train.main, "--resume", other, "--trainer.max_epochs=3"),
        (predict.main, other, data / "singlecoil_val", "--out", tmp_path / "files", "--device=cpu"),
    ):
        assert "is a checkpoint of another network" in refuse(capsys, main, *given)


def test_several_coils_before_a_network_of_one(runs, tmp_path, capsys):
    path = write_volume(tmp_path / "coils.h5", n_slices=1, n_coils=2)
    said = refuse(capsys, predict.main, runs["aps"], path, "--out", tmp_path / "out", "--device", "cpu")
    assert "coils.h5 has 2 coils, but the network has no network.maps_widths" in said


def test_every_network_is_measured_at_the_end(data):
    for network in TASKS["mri"].networks.values():
        dataset = FastMRIDataset(data, "val", measured=network.measured)
        assert set(RECONSTRUCTION.at_the_end) <= set(RECONSTRUCTION.usable_protocols(dataset))


def test_a_run_of_before_keeps_the_phase_and_its_maps(runs, tmp_path):
    text = (runs["aps"] / "config.yaml").read_text()
    assert load(runs["aps"] / "config.yaml").network.phase_correction is True
    old = tmp_path / "config.yaml"
    lacking = ("  phase_correction:", "  maps:")
    old.write_text("".join(line for line in text.splitlines(True) if not line.startswith(lacking)))
    assert (load(old).network.phase_correction, load(old).network.maps) == (False, "learned")
    run = tmp_path / "run"
    shutil.copytree(runs["aps"], run)
    (run / "config.yaml").write_text(old.read_text())
    resumed, so_far = configuration(["--resume", str(run)])
    assert (resumed.network.phase_correction, resumed.network.maps) == (False, "learned")
    assert so_far.network == resumed.network
