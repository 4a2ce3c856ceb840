"""Several coils: maps learned, estimated or given; CG-SENSE beside every run; coils that move along, or stay."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data_prep import coil_maps, simulate_kspace, write_fastmri
from pipelines.commands import evaluate, predict, train
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import denormalise, shifted
from pipelines.runs.checkpoints import build_task
from pipelines.runs.config import parse
from pipelines.tasks import open_dataset
from recon.layers import circular_shift
from recon.networks import record_margins
from tests.data_prep.files import SCALE, blobs, write_dataset, write_volume
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_measured_networks import TINY

N_COILS, SIDE = 4, 48
FEW = Settings(shifts=4, max_shift=9)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four simulated coils whose maps the files keep; k-space and targets of 48 x 48."""
    root = tmp_path_factory.mktemp("coils")
    for number, split in enumerate(("train", "train", "val")):
        folder = root / f"multicoil_{split}"
        folder.mkdir(exist_ok=True)
        magnitude = np.abs(blobs(2, (40, 36), np.random.default_rng(number))) / SCALE
        kspace = simulate_kspace(magnitude, SIDE, n_coils=N_COILS, seed=number)
        maps = coil_maps(N_COILS, SIDE, SIDE).numpy()
        write_fastmri(folder / f"file{number}.h5", kspace, "T1", f"p{number}", maps=maps)
    return root


@pytest.fixture(scope="module")
def without_maps(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("without"), {"train": 1, "val": 1}, n_coils=3, n_slices=1)


def flags(data: Path, *extra: str, network: str = "varnet") -> list[str]:
    return ["--task=mri", f"--data={data}", "--dataset.challenge=multicoil", *TINY, f"--network={network}", *extra]


def untrained(data: Path, *extra: str, network: str = "varnet"):
    """A task with fresh weights and the data to measure it on."""
    config = parse(flags(data, *extra, network=network))
    dataset = open_dataset(config, "val")
    torch.manual_seed(0)
    task = build_task(config).eval()
    RECONSTRUCTION.check_data(dataset, task)
    return task, dataset


def unet(data: Path):
    config = parse(
        ["--task=mri", f"--data={data}", "--dataset.challenge=multicoil", "--network.widths=[4,6]",
         "--dataset.image_size=[48,56]"]
    )  # fmt: skip
    return build_task(config).eval(), open_dataset(config, "val")


def value(rows, protocol: str, metric: str) -> float:
    return max(row.value for row in rows if (row.protocol, row.metric) == (protocol, metric))


@pytest.mark.parametrize("maps", ["espirit", "given"])
@pytest.mark.parametrize("network", ["varnet", "modl"])
def test_the_whole_chain_commutes_where_coils_move_along(network, maps, data):
    errors = {}
    for sampling in ("aps", "stride"):
        task, dataset = untrained(data, f"--network.maps={maps}", f"--sampling={sampling}", network=network)
        batch, shifts = default_collate([dataset[0]]), torch.tensor([[3, -1], [2, 6]])
        assert bool(batch.maps.numel()) == (maps == "given")
        with torch.inference_mode():
            expected = circular_shift(denormalise(task(batch), batch).expand(2, -1, -1, -1), shifts)
            difference = denormalise(task(shifted(batch, shifts)), batch) - expected
        errors[sampling] = float(difference.square().sum() / expected.square().sum())
    assert errors["aps"] < 1e-10
    assert errors["stride"] > 1e-6, "control"


def test_given_maps_are_the_file_s(data):
    task, dataset = untrained(data, "--network.maps=given")
    assert torch.equal(dataset[1].maps, coil_maps(N_COILS, SIDE, SIDE))
    assert not [name for name, _ in task.network.named_parameters() if "coil_maps" in name]
    batch = default_collate([dataset[1]])
    with torch.inference_mode():
        assert not torch.equal(task(batch), task(batch._replace(maps=batch.maps.flip(1)))), "they are used"


