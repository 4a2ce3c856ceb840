"""Plots of a sweep: every trial a line or a mark in the colour of what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipelines.reports.drawing import QUIET, RULE, TEXT, as_svg, colour, log_axis, marker, new_axes, page_style
from pipelines.reports.page import COLOURS
from pipelines.reports.tables import small
from pipelines.runtime.nested import Value

MISSING = -0.14  # where a trial passes an axis that does not apply to it
STRONG = 1.8  # width of the best trial's line


class Axis(NamedTuple):
    """What one axis shows.

    Attributes:
        title: its name.
        values: by trial; None where it does not apply.
        logarithmic: whether in decades; positive numbers only.
        words: the choices in their order; empty for numbers.
    """

    title: str
    values: Sequence[Value]
    logarithmic: bool = False
    words: Sequence[str] = ()

    def places(self) -> list[float | None]:
        """Each value's place on the axis, from 0 to 1; a single value lies in the middle."""
        if self.words:
            n = len(self.words)
            return [None if v is None else (self.words.index(v) + 0.5) / n for v in self.values]
        numbers = [None if v is None else (math.log10(v) if self.logarithmic else float(v)) for v in self.values]
        some = [v for v in numbers if v is not None]
        low, high = (min(some), max(some)) if some else (0.0, 0.0)
        return [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in numbers]

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels: the choices, or the two ends."""
        if self.words:
            return [((i + 0.5) / len(self.words), word) for i, word in enumerate(self.words)]
        some = [v for v in self.values if v is not None]
        if not some:
            return []
        low, high = min(some), max(some)
        return [(0.0, _number(low)), (1.0, _number(high))] if high > low else [(0.5, _number(low))]


def parallel_coordinates(name: str, axes_of: Sequence[Axis], series: Sequence[int], best: int | None) -> str:
    """All trials as lines through their settings to the objective, which is the last axis.

    Args:
        name: of the drawing.
        axes_of: from left to right.
        series: by trial, its colour.
        best: which trial is drawn on top and thicker.
    """
    with page_style():
        figure, axes = new_axes(max(5.0, 1.5 * len(axes_of)), 3.4)
        places = [axis.places() for axis in axes_of]
        for x, axis in enumerate(axes_of):
            axes.axvline(x, color=RULE, lw=1)
            for place, label in axis.ticks():
                axes.annotate(
                    label, (x, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=QUIET
                )
        for trial in sorted(range(len(series)), key=lambda trial: trial == best):
            at = [column[trial] for column in places]
            line = [MISSING if place is None else place for place in at]
            strong = trial == best
            axes.plot(range(len(line)), line, color=colour(series[trial]), lw=STRONG if strong else 1,
                      alpha=1 if strong else 0.65, solid_joinstyle="round")  # fmt: skip
        axes.set_xticks(range(len(axes_of)), [axis.title.replace(".", ".\n", 1) for axis in axes_of])
        axes.tick_params(axis="x", length=0, labelcolor=TEXT)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_xlim(-0.1, len(axes_of) - 1 + 0.35)
        axes.set_ylim(MISSING - 0.06 if any(None in column for column in places) else -0.06, 1.06)
        return as_svg(name, figure)


def against_parameter(name: str, axis: Axis, values: Sequence[float], series: Sequence[int], label: str) -> str:
    """The objective of each trial against one of its settings.

    Args:
        name: of the drawing.
        axis: the setting; trials to which it does not apply are left out.
        values: the objective, by trial.
        series: by trial, its colour and mark.
        label: of the objective.
    """
    with page_style():
        figure, axes = new_axes(4.4, 2.7)
        shown = [trial for trial, value in enumerate(axis.values) if value is not None]
        if axis.words:
            place: Callable[[Value], float] = axis.words.index
            axes.set_xticks(range(len(axis.words)), axis.words)
            axes.set_xlim(-0.5, len(axis.words) - 0.5)
        elif axis.logarithmic:
            place = log_axis(axes, "x", [axis.values[trial] for trial in shown])
        else:
            place = float
        for trial in shown:
            axes.plot(
                place(axis.values[trial]), values[trial], lw=0, color=colour(series[trial]), **marker(series[trial])
            )
        axes.set_xlabel(axis.title)
        axes.set_ylabel(label)
        axes.grid(axis="y")
        return as_svg(name, figure)


def learning_curves(
    name: str,
    lines: Sequence[Sequence[tuple[float, float]]],
    series: Sequence[int],
    pruned: Sequence[bool],
    best: int | None,
    label: str,
    logarithmic: bool = False,
) -> str:
    """The objective against the epoch, a line for each trial; a cross where it was pruned.

    Args:
        name: of the drawing.
        lines: by trial, (epoch, value).
        series: by trial, its colour.
        pruned: by trial.
        best: which trial is drawn on top and thicker.
        label: of the values.
        logarithmic: their axis; then zero is "exact".
    """
    with page_style():
        figure, axes = new_axes(6.4, 3.2)
        place = log_axis(axes, "y", [v for line in lines for _, v in line]) if logarithmic else float
        for trial in sorted(range(len(lines)), key=lambda trial: trial == best):
            if not lines[trial]:
                continue
            epochs, values = zip(*lines[trial], strict=True)
            heights, strong, own = list(map(place, values)), trial == best, colour(series[trial])
            axes.plot(epochs, heights, color=own, lw=STRONG if strong else 1, alpha=1 if strong else 0.7)
            mark = "x" if pruned[trial] else "o"
            axes.plot(epochs[-1], heights[-1], mark, color=own, markersize=5 if pruned[trial] else 3.5, clip_on=False)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="y")
        return as_svg(name, figure)


def pareto_front(
    name: str,
    points: Sequence[tuple[float, float]],
    series: Sequence[int],
    front: Sequence[int],
    labels: tuple[str, str],
    logarithmic: tuple[bool, bool] = (False, False),
) -> str:
    """Two objectives of each trial; those that no other trial beats in both are joined.

    Args:
        name: of the drawing.
        points: by trial.
        series: by trial, its colour and mark.
        front: which trials.
        labels: of the axes.
        logarithmic: which axes are; then zero is "exact".
    """
    with page_style():
        figure, axes = new_axes(5.4, 3.4)
        place = [
            log_axis(axes, which, [point[i] for point in points]) if logarithmic[i] else float
            for i, which in enumerate("xy")
        ]
        at = [(place[0](x), place[1](y)) for x, y in points]
        joined = sorted(at[trial] for trial in front)
        if joined:
            axes.plot(*zip(*joined, strict=True), color=COLOURS[1][0], lw=1.2, zorder=1)
        for trial, (x, y) in enumerate(at):
            axes.plot(x, y, lw=0, color=colour(series[trial]), zorder=2, **marker(series[trial]))
        _label(axes, labels)
        return as_svg(name, figure)


def _number(value: float) -> str:
    return small(value) if 0 < abs(value) < 0.01 else f"{round(value, 3):g}"


def _label(axes: Axes, labels: tuple[str, str]) -> None:
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid()
