"""What is asked of a sweep, from flags and YAML, and checked before any trial starts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml
from jsonargparse import Namespace

import configs
from pipelines.runs.checkpoints import build_task
from pipelines.runs.checks import check_settings, open_data
from pipelines.runs.config import expand_aliases, make_absolute, parse, settings_of
from pipelines.runs.start import load_start
from pipelines.runtime.bounds import MOST_CPUS
from pipelines.runtime.nested import Tree, Value, keys, overlay
from pipelines.runtime.stored import damaged, read_json
from pipelines.tasks import TASKS
from pipelines.training.recorder import COLUMNS
from pipelines.tuning.kept import MOST_SAMPLES, KeptSweep, Request, Settings
from pipelines.tuning.ledger import Ledger
from pipelines.tuning.population import CHANGEABLE
from pipelines.tuning.space import Point, Space, parse_space, read_space
from recon.errors import InputError, check_choice, nearest

CORNERS = 24  # points that are built before any trial starts; more only where a value needs it
SCHEDULERS = ("asha", "pbt", "none")
SEARCHERS = ("random", "optuna")
DEFAULTS: dict[str, Value] = {
    "samples": 16,
    "scheduler": "asha",
    "searcher": "random",
    "objective": None,
    "grace": 1,
    "reduction": 4,
    "interval": 1,
    "cpus_per_trial": 1,
    "gpus_per_trial": 0,
    "concurrent": None,
    "retries": 2,
}
LESS_IS_BETTER, MORE_IS_BETTER = ("loss", "nmse", "error"), ("psnr", "ssim", "accuracy", "consistency")


def make_request(flags: Tree, argv: Sequence[str]) -> Request:
    """Put together what is asked for, and check it on the data, without a trial.

    Args:
        flags: recon-tune's own, None where not given; "space" and "storage" among them.
        argv: all other arguments, which are recon-train's.

    Raises:
        InputError: an unknown key or flag, a value that the task refuses, a space that varies nothing, broken data.
    """
    plain = _parse(argv, flags)
    known = keys(settings_of(plain))
    path = Path(flags["space"]) if flags["space"] else default_space(plain.task, plain.data is None, plain.network.name)
    space = read_space(path, known)
    given = {token[2:].partition("=")[0] for token in expand_aliases(argv) if token.startswith("--")}
    for parameter in space.parameters:
        if parameter.key in given:
            raise InputError(f"{parameter.key} is varied by {path}: leave out --{parameter.key}, or take it out there")
    unknown = [key for key in space.sweep if key not in DEFAULTS]
    if unknown:
        near = nearest(unknown[0], DEFAULTS, 0.5)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(DEFAULTS)}"
        raise InputError(f"unknown key in {path}: sweep.{unknown[0]}: {hint}")
    chosen = {**DEFAULTS, **space.sweep, **{key: flags[key] for key in DEFAULTS if flags[key] is not None}}
    _check_numbers(chosen)
    config = _configuration(argv, space, int(chosen["cpus_per_trial"]), float(chosen["gpus_per_trial"]))
    settings = _settings(chosen, config, flags["storage"])
    if settings.scheduler == "pbt":
        _check_population(space, settings)
    check_points(config, space)
    return Request(config, space, space.source, settings)


def read_request(path: Path) -> Request:
    """The sweep that a sweep.json keeps.

    Raises:
        InputError: the file is missing or damaged.
    """
    kept = read_json(path, KeptSweep)
    try:
        config = _build(kept.config, {}, with_data=False)
        space = parse_space(kept.space, keys(config), str(path))
    except InputError as error:
        raise damaged(path, str(error)) from None
    return Request(config, space, kept.space, kept.settings)


def check_trials(ledger: Ledger, space: Space) -> None:
    """Refuse a sweep whose trials are not of its space.

    Raises:
        InputError: names the first file.
    """
    for trial in ledger:
        if not space.holds(trial.point):
            path = ledger.run_folder(trial.number).with_suffix(".json")
            raise damaged(path, "its point is not of the sweep's space")


def default_space(task: str, sample: bool, network: str) -> Path:
    """The space of a network, or the small one for the bundled sample; it is called as the configuration it varies.

    Raises:
        InputError: there is none for this task and network.
    """
    name = task if network == next(iter(TASKS[task].networks)) else f"{task}-{network}"
    path = Path(str(resources.files(configs) / "tune" / (f"{name}_sample.yaml" if sample else f"{name}.yaml")))
    if not path.is_file():
        raise InputError(f"there is no space for the task {task} with the network {network} yet: give one with --space")
    return path


def _parse(argv: Sequence[str], own: Tree) -> Namespace:
    """recon-train's arguments; a mistyped flag may have been meant for recon-tune."""
    try:
        return parse(argv)
    except InputError as error:
        name = str(error).removeprefix("unknown option --").partition(":")[0]
        near = nearest(name, [key.replace("_", "-") for key in own], 0.75)
        if near and str(error).startswith("unknown option"):
            raise InputError(f"unknown option --{name}: did you mean --{near}?") from None
        raise


def _configuration(argv: Sequence[str], space: Space, cpus: int, gpus: float) -> dict[str, Value]:
    """The task's configuration for trials: one device, and no more threads and loaders than a trial's CPUs."""
    fixed = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in space.fixed.items()]
    config = parse([*(f"--task={parse(argv).task}",), *fixed, *argv])
    make_absolute(config)
    n_workers = min(config.dataset.n_workers, max(cpus - 1, 0))
    return overlay(
        settings_of(config),
        {
            "threads": max(cpus - n_workers, 1),
            "dataset.n_workers": n_workers,
            "trainer.accelerator": "gpu" if gpus else "cpu",
            "trainer.devices": 1,
            "trainer.num_nodes": 1,
            "trainer.strategy": "auto",
            "trainer.enable_progress_bar": False,
        },
    )


