"""Classified images: the sample, and what all data sets of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_prep.slices.sample import check_sizes
from data_prep.slices.seeds import generator
from recon.errors import InputError

SPLITS = ("train", "val", "test")
PATCH = 3  # pixels, the side of what `erased` erases


class LabelledImage(NamedTuple):
    """One classified image, as PyTorch's default collation can batch it.

    Attributes:
        image: (channels, rows, columns) float32: (x - mean) / std with x in [0, 1] and the data set's constants.
        label: 0-d int64: the class.
        index: 0-d int64: position in the split, by which duplicates of the last batches can be dropped.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides a tuple's method, which nothing calls


class LabelledDataset(Dataset[LabelledImage], ABC):
    """Classified images of one size; a subclass reads their pixels.

    Every draw is a function of (seed, epoch, index) in training and of (seed, index) in `erased`, whatever the number
    of workers or the order of reading.

    Args:
        labels: (images,) the class of each.
        class_names: by class.
        image_size: (rows, columns) of the samples.
        mean: of each channel, of x in [0, 1].
        std: of each channel, of x in [0, 1].
        max_shift: in training, shifts are drawn from [-max_shift, max_shift]^2.
        flip: in training, flip left and right in half of all cases.
        training: draw anew in each epoch; else nothing is drawn.
        seed: of the draws.

    Attributes:
        shapes: (channels, rows, columns) of each sample; all equal.
        view_reach: the largest |shift| of `shifted_view`, in pixels; the subclass sets it.

    Raises:
        InputError: image_size is not two numbers above 0, or max_shift is negative.
    """

    view_reach: int

    def __init__(
        self,
        labels: np.ndarray,
        class_names: Sequence[str],
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        max_shift: int,
        flip: bool,
        training: bool,
        seed: int,
    ) -> None:
        size = check_sizes(image_size, max_shift)
        assert size is not None
        self.image_size, self.n_channels = size, len(mean)
        self.labels, self.class_names = np.asarray(labels, np.int64), list(class_names)
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))
        self.shapes = [(self.n_channels, *self.image_size)] * len(self.labels)
        self.max_shift, self.flip, self.training, self.seed = max_shift, flip, training, seed
        self._drawn: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, key: tuple[int, int] | int) -> LabelledImage:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: its file cannot be read any more.
        """

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """What the images are read from."""

    @property
    def smallest_side(self) -> int:
        """The shorter side of the images, in pixels."""
        return min(self.image_size)

    def notes(self) -> list[str]:
        """What is to be said aloud of the files: nothing."""
        return []

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """What figures hang on beside the files and the split, in words: nothing."""
        return ""

    @abstractmethod
    def sample_name(self, index: int) -> str:
        """Return a name that tells the image apart, also in the data set as distributed."""

    @abstractmethod
    def _wide(self, index: int) -> Tensor:
        """The pixels (channels, rows, columns) uint8 around the centre that a sample shows, view_reach to each side."""

    def normalise(self, pixels: Tensor) -> Tensor:
        """Make pixels (..., channels, rows, columns) uint8 a network's input: (pixels / 255 - mean) / std, float32."""
        x = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return x.div_(255).sub_(self.mean).div_(self.std)

    def denormalise(self, image: Tensor) -> Tensor:
        """Make an input (..., channels, rows, columns) a picture again, in [0, 1]."""
        return (image * self.std.to(image) + self.mean.to(image)).clamp(0, 1)

    def shifted_view(self, index: int, shift: Sequence[int]) -> Tensor:
        """Return an image seen through a window that moved: out[y, x] = in[y + dy, x + dx].

        Content leaves on one side, and on the other comes in what the data set has there: see its class. The shift
        (0, 0) gives the sample's own image, outside training.

        Args:
            index: the sample.
            shift: (dy, dx) in pixels, each at most `view_reach` in size.

        Returns:
            (channels, rows, columns) float32, normalised.

        Raises:
            InputError: the file cannot be read any more.
            ValueError: the shift reaches too far.
        """
        return self.normalise(self._window(index, shift))

    def erased(self, index: int, seed: int) -> Tensor:
        """Return a normalised image in which 3 x 3 pixels are black (0 before normalisation).

        Where they are is a function of (seed, index), uniform over all places within the image.

        Raises:
            InputError: the file cannot be read any more.
        """
        pixels = self._window(index, (0, 0)).clone()
        top, left = generator("erase", seed, index).integers([max(1, n - PATCH + 1) for n in self.image_size]).tolist()
        pixels[:, top : top + PATCH, left : left + PATCH] = 0
        return self.normalise(pixels)

    def _window(self, index: int, shift: Sequence[int]) -> Tensor:
        """The pixels (channels, rows, columns) uint8 in a window that moved from the centre."""
        if max(abs(t) for t in shift) > self.view_reach:
            raise ValueError(f"the view cannot move by {tuple(shift)}: at most {self.view_reach} pixels")
        wide = self._wide(index)
        top, left = (  # torchvision's centre
            round((n - side) / 2) + t for n, side, t in zip(wide.shape[1:], self.image_size, shift, strict=True)
        )
        return wide[:, top : top + self.image_size[0], left : left + self.image_size[1]]

    def _draws(self, epoch: int, index: int) -> list[int]:
        """Shift (dy, dx) and whether to flip (0 or 1), in training.

        They are drawn for all samples of an epoch at once, which takes a hundredth of the time.
        """
        if self._drawn is None or self._drawn[0] != epoch:
            m, n = self.max_shift, len(self)
            shifts = generator("shift", self.seed, epoch).integers(-m, m, size=(n, 2), dtype=np.int16, endpoint=True)
            flips = generator("flip", self.seed, epoch).integers(1 + self.flip, size=(n, 1), dtype=np.int16)
            self._drawn = epoch, np.concatenate([shifts, flips], 1)
        return self._drawn[1][index].tolist()


def check_labels(labels: np.ndarray, n_classes: int, where: object) -> np.ndarray:
    """Return labels as int64.

    Raises:
        InputError: one is not in 0 .. n_classes - 1.
    """
    found = np.asarray(labels, np.int64)
    if found.size and not 0 <= found.min() <= found.max() < n_classes:
        bad = found[(found < 0) | (found >= n_classes)][0]
        raise InputError(f"{where} has the label {bad}, but there are only classes 0 to {n_classes - 1}: replace it.")
    return found
