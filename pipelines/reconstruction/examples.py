"""The slices that a report shows: what went in, what each run made of it, and what a shift changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_prep import Sample
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.collected import Collected, Example, ShiftedSlice
from pipelines.reconstruction.task import denormalise, shifted
from pipelines.runtime.arithmetic import exact_arithmetic
from recon.layers import circular_shift


@torch.inference_mode()
def draw_examples(
    runs: Sequence[AnyRun],
    collected: Collected,
    settings: Settings,
    device: torch.device,
) -> list[Example]:
    """The middle slice of the first volume, and the slice and shift at which some run was least equivariant.

    One example for each group of runs that see the same input there: not those of other masks or another image size.
    Runs whose data do not hold that slice are left out.

    Args:
        runs: as evaluated.
        collected: of their rows.
        settings: as evaluated.
        device: to reconstruct on.
    """
    dataset = runs[0].dataset
    first = dataset.volumes[0]
    shift = min(7, settings.max_shift), -min(3, settings.max_shift)
    middle = ShiftedSlice(first.name, first.n_slices // 2, shift)
    with exact_arithmetic():
        return [
            example
            for shown in dict.fromkeys([middle, collected.worst or middle])
            for example in _examples(runs, shown, device)
        ]


def _examples(runs: Sequence[AnyRun], shown: ShiftedSlice, device: torch.device) -> list[Example]:
    found: list[Example] = []
    for run in runs:
        example = _example(run, shown, device)
        if example is None:
            continue
        same = next((i for i, other in enumerate(found) if _same_input(other, example)), None)
        if same is None:
            found.append(example)
        else:
            found[same] = replace(
                found[same],
                reconstructions={**found[same].reconstructions, **example.reconstructions},
                shift_differences={**found[same].shift_differences, **example.shift_differences},
            )
    return found


def _same_input(one: Example, other: Example) -> bool:
    if one.target is None or other.target is None:
        return one.target is other.target and np.array_equal(one.image, other.image)
    return np.array_equal(one.image, other.image) and np.array_equal(one.target, other.target)


def _example(run: AnyRun, shown: ShiftedSlice, device: torch.device) -> Example | None:
    volume, number, shift = shown
    names = [found.name for found in run.dataset.volumes]
    key = (names.index(volume) if volume in names else -1, number)
    if key not in run.dataset.slices:
        return None
    sample = Sample(*(part[None].to(device) for part in run.dataset[run.dataset.slices.index(key)]))
    move = torch.tensor([shift], device=device)
    task = run.task.to(device)
    output, moved = task(sample), task(shifted(sample, move))
    task.to("cpu")

    def pixels(image: Tensor) -> np.ndarray:
        """As one looks at it, without what was padded."""
        return run.dataset.upright(run.dataset.without_padding(image[0, 0], key[0])).cpu().numpy()

    reconstruction = pixels(denormalise(output, sample))
    difference = pixels(denormalise(moved, sample) - denormalise(circular_shift(output, move), sample))
    has_target = bool(sample.target.numel())
    return Example(
        volume=volume,
        slice=number,
        image=pixels(denormalise(sample.image, sample)),
        target=pixels(sample.target) if has_target else None,
        data_range=float(sample.data_range) if has_target else float(reconstruction.max() - reconstruction.min()),
        shift=(shift[1], shift[0]) if run.dataset.transposed else shift,
        reconstructions={run.name: reconstruction},
        shift_differences={run.name: difference},
    )
