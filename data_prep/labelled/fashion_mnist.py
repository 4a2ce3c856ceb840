"""Fashion-MNIST: the four IDX files, or the part that comes with the package."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from importlib.resources import as_file
from pathlib import Path

import h5py
import numpy as np
from torchvision.datasets import FashionMNIST

from data_prep.labelled.base import check_labels
from data_prep.labelled.small_images import Part, SmallImageDataset, part_name
from data_prep.storage.cache import reason
from data_prep.storage.packaged import packaged_file
from recon.errors import InputError

SAMPLE = "data_prep/samples/fashion_mnist.h5"
CLASS_NAMES: list[str] = list(FashionMNIST.classes)
MEAN, STD = (0.2860,), (0.3530,)  # of the 28 x 28 pixels of the training part
PREFIXES = {"train": "train", "test": "t10k"}
FOLDERS = (".", "FashionMNIST/raw", "raw")  # torchvision's own places, too
LAYOUT = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the same two with t10k (or all without .gz)"
UNSIGNED_BYTES = 8  # IDX's code


class FashionMNISTDataset(SmallImageDataset):
    """Fashion-MNIST (arXiv 1708.07747), or its bundled part: 4000 training and 1000 test images of ten classes.

    The test split is the test part; train and val are 90 % and 10 % of the training part, a permutation by the seed
    (`split_numbers`). The 28 x 28 grey images are normalised by mean .2860 and std .3530. For protocols, shifts and
    speed see `SmallImageDataset`.

    Args:
        data: folder of the four IDX files, packed (.gz) or not; None means the bundled part.
        split: train, val or test.
        protocol: circular or crop, see `SmallImageDataset`.
        max_shift: circular protocol: in training, roll images circularly by a shift drawn from
            [-max_shift, max_shift]^2.
        flip: in training, flip left and right in half of all cases.
        image_size: (rows, columns) that the images are zero-padded or centre-cropped to.
        training: draw anew in each epoch.
        seed: of the division into train and val, and of the draws.
        progress: as for other data; nothing here takes long enough to show.

    Raises:
        InputError: a missing or damaged file, or bad settings.
    """

    def __init__(
        self,
        data: Path | None,
        split: str,
        protocol: str = "circular",
        max_shift: int = 0,
        flip: bool = True,
        image_size: Sequence[int] = (32, 32),
        training: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        name = part_name(split)
        part = read_bundled(name) if data is None else read_fashion_mnist(Path(data), name)
        super().__init__(part, split, MEAN, STD, protocol, image_size, max_shift, flip, training, seed)


def read_bundled(name: str) -> Part:
    """Read the bundled part of the training or the test images (name: train or test)."""
    with as_file(packaged_file(SAMPLE)) as path, h5py.File(path, "r") as file:
        return Part(
            name, file[f"{name}/images"][()][:, None], file[f"{name}/labels"][()].astype(int), CLASS_NAMES, path
        )


def read_fashion_mnist(data: Path, name: str) -> Part:
    """Read the training or the test part from its two IDX files.

    Args:
        data: folder that holds them, or that torchvision put them below.
        name: train or test.

    Raises:
        InputError: a file is missing, damaged, or not what its name says.
    """
    images_file = _find(data, f"{PREFIXES[name]}-images-idx3-ubyte")
    labels_file = _find(data, f"{PREFIXES[name]}-labels-idx1-ubyte")
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise InputError(
            f"{images_file} holds {len(images)} images, but {labels_file.name} {len(labels)} labels: copy both again."
        )
    return Part(name, images[:, None], check_labels(labels, len(CLASS_NAMES), labels_file), CLASS_NAMES, images_file)


def read_idx(path: Path, n_axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, packed by gzip or not (yann.lecun.com/exdb/mnist).

    Four bytes, (0, 0, 8, number of axes), the axes' lengths as big-endian 32-bit numbers, then the values.

    Args:
        path: the file.
        n_axes: that it must have.

    Returns:
        uint8 array.

    Raises:
        InputError: the file cannot be read, is truncated, or is another kind of file.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): copy it again.") from error
    head = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:head], ">u4").astype(int) if len(content) >= head else np.zeros(0, int)
    if content[:4] != bytes((0, 0, UNSIGNED_BYTES, n_axes)) or len(content) != head + shape.prod():
        raise InputError(
            f"{path} is truncated or no IDX file of {n_axes} axes of unsigned bytes: copy it again, as distributed."
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _find(data: Path, name: str) -> Path:
    for folder in FOLDERS:
        for suffix in ("", ".gz"):
            path = data / folder / f"{name}{suffix}"
            if os.path.isfile(path):
                return path
    raise InputError(f"{data} has no {name}.gz: give the folder of Fashion-MNIST's files, {LAYOUT}.")
