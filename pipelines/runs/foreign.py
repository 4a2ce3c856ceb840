"""A network that this program neither wrote nor trained, opened to be measured beside runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pipelines.measuring.foreign import foreign_in, model_args
from pipelines.measuring.kind import AnyRun, Run
from pipelines.runs.checkpoints import build_task, read_data
from pipelines.runs.config import parse
from pipelines.runtime.nested import Tree
from pipelines.runtime.stored import check_regular
from pipelines.tasks import TASKS, is_foreign, open_dataset
from recon.errors import InputError


class Model(NamedTuple):
    """A network that is not ours, as the flags of ``recon-evaluate`` name it.

    Attributes:
        factory: ``package.module:factory``.
        args: the words ``key=value`` of its arguments.
        weights: a file of them; None for those that the factory makes.
        name: of the run that it becomes; None for the factory's own.
        settings: more of its keys ``network.*``.
        seed: of what the factory draws.
        task: a row of TASKS; None for that of the runs beside it.
    """

    factory: str
    args: Sequence[str]
    weights: Path | None
    name: str | None
    settings: Tree
    seed: int
    task: str | None


def open_model(
    model: Model, beside: AnyRun | None, data: str | None = None, split: str | None = None, dataset: Tree | None = None
) -> AnyRun:
    """Build the network and open the data that it is measured on: those of a run, or the task's own.

    Args:
        model: what is named.
        beside: the run whose data set's settings it takes; None for those of the task's configuration.
        data: another data folder.
        split: another split.
        dataset: other settings of the data set.

    Raises:
        InputError: no such factory, arguments or weights that it does not take, or data that do not go with it.
    """
    if not is_foreign(model.factory):
        raise InputError(f"--model {model.factory} is no factory: write package.module:factory")
    task_name = beside.config.task if beside is not None else str(model.task)
    folder = data or (beside.config.data if beside is not None else None)
    settings = {"args": model_args(model.args), **model.settings}
    flags = [f"--network.{key}={value if key == 'takes' else json.dumps(value)}" for key, value in settings.items()]
    config = parse(
        ["--task", task_name, "--network.name", model.factory, *flags, *(["--data", folder] if folder else [])]
    )
    if beside is not None:
        config.dataset, config.seed, config.evaluation = (
            beside.config.dataset.clone(),
            beside.config.seed,
            beside.config.evaluation.clone(),
        )
    config.evaluation.split = split or config.evaluation.split
    for key, value in (dataset or {}).items():
        if key not in config.dataset:
            raise InputError(f"--dataset.{key} is no setting of the task {task_name}: leave it out")
        config.dataset[key] = value
    kind = TASKS[task_name].kind
    kind.resolve(config)
    opened = open_dataset(config, config.evaluation.split)
    kind.fit_to_data(config, opened)
    pl.seed_everything(model.seed, verbose=False)
    task = build_task(config)
    foreign = foreign_in(task.network)
    assert foreign is not None
    if model.weights is not None:
        load_model(foreign.model, model.weights)
    kind.check_data(opened, task)
    return Run(model.name or model.factory.rpartition(":")[2], None, None, config, kind, task.eval(), opened)


def load_model(model: nn.Module, path: Path) -> None:
    """Load weights into a network that is not ours.

    Args:
        model: what they are for.
        path: a state dict or a checkpoint with one under "state_dict", as torch.save or safetensors wrote it. The
            model may be a part of what was saved, as it is in Lightning's checkpoints: ``network.model.conv.weight``.

    Raises:
        InputError: the file cannot be read, holds more than plain data, or has the weights of another network.
    """
    state = read_weights(path)
    own = model.state_dict()
    prefix = _prefix(list(own), state, path)
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    for name in (*own, *state):
        theirs, ours = (tuple(d[name].shape) if name in d else "nothing" for d in (state, own))
        if theirs != ours:
            raise InputError(
                f"{path} does not fit the model (it has {theirs} where the model has {ours} in {name}): give the "
                "--model and --model-args that it was trained with"
            )
    model.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict that a file holds, by names; nothing in the file can run.

    Raises:
        InputError: see :func:`load_model`.
    """
    if path.suffix == ".safetensors":
        found: object = _read_safetensors(path)
    else:
        found = read_data(path, "save its state_dict alone")
        found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no weights: give a file of torch.save(network.state_dict(), ...)")
    return {str(name): value for name, value in found.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f"{path} takes the package safetensors: install it, or give what torch.save wrote") from None
    check_regular(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or no safetensors file ({error}): give another one") from None


def _prefix(own: Sequence[str], state: Mapping[str, Tensor], path: Path) -> str:
    """What stands before each name of a network's weights where it was saved as a part of something else.

    Raises:
        InputError: there are several such parts.
    """
    if all(name in state for name in own):
        return ""
    candidates = {name.removesuffix(own[0]) for name in state if name.endswith(f".{own[0]}")}
    found = sorted(prefix for prefix in candidates if all(prefix + name in state for name in own))
    if len(found) > 1:
        raise InputError(f"{path} holds several such networks ({', '.join(found)}): save the state dict of one")
    return found[0] if found else ""


def weights_digest(run: AnyRun) -> str:
    """What identifies a run's weights: the bytes of its checkpoint; without one, those of the network."""
    if run.checkpoint is not None:
        with run.checkpoint.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name, value in run.task.network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
