"""Population-based training: a trial goes on from another's state with other settings, and keeps a record of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipelines.runs.config import load, settings_of
from pipelines.runtime.run_folder import write_config, write_json
from pipelines.runtime.stored import Count, read_json
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

    The settings are config.yaml's; a resumed training takes them from there, and its state from the checkpoint.

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


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
