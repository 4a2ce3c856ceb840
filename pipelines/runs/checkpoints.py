"""From a configuration and a checkpoint to a network."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

import torch
from annotated_types import Len
from jsonargparse import Namespace
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, ConfigDict, InstanceOf, Strict, with_config
from torch import Tensor
from typing_extensions import TypeAliasType, TypedDict

from pipelines.runs.config import load
from pipelines.runs.trust import check_trusted
from pipelines.runs.zoo import run_path
from pipelines.runtime.nested import Value
from pipelines.runtime.run_folder import check_run_folder
from pipelines.runtime.stored import Count, as_kind, check_regular, damaged
from pipelines.tasks import TASKS, is_foreign, network_of
from pipelines.training.base import TrainedTask
from recon.errors import InputError


def _dense(value: Any) -> Any:
    if isinstance(value, Tensor) and (value.layout != torch.strided or value.is_quantized):
        raise ValueError("a tensor that is not dense")
    return value


Dense = Annotated[InstanceOf[Tensor], AfterValidator(_dense)]
Progress = TypeAliasType("Progress", "dict[str, Progress] | bool | Count")


class Weights(TypedDict):
    """What every checkpoint has."""

    state_dict: dict[Annotated[str, Strict()], Dense]


class OptimizerState(TypedDict):
    """Of torch's optimizers: what each parameter has, by its number, and the settings of each group."""

    state: dict[Count, dict[str, Dense | float | None]]
    param_groups: list[dict[str, Value]]


class Recorded(TypedDict):
    """What :class:`pipelines.training.recorder.RunRecorder` keeps."""

    rows: list[list[float]]
    best: float
    loss_sum: float
    n_samples: float


class Callbacks(TypedDict):
    """Lightning's name for it."""

    RunRecorder: Recorded


@with_config(ConfigDict(extra="allow"))
class Place(TypedDict):
    """Of the loaders: where the run stands. What an epoch is cut by stands beside it, but for older versions."""

    epoch: Count
    batch: Count
    batch_size: NotRequired[Count]
    n_processes: NotRequired[Count]
    n_training_samples: NotRequired[Count]


class TrainingState(Weights):
    """What a training goes on from, as Lightning writes it."""

    epoch: Count
    global_step: Count
    loops: dict[str, dict[str, Progress]]
    callbacks: Callbacks
    optimizer_states: Annotated[list[OptimizerState], Len(1, 1)]
    lr_schedulers: Annotated[list[dict[str, Value]], Len(1, 1)]
    Loaders: Place


class Checkpoint(NamedTuple):
    """Where a checkpoint lies, and the settings of its run."""

    folder: Path
    path: Path
    config: Namespace


def find_checkpoint(path: Path) -> Checkpoint:
    """The best checkpoint of a run folder, or the one that is named.

    Args:
        path: the run folder, a ``.ckpt`` file in its ``checkpoints`` folder, or ``zoo:NAME``.

    Raises:
        InputError: not a run folder, or its config.yaml is not ours. The checkpoint itself is not looked at.
    """
    path = run_path(path)
    named = path.suffix == ".ckpt"
    folder = check_run_folder(path.parent.parent if named else path)
    return Checkpoint(folder, path if named else folder / "checkpoints" / "best.ckpt", load(folder / "config.yaml"))


def build_task(config: Namespace) -> Any:
    """The task that a configuration describes, with fresh weights (seed torch before).

    Returns:
        What the row's kind trains, a subclass of TrainedTask.

    Raises:
        InputError: settings that cannot work together.
    """
    row = TASKS[config.task]
    if is_foreign(config.network.name):
        check_trusted(config.network.name, config.network.args or {})
    return row.kind.build_task(config, network_of(config), row.dataset)


def read_checkpoint(path: Path) -> dict[str, Value]:
    """Read a checkpoint, data only: nothing in it can run.

    Raises:
        InputError: it is missing, truncated, not a checkpoint of ours, or holds more than data.
    """
    if not path.exists():
        raise InputError(f"there is no checkpoint {path}: give another, or a run whose first epoch has ended")
    checkpoint = read_data(path, "give one of ours")
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path} holds no network: give a checkpoint that recon-train made")
    as_kind(checkpoint, Weights, path)
    return checkpoint


