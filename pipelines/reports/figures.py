"""Plots as SVG that takes the page's colours, and images as PNG.

Names of series stay outside the drawings. On every logarithmic axis zero has a place of its own, marked "exact".
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pipelines.reports.drawing import EXACT, TEXT, as_svg, colour, decades, log_axis, marker, new_axes, page_style

HEAT = "inferno"
LOW, HIGH = to_rgba("#2166ac"), to_rgba("#d6430a")  # of signed differences, which are transparent at zero


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
    with page_style():
        figure, axes = new_axes(2.4, 2.3)
        extent = (xs[0] - 0.5, xs[-1] + 0.5, ys[-1] + 0.5, ys[0] - 0.5)
        axes.imshow(pixels, extent=extent, interpolation="none", aspect="equal")
        axes.spines[:].set_visible(True)
        axes.set_xlabel("shift right (pixels)")
        axes.set_ylabel("shift down (pixels)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        return as_svg(name, figure)


def colour_bar(name: str, scale: tuple[float, float], label: str) -> str:
    """The colours of :func:`heat_map`, with the one of "exact" at the left."""
    with page_style():
        figure, axes = new_axes(3.3, 0.6)
        low, high = map(math.log10, scale)
        start = low - 0.26 * (high - low)
        axes.imshow(np.linspace(0, 1, 256)[None], extent=(low, high, 0, 1), cmap=HEAT, aspect="auto")
        axes.axvspan(start, start + 0.1 * (high - low), color=EXACT, lw=0)
        axes.set_xlim(start, high)
        axes.set_ylim(0, 1)
        decades(axes, "x", low, high, start + 0.05 * (high - low))
        return _bar(name, figure, axes, label)


def difference_bar(name: str, size: float, label: str) -> str:
    """The colours of :func:`difference_png` from -size to size."""
    with page_style():
        figure, axes = new_axes(3.3, 0.6)
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
    with page_style():
        figure, axes = new_axes(4.4, 2.9)
        finite = [value for some in points.values() for _, value in some if value is not None]
        bottom = 0.0 if from_zero or not finite else min(finite)
        span = (max(finite) - bottom if finite else 0) or 1.0
        top = bottom + 1.14 * span
        for number, some in points.items():
            _line_with_band(axes, number, [(round(distance), value) for distance, value in some if value is not None])
            exact = sorted({round(distance) for distance, value in some if value is None})
            axes.plot(exact, [top] * len(exact), lw=0, color=colour(number), **marker(number))
        axes.set_xlabel("distance of the shift (pixels)")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.set_ylim(bottom - 0.04 * span, top + 0.06 * span)
        axes.grid(axis="y")
        if any(value is None for some in points.values() for _, value in some):
            ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= bottom + 1.02 * span] if finite else []
            axes.set_yticks([*ticks, top], [*(f"{tick:g}" for tick in ticks), "exact"])
            axes.axhspan(top - 0.04 * span, top + 0.04 * span, color=EXACT, alpha=0.22, lw=0)
        return as_svg(name, figure)


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
    with page_style():
        figure, axes = new_axes(4.4, 0.7 + max(1, len(categories)) * (0.14 + 0.11 * len(values)))
        place = log_axis(axes, "x", [v for some in values.values() for part in some.values() for v in part], zero)
        width = 0.7 / len(values)
        for i, (number, some) in enumerate(values.items()):
            for row, category in enumerate(categories):
                if not some.get(category):
                    continue
                y = row + (i - (len(values) - 1) / 2) * width
                low, first, third, high, at = (
                    place(float(v)) for v in np.quantile(some[category], (0, 0.25, 0.75, 1, dot))
                )
                axes.plot([low, high], [y, y], lw=0.9, color=colour(number), solid_capstyle="butt")
                axes.plot([first, third], [y, y], lw=3.2, color=colour(number), alpha=0.45, solid_capstyle="butt")
                axes.plot(at, y, color=colour(number), clip_on=False, **marker(number))
        axes.set_yticks(range(len(categories)), categories)
        axes.tick_params(axis="y", length=0, labelcolor=TEXT)
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        return as_svg(name, figure)


def curves(
    name: str,
    lines: Mapping[int, Sequence[tuple[float, float]]],
    label: str,
    logarithmic: bool = False,
    against: str = "epoch",
) -> str:
    """Values against epochs or another number, a line for each series.

    Args:
        name: of the drawing.
        lines: by series, (epoch, value).
        label: of the values.
        logarithmic: their axis; then zero is "exact".
        against: what the numbers are.
    """
    with page_style():
        figure, axes = new_axes(4.4, 2.9)
        place = log_axis(axes, "y", [v for line in lines.values() for _, v in line]) if logarithmic else float
        for number, line in lines.items():
            epochs, values = zip(*line, strict=True)
            every = max(1, len(line) // 12)
            axes.plot(epochs, list(map(place, values)), color=colour(number), lw=1.5, markevery=every, **marker(number))
        axes.set_xlabel(against)
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=any(at > 6 for line in lines.values() for at, _ in line)))
        axes.grid(axis="y")
        return as_svg(name, figure)


def confusion(name: str, counts: np.ndarray, class_names: Sequence[str]) -> str:
    """How many images of each class (rows) were given each answer (columns); the shade is the share of the row.

    Args:
        name: of the drawing.
        counts: ``(n_classes, n_classes)``.
        class_names: in order.
    """
    n = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with page_style():
        figure, axes = new_axes(1.9 + 0.34 * n, 1.5 + 0.3 * n)
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
        return as_svg(name, figure)


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


def _signed() -> Colormap:
    """From one colour through nothing to the other; level 128 of 256 is zero."""
    amount = (np.arange(256) - 128) / 127
    colours = np.where(amount[:, None] < 0, LOW, HIGH)
    colours[:, 3] = np.clip(np.abs(amount), 0, 1)
    return ListedColormap(colours)


def _bar(name: str, figure: Figure, axes: Axes, label: str) -> str:
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label)
    return as_svg(name, figure)


def _line_with_band(axes: Axes, number: int, points: Sequence[tuple[int, float]]) -> None:
    """The mean at each place as a line, the range as a band."""
    places = sorted({place for place, _ in points})
    values = [[value for at, value in points if at == place] for place in places]
    axes.fill_between(places, list(map(min, values)), list(map(max, values)), color=colour(number), alpha=0.16, lw=0)
    means = [float(np.mean(some)) for some in values]
    axes.plot(places, means, color=colour(number), lw=1.5, clip_on=False, **marker(number))


def _png(image: Image.Image, transparency: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    extra = {} if transparency is None else {"transparency": transparency}
    image.save(buffer, format="PNG", optimize=True, **extra)
    return buffer.getvalue()
