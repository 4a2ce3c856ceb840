"""The space of a sweep: what it draws, what it refuses, and what a population changes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import optuna
import pytest
import ray
import yaml

import configs
from pipelines.commands import train, tune
from pipelines.runs.checkpoints import read_checkpoint
from pipelines.runs.config import parse, settings_of
from pipelines.runtime.nested import keys
from pipelines.tasks import TASKS
from pipelines.tuning.ledger import Ledger, Trial, read_rows
from pipelines.tuning.population import change_settings, read_schedule, start_schedule
from pipelines.tuning.request import default_space, make_request, objective_of
from pipelines.tuning.results import find
from pipelines.tuning.space import parse_space
from recon.errors import InputError
from tests import fresh
from tests.conftest import TINY

KNOWN = keys(settings_of(parse([])))
CONTENT = {
    "network": {
        "blur": {"choice": [1, 3], "when": {"network.sampling": "aps"}},  # before what it depends on
        "sampling": {"choice": ["stride", "lpf", "aps"]},
        "widths": {"choice": [[4, 6], [4, 6, 8]]},
    },
    "optimizer.lr": {"loguniform": ["1e-4", 1e-2]},  # YAML reads the first as text
    "scheduler.step_size": {"int": [3, 5]},
    "trainer": {"max_epochs": 3},
}
SPACE = parse_space(CONTENT, KNOWN, "space.yaml")
METRICS = ("lr", "val_psnr", "val_nmse_eq", "seconds")
NO_FLAGS = dict.fromkeys(vars(tune.build_parser().parse_args([])))


def test_points_keep_to_their_ranges_and_conditions():
    points = SPACE.random_points(400, seed=0)
    assert all(("network.blur" in point) == (point["network.sampling"] == "aps") for point in points)
    rates = np.log10([point["optimizer.lr"] for point in points])
    assert -4 <= rates.min() < -3.9
    assert -2.1 < rates.max() <= -2
    assert np.mean(rates) == pytest.approx(-3, abs=3 * (2 / 12**0.5) / 400**0.5)  # uniform in the exponent
    assert {point["scheduler.step_size"] for point in points} == {3, 4, 5}
    assert {tuple(point["network.widths"]) for point in points} == {(4, 6), (4, 6, 8)}
    assert SPACE.fixed == {"trainer.max_epochs": 3}


def test_a_point_depends_on_the_seed_and_its_number_alone():
    assert SPACE.random_points(10, seed=0)[:4] == SPACE.random_points(4, seed=0)
    assert SPACE.random_points(4, seed=1) != SPACE.random_points(4, seed=0)


def test_a_small_space_has_each_point_once():
    space = parse_space({"network.sampling": CONTENT["network"]["sampling"]}, KNOWN, "")
    points = space.random_points(16, seed=0)
    assert sorted(point["network.sampling"] for point in points) == ["aps", "lpf", "stride"]


@pytest.mark.parametrize("most", [1, 7, 100])
def test_corners_have_every_value(most):
    corners = SPACE.corners(most)
    seen = {(key, json.dumps(value)) for point in corners for key, value in point.items()}
    ends = {(p.key, json.dumps(value)) for p in SPACE.parameters for value in p.values}
    assert seen == ends
    assert len(corners) <= max(most, 8)
    assert all(("network.blur" in point) == (point["network.sampling"] == "aps") for point in corners)


REFUSED = {
    "an unknown key": ({"network.samplin": {"choice": ["aps"]}}, "did you mean network.sampling"),
    "an unknown nested key": ({"optimizer": {"rate": {"choice": [1]}}}, "unknown key in space.yaml: optimizer.rate"),
    "nothing varied": ({"optimizer.lr": 0.1}, "varies nothing"),
    "no choice": ({"network.sampling": {"choice": []}}, "no value to try"),
    "a range the wrong way": ({"optimizer.lr": {"uniform": [1, 0]}}, "lowest, highest"),
    "a logarithm of zero": ({"optimizer.lr": {"loguniform": [0, 1]}}, "positive"),
    "fractions": ({"scheduler.step_size": {"int": [1.5, 2]}}, "whole numbers"),
    "two kinds": ({"optimizer.lr": {"uniform": [0, 1], "choice": [1]}}, "is no range"),
    "a condition on nothing": ({"network.blur": {"choice": [1], "when": {"network.norm": "batch"}}}, "is not varied"),
    "a condition that never holds": (
        {"network.blur": {"choice": [1], "when": {"network.sampling": "ap"}}, "network.sampling": {"choice": ["aps"]}},
        "never applies",
    ),
    "conditions in a circle": (
        {"loss.name": {"choice": [1], "when": {"seed": 1}}, "seed": {"choice": [1], "when": {"loss.name": 1}}},
        "depend on each other",
    ),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_space(content, says):
    with pytest.raises(InputError, match=says):
        parse_space(content, KNOWN, "space.yaml")


@pytest.mark.slow
@pytest.mark.usefixtures("few_slices")
@pytest.mark.parametrize("path", sorted((Path(configs.__file__).parent / "tune").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_bundled_spaces_are_accepted_by_their_tasks(path):
    """Their corners are built and the bundled data opened, as before any sweep."""
    task, _, network = path.stem.removesuffix("_sample").partition("-")
    network = network or next(iter(TASKS[task].networks))
    assert default_space(task, path.stem.endswith("_sample"), network) == path
    request = make_request({**NO_FLAGS, "space": str(path)}, [f"--task={task}", f"--network={network}"])
    assert request.config["network"]["name"] == network
    assert request.space.parameters
    assert request.settings.samples == request.space.sweep["samples"]


def test_a_network_without_a_space_is_said_to_have_none():
    with pytest.raises(InputError, match="no space for the task cifar10 with the network resnet18 yet"):
        default_space("cifar10", False, "resnet18")


@pytest.mark.parametrize("task", ["mri", "ct"])
def test_the_networks_that_hold_the_measurement_have_spaces_of_their_own(task):
    found = {default_space(task, sample, name) for sample in (True, False) for name in TASKS[task].networks}
    assert len(found) == 2 * len(TASKS[task].networks)


@pytest.mark.slow
@pytest.mark.usefixtures("few_slices")
def test_every_corner_of_the_sample_space_builds(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("network.sampling: {choice: [aps, stride]}\nnetwork.blur: {choice: [1, 3]}\n")
    request = make_request(NO_FLAGS, ["--task=mri", "--network=unet"])
    assert request.config["threads"] == 1
    assert request.config["trainer"]["max_epochs"] == request.settings.max_epochs == 6
    assert request.settings.samples >= 8
    with pytest.raises(InputError, match=r"refuses a point of the space .*network.blur 3"):  # the control
        make_request({**NO_FLAGS, "space": str(path)}, ["--network=unet"])


@pytest.mark.slow
@pytest.mark.usefixtures("few_slices")
def test_flags_win_over_the_space_and_cpus_are_shared_with_loaders():
    argv = ["--trainer.max_epochs=2", "--dataset.n_workers=8"]
    request = make_request({**NO_FLAGS, "cpus_per_trial": 3, "samples": 5}, argv)
    assert (request.settings.samples, request.settings.max_epochs) == (5, 2)
    assert (request.config["threads"], request.config["dataset"]["n_workers"]) == (1, 2)
    with pytest.raises(InputError, match=r"optimizer\.lr is varied"):
        make_request(NO_FLAGS, ["--optimizer.lr=0.1"])


def test_objectives_have_a_direction():
    assert objective_of("val_psnr", METRICS) == ("val_psnr", "max")
    assert objective_of("val_nmse_eq", METRICS) == ("val_nmse_eq", "min")
    assert objective_of("seconds:min", METRICS) == ("seconds", "min")
    for text, says in (("seconds", "which way"), ("val_psnrr", "did you mean 'val_psnr'"), ("lr:up", "direction")):
        with pytest.raises(InputError, match=says):
            objective_of(text, METRICS)


def sweep_of(folder: Path, figures: dict[int, tuple[str, list[tuple[float, float]]]]) -> Ledger:
    """A sweep's folder with trials of these (val_psnr, val_nmse_eq) an epoch."""
    ledger = Ledger(folder)
    for number, (status, rows) in figures.items():
        ledger.write(Trial(number, {"optimizer.lr": 10.0**-number}, status))
        ledger.run_folder(number).mkdir()
        lines = [f"{epoch},{psnr},{error}" for epoch, (psnr, error) in enumerate(rows)]
        (ledger.run_folder(number) / "metrics.csv").write_text("\n".join(["epoch,val_psnr,val_nmse_eq", *lines, ""]))
    return Ledger(folder)


