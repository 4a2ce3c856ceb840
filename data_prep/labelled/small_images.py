"""Small classified images that are held in memory, in the two protocols of CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_prep.labelled.base import SPLITS, LabelledDataset, LabelledImage
from data_prep.slices.crop import fit_center
from data_prep.slices.seeds import generator
from recon.errors import InputError, check_choice

PADDING = {"circular": "wrap", "crop": "constant"}
CROP_PADDING = 3  # of RandomCrop in the crop protocol


class Part(NamedTuple):
    """The training or the test part of a data set, as distributed.

    Attributes:
        name: train or test.
        images: (images, channels, rows, columns) uint8.
        labels: (images,) int64.
        class_names: by class.
        where: file or folder that it was read from, for messages.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    where: Path


class SmallImageDataset(LabelledDataset):
    """Images in memory, of one split, in one of two protocols (arXiv 2011.14214, experiments on CIFAR-10).

    - circular: training may roll images circularly by up to max_shift; there are no other shifts.
    - crop: training draws RandomCrop(size, padding=3), that is a zero-filled shift from [-3, 3]^2.

    Then follows a horizontal flip in half of all cases (`flip`). What `shifted_view` moves in is zero. Zeros are those
    before normalisation: black.

    Whole batches are put together at once (`__getitems__`, which PyTorch's loader calls), with the outcome of one
    sample at a time.

    Args:
        part: what the split is taken from (see `part_name`).
        split: train, val or test; see `split_numbers`.
        mean: of each channel, of x in [0, 1].
        std: of each channel, of x in [0, 1].
        protocol: circular or crop.
        image_size: (rows, columns) that the images are centre-cropped or zero-padded to.
        max_shift: of the circular protocol, in training.
        flip: in training.
        training: draw anew in each epoch.
        seed: of the draws, and of the division into train and val.

    Raises:
        InputError: an unknown protocol, max_shift in the crop protocol or negative, a bad image_size, or too few
            images.
    """

    def __init__(
        self,
        part: Part,
        split: str,
        mean: Sequence[float],
        std: Sequence[float],
        protocol: str,
        image_size: Sequence[int],
        max_shift: int,
        flip: bool,
        training: bool,
        seed: int,
    ) -> None:
        check_choice("protocol", protocol, PADDING)
        if protocol == "crop" and max_shift:
            raise InputError(
                f"max_shift is {max_shift}, but the crop protocol draws its own shifts, by up to {CROP_PADDING} "
                "pixels: set max_shift to 0, or the protocol to circular."
            )
        self.protocol, self.part = protocol, part.name
        self._where = part.where
        self.numbers = split_numbers(len(part.labels), split, seed, part.where)
        shift = CROP_PADDING if protocol == "crop" else max_shift
        super().__init__(
            part.labels[self.numbers], part.class_names, image_size, mean, std, shift, flip, training, seed
        )
        self.view_reach = min(self.image_size) // 2
        self._images = fit_center(torch.from_numpy(part.images[self.numbers]), self.image_size).contiguous().numpy()

    def __getitem__(self, key: tuple[int, int] | int) -> LabelledImage:
        """Return the sample of (epoch, index); an index alone means epoch 0."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> list[LabelledImage]:
        """Return the samples of some keys, as `__getitem__` would one by one, at a small part of its cost."""
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        index = np.array([index for _, index in pairs], np.int64)
        pixels = self._images[index]
        if self.training:
            pixels = self._augmented(pixels, np.array([self._draws(*pair) for pair in pairs]))
        images = self.normalise(torch.from_numpy(pixels)).unbind()
        labels = torch.from_numpy(self.labels[index]).unbind()
        return list(map(LabelledImage, images, labels, torch.from_numpy(index).unbind()))

    @property
    def files(self) -> list[Path]:
        """The archive's files."""
        return sorted(self._where.iterdir()) if self._where.is_dir() else [self._where]

    def sample_name(self, index: int) -> str:
        """Return the part of the data set and the position in it, for instance test-00042."""
        return f"{self.part}-{self.numbers[index]:05d}"

    def _wide(self, index: int) -> Tensor:
        return F.pad(torch.from_numpy(self._images[index]), [self.view_reach] * 4)

    def _augmented(self, pixels: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Images (batch, channels, rows, columns), each moved by its (dy, dx) and flipped if its third draw is 1."""
        m, (rows, columns) = self.max_shift, self.image_size
        padded = np.pad(pixels, ((0, 0), (0, 0), (m, m), (m, m)), mode=PADDING[self.protocol])  # type: ignore[call-overload]
        result = np.empty_like(pixels)
        for into, image, (dy, dx, flip) in zip(result, padded, draws.tolist(), strict=True):
            seen = image[:, m - dy : m - dy + rows, m - dx : m - dx + columns]
            into[:] = seen[:, :, ::-1] if flip else seen
        return result


def part_name(split: str) -> str:
    """Return the part of the data set as distributed that a split is taken from: train or test.

    Raises:
        InputError: an unknown split.
    """
    check_choice("split", split, SPLITS)
    return "test" if split == "test" else "train"


def split_numbers(n_images: int, split: str, seed: int, where: object) -> np.ndarray:
    """Return the positions, in ascending order, that a split has in its part of a data set.

    The first tenth of a permutation by the seed is val, what remains is train; test is all of the test part.

    Args:
        n_images: in the part (see `part_name`).
        split: train, val or test.
        seed: of the permutation; the splits of one seed have no image in common.
        where: file or folder, for the message.

    Raises:
        InputError: there are too few images.
    """
    n_val = max(1, round(n_images / 10))
    if n_images < 1 + (split != "test"):
        raise InputError(f"{where} holds {n_images} images, too few for the {split} split: give the whole data set.")
    if split == "test":
        return np.arange(n_images)
    order = generator("split", seed).permutation(n_images)
    return np.sort(order[:n_val] if split == "val" else order[n_val:])
