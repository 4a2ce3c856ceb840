"""Plots as SVG that takes the page's colours, and images as PNG.

Series are numbered as in :class:`pipelines.reports.page.Series`; names stay outside the drawings. The same data give
the same bytes. On every logarithmic axis zero has a place of its own, marked "exact".
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pipelines.reports.page import COLOURS, mark

TEXT, QUIET, RULE = "#010203", "#010204", "#010205"  # stand for the page's own
EXACT = "#56b4e9"
MARKERS = "os^DvP"
HEAT = "inferno"
LOW, HIGH = to_rgba("#2166ac"), to_rgba("#d6430a")  # of signed differences, which are transparent at zero
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STYLE: Any = {
    "font.size": 9.5, "axes.titlesize": 9.5, "axes.labelsize": 9.5, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "text.color": TEXT, "axes.labelcolor": QUIET, "xtick.labelcolor": QUIET, "ytick.labelcolor": QUIET,
    "axes.edgecolor": RULE, "xtick.color": RULE, "ytick.color": RULE, "grid.color": RULE, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.axisbelow": True, "text.parse_math": False, "axes.formatter.use_mathtext": False, "svg.fonttype": "none",
}  # fmt: skip


def heat_map(name: str, cells: Mapping[tuple[int, int], float], scale: tuple[float, float]) -> str:
    """Values over the plane of shifts on a logarithmic scale; zero in the colour of "exact", no case left open.

    Args:
        name: of the drawing, different from all others of the page.
        cells: by (shift down, shift right) in pixels.
        scale: the values at the two ends of the colours, see :func:`colour_bar`.
    """
    ys, xs = (range(min(axis), max(axis) + 1) for axis in zip(*cells, strict=True))
    pixels = np.zeros((len(ys), len(xs), 4))
    low, high = map(math.log10, scale)
    for (y, x), value in cells.items():
        place = (math.log10(value) - low) / (high - low) if value else 0.0
        pixels[y - ys[0], x - xs[0]] = matplotlib.colormaps[HEAT](place) if value else to_rgba(EXACT)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(2.4, 2.3)
        extent = (xs[0] - 0.5, xs[-1] + 0.5, ys[-1] + 0.5, ys[0] - 0.5)
        axes.imshow(pixels, extent=extent, interpolation="none", aspect="equal")
        axes.spines[:].set_visible(True)
        axes.set_xlabel("shift right (pixels)")
        axes.set_ylabel("shift down (pixels)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        return _svg(name, figure)


def colour_bar(name: str, scale: tuple[float, float], label: str) -> str:
    """The colours of :func:`heat_map`, with the one of "exact" at the left."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(3.3, 0.6)
        low, high = map(math.log10, scale)
        start = low - 0.26 * (high - low)
        axes.imshow(np.linspace(0, 1, 256)[None], extent=(low, high, 0, 1), cmap=HEAT, aspect="auto")
        axes.axvspan(start, start + 0.1 * (high - low), color=EXACT, lw=0)
        axes.set_xlim(start, high)
        axes.set_ylim(0, 1)
        _decades(axes, "x", low, high, start + 0.05 * (high - low))
        return _bar(name, figure, axes, label)


def difference_bar(name: str, size: float, label: str) -> str:
    """The colours of :func:`difference_png` from -size to size."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(3.3, 0.6)
        axes.imshow(np.linspace(0, 1, 256)[None], extent=(-1, 1, 0, 1), cmap=_signed(), aspect="auto")
        axes.set_xticks([-1, 0, 1], [f"-{size:.3g}", "0", f"{size:.3g}"])
        return _bar(name, figure, axes, label)


def distance_plot(
    name: str, points: Mapping[int, Sequence[tuple[float, float | None]]], label: str, from_zero: bool = True
) -> str:
    """A value against the shift's distance: its mean at each whole distance, and its range as a band.

    Args:
        name: of the drawing.
        points: by series, (distance in pixels, value); None where the outputs are identical and the value is infinite.
        label: of the value.
        from_zero: whether its axis starts at zero.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(4.4, 2.9)
        finite = [value for some in points.values() for _, value in some if value is not None]
        bottom = 0.0 if from_zero or not finite else min(finite)
        span = (max(finite) - bottom if finite else 0) or 1.0
        top = bottom + 1.14 * span
        for number, some in points.items():
            _line_with_band(axes, number, [(round(distance), value) for distance, value in some if value is not None])
            exact = sorted({round(distance) for distance, value in some if value is None})
            axes.plot(exact, [top] * len(exact), lw=0, color=_colour(number), **_marker(number))
        axes.set_xlabel("distance of the shift (pixels)")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.set_ylim(bottom - 0.04 * span, top + 0.06 * span)
        axes.grid(axis="y")
        if any(value is None for some in points.values() for _, value in some):
            ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= bottom + 1.02 * span] if finite else []
            axes.set_yticks([*ticks, top], [*(f"{tick:g}" for tick in ticks), "exact"])
            axes.axhspan(top - 0.04 * span, top + 0.04 * span, color=EXACT, alpha=0.22, lw=0)
        return _svg(name, figure)


