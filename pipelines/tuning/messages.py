"""What Ray Tune is handed for a trial, and what a trial reports to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from pipelines.runtime.nested import Tree
from pipelines.tuning.space import Point


class SweepSettings(TypedDict):
    """What every trial is told.

    Attributes:
        folder: the sweep's, absolute: a trial works in another directory.
        config: the task's configuration, over which the trial's point is laid.
        gpus: of each trial.
        shared: whether trials write into the sweep's own folder.
        population: whether settings change on the way.
        with_state: whether the run folder is handed to Ray after each epoch.
    """

    folder: str
    config: Tree
    gpus: float
    shared: bool
    population: bool
    with_state: bool


class Numbered(TypedDict):
    """A trial's number and its point."""

    number: int
    point: Point


class TrialConfig(TypedDict):
    """The config of a trial, as Ray passes it on."""

    sweep: SweepSettings
    trial: Numbered


Report = Mapping[str, object]
"""What a trial reports of an epoch: its row of metrics.csv, and "epochs"."""
