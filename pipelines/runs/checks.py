"""What is checked of a training before its run folder exists: the settings, the data, and both together."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn

from pipelines.runs.checkpoints import build_task
from pipelines.runtime.memory import check_memory
from pipelines.tasks import TASKS, open_dataset
from pipelines.training.base import TrainedTask
from pipelines.training.loaders import Loaders
from recon.errors import InputError, check_choice

PROFILERS = ("simple", "advanced", "pytorch")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
LAUNCHED = {"MASTER_ADDR", "SLURM_JOB_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE"}  # one is set where others will come
LIMITS = ("trainer.limit_train_batches", "trainer.limit_val_batches")


def open_data(config: Namespace) -> tuple[Any, Any, Any]:
    """The sets to train on, to validate on and to measure on, once all of them and the task go together.

    Args:
        config: of the training; a classifier's network is told the classes and channels of the data.

    Raises:
        InputError: the settings cannot work, the data cannot be read, or the network cannot work with them.
    """
    check_settings(config)  # told before any data are read
    training_set = open_dataset(config, "train", training=True)
    validation_set = open_dataset(config, "val")
    split = config.evaluation.split
    measured_set = validation_set if split == "val" else open_dataset(config, split)
    kind = TASKS[config.task].kind
    kind.fit_to_data(config, training_set)
    with torch.device("meta"):
        task = build_task(config)
    for dataset in (training_set, validation_set, measured_set):
        kind.check_data(dataset, task)
    for dataset in (training_set, validation_set):
        kind.check_targets(dataset)
    return training_set, validation_set, measured_set


def check_settings(config: Namespace) -> None:
    """Refuse settings that the network, the loss, the optimizer, the scheduler or we refuse, without any weights.

    Raises:
        InputError: says which.
    """
    check_choice("trainer.strategy", config.trainer.strategy, STRATEGIES)
    if config.trainer.num_nodes > 1 and not LAUNCHED & os.environ.keys():
        raise InputError(
            f"trainer.num_nodes is {config.trainer.num_nodes}, but nothing says where the other nodes are: start it by "
            "Slurm or torchrun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each"
        )
    if isinstance(config.trainer.profiler, str):
        check_choice("trainer.profiler", config.trainer.profiler, PROFILERS)
    try:
        with torch.device("meta"):
            task = build_task(config)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"the network settings cannot work: {one_line(error)}") from None
    check_memory(task.network, n_copies=3)
    _dry_step(config, task)


def _dry_step(config: Namespace, task: TrainedTask) -> None:
    """One step of the optimizer and of the schedule, of a single weight on the device that will be used."""
    endless = config.trainer.max_epochs is None or config.trainer.max_epochs < 0
    if endless and config.scheduler.get("name") == "cosine":
        raise InputError("scheduler.name cosine falls to 0 at the end of the training: give trainer.max_epochs")
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    weight = nn.Parameter(torch.zeros(1, device="cuda" if on_gpu else "cpu"))
    weight.grad = torch.zeros_like(weight)
    try:
        optimizer, scheduler = task.make_optimizer([weight])
        optimizer.step()
        scheduler.step()
    except (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise InputError(f"the optimizer or scheduler settings cannot work: {one_line(error)}") from None


def check_limits(config: Namespace, loaders: Loaders, n_processes: int) -> None:
    """Refuse a share of the batches that is less than one of them.

    Raises:
        InputError: names the key, and the smallest share that is possible.
    """
    for key, n_batches in zip(LIMITS, loaders.n_batches(n_processes), strict=True):
        share = config[key]
        if isinstance(share, float) and int(share * n_batches) < 1:
            least = math.ceil(1000 / n_batches) / 1000
            raise InputError(f"{key} is {share}, which is less than one of {n_batches} batches: give {least} or more")


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())
