"""The picture of a run: what went in, what came out, and what a shift changes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep import Sample, center_crop, stable_seed
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.task import denormalise, shifted
from pipelines.reports.png import save_figure
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.nested import Value
from recon.layers import circular_shift
from recon.metrics import draw_shifts, equivariance, psnr


@torch.inference_mode()
def save_picture(path: Path, run: AnyRun, settings: Settings, note: str) -> None:
    """Draw a middle slice: what was measured, input, reconstruction, target, error; a shift before and one after.

    Args:
        path: of the PNG.
        run: in eval mode, on its device; its data set's middle slice is drawn.
        settings: of the measurement, for the shift's seed and range.
        note: on what data, printed below.
    """
    task, dataset = run.task, run.dataset
    index = len(dataset) // 2
    sample = dataset[index]
    batch = Sample(*(part[None].to(task.device) for part in sample))
    shift = draw_shifts(1, settings.max_shift, stable_seed("picture", settings.seed)[0]).to(task.device)
    with exact_arithmetic():
        output = task(batch)
        moved = denormalise(task(shifted(batch, shift)), batch)[:, 0]
    reconstruction = denormalise(output, batch)[:, 0]
    expected = circular_shift(reconstruction[:, None], shift)[:, 0]
    target = batch.target[:, 0] if batch.target.numel() else None
    eq = equivariance(moved, expected, None if target is None else batch.data_range)
    before = denormalise(batch.image, batch)[:, 0]

    def decibel(image: torch.Tensor) -> str:
        if target is None:
            return ""
        preds, goal = (dataset.without_padding(part, int(sample.volume)) for part in (image, target))
        return f"{float(psnr(preds, goal, batch.data_range, per_slice=True)):.2f} dB"

    def pixels(image: torch.Tensor) -> np.ndarray:
        return dataset.upright(image[0]).cpu().numpy()

    def shown(image: torch.Tensor | None) -> np.ndarray | None:
        return None if target is None or image is None else pixels(image)

    y, x = shift[0].flip(0).tolist() if dataset.transposed else shift[0].tolist()
    nmse = "exact: bit for bit equal" if bool(eq.equal[0]) else f"NMSE_eq {float(eq.nmse[0]):.1e}"
    top = float(batch.data_range if target is not None else expected.amax())
    error = expected * 0 if target is None else center_crop(reconstruction, target.shape[-2:]) - target
    panels: list[tuple[str, np.ndarray | None, dict[str, Value]]] = [
        (f"input ({dataset.baselines[dataset.baseline]})\n{decibel(before)}", pixels(before), {"vmin": 0, "vmax": top}),
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
        measured = dataset.panels(index)
        n_before = len(measured)
        figure = Figure(figsize=(14 + 3 * n_before, 7.4), layout="constrained")
        grid = figure.add_gridspec(2, 4 + n_before)
        for number, (title, shown_image) in enumerate(measured):
            _draw(figure.add_subplot(grid[:, number]), title, shown_image.numpy(), {})
        for number, panel in enumerate(panels):
            _draw(figure.add_subplot(grid[number // 4, number % 4 + n_before]), *panel)
        volume = dataset.volumes[int(sample.volume)]
        figure.suptitle(f"{volume.name}, slice {int(sample.slice)}, image intensities in the file's units (a.u.)")
        figure.supxlabel(note, fontsize=8)
        save_figure(path, figure)


def _diverging(difference: torch.Tensor) -> dict[str, Value]:
    size = float(difference.abs().max()) or 1e-12
    return {"vmin": -size, "vmax": size, "cmap": "RdBu_r"}


def _draw(axes: Axes, title: str, image: np.ndarray | None, style: dict[str, Value]) -> None:
    if image is None:  # the file has no target
        axes.set_axis_off()
        return
    whole: dict[str, Value] = {"cmap": "gray", "interpolation": "nearest", **style}
    shown = axes.imshow(image, **whole)
    axes.set_title(title)
    axes.set_axis_off()
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.85)
    bar.set_label("a.u.")
