"""Trained runs, opened to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.measuring.kind import AnyRun, Run
from pipelines.runs.checkpoints import Checkpoint, build_task, find_checkpoint, load_weights
from pipelines.runs.foreign import Model, open_model
from pipelines.runs.zoo import in_zoo
from pipelines.runtime.nested import Tree
from pipelines.tasks import TASKS, open_dataset
from recon.errors import InputError


def open_runs(
    paths: Sequence[str],
    data: str | None = None,
    split: str | None = None,
    dataset: Tree | None = None,
    model: Model | None = None,
) -> list[AnyRun]:
    """Open runs of one task, and a network that is not ours beside them, and give them distinct names.

    See :func:`open_run` and :func:`pipelines.runs.foreign.open_model`.

    Raises:
        InputError: also where their tasks differ.
    """
    runs = [open_run(Path(path), data, split, dataset) for path in paths]
    if model is not None:
        runs.append(open_model(model, runs[0] if runs else None, data, split, dataset))
    tasks = {run.config.task: run.name for run in runs}
    if len(tasks) > 1:
        listed = ", ".join(f"{name} is {task}" for task, name in tasks.items())
        raise InputError(f"the runs are of different tasks ({listed}): evaluate each task on its own")
    names = _distinct([run.name for run in runs])
    return [run._replace(name=name) for run, name in zip(runs, names, strict=True)]


def open_run(path: Path, data: str | None = None, split: str | None = None, dataset: Tree | None = None) -> AnyRun:
    """Open a run folder (its best checkpoint), one checkpoint of a run, or a network of the package.

    Args:
        path: the run folder, a ``.ckpt`` file in its ``checkpoints`` folder, or ``zoo:NAME``, which is called zoo-NAME.
        data: another data folder than the run's own.
        split: another split than the run's own.
        dataset: other settings of the data set than the run's own.

    Raises:
        InputError: not a run folder, a broken checkpoint, one of another network, or data that cannot be read.
    """
    found = find_checkpoint(path)
    config = found.config
    config.data = data or config.data
    config.evaluation.split = split or config.evaluation.split
    for key, value in (dataset or {}).items():
        if key not in config.dataset:
            raise InputError(f"--dataset.{key} is no setting of the task {config.task}: leave it out")
        config.dataset[key] = value
    return open_found(path, found)


def open_found(path: Path, found: Checkpoint) -> AnyRun:
    """Open a checkpoint with its data, as its settings say by now.

    Args:
        path: by which it was found, see :func:`open_run`.
        found: what :func:`find_checkpoint` gives.

    Raises:
        InputError: see :func:`open_run`.
    """
    folder, checkpoint, config = found
    task = build_task(config)
    load_weights(task, checkpoint)
    opened = open_dataset(config, config.evaluation.split)
    kind = TASKS[config.task].kind
    kind.fit_to_data(config, opened)
    kind.check_data(opened, task)
    name = "zoo-" * in_zoo(folder) + folder.resolve().name + (f"-{path.stem}" if path.suffix == ".ckpt" else "")
    return Run(name, folder, checkpoint, config, kind, task.eval(), opened)


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once, past names that are taken."""
    given: list[str] = []
    for name in names:
        candidates = [name] if names.count(name) == 1 else [f"{name}-{i}" for i in range(1, len(names) + 1)]
        taken = {*given, *names} if names.count(name) > 1 else set()
        given.append(next((candidate for candidate in candidates if candidate not in taken), f"{name}-{len(given)}"))
    return given
