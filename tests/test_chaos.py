"""A few kills of a training, each resumed to the same end; and that a different end is seen."""

from __future__ import annotations

import shutil

import pytest
import torch

from benchmarks.chaos import Chaos, differences
from tests.fresh import fresh_process

pytestmark = pytest.mark.process


def make(folder):
    return Chaos(folder, seed=0)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    """Calls a function of the trials in a process of its own."""
    with fresh_process(make, tmp_path_factory.mktemp("chaos")) as call:
        yield call


def at_operation(chaos, what, after):
    name = what.split()[1]
    numbers = [i for i, line in enumerate(chaos.operations) if line.startswith("os.rename") and name in line]
    number = numbers[-1]  # of the last epoch, after which nothing is left to train
    return chaos.at_operation(number, after)


def at_random(chaos):
    return chaos.at_random()


def whole_run(chaos):
    return chaos.whole


@pytest.mark.parametrize(
    ("what", "after"), [("rename config.yaml", False), ("rename last.ckpt", True), ("rename metrics.csv", False)]
)
def test_killed_at_an_operation(chaos, what, after):
    trial = chaos(at_operation, what, after)
    assert trial.killed
    assert trial.wrong == []


def test_killed_at_a_random_moment(chaos):
    assert chaos(at_random).wrong == []


def test_another_end_is_seen(chaos, tmp_path):
    whole = chaos(whole_run)
    run = shutil.copytree(whole, tmp_path / "run")
    assert differences(whole, run) == []
    table, path = run / "metrics.csv", run / "checkpoints" / "last.ckpt"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    (run / ".metrics.csv.0.tmp").touch()
    (run / "summary.json").unlink()
    checkpoint = torch.load(path, weights_only=True)
    name, weights = next((name, value) for name, value in checkpoint["state_dict"].items() if value.is_floating_point())
    checkpoint["state_dict"][name] = torch.nextafter(weights, weights + 1)
    torch.save(checkpoint, path)
    assert differences(whole, run) == [
        "other weights in last.ckpt",
        "other rows in metrics.csv: epochs [0, 1, 1], not [0, 1]",
        "1 temporary files are left, such as .metrics.csv.0.tmp",
        "summary.json is missing",
    ]
