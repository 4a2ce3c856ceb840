"""Networks of other programs through the same door: --model trains, measures and refuses as --network does."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from data_prep.labelled import fashion_mnist
from data_prep.labelled.small_images import Part
from pipelines.commands import evaluate, predict, train
from pipelines.measuring.evaluation import Evaluation
from pipelines.measuring.foreign import ForeignNetwork, find_factory, foreign_in, make_model, model_args
from pipelines.runs.checkpoints import build_task
from pipelines.runs.config import parse, settings_of
from pipelines.runs.foreign import load_model
from pipelines.runs.open import open_run
from pipelines.runtime.nested import keys
from pipelines.tasks import TASKS, measurement_settings, network_of, stands_for
from pipelines.tuning.request import check_points
from pipelines.tuning.space import parse_space
from recon.errors import InputError
from recon.layers import circular_shift
from recon.networks import Centred
from recon.physics.mri import fft2c, ifft2c
from tests.data_prep.ct_files import write_ct
from tests.data_prep.vision_files import write_fashion_mnist
from tests.pipelines.test_bad_input import refuse

QUICK = [
    *("--dataset.n_workers=0", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--threads=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.devices=1"),
    *("--evaluation.shifts=1", "--trainer.limit_val_batches=1"),
]
FEW = ["--protocols", "plain", "equivariance", "--shifts", "2"]
IMAGES = {
    "monai.networks.nets:UNet": "spatial_dims=2 in_channels=1 out_channels=1 channels=[4,8] strides=[2]",
    "monai.networks.nets:BasicUNet": "spatial_dims=2 out_channels=1 features=[4,4,4,4,4,4]",
    "monai.networks.nets:SwinUNETR": "in_channels=1 out_channels=1 feature_size=12 depths=[1,1,1,1] "
    "num_heads=[1,1,1,1] spatial_dims=2",
    "fastmri.models:Unet": "in_chans=1 out_chans=1 chans=4 num_pool_layers=2",
    "deepinv.models:UNet": "in_channels=1 out_channels=1 scales=3 channels_per_scale=[4,4,4]",
    "pipelines.reconstruction.adapters:drunet": "in_channels=1 out_channels=1 nc=[4,4,4,4] nb=1 noise_level=0.2",
}
CLASSIFIERS = {
    "pipelines.classification.adapters:torchvision_model": "name=resnet18 in_channels=1 num_classes=10",
    "timm:create_model": "model_name=resnet10t in_chans=1 num_classes=10",
}
VARNET = [
    *("--model", "pipelines.reconstruction.adapters:VarNet", "--network.takes", "measurement", "--model-args"),
    *("num_cascades=1", "sens_chans=2", "sens_pools=2", "chans=2", "pools=2"),
]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What these libraries say of themselves when they are imported is not ours to mend."""
    with warnings.catch_warnings(action="ignore"):
        import deepinv.models
        import fastmri.models
        import monai.networks.nets
        import timm

        assert all((deepinv, fastmri, monai, timm))


@pytest.fixture
def fashion(tmp_path):
    return write_fashion_mnist(tmp_path / "fashion", n_train=50, n_test=8)


def measured(out: Path) -> dict:
    """The figures by run."""
    return json.loads((out / "summary.json").read_text())["runs"]


def measure(*argv: str | Path, out: Path) -> dict:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.meshgrid.*")
        assert evaluate.main([*map(str, argv), "--out", str(out)]) == 0
    return measured(out)


@pytest.mark.process
@pytest.mark.parametrize("factory", IMAGES)
def test_networks_of_images_are_measured_and_are_not_exact(factory, data, tmp_path):
    size = ["--dataset.image_size", "[64, 64]"] if "Swin" in factory else []
    found = measure(
        *("--task", "mri", "--data", data, "--model", factory, "--model-args", *IMAGES[factory].split(), *size, *FEW),
        out=tmp_path / "out",
    )
    (figures,) = found.values()
    assert list(found) == [factory.partition(":")[2]]
    assert figures["equivariance"]["nmse_eq_max"] > 1e-6
    assert figures["equivariance"]["n_exact"] == 0
    assert {"plain", "zero-filled", "equivariance"} <= figures.keys()


@pytest.mark.process
@pytest.mark.parametrize("factory", CLASSIFIERS)
def test_classifiers_are_measured_and_are_not_exact(factory, fashion, tmp_path):
    where = ["--task", "fashion_mnist", "--data", fashion]
    found = measure(
        *(*where, "--model", factory, "--model-args", *CLASSIFIERS[factory].split(), "--name", "theirs"),
        *("--protocols", "plain", "circular-shift", "--shifts", "2"),
        out=tmp_path / "out",
    )
    assert found["theirs"]["circular-shift"]["logit_change_max"] > 1e-4