def test_given_maps_roll_along_in_training(data):
    config = parse(flags(data, "--network.maps=given", "--dataset.max_shift=5"))
    still, rolled = open_dataset(config, "val")[0], open_dataset(config, "train", training=True)[0]
    found = [(y, x) for y in range(-5, 6) for x in range(-5, 6)
             if torch.equal(still.maps.roll((y, x), (-2, -1)), rolled.maps)]  # fmt: skip
    assert len(found) == 1
    assert found != [(0, 0)]


def test_which_of_two_worlds_a_movement_is_in(data, without_maps, tmp_path):
    """Fixed coils where the file knows them: exact for no network. Coils that move along: exact. One coil: exact."""
    cases = {
        "The object moves under fixed coils.": untrained(data, "--network.maps=espirit"),
        "In 1 of 1 volumes the coils' sensitivities are unknown and move along with the object; in a scanner they stay "
        "where they are.": untrained(without_maps, "--network.maps=espirit"),
    }
    single = write_dataset(tmp_path, {"val": 1}, n_slices=1)
    one = parse(["--task=mri", f"--data={single}", *TINY, "--network=varnet"])
    cases["One coil: its sensitivity counts as the object's."] = build_task(one).eval(), open_dataset(one, "val")
    errors = {}
    for note, (task, dataset) in cases.items():
        found = RECONSTRUCTION.summarise(RECONSTRUCTION.measure(task, dataset, ["physical-shift"], FEW), dataset)
        assert found["physical-shift"]["note"] == note
        errors[note[:5]] = found["physical-shift"]["whole"]["nmse_eq_max"]
    assert errors["The o"] > 1e-6
    assert errors["In 1 "] < 1e-10
    assert errors["One c"] < 1e-10


def test_maps_that_are_given_stay_with_fixed_coils(data, tmp_path):
    """As a scanner has it; where k-space is undersampled already, they move along with object and coils."""
    _, dataset = untrained(data, "--network.maps=given")
    assert torch.equal(dataset.moved(0, (2, 3)).maps, dataset[0].maps)
    path = write_volume(tmp_path / "masked.h5", n_coils=3, mask=np.arange(40) != 7)
    with h5py.File(path, "a") as file:
        file["sensitivity_maps"] = coil_maps(3, 48, 40).numpy()
    masked = type(dataset)(path, None, "multicoil", measured=True, given_maps=True)
    torch.testing.assert_close(masked.moved(0, (2, 3)).maps, masked[0].maps.roll((2, 3), (-2, -1)))


def test_cg_sense_is_a_row_of_every_run_with_several_coils(data, without_maps, tmp_path):
    settings = Settings(shifts=1)
    runs = [unet(data), untrained(data), untrained(data, "--network.maps=given", network="modl")]
    rows = [RECONSTRUCTION.measure(*run, ["plain"], settings) for run in runs]
    for metric in ("psnr", "ssim", "nmse"):
        first, *others = (value(found, "cg-sense", metric) for found in rows)
        assert others == [pytest.approx(first, rel=1e-5)] * 2
    assert value(rows[0], "cg-sense", "psnr") > value(rows[0], "zero-filled", "psnr") + 2
    single = write_dataset(tmp_path, {"val": 1}, n_slices=1)
    one = parse(["--task=mri", f"--data={single}", *TINY, "--network=varnet"])
    found = RECONSTRUCTION.measure(build_task(one).eval(), open_dataset(one, "val"), ["plain"], settings)
    assert {row.protocol for row in found} == {"zero-filled", "plain"}
    assert "cg-sense" in {r.protocol for r in RECONSTRUCTION.measure(*untrained(without_maps), ["plain"], settings)}


def test_without_calibration_lines_there_is_no_cg_sense(tmp_path):
    mask = np.arange(40) % 3 == 0  # not 20, the centre
    root = write_dataset(tmp_path, {"val": 1}, n_coils=2, n_slices=1, mask=mask)
    config = parse(["--task=mri", f"--data={root}", "--dataset.challenge=multicoil", "--network.widths=[4,6]"])
    rows = RECONSTRUCTION.measure(build_task(config).eval(), open_dataset(config, "val"), ["plain"], FEW)
    assert {row.protocol for row in rows} == {"zero-filled", "plain"}