def spread_plot(
    name: str,
    values: Mapping[int, Mapping[str, Sequence[float]]],
    categories: Sequence[str],
    label: str,
    dot: float,
    zero: str = "exact",
) -> str:
    """How values spread, by category and series on a logarithmic axis: range, quartiles (thick) and a dot.

    Args:
        name: of the drawing.
        values: by series and category, none negative.
        categories: from the top down.
        label: of the values.
        dot: the quantile that it marks, such as 0.5, or 1 for the largest.
        zero: what zero means.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(4.4, 0.7 + max(1, len(categories)) * (0.14 + 0.11 * len(values)))
        place = _log_axis(axes, "x", [v for some in values.values() for part in some.values() for v in part], zero)
        width = 0.7 / len(values)
        for i, (number, some) in enumerate(values.items()):
            for row, category in enumerate(categories):
                if not some.get(category):
                    continue
                y = row + (i - (len(values) - 1) / 2) * width
                low, first, third, high, at = (
                    place(float(v)) for v in np.quantile(some[category], (0, 0.25, 0.75, 1, dot))
                )
                axes.plot([low, high], [y, y], lw=0.9, color=_colour(number), solid_capstyle="butt")
                axes.plot([first, third], [y, y], lw=3.2, color=_colour(number), alpha=0.45, solid_capstyle="butt")
                axes.plot(at, y, color=_colour(number), clip_on=False, **_marker(number))
        axes.set_yticks(range(len(categories)), categories)
        axes.tick_params(axis="y", length=0, labelcolor=TEXT)
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        return _svg(name, figure)


def curves(
    name: str,
    lines: Mapping[int, Sequence[tuple[float, float]]],
    label: str,
    logarithmic: bool = False,
    against: str = "epoch",
) -> str:
    """Values against epochs or another whole number, a line for each series.

    Args:
        name: of the drawing.
        lines: by series, (epoch, value).
        label: of the values.
        logarithmic: their axis; then zero is "exact".
        against: what the whole numbers are.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(4.4, 2.9)
        place = _log_axis(axes, "y", [v for line in lines.values() for _, v in line]) if logarithmic else float
        for number, line in lines.items():
            epochs, values = zip(*line, strict=True)
            every = max(1, len(line) // 12)
            axes.plot(
                epochs, list(map(place, values)), color=_colour(number), lw=1.5, markevery=every, **_marker(number)
            )
        axes.set_xlabel(against)
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        return _svg(name, figure)


def confusion(name: str, counts: np.ndarray, class_names: Sequence[str]) -> str:
    """How many images of each class (rows) were given each answer (columns); the shade is the share of the row.

    Args:
        name: of the drawing.
        counts: ``(n_classes, n_classes)``.
        class_names: in order.
    """
    n = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(1.9 + 0.34 * n, 1.5 + 0.3 * n)
        pixels = np.zeros((n, n, 4))
        pixels[..., :3] = to_rgba(EXACT)[:3]
        pixels[..., 3] = 0.9 * shares
        axes.imshow(pixels, aspect="auto", interpolation="none")
        for row, column in zip(*counts.nonzero(), strict=True):
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
        axes.set_xticks(range(n), class_names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n), class_names)
        axes.set_xlabel("answer")
        axes.set_ylabel("class")
        axes.tick_params(length=0)
        return _svg(name, figure)


def colour_png(pixels: np.ndarray) -> bytes:
    """An image of values in [0, 1], ``(rows, columns, 1 or 3)``."""
    levels = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _png(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels))


def image_png(pixels: np.ndarray, top: float) -> bytes:
    """An image in grey, black at 0 and white at ``top``; ``(rows, columns)``."""
    return _png(Image.fromarray(np.uint8(np.clip(pixels / (top or 1.0), 0, 1) * 255 + 0.5)))