def test_fastmris_varnet_gives_what_fastmri_gives(data):
    """And moves with whole pixels no better than its U-Nets do; aligned as a whole it does."""
    import fastmri.models

    config = parse(["--task", "mri", "--data", str(data), *VARNET, "--network.align", "centroid"])
    torch.manual_seed(0)
    task = build_task(config).eval().double()
    assert isinstance(task.network, Centred)
    foreign = foreign_in(task.network)
    assert isinstance(foreign, ForeignNetwork)
    theirs = fastmri.models.VarNet(1, 2, 2, 2, 2).double().eval()
    theirs.load_state_dict(foreign.model.state_dict())
    kspace, mask = torch.randn(2, 3, 32, 48, dtype=torch.complex128), torch.arange(48) % 3 == 0
    mask[20:28] = True
    mask = mask.expand(2, -1)
    kspace = kspace * mask[:, None, None]
    plain, mask5 = foreign(kspace, mask), mask[:, None, None, :, None]
    torch.testing.assert_close(plain, theirs(torch.view_as_real(kspace), mask5))
    with torch.no_grad():
        shift = torch.tensor([[3, 5], [-2, 7]])
        moved = torch.stack([_moved(k, t) for k, t in zip(kspace, shift.tolist(), strict=True)])
        for network, limit in ((task.network, None), (foreign, 1e-6)):
            before = circular_shift(network(kspace, mask)[:, None], shift)[:, 0]
            error = float((network(moved, mask) - before).norm() / before.norm())
            assert error < 1e-9 if limit is None else error > limit


def _moved(kspace: torch.Tensor, shift: list[int]) -> torch.Tensor:
    """The k-space of an object that moved by whole pixels."""
    return fft2c(ifft2c(kspace).roll(shift, (-2, -1)))


@pytest.mark.process
def test_a_network_of_sinograms_is_measured(mine, tmp_path):
    data = write_ct(tmp_path / "ct", {"val": 1}, n_photons=4096)
    argv = ["--task", "ct", "--data", data, "--split", "val", "--model", "mine:OfSinogram", "--max-shift", "6"]
    argv += ["--network.takes", "measurement", "--dataset.image_size", "[48, 48]"]
    found = measure(*argv, *FEW, out=tmp_path / "out")
    assert found["OfSinogram"]["equivariance"]["nmse_eq_max"] > 1e-6


def test_maps_are_the_files():
    config = parse(["--task=mri", "--model=x:y", "--network.takes=maps", "--dataset.challenge=multicoil"])
    assert measurement_settings(config) == {"measured": True, "given_maps": True}


@pytest.mark.training
def test_a_network_of_kspace_trains_predicts_and_is_measured_beside_ours(run, data, tmp_path):
    out = tmp_path / "varnet"
    flags = ["--task", "mri", "--data", str(data), "--out", str(out), *VARNET, *QUICK]
    assert train.main(flags) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["network"]["args"]["num_cascades"] == 1
    assert config["clamp"] == 100  # of the networks of ours that take k-space
    assert train.main(["--resume", str(out), "--trainer.max_epochs=2"]) == 0
    found = measure(run, out, *FEW[:3], "any-shift", "physical-shift", "--shifts", "2", out=tmp_path / "evaluation")
    assert found["varnet"]["any-shift"]["nmse_eq_max"] > 1e-6
    assert "any-shift" not in found[run.name]
    assert found[run.name]["equivariance"]["nmse_eq_max"] < 1e-10 < found["varnet"]["equivariance"]["nmse_eq_max"]
    file = next((data / "singlecoil_val").iterdir())
    assert predict.main([str(out), str(file), "--out", str(tmp_path / "images")]) == 0
    assert (tmp_path / "images" / file.name).exists()


def every_hundredth(part: Part) -> Part:
    return part._replace(images=part.images[::100], labels=part.labels[::100])


@pytest.mark.training
def test_a_classifier_trains(tmp_path, monkeypatch):
    whole = fashion_mnist.read_bundled
    monkeypatch.setattr(fashion_mnist, "read_bundled", lambda name: every_hundredth(whole(name)))
    words = ["--model-args", *CLASSIFIERS["timm:create_model"].split()]
    out = tmp_path / "out"
    assert train.main(["--task=fashion_mnist", "--model=timm:create_model", *words, *QUICK, f"--out={out}"]) == 0
    assert foreign_in(open_run(out).task.network).model.num_classes == 10  # type: ignore[union-attr]