@pytest.mark.parametrize("network", ["varnet", "modl"])
@pytest.mark.parametrize("maps", ["learned", "espirit"])
def test_margins_go_cascade_by_cascade(network, maps, data):
    task, dataset = untrained(data, f"--network.maps={maps}", network=network)
    rows = RECONSTRUCTION.measure(task, dataset, ["margins"], FEW)
    found = [row.value for row in rows if row.slice == 0]
    levels = {"learned": 1, "espirit": 0}[maps]  # of the network of the maps, which comes first
    assert len(found) == levels + 2 * 2, "cascades and levels"
    batch = default_collate([dataset[0]])
    last = task.network.regularisers[-1]
    with torch.inference_mode(), record_margins(last) as of_last:
        task(batch)
    expected = [float(margin.amin()) for margin in of_last]  # MoDL's one regulariser runs in both cascades
    assert found[-len(expected) :] == pytest.approx(expected, rel=1e-3)
    assert found[:2] != found[2:4], "control: another cascade"


@pytest.mark.training
def test_by_the_commands_with_given_maps(data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    assert train.main([*flags(data, "--network.maps=given", "--trainer.max_epochs=1"), f"--out={run}"]) == 0
    assert "maps_widths: null" in (run / "config.yaml").read_text()
    settings = ["--protocols", "plain", "physical-shift", "noise", "--shifts=2", "--noise-levels=0.1"]
    assert evaluate.main([str(run), *settings, "--devices=cpu", "--save-reconstructions", f"--out={out}"]) == 0
    found = json.loads((out / "summary.json").read_text())["runs"]["run"]
    assert found["cg-sense"]["psnr"]["mean"] > found["zero-filled"]["psnr"]["mean"]
    page = (out / "report.html").read_text()
    assert "CG-SENSE" in page
    assert "The object moves under fixed coils." in page
    volume = data / "multicoil_val" / "file2.h5"
    assert predict.main([str(run), str(volume), "--out", str(tmp_path / "files"), "--device=cpu"]) == 0
    images = [h5py.File(f)["reconstruction"][:] for f in (tmp_path / "files" / "file2.h5",
                                                          out / "reconstructions" / "run" / "file2.h5")]  # fmt: skip
    np.testing.assert_allclose(*images, rtol=1e-4, atol=1e-5)  # layer by layer where margins are recorded


def test_files_without_maps_where_they_are_to_be_given(data, without_maps, tmp_path, capsys):
    given = [*flags(without_maps, "--network.maps=given"), f"--out={tmp_path / 'out'}"]
    said = refuse(capsys, train.main, *given)
    assert (
        "file0.h5 has no 'sensitivity_maps', but network.maps is given: store its coil maps, complex (3, 48, 40)"
        in said
    )
    assert not (tmp_path / "out").exists()


def test_maps_that_do_not_fit(tmp_path, capsys):
    root = write_dataset(tmp_path / "data", {"train": 1, "val": 1}, n_coils=3, n_slices=1)
    for split in ("train", "val"):
        with h5py.File(root / f"multicoil_{split}" / "file0.h5", "a") as file:
            file["sensitivity_maps"] = coil_maps(3, 48, 38).numpy()
    said = refuse(capsys, train.main, *flags(root, "--network.maps=given"), f"--out={tmp_path / 'out'}")
    assert "file0.h5: 'sensitivity_maps' is not complex of shape (3, 48, 40)" in said


def test_maps_of_another_name(data, tmp_path, capsys):
    said = refuse(capsys, train.main, *flags(data, "--network.maps=esprit"), f"--out={tmp_path / 'out'}")
    assert "unknown maps 'esprit' (did you mean 'espirit'?): choose one of learned, espirit, given" in said
