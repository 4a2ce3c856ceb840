"""Phase margins: how clear the choice of the phase is, of any network that chooses one."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pipelines.measuring.rows import Row
from pipelines.runtime.nested import Value

TIE = 1e-12  # scores are float64 sums; equal ones differ by rounding, 1e-15, and distinct ones by 2e-7 or more
NEAREST = 5  # inputs named as nearest to a tie


class CollectedMargins:
    """The margins of all runs, taken from the rows in one pass."""

    def __init__(self) -> None:
        self._margins: dict[tuple[str, int], array[float]] = defaultdict(lambda: array("d"))

    def add(self, run: str, row: Row) -> None:
        """Take from a row what is needed of it."""
        if row.protocol == "margins":
            self._margins[run, _level(row)].append(float(row.value))

    def margins(self, run: str, level: int) -> np.ndarray:
        """The margins of a run at a level, from 1; zero for a tie."""
        values = np.array(self._margins.get((run, level), ()))
        return np.where(values > TIE, values, 0.0)


def summarise_margins(rows: Sequence[Row]) -> dict[str, Value]:
    """Smallest and median margin of each level, and the slices nearest to a tie."""
    levels = sorted(set(map(_level, rows)))
    values = {level: [float(row.value) for row in rows if _level(row) == level] for level in levels}
    nearest = sorted(rows, key=lambda row: float(row.value))[:NEAREST]
    return {
        "levels": [{"min": min(found), "median": float(np.median(found))} for found in values.values()],
        "n_ties": len({(row.volume, row.slice) for row in rows if row.status == "tie"}),
        "nearest": [
            {
                "volume": row.volume,
                "slice": int(row.slice),
                "level": _level(row),
                "margin": float(row.value),
            }
            for row in nearest
        ],
    }


def _level(row: Row) -> int:
    """Of the metric "margin_<level>"."""
    return int(row.metric.rpartition("_")[2])
