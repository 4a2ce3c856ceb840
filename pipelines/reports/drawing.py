"""What every plot of a report shares: its style, colours and marks, an axis in decades, and its SVG.

Series are numbered as in :class:`pipelines.reports.page.Series`. The same data give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypedDict

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.reports.page import COLOURS, mark
from pipelines.reports.svg import for_a_page

TEXT, QUIET, RULE = "#010203", "#010204", "#010205"  # stand for the page's own
EXACT = "#56b4e9"
MARKERS = "os^DvP"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_OF_THE_PAGE = {TEXT: "currentColor", QUIET: "var(--quiet, #666)", RULE: "var(--rule, #ccc)"} | {
    light: f"var(--series-{number}, {light})" for number, (light, _) in enumerate(COLOURS, 1)
}


class Marker(TypedDict):
    """How matplotlib draws a mark."""

    marker: str
    markersize: float
    markeredgewidth: float


def page_style() -> AbstractContextManager[None]:
    """While it is entered, plots are drawn for the page: its text sizes, and colours that stand for its own."""
    return matplotlib.rc_context({
        "font.size": 9.5, "axes.titlesize": 9.5, "axes.labelsize": 9.5, "xtick.labelsize": 9, "ytick.labelsize": 9,
        "text.color": TEXT, "axes.labelcolor": QUIET, "xtick.labelcolor": QUIET, "ytick.labelcolor": QUIET,
        "axes.edgecolor": RULE, "xtick.color": RULE, "ytick.color": RULE, "grid.color": RULE, "grid.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
        "axes.axisbelow": True, "text.parse_math": False, "axes.formatter.use_mathtext": False, "svg.fonttype": "none",
    })  # fmt: skip


def log_scale(values: Sequence[float]) -> tuple[float, float]:
    """Whole decades around the values above zero."""
    positive = [math.log10(value) for value in values if value > 0] or [-16.0, -15.0]
    low, high = math.floor(min(positive)), math.ceil(max(positive))
    return 10.0**low, 10.0 ** max(high, low + 1)


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def colour(number: int) -> str:
    """The colour of a series; the page puts its own in its place."""
    return COLOURS[number % len(COLOURS)][0]


def marker(number: int) -> Marker:
    """The mark of a series."""
    return {"marker": MARKERS[mark(number)], "markersize": 4.5, "markeredgewidth": 0}


def log_axis(axes: Axes, which: str, values: Sequence[float], zero: str = "exact") -> Callable[[float], float]:
    """Prepare an axis in decades; gives the function from a value to its place."""
    positive, has_zero = [value for value in values if value > 0], 0 in values
    low, high = map(math.log10, log_scale(positive))
    floor = low - (0.16 if which == "x" else 0.11) * (high - low)
    if not positive:
        low = high = floor
    decades(axes, which, low, high, floor if has_zero else None, zero)
    margin = 0.03 * (high - floor or 1)
    limits = ((floor if has_zero else low) - margin, high + (margin if positive else 9 * margin))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)
    if has_zero:
        span = axes.axvspan if which == "x" else axes.axhspan
        span(floor - margin, floor + margin, color=EXACT, alpha=0.22, lw=0)
    return lambda value: math.log10(value) if value > 0 else floor


def decades(axes: Axes, which: str, low: float, high: float, floor: float | None, zero: str = "exact") -> None:
    """Whole powers of ten between two exponents as the ticks of an axis, and one at ``floor`` for zero."""
    step = max(1, math.ceil((high - low) / 6))
    ticks = list(range(round(high), round(low) - 1, -step))[::-1] if high > low else []
    labels = ["1" if tick == 0 else "10" + str(tick).translate(_SUPERSCRIPT) for tick in ticks]
    if floor is not None:
        ticks, labels = [floor, *ticks], [zero, *labels]  # type: ignore[list-item]
    (axes.set_xticks if which == "x" else axes.set_yticks)(ticks, labels)


def as_svg(name: str, figure: Figure) -> str:
    """The drawing as an element for inside a page.

    Args:
        name: of the drawing, different from all others of the page.
        figure: what was drawn.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return for_a_page(buffer.getvalue(), name, _OF_THE_PAGE)
