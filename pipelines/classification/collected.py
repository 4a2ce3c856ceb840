"""What a classifier's report needs of the rows, collected in one pass."""

from __future__ import annotations

from array import array
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from pipelines.measuring.margins import CollectedMargins
from pipelines.measuring.rows import Row

CHANGES = 200  # remembered of each run, to choose examples from


class Change(NamedTuple):
    """A circular shift that changed an answer.

    Attributes:
        number: the image's place in the split.
        label: its class.
        shift: down and right in pixels.
        before: the number of the class that f(x) names.
        after: that f(T x) names.
    """

    number: int
    label: str
    shift: tuple[int, int]
    before: int
    after: int


class CollectedAnswers(CollectedMargins):
    """Beside the margins: what shifts did to the answers, by their distance.

    Attributes:
        changes: by run, the first shifts that changed an answer; ties left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, list[Change]] = defaultdict(list)
        self._distances: dict[tuple[str, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * 3))
        self._logits: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("d"))
        self._answer = -1

    def add(self, run: str, row: Row) -> None:
        """Take from a row what is needed of it; an image's row without a shift comes before those with one."""
        if row.protocol == "margins":
            super().add(run, row)
        elif row.shift_y == "":
            if row.metric == "predicted":
                self._answer = int(row.value)
        elif row.status != "tie":
            self._add_shifted(run, row)

    def _add_shifted(self, run: str, row: Row) -> None:
        if row.metric == "logit_change":
            self._logits[run, row.protocol].append(float(row.value))
            return
        if row.metric not in ("predicted", "correct"):
            return
        shift = int(row.shift_y), int(row.shift_x)
        counts = self._distances[run, row.protocol][round(float(np.hypot(*shift)))]
        if row.metric == "correct":
            counts[1] += int(row.value)
            return
        same = int(row.value) == self._answer
        counts[0] += same
        counts[2] += 1
        if not same and row.protocol == "circular-shift" and len(self.changes[run]) < CHANGES:
            self.changes[run].append(Change(int(row.slice), row.volume, shift, self._answer, int(row.value)))

    def by_distance(self, run: str, protocol: str) -> list[tuple[int, float, float]]:
        """(distance in pixels, share of answers that stayed f(x)'s, share of right answers), by distance."""
        found = self._distances.get((run, protocol), {})
        return [(d, same / n, correct / n) for d, (same, correct, n) in sorted(found.items())]

    def logit_changes(self, run: str, protocol: str) -> list[float]:
        """Relative, of all shifts."""
        return self._logits.get((run, protocol), array("d")).tolist()
