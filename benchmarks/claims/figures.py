"""Figures of trained networks, one number each: what docs/claims.csv holds and all verdicts rest on."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from data_prep import replace_file
from recon.errors import InputError

OF_SUMMARIES = {
    "psnr": ("plain", "psnr", "mean"),
    "ssim": ("plain", "ssim", "mean"),
    "baseline_psnr": ("zero-filled", "psnr", "mean"),
    "baseline_ssim": ("zero-filled", "ssim", "mean"),
    "fbp_psnr": ("fbp", "psnr", "mean"),
    "fbp_ssim": ("fbp", "ssim", "mean"),
    "shifted_psnr": ("shift", "psnr", "mean"),
    "dpsnr_mean": ("equivariance", "dpsnr_mean"),
    "dpsnr_max": ("equivariance", "dpsnr_max"),
    "psnr_eq_min": ("equivariance", "psnr_eq_min"),
    "whole_mean": ("equivariance", "nmse_eq_mean"),
    "whole_max": ("equivariance", "nmse_eq_max"),
    "fraction_mean": ("any-shift", "nmse_eq_mean"),
    "fraction_max": ("any-shift", "nmse_eq_max"),
    "noise_psnr": ("noise-0.5", "psnr", "mean"),
    "noise_mean": ("noise-0.5", "nmse_eq_mean"),
    "flip_psnr": ("flip-vertical", "psnr", "mean"),
    "flip_mean": ("flip-vertical", "nmse_eq_mean"),
    "white_mean": ("white-noise", "nmse_eq_mean"),
    "natural_mean": ("natural", "nmse_eq_mean"),
    "local_mean": ("local-change", "nmse_eq_mean"),
    "accuracy": ("plain", "accuracy"),
    "consistency": ("circular-shift", "consistency"),
    "worst_accuracy": ("circular-shift", "worst_accuracy"),
    "logit_change_max": ("circular-shift", "logit_change_max"),
    "flip_consistency": ("flip", "consistency"),
    "erase_consistency": ("erase", "consistency"),
}
"""By name, where a figure stands in what an evaluation's summary.json has of a run."""


class Figure(NamedTuple):
    """One number of one network.

    Attributes:
        sweep: of the protocol.
        variant: of the network, such as aps or stride, centred.
        unit: the person it was tested on, by the number of the fold; the sample where there are no folds.
        seed: of its weights and of its training.
        state: trained or untrained.
        metric: a key of OF_SUMMARIES.
        value: of it.
    """

    sweep: str
    variant: str
    unit: str
    seed: int
    state: str
    metric: str
    value: float


def found_in(summary: Any) -> Iterator[tuple[str, float]]:
    """Name and value of the figures that a summary holds."""
    for name, path in OF_SUMMARIES.items():
        value = summary
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            yield name, float(value)


def write_figures(path: Path, figures: Iterable[Figure]) -> None:
    """Write them to a CSV, sorted, so that the same figures are the same file."""
    with replace_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Figure._fields)
        writer.writerows(each._replace(value=f"{each.value:.6g}") for each in sorted(figures))  # type: ignore[arg-type]


def read_figures(path: Path) -> list[Figure]:
    """Read what :func:`write_figures` wrote.

    Raises:
        InputError: no such file, or another one.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}: run the protocol first, or give the CSV that it wrote")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Figure._fields:
            raise InputError(f"{path} has not the columns {', '.join(Figure._fields)}: give what the protocol wrote")
        try:
            return [_figure(row) for row in reader]
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} has a row that is no figure ({error}): give what the protocol wrote") from None


def _figure(row: dict[str, str]) -> Figure:
    sweep, variant, unit, seed, state, metric, value = (row[name] for name in Figure._fields)
    return Figure(sweep, variant, unit, int(seed), state, metric, float(value))


class Figures:
    """Figures that can be asked for.

    Args:
        figures: of any sweeps.
    """

    def __init__(self, figures: Sequence[Figure]) -> None:
        self.all = list(figures)
        self._values: dict[tuple[str, str, str, str], dict[str, dict[int, float]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for sweep, variant, unit, seed, state, metric, value in self.all:
            self._values[sweep, variant, state, metric][unit][seed] = value

    @property
    def sweeps(self) -> list[str]:
        """Their names."""
        return sorted({figure.sweep for figure in self.all})

    def variants(self, sweep: str) -> list[str]:
        """Those of a sweep."""
        return sorted({figure.variant for figure in self.all if figure.sweep == sweep})

    def by_unit(self, sweep: str, variant: str, metric: str, state: str = "trained") -> dict[str, dict[int, float]]:
        """By unit and seed; nothing where it was not measured."""
        return self._values.get((sweep, variant, state, metric), {})

    def values(self, sweep: str, variant: str, metric: str, state: str = "trained") -> list[float]:
        """Of all units and seeds."""
        return [value for seeds in self.by_unit(sweep, variant, metric, state).values() for value in seeds.values()]

    def samples(self, sweep: str, variant: str, metric: str, against: str | None = None) -> list[float]:
        """What can be taken as independent: the mean over seeds of each unit, or of a single unit each seed's value.

        Args:
            sweep: its name.
            variant: of which.
            metric: what.
            against: another variant, to give the differences, variant - against, of those units and seeds that both
                have.
        """
        found = self.by_unit(sweep, variant, metric)
        if against is not None:
            other = self.by_unit(sweep, against, metric)
            found = {
                unit: {seed: value - other[unit][seed] for seed, value in seeds.items() if seed in other[unit]}
                for unit, seeds in found.items()
                if unit in other
            }
        units = [list(seeds.values()) for _, seeds in sorted(found.items()) if seeds]
        return units[0] if len(units) == 1 else [mean(values) for values in units]
