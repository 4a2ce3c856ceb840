"""Folds by subject: the figures of each variant over the people that its networks were not trained on.

The runs of an evaluation are called <variant>-f<fold>-s<seed>, its volumes <name>-<subject>-<contrast>. Each person is
tested on once for each seed; the range is that of the people's means, which is what few people can tell.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from recon.errors import InputError

BASELINE = "zero-filled"
RUN = re.compile(r"(?P<variant>.+)-f\d+-s\d+")
SUBJECT = re.compile(r".*?(?P<subject>[^-]+)-(?P<contrast>[^-]+)")


class Figure(NamedTuple):
    """One number of one variant.

    Attributes:
        variant: of the network; BASELINE for the image that it gets.
        subject: the person.
        contrast: of the volume.
        metric: psnr and ssim of a volume; whole and fractional, NMSE_eq of one movement.
        value: of it.
    """

    variant: str
    subject: str
    contrast: str
    metric: str
    value: float


def read_figures(path: Path) -> Iterator[Figure]:
    """The figures in results.csv of an evaluation of the protocols plain, equivariance and any-shift.

    Raises:
        InputError: no such file, or runs and volumes that are called otherwise.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}: give the folder that recon-evaluate wrote")
    kinds = {
        ("plain", "psnr"): "psnr",
        ("plain", "ssim"): "ssim",
        ("equivariance", "nmse_eq"): "whole",
        ("any-shift", "nmse_eq"): "fractional",
    }
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            baseline = row["protocol"] == BASELINE
            metric = kinds.get(("plain" if baseline else row["protocol"], row["metric"]))
            run, volume = RUN.fullmatch(row["run"]), SUBJECT.fullmatch(row["volume"])
            if metric is None or row["value"] == "" or row["status"] == "tie":
                continue
            if run is None or volume is None:
                raise InputError(
                    f"{path}: the run {row['run']} or the volume {row['volume']} is not called as docs/measured.md "
                    "has it: <variant>-f<fold>-s<seed> and <name>-<subject>-<contrast>"
                )
            variant = BASELINE if baseline else run["variant"]
            yield Figure(variant, volume["subject"], volume["contrast"], metric, float(row["value"]))


def over_people(figures: list[Figure]) -> list[float]:
    """The mean of each person's figures, one person after the other by name."""
    by_subject: Mapping[str, list[float]] = defaultdict(list)
    for figure in figures:
        by_subject[figure.subject].append(figure.value)
    return [mean(by_subject[name]) for name in sorted(by_subject)]


def measure(folder: Path, out: Path) -> None:
    """Print the table: mean over the people and their range, PSNR of each contrast, the worst error of equivariance."""
    found: Mapping[str, list[Figure]] = defaultdict(list)
    for figure in read_figures(folder / "results.csv"):
        found[figure.variant].append(figure)
    contrasts = sorted({figure.contrast for figures in found.values() for figure in figures})
    columns = ["network", "PSNR", "range", "SSIM", *contrasts, "whole pixels, worst", "fractions, worst"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for variant in sorted(found, key=lambda name: (name != BASELINE, name)):
        by_metric: Mapping[str, list[Figure]] = defaultdict(list)
        for figure in found[variant]:
            by_metric[figure.metric].append(figure)
        people = over_people(by_metric["psnr"])
        cells = [variant, f"{mean(people):.2f} dB", f"{min(people):.2f} to {max(people):.2f}"]
        cells.append(f"{mean(over_people(by_metric['ssim'])):.3f}")
        for contrast in contrasts:
            cells.append(f"{mean(over_people([f for f in by_metric['psnr'] if f.contrast == contrast])):.2f}")
        for metric in ("whole", "fractional"):
            values = [figure.value for figure in by_metric[metric]]
            cells.append(f"{max(values):.1e}" if values else "")
        print(f"| {' | '.join(cells)} |")
