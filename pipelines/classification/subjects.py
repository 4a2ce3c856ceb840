"""What is put before a classifier when it is measured: some of a split's images at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from data_prep import LabelledDataset
from pipelines.classification.task import ClassificationTask
from pipelines.measuring.kind import Piece
from pipelines.measuring.margins import TIE
from recon.errors import InputError
from recon.metrics import equals_own_shift
from recon.networks import record_margins

IMAGES = 250  # of a subject: what an interruption loses at most, and what is in memory at once


class Inference(NamedTuple):
    """Some images and what the network said of them.

    Attributes:
        image: the network's input, ``(batch, channel, rows, columns)``.
        logits: f(x), ``(batch, n_classes)``.
        margins: of each selector, in the network's order, ``(batch, n_selectors)``; no columns for a fixed grid.
        tie: bool ``(batch,)``: the image equals its own shift, or two phases have equal scores.
    """

    image: Tensor
    logits: Tensor
    margins: Tensor
    tie: Tensor


@dataclass
class ImageGroup:
    """Consecutive images of a split, before one network.

    Args:
        task: in eval mode, on the device to use.
        dataset: the split.
        name: of the group.
        volume: its number.
        seed: of what is drawn.
    """

    task: ClassificationTask
    dataset: LabelledDataset
    name: str
    volume: int
    seed: int = 0

    @property
    def indices(self) -> range:
        """The images' places in the split."""
        return range(self.volume * IMAGES, min((self.volume + 1) * IMAGES, len(self.dataset)))

    @cached_property
    def images(self) -> Tensor:
        """All of them, ``(batch, channel, rows, columns)`` on the CPU; decoded side by side."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return torch.stack(list(pool.map(lambda index: self.dataset[index].image, self.indices)))

    def class_name(self, index: int) -> str:
        """What an image shows."""
        return self.dataset.class_names[int(self.dataset.labels[index])]

    def infer(self, images: Tensor, indices: Sequence[int]) -> Inference:
        """Run the network, and look at how clear its choice of phases was.

        Raises:
            InputError: a logit is not finite.
        """
        images = images.to(self.task.device)
        with record_margins(self.task.network) as margins:
            logits = self.task.network(images)
        bad = (~logits.isfinite().all(1)).nonzero().flatten().tolist()
        if bad:
            name = self.dataset.sample_name(indices[bad[0]])
            raise InputError(f"the logits of {name} are not finite: the checkpoint holds nan or inf, train again")
        found = torch.stack(margins, 1).cpu() if margins else torch.empty(len(images), 0, dtype=torch.float64)
        own = equals_own_shift(images, self.task.total_stride).cpu()
        return Inference(images, logits, found, own | (found <= TIE).any(1))


def pieces_of(dataset: LabelledDataset, protocols: Sequence[str]) -> list[Piece]:
    """What there is to measure: groups of consecutive images."""
    starts = range(0, len(dataset), IMAGES)
    return [
        Piece(f"images-{start}-{min(start + IMAGES, len(dataset)) - 1}", number, list(protocols))
        for number, start in enumerate(starts)
        if protocols
    ]
