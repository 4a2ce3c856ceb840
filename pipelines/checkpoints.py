"""From a configuration and a checkpoint to a network."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from torch import nn

from pipelines.classification import ClassificationTask
from pipelines.config import RECONSTRUCTION, load
from pipelines.run_folder import check_run_folder
from pipelines.task import ReconstructionLoss, ReconstructionTask
from pipelines.training import TrainedTask
from recon.errors import InputError
from recon.networks import ResNet, UNet

_FROM_DATA = ("n_classes", "in_channels")  # of a network, unknown until the data are opened


class Checkpoint(NamedTuple):
    """Where a checkpoint lies, and the settings of its run."""

    folder: Path
    path: Path
    config: Namespace


def find_checkpoint(path: Path) -> Checkpoint:
    """The best checkpoint of a run folder, or the one that is named.

    Args:
        path: the run folder, or a ``.ckpt`` file in its ``checkpoints`` folder.

    Raises:
        InputError: not a run folder, or its config.yaml is not ours. The checkpoint itself is not looked at.
    """
    named = path.suffix == ".ckpt"
    folder = check_run_folder(path.parent.parent if named else path)
    return Checkpoint(folder, path if named else folder / "checkpoints" / "best.ckpt", load(folder / "config.yaml"))


def build_task(config: Namespace) -> Any:
    """The task that a configuration describes, with fresh weights (seed torch before).

    Returns:
        A ReconstructionTask or a ClassificationTask.

    Raises:
        InputError: settings that cannot work together.
    """
    network: dict[str, Any] = config.network.as_dict()
    if config.task not in RECONSTRUCTION:
        return ClassificationTask(
            ResNet(**network | {key: network[key] or 1 for key in _FROM_DATA}),
            nn.CrossEntropyLoss(**config.loss.as_dict()),
            config.optimizer.as_dict(),
            config.scheduler.as_dict(),
            n_epochs=max(config.trainer.max_epochs or 1, 1),
            seed=config.seed,
            max_shift=config.evaluation.max_shift,
        )
    return ReconstructionTask(
        UNet(**network),
        ReconstructionLoss(**config.loss.as_dict()),
        config.optimizer.as_dict(),
        config.scheduler.as_dict(),
        clamp=config.clamp,
        seed=config.seed,
        max_shift=config.evaluation.max_shift,
        per_image=config.task == "ct",
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, data only: nothing in it can run.

    Raises:
        InputError: it is missing, truncated, not a checkpoint of ours, or holds more than data.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch advises about a bare pickle is said below
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}: give another, or a run whose first epoch has ended") from None
    except pickle.UnpicklingError:
        raise InputError(f"{path} is not a checkpoint of plain data and was not loaded: give one of ours") from None
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, KeyError, ValueError):
        raise InputError(f"{path} is truncated or not a checkpoint: train again, or give another one") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path} holds no network: give a checkpoint that recon-train made")
    return checkpoint


def load_weights(task: TrainedTask, path: Path) -> dict[str, Any]:
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
                "use the network settings it was trained with"
            )
    task.load_state_dict(state)
    return checkpoint