def difference_png(pixels: np.ndarray, size: float) -> bytes:
    """A difference in two colours, full at -size and size and transparent at zero; ``(rows, columns)``."""
    levels = np.uint8(np.clip(pixels / (size or 1.0), -1, 1) * 127 + 128)
    image = Image.fromarray(levels).copy()
    image.putpalette((_signed()(np.arange(256)) * 255 + 0.5).astype(np.uint8)[:, :3].tobytes())
    return _png(image, transparency=bytes(np.uint8(_signed()(np.arange(256))[:, 3] * 255 + 0.5)))


def log_scale(values: Sequence[float]) -> tuple[float, float]:
    """Whole decades around the values above zero."""
    positive = [math.log10(value) for value in values if value > 0] or [-16.0, -15.0]
    low, high = math.floor(min(positive)), math.ceil(max(positive))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _signed() -> Colormap:
    """From one colour through nothing to the other; level 128 of 256 is zero."""
    amount = (np.arange(256) - 128) / 127
    colours = np.where(amount[:, None] < 0, LOW, HIGH)
    colours[:, 3] = np.clip(np.abs(amount), 0, 1)
    return ListedColormap(colours)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _bar(name: str, figure: Figure, axes: Axes, label: str) -> str:
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label)
    return _svg(name, figure)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)][0]


def _marker(number: int) -> dict[str, Any]:
    return {"marker": MARKERS[mark(number)], "markersize": 4.5, "markeredgewidth": 0}


def _line_with_band(axes: Axes, number: int, points: Sequence[tuple[int, float]]) -> None:
    """The mean at each place as a line, the range as a band."""
    places = sorted({place for place, _ in points})
    values = [[value for at, value in points if at == place] for place in places]
    axes.fill_between(places, list(map(min, values)), list(map(max, values)), color=_colour(number), alpha=0.16, lw=0)
    means = [float(np.mean(some)) for some in values]
    axes.plot(places, means, color=_colour(number), lw=1.5, clip_on=False, **_marker(number))


def _log_axis(axes: Axes, which: str, values: Sequence[float], zero: str = "exact") -> Any:
    """Prepare an axis in decades; gives the function from a value to its place."""
    positive, has_zero = [value for value in values if value > 0], 0 in values
    low, high = map(math.log10, log_scale(positive))
    floor = low - (0.16 if which == "x" else 0.11) * (high - low)
    if not positive:
        low = high = floor
    _decades(axes, which, low, high, floor if has_zero else None, zero)
    margin = 0.03 * (high - floor or 1)
    limits = ((floor if has_zero else low) - margin, high + (margin if positive else 9 * margin))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)
    if has_zero:
        span = axes.axvspan if which == "x" else axes.axhspan
        span(floor - margin, floor + margin, color=EXACT, alpha=0.22, lw=0)
    return lambda value: math.log10(value) if value > 0 else floor


def _decades(axes: Axes, which: str, low: float, high: float, floor: float | None, zero: str = "exact") -> None:
    step = max(1, math.ceil((high - low) / 6))
    ticks = list(range(round(high), round(low) - 1, -step))[::-1] if high > low else []
    labels = ["1" if tick == 0 else "10" + str(tick).translate(_SUPERSCRIPT) for tick in ticks]
    if floor is not None:
        ticks, labels = [floor, *ticks], [zero, *labels]  # type: ignore[list-item]
    (axes.set_xticks if which == "x" else axes.set_yticks)(ticks, labels)


def _png(image: Image.Image, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **settings)
    return buffer.getvalue()


def _svg(name: str, figure: Figure) -> str:
    """The drawing as an element for inside a page: its colours and font, ids of its own, rounded coordinates."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>|<!--.*?-->| xmlns(:xlink)?=\"[^\"]*\"", "", text, flags=re.DOTALL)
    text = re.sub(r"(<svg )width=\"[^\"]*\" height=\"[^\"]*\" ", r"\1", text, count=1)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"\b(id=\"|href=\"#|url\(#)", rf"\1{name}-", text.replace("xlink:href", "href"))
    text = re.sub(r"(\d\.\d\d\d)\d+", r"\1", text)
    colours = {TEXT: "currentColor", QUIET: "var(--quiet, #666)", RULE: "var(--rule, #ccc)"}
    for number, (light, _) in enumerate(COLOURS, 1):
        colours[light] = f"var(--series-{number}, {light})"
    text = re.sub("|".join(colours), lambda match: colours[match.group()], text)
    return re.sub(r"\s*\n\s*", " ", text.replace("base64,\n", "base64,")).strip()
