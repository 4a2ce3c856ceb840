"""The table of tasks: each row is whole, networks go by name, and nothing else asks which task it is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import pipelines
from data_prep import LabelledDataset, SliceDataset
from pipelines.measuring.kind import NetworkEntry
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import ReconstructionTask, batch_of, shifted
from pipelines.runs.config import config_file, load, parse, settings_of
from pipelines.tasks import TASKS, describe_data, network_of
from recon.errors import InputError

FILES = sorted(Path(pipelines.__path__[0]).rglob("*.py"))
TABLE = Path(pipelines.__path__[0]) / "tasks.py"
DATA = [row.dataset.__name__ for row in TASKS.values()] + ["HUDataset", "HUVolume", "CTVolume", "Volume"]


@pytest.mark.parametrize("task", TASKS)
def test_each_row_is_whole(task):
    row = TASKS[task]
    assert issubclass(row.dataset, SliceDataset if row.kind is RECONSTRUCTION else LabelledDataset)
    assert set(row.kind.at_the_end) <= row.kind.protocols.keys()
    assert row.kind.monitor in row.kind.figures
    for sample in (False, True)[: 1 + (row.sample is not None)]:
        for network in row.networks:
            assert config_file(task, sample, network).is_file()


@pytest.mark.parametrize("task", [task for task, row in TASKS.items() if row.sample is not None])
def test_a_network_without_a_name_is_the_first_but_for_the_bundled_samples_best(task, tmp_path):
    row, first = TASKS[task], next(iter(TASKS[task].networks))
    assert parse(["--task", task]).network.name == (row.sample.network or first)
    assert parse(["--task", task, "--data", "somewhere"]).network.name == first
    config = parse(["--task", task, "--network", first])
    assert config.network.name == first
    settings = json.loads(json.dumps(settings_of(config)))
    old = settings | {"network": {key: value for key, value in settings["network"].items() if key != "name"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))  # as runs were written before there were names
    assert json.loads(json.dumps(settings_of(load(tmp_path / "config.yaml")))) == settings


def test_a_network_that_is_not_there():
    with pytest.raises(InputError, match=r"unknown network of the task mri 'unett' \(did you mean 'unet'\?\)"):
        parse(["--network", "unett"])


class Scaled(nn.Module):
    """A network of two inputs: a factor for each sample beside the image."""

    total_stride = 2

    def __init__(self, factor: float = 2.0, seen: float = 1.0) -> None:
        super().__init__()
        self.factor, self.seen = nn.Parameter(torch.tensor(factor)), seen

    def forward(self, image: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return image * self.factor * std.view(-1, 1, 1, 1)


def test_another_network_is_a_row_with_its_own_keys_and_its_own_inputs(monkeypatch, tmp_path):
    entry = NetworkEntry(Scaled, frozenset({"seen"}), lambda batch, clamp: (batch.image, batch.std))
    monkeypatch.setitem(TASKS["mri"].networks, "scaled", entry)  # type: ignore[arg-type]
    preset = yaml.safe_load(config_file("mri", True, "unet").read_text()) | {"network": {"factor": 3.0}}
    (tmp_path / "mri-scaled.yaml").write_text(yaml.safe_dump(preset))
    monkeypatch.setattr("pipelines.runs.config.resources.files", lambda package: tmp_path)
    config = parse(["--network", "scaled"])
    assert config.network.as_dict() == {"factor": 3.0, "name": "scaled"}
    with pytest.raises(InputError, match=r"unknown option --network\.widths"):
        parse(["--network=scaled", "--network.widths=[4,6]"])
    with pytest.raises(InputError, match=r"unknown option --network\.seen"):
        parse(["--network=scaled", "--network.seen=2"])
    TASKS["mri"].kind.resolve(config)
    task = RECONSTRUCTION.build_task(config, network_of(config), TASKS["mri"].dataset)
    batch = batch_of(torch.rand(2, 1, 4, 4))._replace(std=torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(task(batch), batch.image * torch.tensor([3.0, 1.5]).view(-1, 1, 1, 1))
    assert task.total_stride == 2


def test_the_seam_is_the_image_unless_said_otherwise():
    task = ReconstructionTask(nn.Identity(), clamp=0.5)
    image = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    assert float(task(batch_of(image)).max()) == 0.5
    moved = task(shifted(batch_of(image), torch.tensor([[1, 0], [0, 1]])))
    torch.testing.assert_close(moved[1], task(batch_of(image))[0].roll(1, -1))


def test_data_are_described_by_their_row():
    config = parse([])
    said = describe_data(config)
    assert said.startswith("bundled brain sample, simulated from magnitude; test split, random mask, acceleration 4")
    config.data = "/data"
    assert describe_data(config).startswith("/data; ")


def questions(code: str) -> list[int]:
    """The lines that compare with a task's name, or ask for the class of a data set, a volume or a task."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
            if {part.value for part in parts if isinstance(part, ast.Constant)} & set(TASKS):
                found.append(node.lineno)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            asked = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            if asked & {*DATA, "ReconstructionTask", "ClassificationTask"}:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TABLE.parent)))
def test_nothing_else_asks_which_task_it_is(path):
    assert path == TABLE or questions(path.read_text()) == []


def test_what_asks_is_found():
    """The control: what stood in pipelines before."""
    assert questions('config.task == "ct"') == [1]
    assert questions('config.task in ("cifar10", "cifar100")') == [1]
    assert questions("isinstance(dataset, FastMRIDataset | LoDoPaBDataset)") == [1]
    assert questions("isinstance(task, ClassificationTask)") == [1]
    assert questions("isinstance(value, float) and name == 'lr'") == []
