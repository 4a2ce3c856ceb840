"""Population-based training: a trial goes on from another's state with other settings, and keeps a record of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.run_folder import write_config, write_json
from pipelines.tuning.ledger import overlay, read_rows

SCHEDULE = "schedule.json"
CHANGEABLE = ("optimizer.", "scheduler.", "loss.", "clamp")  # of a network that is already trained


def change_settings(folder: Path, number: int, point: Mapping[str, Any]) -> None:
    """Let a run folder go on with other settings, where they differ from its own; and note it in schedule.json.

    The settings are config.yaml's; a resumed training takes them from there, and its state from the checkpoint.

    Args:
        folder: the run folder, perhaps a copy of another trial's.
        number: the trial it belongs to from now on.
        point: the trial's settings, by dotted key.
    """
    config = yaml.safe_load((folder / "config.yaml").read_text())
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
    """What schedule.json says: the trial, its start and its changes; nothing where there is none."""
    try:
        return json.loads((folder / SCHEDULE).read_text())
    except FileNotFoundError:
        return {}


def _get(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
