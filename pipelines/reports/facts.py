"""What an evaluation found: its summaries and rows, and how to look something up in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from pipelines.measuring.kind import RunFacts
from pipelines.reports.page import Series
from pipelines.runtime.nested import Tree, Value

NOT_THE_DATA = ("batch_size", "n_workers", "max_shift")  # keys of "dataset" that no evaluation depends on


class Margins(Protocol):
    """What every kind collects of its rows."""

    def margins(self, run: str, level: int) -> np.ndarray:
        """The phase margins of a run at a level, from 1; zero for a tie."""


Rows = TypeVar("Rows", bound=Margins, covariant=True)


@dataclass(frozen=True)
class Findings(Generic[Rows]):
    """The measurements of some runs.

    Attributes:
        runs: what is known of them beside.
        summaries: by run, what the kind's ``summarise`` gives, and "data".
        rows: what the figures need of them.
        wanted: the protocols that were asked for; None where that is not known.
        baselines: what the kind has that needs no training: its key in a summary, and its name.
    """

    runs: Sequence[RunFacts]
    summaries: Mapping[str, Tree]
    rows: Rows
    wanted: Sequence[str] | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)

    @property
    def series(self) -> list[Series]:
        """The runs, by number."""
        return [Series(run.name, number) for number, run in enumerate(self.runs)]

    def get(self, run: str, *path: str) -> Value:
        """What stands in a run's summary under these keys, or None."""
        found: Value = self.summaries[run]
        for key in path:
            if isinstance(found, list):
                found = found[int(key)] if int(key) < len(found) else None
            elif isinstance(found, Mapping):
                found = found.get(key)
            else:
                return None
        return found

    def having(self, *path: str) -> list[Series]:
        """The runs whose summary has it."""
        return [series for series in self.series if self.get(series.name, *path) is not None]

    def protocols(self, key: str) -> list[str]:
        """The protocols that gave any run a value of that name, in order."""
        parts = ((name, part) for summary in self.summaries.values() for name, part in summary.items())
        return list(dict.fromkeys(name for name, part in parts if isinstance(part, Mapping) and key in part))

    def same_data(self) -> bool:
        """Whether all runs were measured on the same inputs: by their settings, and by what the baselines gave."""
        return len({json.dumps(self._data(run), sort_keys=True, default=str) for run in self.runs}) < 2

    def _data(self, run: RunFacts) -> list[Value]:
        dataset = {key: value for key, value in run.config.get("dataset", {}).items() if key not in NOT_THE_DATA}
        folder, evaluation = run.config.get("data"), run.config.get("evaluation", {})
        return [
            run.config.get("task"),
            os.path.normpath(folder) if folder else folder,
            dataset,
            evaluation.get("split"),
            [self.get(run.name, baseline) for baseline in self.baselines],
        ]

    def shaded(self, what: str) -> str:
        """What the shade of a table's cells means, for its caption; nothing where no runs compare."""
        return f" Shaded: {what}." if len(self.runs) > 1 and self.same_data() else ""
