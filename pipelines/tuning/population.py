"""Population-based training: a trial goes on from another's state with other settings, and keeps a record of it."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict

from pipelines.runs.config import load, settings_of
from pipelines.runtime.nested import Value, get, overlay
from pipelines.runtime.run_folder import write_config, write_json
from pipelines.runtime.stored import Count, read_json
from pipelines.tuning.ledger import read_rows
from pipelines.tuning.space import Point

SCHEDULE = "schedule.json"
CHANGEABLE = ("optimizer.", "scheduler.", "loss.", "clamp")  # of a network that is already trained


class Change(TypedDict):
    """What was set after an epoch, and whose state the trial took over."""

    epoch: Count
    from_trial: Count
    set: dict[str, Value]


class Schedule(TypedDict):
    """Of schedule.json: the trial, its start and its changes."""

    trial: Count
    start: dict[str, Value]
    changes: list[Change]


def change_settings(folder: Path, number: int, point: Point) -> None:
    """Let a run folder go on with other settings, where they differ from its own; and note it in schedule.json.

    The settings are config.yaml's; a resumed training takes them from there, and its state from the checkpoint.

    Args:
        folder: the run folder, perhaps a copy of another trial's.
        number: the trial it belongs to from now on.
        point: the trial's settings, by dotted key.
    """
    config = settings_of(load(folder / "config.yaml"))
    changed = {key: value for key, value in point.items() if get(config, key) != value}
    schedule = read_schedule(folder)
    source = schedule["trial"] if schedule else number
    if not changed and source == number:
        return
    write_config(folder, overlay(config, changed))
    step = Change({"epoch": len(read_rows(folder)), "from_trial": source, "set": changed})
    start, before = (schedule["start"], schedule["changes"]) if schedule else ({}, [])
    write_json(folder / SCHEDULE, Schedule({"trial": number, "start": start, "changes": [*before, step]}))


def start_schedule(folder: Path, number: int, point: Point) -> None:
    """Note with what a member of a population starts, unless it has a past."""
    if not read_schedule(folder):
        write_json(folder / SCHEDULE, Schedule({"trial": number, "start": dict(point), "changes": []}))


def read_schedule(folder: Path) -> Schedule | None:
    """What schedule.json says; None where there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / SCHEDULE
    return read_json(path, Schedule) if path.exists() else None
