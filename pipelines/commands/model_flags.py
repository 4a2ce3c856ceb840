"""The flags of ``recon-evaluate`` for a network that is not ours."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from pipelines.measuring.foreign import TAKES
from pipelines.runs.foreign import Model
from pipelines.runtime.shell import whole
from pipelines.runtime.stored import Count
from pipelines.tasks import TASKS
from recon.errors import InputError, check_choice

LARGEST_STRIDE = 2**14


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The flags, as evaluation.json keeps them."""

    model: str | None = None
    model_args: list[str] | None = None
    weights: str | None = None
    name: str | None = None
    task: str | None = None
    takes: str | None = None
    total_stride: Count | None = None


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add them, as a group of their own."""
    group = parser.add_argument_group(
        "a network that is not ours",
        "It joins the runs in every table. The factory is imported and called: name only code that you trust. It must "
        "be a class of torch.nn.Module, or annotated to return one.",
    )
    add = group.add_argument
    add("--model", metavar="PACKAGE.MODULE:FACTORY", help="what makes the network, such as monai.networks.nets:UNet")
    add("--model-args", nargs="+", action="extend", metavar="NAME=VALUE",
        help="its arguments, each value YAML, such as spatial_dims=2 channels='[16, 32]'")  # fmt: skip
    add(
        "--weights",
        metavar="FILE",
        help="a state dict or a checkpoint with one, of torch.save or safetensors; plain data, no code (none: as the "
        "factory makes them, with --seed)",
    )
    add("--name", help="what the tables call it (default: the factory's name)")
    add("--task", help=f"of the bundled sample or --data, where no RUN tells it: {', '.join(TASKS)}")
    add("--network.takes", dest="takes", metavar="INPUT",
        help="; ".join(f"{name}: {what}" for name, what in TAKES.items()) + " (default image)")  # fmt: skip
    add(
        "--network.total_stride",
        dest="total_stride",
        type=whole(1, LARGEST_STRIDE),
        metavar="PIXELS",
        help="each side of an image must be a multiple of it, and all-phases tries so many shifts along it (default 1)",
    )


def check_model_flags(arguments: argparse.Namespace) -> None:
    """Refuse flags that say nothing without each other.

    Raises:
        InputError: names the flag.
    """
    if arguments.model is None:
        given = [field.name for field in fields(ModelFlags) if getattr(arguments, field.name) is not None]
        flags = {"takes": "network.takes", "total_stride": "network.total_stride", "model_args": "model-args"}
        if given:
            raise InputError(
                f"--{flags.get(given[0], given[0])} is for a network that --model names: add it, or leave it out"
            )
        return
    if arguments.task is not None:
        check_choice("task", arguments.task, TASKS)
    if not arguments.runs and arguments.task is None:
        raise InputError("--model without a RUN needs --task, such as --task mri: it says on what data to measure")
    if arguments.runs and arguments.task is not None:
        raise InputError("--task is for --model alone: leave it out, the runs have theirs")
    if arguments.takes is not None:
        check_choice("network.takes", arguments.takes, TAKES)
    if arguments.name is not None and (arguments.name in ("", ".", "..") or {"/", "\0"} & set(arguments.name)):
        raise InputError(f"--name {arguments.name!r} names files, too: give letters, digits, dots and dashes")
    if arguments.weights is not None:
        arguments.weights = str(Path(arguments.weights).resolve())


def model_of(arguments: argparse.Namespace) -> Model | None:
    """What the flags name; None where they name nothing."""
    if arguments.model is None:
        return None
    given = {"takes": arguments.takes, "total_stride": arguments.total_stride}
    return Model(
        arguments.model,
        arguments.model_args or (),
        None if arguments.weights is None else Path(arguments.weights),
        arguments.name,
        {key: value for key, value in given.items() if value is not None},
        arguments.seed,
        arguments.task,
    )
