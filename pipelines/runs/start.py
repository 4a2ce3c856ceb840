"""A new training that starts from the weights of another run: ``recon-train --init``."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from jsonargparse import Namespace

from pipelines.runs.checkpoints import build_task, find_checkpoint, load_weights
from pipelines.runtime.nested import Value
from pipelines.training.base import TrainedTask
from recon.errors import InputError


def load_start(task: TrainedTask, config: Namespace) -> None:
    """Give the task's network the weights that ``init`` names, and nothing else of that run.

    Args:
        task: as built from ``config``.
        config: of the new training, with the classes and channels of its data.

    Raises:
        InputError: no such run, a broken checkpoint, or one of a network that has other weights; names the key.
    """
    source = find_checkpoint(Path(config.init))
    theirs, ours = source.config.network.as_dict(), config.network.as_dict()
    if theirs["name"] != ours["name"]:
        raise _other_network(config, "name", theirs, ours)
    if _shapes(source.config) != {name: value.shape for name, value in task.state_dict().items()}:
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        for key in sorted(differing, key=lambda key: not _decides(key, source.config, ours)):
            raise _other_network(config, key, theirs, ours)
    load_weights(task, source.path)


def _shapes(config: Namespace) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in build_task(config).state_dict().items()}


def _decides(key: str, theirs: Namespace, ours: dict[str, Value]) -> bool:
    """Whether our value of this key alone makes their network one with other weights; sampling mostly does not."""
    changed = copy.deepcopy(theirs)
    changed.network[key] = ours[key]
    try:
        return _shapes(changed) != _shapes(theirs)
    except (InputError, ValueError, TypeError, RuntimeError):  # the two values do not even go together
        return True


def _other_network(config: Namespace, key: str, theirs: dict[str, Value], ours: dict[str, Value]) -> InputError:
    return InputError(
        f"--init {config.init} is another network: network.{key} is {theirs.get(key)} there and {ours[key]} here; "
        "make them equal, or leave out --init"
    )
