"""What an evaluation found: its summaries and rows, and how to look something up in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.qualities import BASELINES, Row
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


@dataclass(frozen=True)
class Evaluation:
    """The measurements of some runs.

    Attributes:
        series: the runs.
        summaries: by run, what :func:`pipelines.summary.summarise` gives, and "data".
        rows: by run, protocol and metric.
    """

    series: Sequence[Series]
    summaries: Mapping[str, Mapping[str, Any]]
    rows: Mapping[tuple[str, str, str], Sequence[Row]]

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

    def cases(self, run: str, protocol: str, metric: str) -> Iterator[tuple[Row, float]]:
        """The rows of a metric and their values, without ties and without what has no value."""
        for row in self.rows.get((run, protocol, metric), ()):
            if row.status != "tie" and row.value != "":
                yield row, float(row.value)

    def baselines(self) -> list[str]:
        """The baselines that were measured."""
        return [name for name in BASELINES if self.having(name, "psnr")]

    @property
    def cases_of_quality(self) -> str:
        """What a mean of quality is taken over, in words: each image in CT, each volume in MRI."""
        return "images" if self.having("fbp") else "volumes"

    def same_data(self) -> bool:
        """Whether all runs were measured on the same data."""
        return len({summary.get("data") for summary in self.summaries.values()}) < 2


def protocol_name(protocol: str) -> str:
    """What the network was given, in words."""
    return NAMES.get(protocol, protocol.replace("-", " "))


def all_exact(part: Mapping[str, Any]) -> bool:
    """Whether all outputs of a protocol are equal bit for bit, ties aside."""
    return 0 < part.get("n_exact", 0) == part["n_cases"] - part["n_ties"]


def only_ties(part: Mapping[str, Any]) -> bool:
    """Whether a protocol met nothing but ties."""
    return part.get("n_cases") is not None and part["n_cases"] == part["n_ties"]


def is_whole(row: Row) -> bool:
    """Whether the shift is by whole pixels."""
    return float(row.shift_y).is_integer() and float(row.shift_x).is_integer()
