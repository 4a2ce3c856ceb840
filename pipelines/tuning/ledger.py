"""The folder of a sweep: its settings, its trials, and what became of each. It is all that a resumed sweep needs.

<sweep>/sweep.json           the settings, the task's configuration and the space
        trials/000/          a run folder
        trials/000.json      its point, status and reason
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pipelines.runtime.run_folder import write_json
from pipelines.runtime.stored import Count, damaged, read_figures, read_json
from pipelines.tuning.space import Point

Status = Literal["waiting", "running", "complete", "pruned", "failed"]
WAITING: Final = "waiting"
RUNNING: Final = "running"
COMPLETE: Final = "complete"
PRUNED: Final = "pruned"
FAILED: Final = "failed"
ENDED = (COMPLETE, PRUNED, FAILED)
Row = dict[str, float]
"""One epoch of a trial, as metrics.csv has it."""


@dataclass
class Trial:
    """One training of a sweep.

    Attributes:
        number: from 0.
        point: what sets it apart.
        status: what became of it so far.
        reason: why it failed, or what became of it on the way; one sentence.
        starts: how often it was started.
    """

    number: Count
    point: Point
    status: Status = WAITING
    reason: str = ""
    starts: Count = 0


class Ledger:
    """Read and write a sweep's folder; each file whole or not there.

    Args:
        folder: the sweep's.

    Raises:
        InputError: a file of it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted((folder / "trials").glob("*.json"))
        self.trials = {trial.number: trial for trial in map(self._read, paths)}

    def _read(self, path: Path) -> Trial:
        trial = read_json(path, Trial)
        if path.stem != f"{trial.number:03d}":
            raise damaged(path, f"it is of trial {trial.number}")
        return trial

    def run_folder(self, number: int) -> Path:
        """A trial's run folder."""
        return trial_folder(self.folder, number)

    def write(self, trial: Trial) -> None:
        """Keep what is known of a trial."""
        self.trials[trial.number] = trial
        path = self.run_folder(trial.number).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(trial))

    def rows(self, number: int) -> list[Row]:
        """A trial's epochs so far."""
        return read_rows(self.run_folder(number))

    def is_finished(self, number: int) -> bool:
        """Whether the trial was trained and measured to its end."""
        return (self.run_folder(number) / "summary.json").is_file()

    def __iter__(self) -> Iterator[Trial]:
        """By number."""
        return iter(sorted(self.trials.values(), key=lambda trial: trial.number))


def trial_folder(sweep: Path, number: int) -> Path:
    """The run folder of a trial of the sweep in this folder."""
    return sweep / "trials" / f"{number:03d}"


def trial_name(number: int, trial_id: str) -> str:
    """A trial's name, as Ray knows it."""
    return f"{number:03d}-{trial_id}"


def number_of(name: str) -> int:
    """The number of the trial that Ray knows by this name."""
    return int(name.partition("-")[0])


def read_rows(folder: Path) -> list[Row]:
    """The finite figures in a run folder's metrics.csv, a row for each epoch; none where there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "metrics.csv"
    rows = read_figures(path) if path.exists() else []
    return [{key: float(value) for key, value in row.items() if math.isfinite(float(value or "nan"))} for row in rows]
