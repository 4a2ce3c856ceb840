"""Trained runs, opened to be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace

from pipelines.runs.checkpoints import build_task, find_checkpoint, load_weights
from pipelines.runs.config import RECONSTRUCTION
from pipelines.training.loaders import check_image_sizes, check_labelled_images, fit_network, open_dataset
from recon.errors import InputError


class Run(NamedTuple):
    """A trained network, ready to be measured, and the data to measure it on.

    Attributes:
        task: a ReconstructionTask or ClassificationTask.
        dataset: one of ``pipelines.training.loaders.AnyDataset``.
    """

    name: str
    folder: Path
    checkpoint: Path
    config: Namespace
    task: Any
    dataset: Any


def open_runs(
    paths: Sequence[str], data: str | None = None, split: str | None = None, dataset: Mapping[str, Any] | None = None
) -> list[Run]:
    """Open runs of one task and give them distinct names; see :func:`open_run`.

    Raises:
        InputError: also where their tasks differ.
    """
    runs = [open_run(Path(path), data, split, dataset) for path in paths]
    tasks = {run.config.task: run.name for run in runs}
    if len(tasks) > 1:
        listed = ", ".join(f"{name} is {task}" for task, name in tasks.items())
        raise InputError(f"the runs are of different tasks ({listed}): evaluate each task on its own")
    names = _distinct([run.name for run in runs])
    return [run._replace(name=name) for run, name in zip(runs, names, strict=True)]


def open_run(
    path: Path, data: str | None = None, split: str | None = None, dataset: Mapping[str, Any] | None = None
) -> Run:
    """Open a run folder (its best checkpoint) or one checkpoint of a run.

    Args:
        path: the run folder, or a ``.ckpt`` file in its ``checkpoints`` folder.
        data: another data folder than the run's own.
        split: another split than the run's own.
        dataset: other settings of the data set than the run's own.

    Raises:
        InputError: not a run folder, a broken checkpoint, one of another network, or data that cannot be read.
    """
    folder, checkpoint, config = find_checkpoint(path)
    config.data = data or config.data
    config.evaluation.split = split or config.evaluation.split
    for key, value in (dataset or {}).items():
        if key not in config.dataset:
            raise InputError(f"--dataset.{key} is no setting of the task {config.task}: leave it out")
        config.dataset[key] = value
    task = build_task(config)
    load_weights(task, checkpoint)
    opened = open_dataset(config, config.evaluation.split)
    if config.task in RECONSTRUCTION:
        check_image_sizes(opened, task.network)
    else:
        fit_network(config, opened)
        check_labelled_images(opened, task.network)
    name = folder.resolve().name + (f"-{path.stem}" if path.suffix == ".ckpt" else "")
    return Run(name, folder, checkpoint, config, task.eval(), opened)


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once, past names that are taken."""
    given: list[str] = []
    for name in names:
        candidates = [name] if names.count(name) == 1 else [f"{name}-{i}" for i in range(1, len(names) + 1)]
        taken = {*given, *names} if names.count(name) > 1 else set()
        given.append(next((candidate for candidate in candidates if candidate not in taken), f"{name}-{len(given)}"))
    return given