@pytest.mark.process
def test_weights_change_the_figures_and_their_seed_does(mine, data, tmp_path):
    base = ["--task", "mri", "--data", data, "--model", "mine:Small", "--model-args", "width=2", *FEW]
    torch.manual_seed(5)
    trained = make_model("mine:Small", {"width": 2})
    state = trained.state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"net.model.{k}": v for k, v in state.items()} | {"loss.x": torch.ones(1)}, "epoch": 3},
               tmp_path / "lightning.ckpt")  # fmt: skip
    save_file(state, tmp_path / "weights.safetensors")
    files = ["plain.pt", "lightning.ckpt", "weights.safetensors"]
    found = [
        measure(*base, "--weights", tmp_path / name, out=tmp_path / f"out-{name}")["Small"]["plain"] for name in files
    ]
    assert found[0] == found[1] == found[2]
    fresh = [
        measure(*base, "--seed", seed, out=tmp_path / f"seed{i}")["Small"]["plain"] for i, seed in enumerate("001")
    ]
    assert fresh[0] == fresh[1] != fresh[2]
    assert found[0] not in fresh


def test_an_evaluation_goes_on_with_the_same_weights_alone(mine, run, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "weights.pt"
    torch.save(make_model("mine:by_name", {"width": 2}).state_dict(), weights)
    argv = [run, "--model", "mine:by_name", "--model-args", "width=2", "--weights", weights, *FEW]
    argv += ["--network.total_stride", "2", "--name", run.name]
    whole = tmp_path / "whole"
    found = measure(*argv, out=whole)
    assert list(found) == [f"{run.name}-1", f"{run.name}-2"]
    store, stored = Evaluation._store, []

    def stop(self, path, rows):
        if len(stored) == 9:
            raise KeyboardInterrupt
        stored.append(path)
        store(self, path, rows)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", stop)
        assert evaluate.main([*map(str, argv), "--out", str(out)]) == 130
    original = weights.read_bytes()
    torch.save(make_model("mine:by_name", {"width": 2}).state_dict(), weights)
    assert "changed since" in refuse(capsys, evaluate.main, "--resume", out)
    weights.write_bytes(original)
    assert evaluate.main(["--resume", str(out)]) == 0
    assert (out / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    with (out / "results.csv").open() as file:
        assert {row["run"] for row in csv.DictReader(file)} == set(found)


def test_arguments_are_yaml():
    assert model_args(["a=1", "b=[8, 16]", "c=relu", "d=null", "e=x=y", "f=1.5", "g="]) == {
        "a": 1,
        "b": [8, 16],
        "c": "relu",
        "d": None,
        "e": "x=y",
        "f": 1.5,
        "g": None,
    }
    config = parse(["--model", "x:y", "--model-args", "a=1", "--seed=3", "--model-args", "b=[2]"])
    assert (config.network.name, config.network.args, config.seed) == ("x:y", {"a": 1, "b": [2]}, 3)
    with pytest.raises(InputError, match="name=value"):
        model_args(["--x"])


@pytest.mark.parametrize("task", TASKS)
def test_a_network_of_others_is_configured_like_ours_that_takes_the_same(task):
    row = TASKS[task]
    data = [] if row.sample else ["--data", "somewhere"]
    first = next(iter(row.networks))
    assert stands_for(task, "x:y") == first
    config = parse(["--task", task, "--model", "x:y", *data])
    ours = parse(["--task", task, "--network", first, *data])
    for part in ("optimizer", "scheduler", "dataset", "evaluation", "trainer"):
        assert config[part] == ours[part]
    assert network_of(config).build is ForeignNetwork


def test_a_function_says_what_it_makes_in_any_form(mine):
    assert isinstance(find_factory("mine:by_name")(2), nn.Module)
    assert isinstance(find_factory("torchvision.models:resnet18")(num_classes=2), nn.Module)


def test_a_model_with_weights_of_its_own_names_keeps_them(mine):
    model = make_model("mine:Small", {})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(before, "w.pt")
    nn.init.zeros_(model.down.weight)  # type: ignore[union-attr, arg-type]
    load_model(model, Path("w.pt"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_sweep_varies_the_factorys_arguments(mine, data):
    config = settings_of(
        parse(["--task", "mri", "--data", str(data), "--model", "mine:Small", "--model-args", "width=2"])
    )
    widths = {"choice": [2, 3]}
    space = parse_space({"network": {"args": {"width": widths}}}, keys(config), "space")
    check_points(config, space)
    widths["choice"][1] = -1
    with pytest.raises(InputError, match=r"network.args.width -1\): mine:Small refuses"):
        check_points(config, parse_space({"network": {"args": {"width": widths}}}, keys(config), "space"))
