"""What an evaluation found: its summaries and rows, and how to look something up in them."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipelines.reconstruction.qualities import BASELINES, Row
from pipelines.reports.page import Series

NAMES = {
    "plain": "test images",
    "equivariance": "test images",
    "shift": "test images, shifted",
    "all-phases": "test images, every phase",
    "flip-vertical": "flipped vertically",
    "flip-horizontal": "flipped horizontally",
    "white-noise": "white noise",
    "natural": "natural images",
    "chest-ct": "chest CT",
}
NOT_CIRCULAR = ("physical-shift", "realistic-shift")
NOT_THE_DATA = ("batch_size", "n_workers", "max_shift")  # keys of "dataset" that no evaluation depends on

Place = tuple[str, int, tuple[int, int]]
"""Volume, slice and shift."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run beside its measurements.

    Attributes:
        name: as in the summaries.
        config: its settings, nested as in config.yaml.
        curves: the rows of its metrics.csv, which may be none.
        data: on what data it was measured.
        environment: of its training, as in environment.json; may be empty.
    """

    name: str
    config: Mapping[str, Any]
    curves: Sequence[Mapping[str, str]]
    data: str
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """One slice to look at; all images ``(rows, columns)`` in the file's units.

    Attributes:
        volume: its file.
        slice: its number there.
        image: the input, zero-filled (MRI) or the filtered back-projection (CT).
        target: the ground truth, or None.
        data_range: R of the volume.
        shift: T, down and right in pixels.
        reconstructions: by run, f(x).
        shift_differences: by run, f(T x) - T f(x).
    """

    volume: str
    slice: int
    image: np.ndarray
    target: np.ndarray | None
    data_range: float
    shift: tuple[int, int]
    reconstructions: Mapping[str, np.ndarray]
    shift_differences: Mapping[str, np.ndarray]


class Cases(NamedTuple):
    """One metric of one run and protocol: the cases that have a value and are no ties.

    Attributes:
        values: ``(n,)``; infinite for PSNR_eq of identical outputs.
        shifts: ``(n, 2)``, down and right in pixels; nan where nothing was shifted.
    """

    values: np.ndarray
    shifts: np.ndarray


class Collected:
    """What the figures need of the rows, taken from them in one pass: 16 bytes of each row that is drawn.

    Attributes:
        worst: the place of the largest NMSE_eq of any run; None where all outputs are identical.
    """

    def __init__(self, rows: Iterable[tuple[str, Row]] = ()) -> None:
        self.worst: Place | None = None
        self._largest = 0.0
        self._values: dict[tuple[str, str, str], tuple[array[float], array[float]]] = defaultdict(
            lambda: (array("d"), array("f"))
        )
        self._images: dict[tuple[str, str], dict[tuple[str, int | str], float]] = defaultdict(dict)
        for run, row in rows:
            self.add(run, row)

    def add(self, run: str, row: Row) -> None:
        """Take from a row what is needed of it."""
        if row.protocol == "plain":
            if row.metric in ("psnr", "ssim"):
                self._images[run, row.metric][row.volume, row.slice] = float(row.value)
        elif row.metric.startswith(("nmse_eq", "margin_")) or (
            row.protocol == "equivariance" and row.metric in ("dpsnr", "psnr_eq")
        ):
            self._add_case(run, row)

    def _add_case(self, run: str, row: Row) -> None:
        is_margin = row.protocol == "margins"
        if (row.status == "tie" and not is_margin) or (row.value == "" and row.status != "exact"):
            return
        value = math.inf if row.value == "" else float(row.value)
        values, shifts = self._values[run, row.protocol, row.metric]
        values.append(value)
        shifts.extend((math.nan, math.nan) if is_margin else (float(row.shift_y), float(row.shift_x)))
        if row.protocol == "equivariance" and row.metric == "nmse_eq" and value > self._largest:
            self._largest = value
            self.worst = row.volume, int(row.slice), (int(row.shift_y), int(row.shift_x))

    def cases(self, run: str, protocol: str, metric: str) -> Cases:
        """The cases of NMSE_eq, of a margin, and of dPSNR and PSNR_eq under drawn shifts."""
        values, shifts = self._values.get((run, protocol, metric), (array("d"), array("f")))
        return Cases(np.array(values), np.array(shifts).reshape(-1, 2))

    def by_image(self, run: str, metric: str) -> Mapping[tuple[str, int | str], float]:
        """The PSNR or SSIM of each volume (MRI) or image (CT), by its name and slice."""
        return self._images.get((run, metric), {})


@dataclass(frozen=True)
class Findings:
    """The measurements of some runs.

    Attributes:
        runs: what is known of them beside.
        summaries: by run, what :func:`pipelines.reconstruction.summary.summarise` gives, and "data".
        rows: what the figures need of them.
        wanted: the protocols that were asked for; None where that is not known.
    """

    runs: Sequence[RunFacts]
    summaries: Mapping[str, Mapping[str, Any]]
    rows: Collected
    wanted: Sequence[str] | None = None

    @property
    def series(self) -> list[Series]:
        """The runs, by number."""
        return [Series(run.name, number) for number, run in enumerate(self.runs)]

    def get(self, run: str, *path: str) -> Any:
        """What stands in a run's summary under these keys, or None."""
        found: Any = self.summaries[run]
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

    def circular(self) -> list[str]:
        """The protocols that compare under circular shifts, where a network can be exact."""
        return [protocol for protocol in self.protocols("n_cases") if protocol not in NOT_CIRCULAR]

    def baselines(self) -> list[str]:
        """The baselines that were measured."""
        return [name for name in BASELINES if self.having(name, "psnr")]

    @property
    def cases_of_quality(self) -> str:
        """What a mean of quality is taken over, in words: each image in CT, each volume in MRI."""
        return "images" if self.having("fbp") else "volumes"

    def wants_quality(self) -> bool:
        """Whether the quality of the test images was to be measured, as far as is known."""
        return self.wanted is None or "plain" in self.wanted

    def same_data(self) -> bool:
        """Whether all runs were measured on the same inputs: by their settings, and by what the baselines gave."""
        return len({json.dumps(self._data(run), sort_keys=True, default=str) for run in self.runs}) < 2

    def _data(self, run: RunFacts) -> list[Any]:
        dataset = {key: value for key, value in run.config.get("dataset", {}).items() if key not in NOT_THE_DATA}
        folder, evaluation = run.config.get("data"), run.config.get("evaluation", {})
        return [
            run.config.get("task"),
            os.path.normpath(folder) if folder else folder,
            dataset,
            evaluation.get("split"),
            [self.get(run.name, baseline) for baseline in BASELINES],
        ]

    def shaded(self, what: str) -> str:
        """What the shade of a table's cells means, for its caption; nothing where no runs compare."""
        return f" Shaded: {what}." if len(self.runs) > 1 and self.same_data() else ""


def protocol_name(protocol: str) -> str:
    """What the network was given, in words."""
    return NAMES.get(protocol, protocol.replace("-", " "))
