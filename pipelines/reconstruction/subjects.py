"""What is put before a network when it is measured: a volume, or a set of images from outside its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from data_prep import OUTSIDE, OutsideImage, Sample, SliceDataset, outside_images
from pipelines.measuring.kind import Piece
from pipelines.measuring.margins import TIE
from pipelines.reconstruction.task import ReconstructionTask
from recon.errors import InputError
from recon.metrics import equals_own_shift
from recon.networks import record_margins


class Inference(NamedTuple):
    """A slice and what the network made of it.

    Attributes:
        sample: a batch of one, on the network's device.
        output: f(x), normalised, ``(1, 1, rows, columns)``.
        margins: the phase margin of each level, from the image down, of an unrolled network cascade by cascade (the
            smallest of all coils in the network of the maps, which comes first); empty for a fixed grid.
        tie: the input is equal to its own shift, or two phases have equal scores: no network that picks its grid by
            content can be equivariant here.
    """

    sample: Sample
    output: Tensor
    margins: Tensor
    tie: bool


def infer(task: ReconstructionTask, sample: Sample, name: str) -> Inference:
    """Run the network on a batch of one, and look at how clear its choice of phases was.

    While margins are recorded, a pool whose phase the content chooses runs as plain torch, since its kernel passes the
    selector by; f(T x) is then computed with the kernel, where there is one. Both round alike: outputs that are equal
    bit for bit are so across the two.

    Raises:
        InputError: the output is not finite.
    """
    with record_margins(task.network) as margins:
        output = task(sample)
    if not output.isfinite().all():
        raise InputError(
            f"the reconstruction of {name} slice {int(sample.slice)} is not finite: its file or the checkpoint holds "
            "nan or inf; leave the file out or train again"
        )
    found = torch.stack([margin.amin() for margin in margins]).cpu() if margins else torch.empty(0, dtype=torch.float64)
    own = bool(equals_own_shift(sample.image[:, 0], task.total_stride))
    return Inference(sample, output, found, own or bool((found <= TIE).any()))


@dataclass
class Subject:
    """One volume, or one set of images from outside, before one network. f(x) is computed once, when first needed.

    Args:
        task: in eval mode, on the device to use.
        dataset: the split; also says what size of image the network sees.
        name: of the volume, or one of ``data_prep.OUTSIDE``.
        volume: the volume's number in the data set; None for a set from outside.
        seed: of images that are drawn.
    """

    task: ReconstructionTask
    dataset: SliceDataset
    name: str
    volume: int | None
    seed: int = 0

    @cached_property
    def indices(self) -> list[int]:
        """The data set's numbers of the volume's slices."""
        return [i for i, (volume, _) in enumerate(self.dataset.slices) if volume == self.volume]

    @cached_property
    def samples(self) -> list[Sample]:
        """The slices, each a batch of one on the network's device."""
        found = self._outside() if self.volume is None else [self.dataset[i] for i in self.indices]
        return [self.batch(sample) for sample in found]

    def batch(self, sample: Sample) -> Sample:
        """A sample as a batch of one on the network's device."""
        return Sample(*(part[None].to(self.task.device) for part in sample))

    @cached_property
    def names(self) -> list[str]:
        """What each slice is called in the column "volume" of the results."""
        if self.volume is not None:
            return [self.name] * len(self.indices)
        return [image.name for image in self._images]

    @cached_property
    def inferences(self) -> list[Inference]:
        """The slices and f(x)."""
        return [infer(self.task, sample, name) for name, sample in zip(self.names, self.samples, strict=True)]

    def shown(self, image: Tensor) -> Tensor:
        """The part ``(batch, rows, columns)`` of images ``(batch, 1, rows, columns)`` that is not padding."""
        return image[:, 0] if self.volume is None else self.dataset.without_padding(image[:, 0], self.volume)

    @property
    def has_target(self) -> bool:
        """Whether quality can be measured."""
        return self.volume is not None and self.dataset.volumes[self.volume].has_target

    @cached_property
    def _images(self) -> list[OutsideImage]:
        return outside_images(self.name, self.dataset.shapes[0][:2], self.seed)

    def _outside(self) -> list[Sample]:
        """The images as the network's inputs, without a target; where it needs the measurement, as objects acquired."""
        found = []
        for number, (_, image) in enumerate(self._images):
            if self.dataset.measured:
                found.append(self.dataset.acquired(image)._replace(slice=torch.tensor(number)))
                continue
            normalised, mean, std = map(torch.as_tensor, self.dataset.as_input(image))
            nothing = torch.zeros(1, 0, 0)
            numbers = torch.tensor(0), torch.tensor(number)
            found.append(Sample(normalised, nothing, mean, std, torch.tensor(0.0), *numbers))
        return found


def pieces_of(dataset: SliceDataset, protocols: Sequence[str]) -> list[Piece]:
    """What there is to measure: the volumes first, then the images from outside.

    Args:
        dataset: the split.
        protocols: names of ``PROTOCOLS``; "outside" is for images from outside, others for volumes.
    """
    inside = [protocol for protocol in protocols if protocol != "outside"]
    found = [Piece(volume.name, number, inside) for number, volume in enumerate(dataset.volumes) if inside]
    if "outside" in protocols:
        found += [Piece(name, None, ["outside"]) for name in OUTSIDE if name != dataset.own_images]
    return found
