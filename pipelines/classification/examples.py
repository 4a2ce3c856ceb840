"""Images to look at: those whose answer changes with a shift, and what each run answers to both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.classification.collected import Change, CollectedAnswers
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.settings import Settings
from pipelines.runtime.arithmetic import exact_arithmetic
from recon.layers import circular_shift

N_EXAMPLES = 12


@dataclass(frozen=True)
class AnswerExample:
    """One image and its shift.

    Attributes:
        name: of the image.
        label: its class.
        shift: down and right in pixels.
        image: ``(rows, columns, channel)`` in [0, 1].
        shifted: the same after the shift.
        answers: by run, what f(x) and f(T x) name.
    """

    name: str
    label: str
    shift: tuple[int, int]
    image: np.ndarray
    shifted: np.ndarray
    answers: Mapping[str, tuple[str, str]]


def draw_answers(
    runs: Sequence[AnyRun], rows: CollectedAnswers, settings: Settings, device: torch.device
) -> list[AnswerExample]:
    """Up to twelve images whose answer a circular shift changed in some run, taken from the runs in turn.

    Args:
        runs: as evaluated, on the same data; others answer nothing.
        rows: what was collected of them.
        settings: as evaluated.
        device: to run on.
    """
    chosen: dict[int, Change] = {}
    queues = [list(rows.changes.get(run.name, ())) for run in runs]
    while len(chosen) < N_EXAMPLES and any(queues):
        for queue in queues:
            if queue and len(chosen) < N_EXAMPLES:
                change = queue.pop(0)
                chosen.setdefault(change.number, change)
    return [draw_answer(runs, change, device) for change in chosen.values()]


@torch.inference_mode()
def draw_answer(runs: Sequence[AnyRun], change: Change, device: torch.device) -> AnswerExample:
    """One image, and what all runs that see the very same one answer.

    Args:
        runs: as evaluated.
        change: the image and its shift.
        device: to run on.
    """
    dataset = runs[0].dataset
    image = dataset[change.number].image[None]
    shifted = circular_shift(image, torch.tensor([change.shift]))
    answers = {}
    for run in runs:
        task = run.task.to(device)
        if len(run.dataset) > change.number and torch.equal(run.dataset[change.number].image, image[0]):
            with exact_arithmetic():
                both = [int(task.network(x.to(device)).argmax(1)) for x in (image, shifted)]
            answers[run.name] = (run.dataset.class_names[both[0]], run.dataset.class_names[both[1]])
        task.to("cpu")

    def pixels(x: Tensor) -> np.ndarray:
        return dataset.denormalise(x[0]).permute(1, 2, 0).numpy()

    name = dataset.sample_name(change.number)
    return AnswerExample(name, change.label, change.shift, pixels(image), pixels(shifted), answers)
