"""A sweep as it was asked for, and as sweep.json keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field

from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import Environment
from pipelines.runtime.stored import Count
from pipelines.tuning.space import Space

MOST_SAMPLES = 100_000
Positive = Annotated[int, Field(ge=1, lt=2**31)]


@dataclass(frozen=True)
class Settings:
    """What is asked of a sweep beside its space.

    Attributes:
        samples: how many trials.
        scheduler: "asha", "pbt" or "none".
        searcher: "random" or "optuna".
        objectives: (metric, "max" or "min"); the scheduler looks at the first.
        seed: of the points.
        max_epochs: of a trial that is not pruned.
        grace: epochs that every trial gets (asha).
        reduction: one of so many trials goes on at each rung (asha).
        interval: epochs between two looks at the population (pbt).
        cpus: of each trial.
        gpus: of each trial; a fraction shares one.
        concurrent: trials side by side; None: as many as there is room for.
        retries: of a trial whose process was killed or whose node was lost.
        storage: an address such as s3://bucket/folder for the trials' states; None: the sweep's own folder is shared.
    """

    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
    scheduler: Literal["asha", "pbt", "none"]
    searcher: Literal["random", "optuna"]
    objectives: Annotated[tuple[tuple[str, Annotated[str, Field(pattern="^(max|min)$")]], ...], Len(1)]
    seed: Count
    max_epochs: Annotated[int, Field(ge=-1, lt=2**31)]
    grace: Positive
    reduction: Annotated[int, Field(ge=2, lt=2**31)]
    interval: Positive
    cpus: Annotated[float, Field(ge=1, lt=2**31)]
    gpus: Annotated[float, Field(ge=0, le=1)]
    concurrent: Positive | None
    retries: Count
    storage: str | None


@dataclass(frozen=True)
class Request:
    """A sweep, as it was asked for.

    Attributes:
        config: of the task, with what the space fixes; a trial lays its point over it.
        space: what is varied.
        source: the space's YAML, to be kept.
        settings: the rest.
    """

    config: Tree
    space: Space
    source: Tree
    settings: Settings


@dataclass(frozen=True)
class KeptSweep:
    """What sweep.json holds; the space as it was written."""

    settings: Settings
    config: Tree
    space: Tree
    environment: Environment
