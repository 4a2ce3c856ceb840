"""What an evaluation of reconstructions found: its rows, collected in one pass, and examples to look at."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_prep import OUTSIDE
from pipelines.measuring.margins import CollectedMargins
from pipelines.measuring.rows import Row
from pipelines.reports.facts import Findings

NAMES = {
    "plain": "test images",
    "equivariance": "test images",
    "shift": "test images, shifted",
    "all-phases": "test images, every phase",
    "flip-vertical": "flipped vertically",
    "flip-horizontal": "flipped horizontally",
} | OUTSIDE
NOT_CIRCULAR = ("any-shift", "physical-shift", "realistic-shift")


class ShiftedSlice(NamedTuple):
    """One slice under one circular shift.

    Attributes:
        volume: its file.
        slice: its number there.
        shift: down and right in pixels.
    """

    volume: str
    slice: int
    shift: tuple[int, int]


@dataclass(frozen=True)
class Example:
    """One slice to look at; all images ``(rows, columns)`` in the file's units.

    Attributes:
        volume: its file.
        slice: its number there.
        image: the input itself, as an image.
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
        shifts: ``(n, 2)``, down and right in pixels.
    """

    values: np.ndarray
    shifts: np.ndarray


class Collected(CollectedMargins):
    """What the figures need of the rows, taken from them in one pass: 16 bytes of each row that is drawn.

    Attributes:
        worst: where the largest NMSE_eq of any run is; None where all outputs are identical.
    """

    def __init__(self, rows: Iterable[tuple[str, Row]] = ()) -> None:
        super().__init__()
        self.worst: ShiftedSlice | None = None
        self._largest = 0.0
        self._values: dict[tuple[str, str, str], tuple[array[float], array[float]]] = defaultdict(
            lambda: (array("d"), array("f"))
        )
        self._images: dict[tuple[str, str], dict[tuple[str, int | str], float]] = defaultdict(dict)
        for run, row in rows:
            self.add(run, row)

    def add(self, run: str, row: Row) -> None:
        """Take from a row what is needed of it."""
        if row.protocol == "margins":
            super().add(run, row)
        elif row.protocol == "plain":
            if row.metric in ("psnr", "ssim"):
                self._images[run, row.metric][row.volume, row.slice] = float(row.value)
        elif row.metric.startswith("nmse_eq") or (
            row.protocol == "equivariance" and row.metric in ("dpsnr", "psnr_eq")
        ):
            self._add_case(run, row)

    def _add_case(self, run: str, row: Row) -> None:
        if row.status == "tie" or (row.value == "" and row.status != "exact"):
            return
        value = math.inf if row.value == "" else float(row.value)
        values, shifts = self._values[run, row.protocol, row.metric]
        values.append(value)
        shifts.extend((float(row.shift_y), float(row.shift_x)))
        if row.protocol == "equivariance" and row.metric == "nmse_eq" and value > self._largest:
            self._largest = value
            self.worst = ShiftedSlice(row.volume, int(row.slice), (int(row.shift_y), int(row.shift_x)))

    def cases(self, run: str, protocol: str, metric: str) -> Cases:
        """The cases of NMSE_eq, and of dPSNR and PSNR_eq under drawn shifts."""
        values, shifts = self._values.get((run, protocol, metric), (array("d"), array("f")))
        return Cases(np.array(values), np.array(shifts).reshape(-1, 2))

    def by_image(self, run: str, metric: str) -> Mapping[tuple[str, int | str], float]:
        """The PSNR or SSIM of each volume, or image, by its name and slice ("" for a volume's)."""
        return self._images.get((run, metric), {})


@dataclass(frozen=True)
class ReconstructionFindings(Findings[Collected]):
    """The measurements of some runs that reconstruct."""

    def circular(self) -> list[str]:
        """The protocols that compare under circular shifts, where a network can be exact."""
        return [protocol for protocol in self.protocols("n_cases") if protocol not in NOT_CIRCULAR]

    def measured_baselines(self) -> list[str]:
        """The baselines that were measured."""
        return [name for name in self.baselines if self.having(name, "psnr")]

    @property
    def cases_of_quality(self) -> str:
        """What a mean of quality is taken over, in words: volumes, or images."""
        cases = (case for series in self.series for case in self.rows.by_image(series.name, "psnr"))
        return "images" if any(number != "" for _, number in cases) else "volumes"

    def wants_quality(self) -> bool:
        """Whether the quality of the test images was to be measured, as far as is known."""
        return self.wanted is None or "plain" in self.wanted


def protocol_name(protocol: str) -> str:
    """What the network was given, in words."""
    return NAMES.get(protocol, protocol.replace("-", " "))