def read_data(path: Path, otherwise: str) -> Any:
    """Read what torch.save wrote, data only: nothing in it can run.

    Args:
        path: the file.
        otherwise: what to do where it holds more.

    Raises:
        InputError: it is missing, truncated, or holds more than data.
    """
    check_regular(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch advises about a bare pickle is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path} is not a checkpoint of plain data and was not loaded: {otherwise}") from None
    except Exception:  # a damaged pickle can fail in any way
        raise InputError(f"{path} is truncated or not a checkpoint: train again, or give another one") from None


def load_weights(task: TrainedTask, path: Path) -> dict[str, Value]:
    """Load a checkpoint's weights into the task's network; gives the whole checkpoint.

    Raises:
        InputError: see :func:`read_checkpoint`; or the checkpoint is of another network.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    own = task.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own or own[name].shape != state[name].shape:
            theirs, ours = (tuple(d[name].shape) if name in d else "nothing" for d in (state, own))
            raise InputError(
                f"{path} is a checkpoint of another network (it has {theirs} where this one has {ours} in {name}): "
                "use the network settings that it was trained with, and the version of this package (environment.json)"
            )
        if state[name].is_floating_point() != own[name].is_floating_point() or state[name].is_complex():
            raise damaged(path, f"state_dict.{name} has numbers of type {state[name].dtype}")
    try:
        task.load_state_dict(state)
    except RuntimeError as error:
        raise damaged(path, " ".join(str(error).split())[:200]) from None
    return checkpoint


def read_state(task: TrainedTask, path: Path) -> dict[str, Value]:
    """Load a checkpoint's weights, and make sure that a training can go on from it; gives the whole checkpoint.

    Raises:
        InputError: see :func:`load_weights`; or the state of the training in it is not as this program writes it.
    """
    checkpoint = load_weights(task, path)
    state = as_kind(checkpoint, TrainingState, path)
    if not _is_version(checkpoint.get("pytorch-lightning_version")):
        raise damaged(path, "pytorch-lightning_version is no version")
    fresh: Any = task.configure_optimizers()
    (optimizer,), (scheduler,) = state["optimizer_states"], state["lr_schedulers"]
    own = fresh["optimizer"].state_dict()["param_groups"]
    check_like(optimizer["param_groups"], own, path, "optimizer_states.param_groups")
    check_like(scheduler, fresh["lr_scheduler"].state_dict(), path, "lr_schedulers")
    parameters = list(task.parameters())
    for number, found in optimizer["state"].items():
        for name, value in found.items():
            ours = parameters[number].shape if number < len(parameters) else None
            if isinstance(value, Tensor) and value.ndim and value.shape != ours:
                raise damaged(path, f"optimizer_states.state.{number}.{name} has the shape {tuple(value.shape)}")
    return checkpoint


def _is_version(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(Version(text))
    except InvalidVersion:
        return False


def check_like(theirs: Any, ours: Any, path: Path, place: str) -> None:
    """Refuse a tree whose numbers, lists and mappings are not those that this program writes at the same place.

    Args:
        theirs: of the checkpoint; keys that only one of them has may come from another version of torch.
        ours: of a new training.
        path: the checkpoint, for the message.
        place: where in it.

    Raises:
        InputError: names the first place that differs.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in theirs.keys() & ours.keys():
            check_like(theirs[key], ours[key], path, f"{place}.{key}")
        return
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(theirs, ours, strict=True)):
            check_like(*pair, path, f"{place}.{number}")
        return
    plain = (bool, int, float, str, type(None))
    same = isinstance(theirs, plain) and (ours is None or theirs is None or _kind(theirs) == _kind(ours))
    if not same or (isinstance(theirs, float) and not math.isfinite(theirs)):
        raise damaged(path, f"{place} is no {_kind(ours)}")


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__