def test_the_best_and_the_front(tmp_path):
    figures = {
        1: ("complete", [(20.0, 1e-3), (30.0, 1e-3)]),
        2: ("complete", [(31.0, 1e-2), (29.0, 1e-4)]),  # its best epoch is the first
        3: ("complete", [(29.0, 1e-2)]),  # worse than 1 in both
        4: ("complete", [(25.0, 0.0)]),
        5: ("pruned", [(40.0, 0.0)]),  # not trained to its end
        6: ("failed", []),
    }
    ledger = sweep_of(tmp_path, figures)
    findings = find(ledger, (("val_psnr", "max"), ("val_nmse_eq", "min")))
    assert findings.best.trial.number == 2
    assert findings.best.best["val_nmse_eq"] == 1e-2
    assert findings.front == [1, 2, 4]
    assert find(ledger, (("val_nmse_eq", "min"),)).best.trial.number == 4


def test_asha_and_optuna_remember_what_a_sweep_has_seen(tmp_path):
    """The same decisions and the same knowledge as without an interruption; a fresh one is the control."""
    from pipelines.tuning.request import Settings
    from pipelines.tuning.sweep import _scheduler, _Search

    space = parse_space({"optimizer.lr": {"loguniform": [1e-6, 1]}}, KNOWN, "")
    objectives = (("val_psnr", "max"),)
    settings = Settings(9, "asha", "optuna", objectives, 0, 5, 1, 2, 1, 1, 0, None, 0, None)
    figures = {n: ("complete", [(20.0 + n, 0.0), (21.0 + n, 0.0)]) for n in range(4)}
    ledger = sweep_of(tmp_path, {**figures, 4: ("running", [(24.0, 0.0)])})
    asha, fresh = _scheduler(settings, space, ledger), _scheduler(settings, space, Ledger(tmp_path / "none"))
    weak = "007-x"  # what Ray's trial reads as
    for scheduler, expected in ((asha, "STOP"), (fresh, "CONTINUE")):
        scheduler.on_trial_add(None, weak)
        assert scheduler.on_trial_result(None, weak, {"epochs": 1, "val_psnr": 20.5}) == expected
    search = _Search(ledger, space, settings, [ledger.trials[4]])
    states = [trial.state for trial in search._ot_study.trials]
    assert states.count(optuna.trial.TrialState.COMPLETE) == 4
    first, second = search.suggest("a"), search.suggest("b")
    assert first["trial"] == {"number": 4, "point": {"optimizer.lr": 1e-4}}  # goes on before anything new
    assert second["trial"]["number"] == 5
    assert Ledger(tmp_path).trials[5].point == second["trial"]["point"]


