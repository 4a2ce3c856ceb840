"""Images side by side, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from pipelines.reports.png import save_figure

Rows = Sequence[Sequence[tuple[str, Tensor]]]


def save_images(path: Path, rows: Rows, title: str, limits: tuple[float, float]) -> None:
    """Draw rows of titled images ``(rows, columns)`` on one scale of grey.

    Args:
        path: of the PNG.
        rows: title and image of each place.
        title: of the whole.
        limits: of black and white.
    """
    with matplotlib.rc_context({"font.size": 9, "text.parse_math": False}):
        n = max(map(len, rows))
        figure = Figure(figsize=(2.5 * n, 2.75 * len(rows) + 0.4), layout="constrained")
        axes = figure.subplots(len(rows), n, squeeze=False)
        for line, places in zip(rows, axes, strict=True):
            for place in places:
                place.set_axis_off()
            for (name, image), place in zip(line, places, strict=False):
                place.imshow(image.numpy(), cmap="gray", vmin=limits[0], vmax=limits[1])
                place.set_title(name)
        figure.suptitle(title)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(path, figure)
