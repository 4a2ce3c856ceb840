"""Population-based training: a trial goes on from another's state with other settings, and keeps a record of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from data_prep import replace_file
from pipelines.checkpoints import read_checkpoint
from pipelines.config import load, settings_of
from pipelines.run_folder import write_config, write_json
from pipelines.stored import Count, read_json
from pipelines.tuning.ledger import overlay, read_rows

SCHEDULE = "schedule.json"
CHANGEABLE = ("optimizer.", "scheduler.", "loss.", "clamp")  # of a network that is already trained


class Change(TypedDict):
    """What was set after an epoch, and whose state the trial took over."""

    epoch: Count
    from_trial: Count
    set: dict[str, Any]


class Schedule(TypedDict):
    """Of schedule.json: the trial, its start and its changes."""

    trial: Count
    start: dict[str, Any]
    changes: list[Change]


def change_settings(folder: Path, number: int, point: Mapping[str, Any]) -> None:
    """Let a run folder go on with other settings, where they differ from its own; and note it in schedule.json.

    Args:
        folder: the run folder, perhaps a copy of another trial's.
        number: the trial it belongs to from now on.
        point: the trial's settings, by dotted key.
    """
    config = settings_of(load(folder / "config.yaml"))
    changed = {key: value for key, value in point.items() if _get(config, key) != value}
    schedule = read_schedule(folder)
    source = schedule["trial"] if schedule else number
    if not changed and source == number:
        return
    path = folder / "checkpoints" / "last.ckpt"
    if path.exists():
        checkpoint = read_checkpoint(path)
        change_state(checkpoint, config, changed)
        with replace_file(path) as temporary:
            torch.save(checkpoint, temporary)
    write_config(folder, overlay(config, changed))
    step = {"epoch": len(read_rows(folder)), "from_trial": source, "set": changed}
    changes = [*schedule.get("changes", []), step]
    write_json(folder / SCHEDULE, {"trial": number, "start": schedule.get("start", {}), "changes": changes})


def start_schedule(folder: Path, number: int, point: Mapping[str, Any]) -> None:
    """Note with what a member of a population starts, unless it has a past."""
    if not read_schedule(folder):
        write_json(folder / SCHEDULE, {"trial": number, "start": dict(point), "changes": []})


def read_schedule(folder: Path) -> dict[str, Any]:
    """What schedule.json says; nothing where there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / SCHEDULE
    return dict(read_json(path, Schedule)) if path.exists() else {}


def change_state(checkpoint: dict[str, Any], config: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Change the optimizer's and the scheduler's settings inside a checkpoint, in place.

    The learning rate is the schedule's so far times new / old: the one it would have if it had started there.

    Args:
        checkpoint: Lightning's.
        config: the configuration before.
        changed: new values, by dotted key.
    """
    for key, value in changed.items():
        group, _, name = key.partition(".")
        if key == "optimizer.lr":
            _scale(checkpoint, value / config["optimizer"]["lr"])
        elif group == "optimizer":
            for state in checkpoint["optimizer_states"]:
                for parameters in state["param_groups"]:
                    parameters[name] = value
        elif group == "scheduler":
            for state in checkpoint["lr_schedulers"]:
                state[name] = value


def _scale(checkpoint: dict[str, Any], factor: float) -> None:
    for state in checkpoint["optimizer_states"]:
        for parameters in state["param_groups"]:
            for name in {"lr", "initial_lr"} & parameters.keys():
                parameters[name] *= factor
    for state in checkpoint["lr_schedulers"]:
        for name in {"base_lrs", "_last_lr"} & state.keys():
            state[name] = [rate * factor for rate in state[name]]


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