def test_a_population_changes_settings_on_the_way(run, tmp_path):
    """Another's state with half its learning rate: the rate, the decay and the rest are as if they had been so."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    start_schedule(folder, 3, {"optimizer.lr": 0.01})
    change_settings(folder, 8, {"optimizer.lr": 0.005, "scheduler.gamma": 0.1, "optimizer.weight_decay": 0.2})
    changed = {"optimizer.lr": 0.005, "scheduler.gamma": 0.1, "optimizer.weight_decay": 0.2}
    expected = {"trial": 8, "start": {"optimizer.lr": 0.01}}
    assert read_schedule(folder) == {**expected, "changes": [{"epoch": 2, "from_trial": 3, "set": changed}]}
    assert train.main(["--resume", str(folder), "--trainer.max_epochs=6"]) == 0
    rates = [row["lr"] for row in read_rows(folder)]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.005, 0.0005])  # StepLR after five epochs
    after = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert after["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.2
    assert after["lr_schedulers"][0]["gamma"] == 0.1
    change_settings(folder, 8, changed)
    assert len(read_schedule(folder)["changes"]) == 1  # nothing was changed


@pytest.mark.process
def test_two_nodes_of_lightning_make_one_run_folder(data, tmp_path):
    """--trainer.num_nodes 2: the processes that a launcher starts on two machines, here on one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.train",
        "--task=mri",
        f"--data={data}",
        *TINY,
        "--trainer.max_epochs=1",
    ]
    started = []
    for node in range(2):
        launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(node)}
        flags = ["--trainer.num_nodes=2", "--trainer.strategy=ddp"]
        started.append(fresh.Popen([*command, *flags], cwd=tmp_path, env=os.environ | launch))
    assert [process.wait() for process in started] == [0, 0]
    assert len(list((tmp_path / "runs" / "mri").iterdir())) == 1


@pytest.mark.process
def test_the_cluster_files_are_well_formed():
    folder = Path(__file__).parents[2] / "configs" / "cluster"
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    content = yaml.safe_load((folder / "ray.yaml").read_text())
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "max_worker": 2}, schema)
    assert subprocess.run(["bash", "-n", folder / "slurm.sh"], check=False).returncode == 0
