"""Slices side by side: input, target, each reconstruction, its error, and what a shift changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.reconstruction.collected import Example, ReconstructionFindings
from pipelines.reports import figures
from pipelines.reports.page import Figure, Image, Panel, Section
from pipelines.reports.tables import error


def pictures(findings: ReconstructionFindings, examples: Sequence[Example]) -> Section:
    """A figure for each example."""
    if not examples:
        return Section("Pictures", "", [])
    text = "Below each reconstruction: its error, and f(T x) - T f(x), what a circular shift T of the input changes."
    places = [(example.volume, example.slice, example.shift) for example in examples]
    drawn = []
    for i, example in enumerate(examples):
        owners = f" The input of {', '.join(example.reconstructions)}." if places.count(places[i]) > 1 else ""
        drawn.append(_figure(findings, i, example, owners))
    return Section("Pictures", text, drawn)


def _figure(findings: ReconstructionFindings, place: int, example: Example, owners: str) -> Figure:
    shown = example.image if example.target is None else example.target
    top = float(np.percentile(shown, 99.8))
    images = example.reconstructions.values() or [example.image]
    error_size = 0.0 if example.target is None else _scale(image - example.target for image in images)
    shift_size = _scale(example.shift_differences.values())

    panels = [Panel([Image(figures.image_png(shown, top), "Target", "")], "Target")]
    panels = panels[: example.target is not None]
    panels.append(Panel(_with_error(example, "Input", example.image, top, error_size), "Input"))
    for series in findings.series:
        if series.name in example.reconstructions:
            column = _with_error(example, series.name, example.reconstructions[series.name], top, error_size)
            panels.append(Panel(column + _shift_difference(example, series.name, shift_size), series=series))
    scales = [
        Image(figures.difference_bar(f"{name}-{place}", size, f"{label} (file's units)"), f"Colours of {label}")
        for name, size, label in (("error", error_size, "error"), ("shift", shift_size, "f(T x) - T f(x)"))
        if size
    ]
    place_of = f"{example.volume}, slice {example.slice}; T shifts by {example.shift} pixels."
    caption = f"{place_of}{owners} One scale for each kind of image; what is beyond it saturates."
    return Figure(panels, caption, scales=scales, size="picture")


def _scale(images: Iterable[np.ndarray]) -> float:
    """What all but one pixel in a thousand stay below in size; 0 where all are zero everywhere."""
    sizes = [np.abs(image) for image in images]
    common = max((float(np.percentile(size, 99.9)) for size in sizes), default=0.0)
    return common or max((float(size.max()) for size in sizes), default=0.0)


def _with_error(example: Example, name: str, image: np.ndarray, top: float, size: float) -> list[Image]:
    grey = figures.image_png(image, top)
    if example.target is None:
        return [Image(grey, f"{name}: image")]
    difference = np.subtract(image, example.target, dtype=np.float64)
    mean_square = float(np.mean(difference**2))
    label = f"PSNR {10 * math.log10(example.data_range**2 / mean_square):.2f} dB" if mean_square else "exact"
    png = figures.difference_png(difference, size)
    return [Image(grey, f"{name}: image, {label}", label), Image(png, f"{name}: error against the target", "error")]


def _shift_difference(example: Example, name: str, size: float) -> list[Image]:
    if name not in example.shift_differences:
        return []
    difference = np.asarray(example.shift_differences[name], dtype=np.float64)
    reference = float(np.square(example.reconstructions[name], dtype=np.float64).sum())  # T keeps the sum
    size_of = float(np.square(difference).sum())
    label = "shift: exact" if not size_of else f"NMSE_eq {error(size_of / reference)}" if reference else ""
    return [Image(figures.difference_png(difference, size), f"{name}: f(T x) - T f(x), {label}", label)]
