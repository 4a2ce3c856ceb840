"""ImageNet and whatever else lies in class folders, as samples of one size."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from data_prep.labelled.base import LabelledDataset, LabelledImage
from data_prep.labelled.image_folder import FOLDERS, LAYOUT, find_images, read_image
from data_prep.slices.seeds import generator
from recon.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_AREA, CROP_ASPECT, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # torchvision's RandomResizedCrop


class ImageNetDataset(LabelledDataset):
    """Images in class folders: ``<data>/train/<class>/*.JPEG`` and ``<data>/val/<class>/*.JPEG``.

    Classes are numbered in the folders' order by name, as torchvision's ImageFolder and its pretrained weights have
    them. The folder val is both the val and the test split: the labels of ImageNet's own test images are not public.

    The papers' recipe (arXiv 2011.14214, experiments on ImageNet): the shorter side is resized to 256, the centre
    224 x 224 cropped, in training flipped left and right in half of all cases. Resizing is bilinear with
    antialiasing, on bytes. What `shifted_view` moves is the window over the resized image, so that true content comes
    in (crop-shift consistency); view_reach is (resize - largest side) // 2.

    Args:
        data: folder that holds train and val.
        split: train, val or test.
        image_size: (rows, columns) of the window.
        resize: length of the shorter side before; for tiny images for instance 72 with an image_size of [64, 64].
        max_shift: in training, roll the window's content circularly by a shift drawn from [-max_shift, max_shift]^2.
        flip: in training, flip left and right in half of all cases.
        random_crop: in training, take instead of the centre a part of 8 to 100 % of the area, with an aspect from
            3/4 to 4/3, and resize it to image_size: torchvision's RandomResizedCrop. The papers' recipe does without;
            it is what most published accuracies rest on.
        training: draw anew in each epoch.
        seed: of the draws.
        progress: show a progress bar while files are checked, the first time a folder is used.

    Raises:
        InputError: no such folder, an empty one, different classes in train and val, a bad file, or bad settings.
    """

    def __init__(
        self,
        data: Path | None,
        split: str,
        image_size: Sequence[int] = (224, 224),
        resize: int = 256,
        max_shift: int = 0,
        flip: bool = True,
        random_crop: bool = False,
        training: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        if data is None:
            raise InputError(f"ImageNet does not come with the package: give as data the folder of {LAYOUT}.")
        if resize < max(image_size, default=1):
            raise InputError(
                f"resize is {resize}, less than image_size {list(image_size)}: resize to the largest side or more."
            )
        classes = find_images(Path(data), split, progress)
        labels = np.repeat(np.arange(len(classes)), [len(one.files) for one in classes])
        names = [one.path.name for one in classes]
        super().__init__(labels, names, image_size, MEAN, STD, max_shift, flip, training, seed)
        self.view_reach = (resize - max(self.image_size)) // 2
        self.folder, self.resize, self.random_crop = Path(data) / FOLDERS[split], resize, random_crop
        self._files = np.array([os.fsencode(file) for one in classes for file in one.files])  # forks share an array
        self._last: tuple[int, Tensor] | None = None

    def __getitem__(self, key: tuple[int, int] | int) -> LabelledImage:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: its file cannot be read any more.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        pixels = self._augmented(epoch, index) if self.training else self._window(index, (0, 0))
        return LabelledImage(self.normalise(pixels), torch.tensor(self.labels[index]), torch.tensor(index))

    @property
    def files(self) -> list[Path]:
        """The images' files."""
        return [self.folder / self.sample_name(index) for index in range(len(self))]

    def sample_name(self, index: int) -> str:
        """Return class folder and file, for instance n01440764/ILSVRC2012_val_00000293.JPEG."""
        return f"{self.class_names[self.labels[index]]}/{os.fsdecode(self._files[index])}"

    def _path(self, index: int) -> Path:
        return self.folder / self.sample_name(index)

    def _wide(self, index: int) -> Tensor:
        if self._last is None or self._last[0] != index:  # decoded once for all views of an image
            self._last = index, F.resize(read_image(self._path(index)), [self.resize], antialias=True)
        return self._last[1]

    def _augmented(self, epoch: int, index: int) -> Tensor:
        """The pixels (3, rows, columns) uint8 of a training sample: cropped, then moved, then flipped."""
        if self.random_crop:
            pixels = read_image(self._path(index))
            box = random_box(pixels.shape[1], pixels.shape[2], generator("crop", self.seed, epoch, index))
            pixels = F.resized_crop(pixels, *box, list(self.image_size), antialias=True)
        else:
            pixels = self._window(index, (0, 0))
        dy, dx, flip = self._draws(epoch, index)
        if dy or dx:
            pixels = pixels.roll((dy, dx), (-2, -1))
        return pixels.flip(-1) if flip else pixels


def random_box(rows: int, columns: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the part of an image that RandomResizedCrop shows (arXiv 1409.4842, section 6; torchvision's).

    Its area is uniform in [0.08, 1] of the image's, the logarithm of its aspect (columns to rows) uniform between those
    of 3/4 and 4/3; after ten draws that do not fit, the largest central part of a permitted aspect is taken.

    Returns:
        (top, left, rows, columns).
    """
    low, high = CROP_ASPECT
    for _ in range(CROP_TRIES):
        area = rows * columns * random.uniform(*CROP_AREA)
        aspect = math.exp(random.uniform(math.log(low), math.log(high)))
        height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < height <= rows and 0 < width <= columns:
            top, left = random.integers((rows - height, columns - width), endpoint=True).tolist()
            return top, left, height, width
    height, width = min(rows, round(columns / low)), min(columns, round(rows * high))
    return (rows - height) // 2, (columns - width) // 2, height, width
