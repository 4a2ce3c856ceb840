"""The picture of a run: what went in, what came out, and what a shift changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from data_prep import LoDoPaBDataset, Sample, center_crop, replace_file, stable_seed
from pipelines.reconstruction.protocols import Settings
from pipelines.reconstruction.qualities import BASELINES, Row
from pipelines.reconstruction.task import denormalise
from pipelines.runs.open import Run
from pipelines.runtime.arithmetic import exact_arithmetic
from recon.layers import circular_shift
from recon.metrics import draw_shifts, equivariance, psnr


@torch.inference_mode()
def save_picture(path: Path, run: Run, rows: Sequence[Row], settings: Settings, note: str) -> None:
    """Draw a middle slice: (CT: sinogram,) input, reconstruction, target, error; a shift before against one after.

    Args:
        path: of the PNG.
        run: in eval mode, on its device; its data set's middle slice is drawn.
        rows: of the measurement; none is shown.
        settings: of the measurement, for the shift's seed and range.
        note: on what data, printed below.
    """
    task, dataset = run.task, run.dataset
    index = len(dataset) // 2
    sample = dataset[index]
    batch = Sample(*(part[None].to(task.device) for part in sample))
    shift = draw_shifts(1, settings.max_shift, stable_seed("picture", settings.seed)[0]).to(task.device)
    with exact_arithmetic():
        output = task(batch.image)
        moved = denormalise(task(circular_shift(batch.image, shift)), batch)[:, 0]
    reconstruction = denormalise(output, batch)[:, 0]
    expected = circular_shift(reconstruction[:, None], shift)[:, 0]
    target = batch.target[:, 0] if batch.target.numel() else None
    eq = equivariance(moved, expected, None if target is None else batch.data_range)
    before = denormalise(batch.image, batch)[:, 0]

    def decibel(image: torch.Tensor) -> str:
        if target is None:
            return ""
        size = dataset.volumes[int(sample.volume)].image_size
        sides = [min(pair) for pair in zip(image.shape[-2:], size, strict=True)]  # without padding
        preds, goal = center_crop(image, sides), center_crop(target, sides)
        return f"{float(psnr(preds, goal, batch.data_range, per_slice=True)):.2f} dB"

    def pixels(image: torch.Tensor) -> np.ndarray:
        return (image[0].T if dataset.transposed else image[0]).cpu().numpy()

    def shown(image: torch.Tensor | None) -> np.ndarray | None:
        return None if target is None or image is None else pixels(image)

    y, x = shift[0].flip(0).tolist() if dataset.transposed else shift[0].tolist()
    nmse = "exact: bit for bit equal" if bool(eq.equal[0]) else f"NMSE_eq {float(eq.nmse[0]):.1e}"
    top = float(batch.data_range if target is not None else expected.amax())
    error = expected * 0 if target is None else reconstruction - target
    panels: list[tuple[str, np.ndarray | None, dict[str, Any]]] = [
        (f"input ({BASELINES[dataset.baseline]})\n{decibel(before)}", pixels(before), {"vmin": 0, "vmax": top}),
        (f"reconstruction f(x)\n{decibel(reconstruction)}", pixels(reconstruction), {"vmin": 0, "vmax": top}),
        ("target\n ", shown(target), {"vmin": 0, "vmax": top}),
        ("error\nreconstruction - target", shown(error), _diverging(error)),
        (f"shift after: T f(x)\nT = ({y}, {x}) pixels", pixels(expected), {"vmin": 0, "vmax": top}),
        ("shift before: f(T x)\n ", pixels(moved), {"vmin": 0, "vmax": top}),
        (
            "f(T x) - T f(x)\nscale of the error above",
            None if target is None else pixels(moved - expected),
            _diverging(error),
        ),
        (f"f(T x) - T f(x), own scale\n{nmse}", pixels(moved - expected), _diverging(moved - expected)),
    ]
    with matplotlib.rc_context({"font.size": 9, "text.parse_math": False}):  # a name with $ is no formula
        measured = dataset.observation(index) if isinstance(dataset, LoDoPaBDataset) else None
        n_before = 0 if measured is None else 1
        figure = Figure(figsize=(14 + 3 * n_before, 7.4), layout="constrained")
        grid = figure.add_gridspec(2, 4 + n_before)
        if measured is not None:
            title = "sinogram\n{} angles x {} detectors".format(*measured.shape)
            _draw(figure.add_subplot(grid[:, 0]), title, measured.numpy(), {})
        for number, panel in enumerate(panels):
            _draw(figure.add_subplot(grid[number // 4, number % 4 + n_before]), *panel)
        volume = dataset.volumes[int(sample.volume)]
        figure.suptitle(f"{volume.name}, slice {int(sample.slice)}, image intensities in the file's units (a.u.)")
        figure.supxlabel(note, fontsize=8)
        save_figure(path, figure)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, whole or not at all; bytes of names that are not UTF-8 are shown as escapes."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(readable(text.get_text()))
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def readable(name: str) -> str:
    """A name with escapes for what cannot be drawn."""
    return name.encode("utf-8", "backslashreplace").decode()


def _diverging(difference: torch.Tensor) -> dict[str, Any]:
    size = float(difference.abs().max()) or 1e-12
    return {"vmin": -size, "vmax": size, "cmap": "RdBu_r"}


def _draw(axes: Axes, title: str, image: np.ndarray | None, style: dict[str, Any]) -> None:
    if image is None:  # the file has no target
        axes.set_axis_off()
        return
    shown = axes.imshow(image, **({"cmap": "gray"} | style), interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.85)
    bar.set_label("a.u.")