def _check_numbers(chosen: Tree) -> None:
    """Refuse what cannot be a number of trials, epochs, CPUs or GPUs, from a flag or from the space."""
    least = {
        "samples": 1,
        "grace": 1,
        "reduction": 2,
        "interval": 1,
        "cpus_per_trial": 1,
        "concurrent": 1,
        "retries": 0,
    }
    for key, smallest in least.items():
        value, most = chosen[key], {"samples": MOST_SAMPLES, "cpus_per_trial": MOST_CPUS}.get(key, 2**31 - 1)
        if value is None and key == "concurrent":
            continue
        if type(value) is not int or not smallest <= value <= most:
            name, said = key.replace("_", "-"), "empty" if value is None else value
            raise InputError(f"--{name} is {said}: give a whole number from {smallest} to {most}")
    gpus = chosen["gpus_per_trial"]
    if type(gpus) not in (int, float) or not 0 <= gpus <= 1:
        raise InputError(f"--gpus-per-trial is {gpus}: a trial trains on one GPU or a share of it, such as 0.5")


def _settings(chosen: Tree, config: Tree, storage: str | None) -> Settings:
    check_choice("scheduler", str(chosen["scheduler"]), SCHEDULERS)
    check_choice("searcher", str(chosen["searcher"]), SEARCHERS)
    gpus = chosen["gpus_per_trial"]
    if config["trainer"]["max_epochs"] is None:
        raise InputError("trainer.max_epochs is not set: give the epochs of a trial that is not pruned")
    if chosen["scheduler"] == "pbt" and chosen["searcher"] != "random":
        raise InputError("--scheduler pbt starts from random points and changes them itself: leave out --searcher")
    task = TASKS[config["task"]].kind
    objectives = chosen["objective"] or [task.monitor]
    objectives = objectives if isinstance(objectives, list) else [objectives]
    metrics = [name for name in (*COLUMNS, *task.figures, "seconds") if name not in ("epoch", "step")]
    return Settings(
        samples=chosen["samples"],
        scheduler=chosen["scheduler"],
        searcher=chosen["searcher"],
        objectives=tuple(objective_of(str(text), metrics) for text in objectives),
        seed=config["seed"],
        max_epochs=config["trainer"]["max_epochs"],
        grace=chosen["grace"],
        reduction=chosen["reduction"],
        interval=chosen["interval"],
        cpus=chosen["cpus_per_trial"],
        gpus=gpus,
        concurrent=chosen["concurrent"],
        retries=chosen["retries"],
        storage=storage,
    )


def objective_of(text: str, metrics: Sequence[str]) -> tuple[str, str]:
    """A metric and its direction, from "metric", "metric:max" or "metric:min".

    Args:
        text: such as val_psnr or val_psnr:max; without a direction the metric's name decides (of a loss, less is
            better).
        metrics: those that the task logs.

    Raises:
        InputError: no such metric or direction.
    """
    metric, _, mode = text.partition(":")
    check_choice("objective", metric, metrics)
    if mode:
        check_choice(f"direction of {metric}", mode, ("max", "min"))
        return metric, mode
    if any(word in metric for word in LESS_IS_BETTER):
        return metric, "min"
    if any(word in metric for word in MORE_IS_BETTER):
        return metric, "max"
    raise InputError(f"say which way {metric} is better: {metric}:max or {metric}:min")


def _check_population(space: Space, settings: Settings) -> None:
    """Refuse a space in which a trained network has nothing to change.

    Raises:
        InputError: says which keys could be varied.
    """
    if not any(parameter.key.startswith(CHANGEABLE) for parameter in space.parameters):
        raise InputError(
            "--scheduler pbt changes settings while a network trains, but the space varies none of optimizer.*, "
            "scheduler.*, loss.* and clamp: give one a range, or take --scheduler asha"
        )
    for parameter in space.parameters:
        if parameter.key.startswith(CHANGEABLE) and parameter.when:
            raise InputError(f"--scheduler pbt takes no condition: leave out the when of {parameter.key}")
    if settings.samples < 2:
        raise InputError("--scheduler pbt needs a population: give --samples 2 or more")


def check_points(config: Tree, space: Space) -> None:
    """Build what the space's corners describe, without weights, and open their data.

    Raises:
        InputError: the configuration itself cannot work, or some value of the space; names the values.
    """
    _build(config, {}, with_data=True)
    corners = space.corners(CORNERS)
    for point in [*corners, *space.between(corners)]:
        try:
            _build(config, point, with_data=any(key.startswith("dataset.") for key in point))
        except InputError as error:
            values = ", ".join(f"{key} {value}" for key, value in point.items())
            raise InputError(f"the task refuses a point of the space ({values}): {error}") from None


def _build(config: Tree, point: Point, with_data: bool) -> dict[str, Value]:
    """Check a point of the space; gives its whole configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(overlay(config, point), file, sort_keys=False)
        file.flush()
        parsed = parse(["--config", file.name])
    whole = settings_of(parsed)
    (open_data if with_data else check_settings)(parsed)
    if with_data and parsed.init is not None:  # its classes and channels are known
        load_start(build_task(parsed), parsed)
    return whole
