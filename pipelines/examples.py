"""The slices that a report shows: what went in, what each run made of it, and what a shift changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_prep import Sample
from pipelines.arithmetic import exact_arithmetic
from pipelines.protocols import Row, Settings
from pipelines.reports import Example
from pipelines.runs import Run
from pipelines.task import denormalise
from recon.layers import circular_shift

Place = tuple[str, int, tuple[int, int]]
"""Volume, slice and shift."""


@torch.inference_mode()
def draw_examples(
    runs: Sequence[Run], rows: Sequence[tuple[str, Row]], settings: Settings, device: torch.device
) -> list[Example]:
    """The middle slice of the first volume, and the slice and shift at which some run was least equivariant.

    Runs whose data do not hold that slice are left out of it.

    Args:
        runs: as evaluated.
        rows: of all runs.
        settings: as evaluated.
        device: to reconstruct on.
    """
    dataset = runs[0].dataset
    first = dataset.volumes[0]
    middle: Place = (first.name, first.n_slices // 2, (min(7, settings.max_shift), -min(3, settings.max_shift)))
    places = dict.fromkeys([middle, *_least_equivariant(rows)])
    with exact_arithmetic():
        found = [_example(runs, place, device) for place in places]
    return [example for example in found if example is not None]


def _least_equivariant(rows: Sequence[tuple[str, Row]]) -> list[Place]:
    errors = [
        (float(row.value), row)
        for _, row in rows
        if row.protocol == "equivariance" and row.metric == "nmse_eq" and row.status == "ok" and row.value != ""
    ]
    if not errors:
        return []
    _, worst = max(errors, key=lambda error: error[0])
    return [(worst.volume, int(worst.slice), (int(worst.shift_y), int(worst.shift_x)))]


def _example(runs: Sequence[Run], place: Place, device: torch.device) -> Example | None:
    volume, number, shift = place
    move = torch.tensor([shift], device=device)
    reconstructions, differences, samples = {}, {}, []
    for run in runs:
        numbers = {found.name: i for i, found in enumerate(run.dataset.volumes)}
        key = (numbers.get(volume, -1), number)
        if key not in run.dataset.slices:
            continue
        sample = Sample(*(part[None].to(device) for part in run.dataset[run.dataset.slices.index(key)]))
        task = run.task.to(device)
        output, moved = task(sample.image), task(circular_shift(sample.image, move))
        task.to("cpu")
        samples.append(sample)
        reconstructions[run.name] = _pixels(denormalise(output, sample))
        differences[run.name] = _pixels(denormalise(moved, sample) - denormalise(circular_shift(output, move), sample))
    if not samples:
        return None
    sample, shown = samples[0], next(iter(reconstructions.values()))
    has_target = bool(sample.target.numel())
    return Example(
        volume=volume,
        slice=number,
        image=_pixels(denormalise(sample.image, sample)),
        target=_pixels(sample.target) if has_target else None,
        data_range=float(sample.data_range) if has_target else float(shown.max() - shown.min()),
        shift=shift,
        reconstructions=reconstructions,
        shift_differences=differences,
    )


def _pixels(image: Tensor) -> np.ndarray:
    return image[0, 0].cpu().numpy()
