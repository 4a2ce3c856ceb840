"""What is no network, no weights of it, or no flag for it: one sentence, exit code 2, nothing called or made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from pipelines.commands import evaluate, train
from pipelines.measuring.foreign import make_model
from pipelines.runs import trust
from pipelines.runs.foreign import load_model
from recon.errors import InputError
from tests.data_prep.vision_files import write_fashion_mnist
from tests.pipelines.test_bad_input import refuse

FEW, QUICK = ["--protocols", "plain", "equivariance", "--shifts", "2"], ["--trainer.max_epochs=1", "--threads=1"]
REFUSED = {
    "no_such_package:Net": "cannot import no_such_package",
    "mine:Smal": "did you mean mine:Small",
    "mine:": "factory without a name",
    "mine:number": "is of type int and cannot be called",
    "mine:unannotated": "does not say that it makes a network",
    "mine:no_network": "gives what is of type int",
    "mine:Half": r"makes (1, 1, 16, 16) of float32 (1, 1, 32, 32)",
    "mine:Pair": "makes what is of type tuple",
    "mine:TwoInputs": "cannot take float32 (1, 1, 32, 32) (TypeError",
    "os:system": "does not say that it makes a network",
    "torch:load": "does not say that it makes a network",
    "NoColon": "is no factory",
}


@pytest.mark.parametrize("factory", REFUSED)
def test_what_is_no_network_is_refused(factory, mine, data, capsys):
    argv = ["--task", "mri", "--data", data, "--model", factory, "--out", mine / "out"]
    assert REFUSED[factory] in refuse(capsys, evaluate.main, *argv, *FEW)
    if factory != "NoColon":
        assert REFUSED[factory] in refuse(capsys, train.main, *argv, *QUICK)
    assert not (mine / "out").exists()


def test_arguments_that_do_not_fit(mine, data, capsys):
    argv = ["--task", "mri", "--data", data, "--model", "mine:Small"]
    for main, flags in ((evaluate.main, FEW), (train.main, QUICK)):
        said = refuse(capsys, main, *argv, "--model-args", "widht=3", *flags)
        assert "mine:Small refuses its --model-args (widht=3): TypeError" in said
        assert "write --model-args" in refuse(capsys, main, *argv, "--model-args", "width", *flags)
        assert "twice" in refuse(capsys, main, *argv, "--model-args", "width=3", "width=4", *flags)
        assert "not valid YAML" in refuse(capsys, main, *argv, "--model-args", "width=[", *flags)
        assert "unknown network.takes" in refuse(capsys, main, *argv, "--network.takes", "images", *flags)
    odd = ["--network.total_stride", "64"]
    assert "multiple of the network's total stride 64" in refuse(capsys, evaluate.main, *argv, *odd, *FEW)


def test_another_number_of_classes_is_refused(tmp_path, capsys):
    fashion = write_fashion_mnist(tmp_path / "fashion", n_train=50, n_test=8)
    argv = ["--task", "fashion_mnist", "--data", fashion, "--model", "timm:create_model", "--model-args"]
    said = refuse(capsys, evaluate.main, *argv, "model_name=resnet10t", "in_chans=1", "num_classes=7")
    assert "makes (1, 7) of images (1, 1, 32, 32) of 10 classes where (1, 10) is needed" in said


class Code:
    def __reduce__(self):
        return (Path("ran.txt").write_text, ("code",))


def test_weights_that_cannot_be_loaded(mine, data, capsys):
    argv = ["--task", "mri", "--data", data, "--model", "mine:Small", "--out", mine / "out", "--weights"]
    torch.save({"down.weight": Code()}, mine / "code.pt")
    assert "not a checkpoint of plain data" in refuse(capsys, evaluate.main, *argv, mine / "code.pt")
    assert not (mine / "ran.txt").exists()
    torch.save(make_model("mine:Small", {}), mine / "whole.pt")
    assert "save its state_dict alone" in refuse(capsys, evaluate.main, *argv, mine / "whole.pt")
    torch.save(make_model("mine:Small", {"width": 3}).state_dict(), mine / "other.pt")
    said = refuse(capsys, evaluate.main, *argv, mine / "other.pt")
    assert "it has (3, 1, 3, 3) where the model has (4, 1, 3, 3) in down.weight" in said
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), mine / "foreign.pt")
    assert "it has nothing where the model has" in refuse(capsys, evaluate.main, *argv, mine / "foreign.pt")
    torch.save([1, 2], mine / "list.pt")
    assert "holds no weights" in refuse(capsys, evaluate.main, *argv, mine / "list.pt")
    (mine / "broken.safetensors").write_bytes(b"no")
    assert "no safetensors file" in refuse(capsys, evaluate.main, *argv, mine / "broken.safetensors")
    (mine / "short.pt").write_bytes((mine / "whole.pt").read_bytes()[:900])
    assert "truncated or not" in refuse(capsys, evaluate.main, *argv, mine / "short.pt")
    assert "nowhere.pt" in refuse(capsys, evaluate.main, *argv, mine / "nowhere.pt")
    assert not (mine / "out").exists()


def test_flags_that_say_nothing_without_each_other(mine, run, capsys):
    model = ["--model", "mine:Small"]
    assert "needs --task" in refuse(capsys, evaluate.main, *model)
    assert "--weights is for a network that --model names" in refuse(capsys, evaluate.main, run, "--weights", "w.pt")
    assert "--task is for" in refuse(capsys, evaluate.main, run, "--task", "mri")
    assert "leave it out" in refuse(capsys, evaluate.main, run, *model, "--task", "mri")
    assert "unknown task" in refuse(capsys, evaluate.main, *model, "--task", "mir")
    assert "--name" in refuse(capsys, evaluate.main, *model, "--task", "mri", "--name", "a/b")
    assert "needs --data" in refuse(capsys, evaluate.main, *model, "--task", "cifar10")
    assert "cannot take maps" in refuse(capsys, evaluate.main, *model, "--task", "ct", "--network.takes", "maps")
    assert "unknown option --network.widths" in refuse(capsys, train.main, *model, "--network.widths=[4]")


def test_nothing_is_called_because_a_run_folder_names_it(run, tmp_path, capsys):
    """A run folder may come from someone else."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["network"] = {"name": "os:system", "args": {"command": f"touch {tmp_path / 'ran'}"}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    assert "does not say that it makes a network" in refuse(capsys, evaluate.main, tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_a_file_alone_does_not_run_code(capsys, run, here, monkeypatch):
    """A run folder of somebody else names code: it is not even imported before the user has named it, too."""
    monkeypatch.setenv("RECON_CACHE", str(here / "cache"))
    monkeypatch.setattr(trust, "_named", set())
    (here / "payload.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nPath('ran').touch()\n\n\nclass Net(nn.Identity):\n    pass\n"
    )
    folder = here / "theirs"
    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["network"] = {"name": "payload:Net", "args": {}, "takes": "image", "total_stride": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for command, *flags in (
        (evaluate.main, folder, "--out", "out"),
        (train.main, "--config", folder / "config.yaml", "--out", "out"),
        (train.main, "--resume", folder),
    ):
        assert "which you have not run by yourself" in refuse(capsys, command, *flags)
    assert not (here / "ran").exists()
    trust.trust("payload:Net", {})
    monkeypatch.setattr(trust, "_named", set())  # another command of the same user
    assert "another network" in refuse(capsys, evaluate.main, folder, "--out", "out")  # its weights are a U-Net's
    assert (here / "ran").exists()


def test_weights_of_several_networks_are_not_guessed(tmp_path):
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    both = nn.ModuleDict({"a": one, "b": other}).state_dict()
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(InputError, match="several such networks"):
        load_model(nn.Linear(2, 1), tmp_path / "both.pt")
