"""Classifiers as they leave the project: pixels from 0 to 1 in, logits out, the normalisation inside."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from data_prep import LabelledDataset
from pipelines.classification.subjects import IMAGES, ImageGroup
from pipelines.classification.task import ClassificationTask
from pipelines.measuring.portable import Port, Portable, RealSlice, spread_out, without_ties
from recon.layers import circular_shift


class OfPixels(nn.Module):
    """The run's f on pixels x: the network on (x - mean) / std.

    Args:
        network: in eval mode.
        mean: of each channel, ``(channel, 1, 1)``.
        std: the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map ``(batch, channel, rows, columns)`` to logits ``(batch, n_classes)``."""
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits


def portable(task: ClassificationTask, dataset: LabelledDataset) -> Portable:
    """A run on its way out; arguments and errors are those of :func:`pipelines.reconstruction.portable.portable`."""
    names = ", ".join(dataset.class_names[:20]) + (", ..." if len(dataset.class_names) > 20 else "")
    return Portable(
        OfPixels(task.network, dataset.mean, dataset.std),
        (Port("pixels", ("batch", dataset.n_channels, "rows", "columns"), "pixel values from 0 to 1"),),
        Port("logits", ("batch", len(dataset.class_names)), f"the logits of {names}"),
        task.total_stride,
        without_ties(_images(task, dataset)),
    )


def _images(task: ClassificationTask, dataset: LabelledDataset) -> Iterator[RealSlice | None]:
    for index in spread_out(len(dataset)):
        image = dataset[index].image[None]
        found = ImageGroup(task, dataset, "", index // IMAGES).infer(image, [index])
        pixels = image * dataset.std + dataset.mean
        moved = lambda shifts, pixels=pixels: (circular_shift(pixels.expand(len(shifts), -1, -1, -1), shifts),)  # noqa: E731
        name = dataset.sample_name(index)
        yield None if bool(found.tie) else RealSlice(name, (pixels,), found.logits, moved, moves=False)
