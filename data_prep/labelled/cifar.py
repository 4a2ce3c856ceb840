"""CIFAR-10 and CIFAR-100: the pickled batches as distributed, read without running what a pickle may hold."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from data_prep.labelled.base import check_labels
from data_prep.labelled.small_images import Part, SmallImageDataset, part_name
from data_prep.storage.cache import open_file
from recon.errors import InputError

SIDE = 32
RECONSTRUCT: Any = np.empty(0).__reduce__()[0]  # what NumPy's pickles call, in whatever module it is today


class Archive(NamedTuple):
    """What tells the two archives apart; names as torchvision knows them.

    Attributes:
        source: torchvision's class.
        labels: the labels' key in a batch.
        mean: of each channel over the training part, of x in [0, 1].
        std: likewise.
    """

    source: type[CIFAR10]
    labels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


ARCHIVES = {
    10: Archive(CIFAR10, "labels", (0.4914, 0.4822, 0.4466), (0.2470, 0.2435, 0.2616)),
    100: Archive(CIFAR100, "fine_labels", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


class CIFARDataset(SmallImageDataset):
    """CIFAR-10 or CIFAR-100 (www.cs.toronto.edu/~kriz/cifar.html), 32 x 32 colour images.

    The test split is the test batch; train and val are 90 % and 10 % of the training images, a permutation by the
    seed (`split_numbers`). Images are normalised by the training images' mean and standard deviation of each channel.
    For protocols, shifts and speed see `SmallImageDataset`; the papers' circular shifts are up to 3 pixels.

    Args:
        data: folder that holds cifar-10-batches-py or cifar-100-python, or this folder itself.
        split: train, val or test.
        n_classes: 10 or 100.
        protocol: circular or crop, see `SmallImageDataset`.
        max_shift: circular protocol: in training, roll images circularly by a shift drawn from
            [-max_shift, max_shift]^2.
        flip: in training, flip left and right in half of all cases.
        training: draw anew in each epoch.
        seed: of the division into train and val, and of the draws.
        progress: as for other data; nothing here takes long enough to show.

    Raises:
        InputError: no such folder, another archive, a damaged file, or bad settings.
    """

    def __init__(
        self,
        data: Path | None,
        split: str,
        n_classes: int = 10,
        protocol: str = "circular",
        max_shift: int = 0,
        flip: bool = True,
        training: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        if n_classes not in ARCHIVES:
            raise InputError(f"n_classes is {n_classes}: CIFAR has 10 or 100.")
        part, archive = read_cifar(data, part_name(split), n_classes), ARCHIVES[n_classes]
        super().__init__(
            part, split, archive.mean, archive.std, protocol, (SIDE, SIDE), max_shift, flip, training, seed
        )


def read_cifar(data: Path | None, name: str, n_classes: int) -> Part:
    """Read the training or the test images of an archive, from all of their batches.

    Args:
        data: folder that holds the archive's folder, or this folder itself.
        name: train or test.
        n_classes: 10 or 100.

    Raises:
        InputError: no such folder, another archive, or a batch that is missing, damaged or not what it should be.
    """
    archive = ARCHIVES[n_classes]
    folder = find_archive(data, n_classes)
    class_names = _class_names(folder / archive.source.meta["filename"], archive.source.meta["key"], n_classes)
    files = archive.source.train_list if name == "train" else archive.source.test_list
    batches = [_read_batch(folder / file, archive.labels, n_classes) for file, _ in files]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Part(name, images, labels, class_names, folder)


def find_archive(data: Path | None, n_classes: int) -> Path:
    """Return the folder of the batches.

    Raises:
        InputError: it is not there; tells what is.
    """
    wanted = ARCHIVES[n_classes].source
    expected = f"the folder that holds {wanted.base_folder}, as tar -xzf {wanted.filename} unpacks it"
    if data is None:
        raise InputError(f"CIFAR-{n_classes} does not come with the package: give as data {expected}.")
    for folder in (Path(data) / wanted.base_folder, Path(data)):
        if os.path.isfile(folder / wanted.meta["filename"]):
            return folder
    for n, (source, *_) in ARCHIVES.items():
        name = source.meta["filename"]
        if os.path.isfile(Path(data) / source.base_folder / name) or os.path.isfile(Path(data) / name):
            raise InputError(f"{data} holds CIFAR-{n}, not CIFAR-{n_classes}: give {expected}, or use CIFAR-{n}.")
    raise InputError(f"{data} has no {wanted.base_folder}/{wanted.meta['filename']}: give {expected}.")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, lists, texts and numbers, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three that an array is made with.

        Raises:
            UnpicklingError: the pickle asks for anything else.
        """
        known = {"_reconstruct": RECONSTRUCT, "ndarray": np.ndarray, "dtype": _dtype}
        if module.partition(".")[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch holds")
        return known[name]


def _dtype(code: str, align: int = 0, copy: int = 0) -> np.dtype:
    """As NumPy's, which nowadays wants true booleans and warns of those in CIFAR's files."""
    return np.dtype(code, align=bool(align), copy=bool(copy))


def _unpickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file, written by Python 2; its texts as text.

    Raises:
        InputError: the file cannot be read or holds anything else.
    """
    try:
        with open_file(path) as file:
            found = _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: unpack the archive again.") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path} is damaged or no CIFAR file ({_short(error)}): unpack the archive again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no dictionary, as CIFAR's files do: unpack the archive again.")
    return found


def _short(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:100] or type(error).__name__


def _read_batch(path: Path, key: str, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (images, 3, 32, 32) uint8 and labels (images,) int64 of a batch."""
    batch = _unpickle(path)
    data, labels = batch.get("data"), batch.get(key)
    images = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3 * SIDE * SIDE,)
    if data is None or not images or not isinstance(labels, list) or not all(type(one) is int for one in labels):
        raise InputError(
            f"{path} lacks 'data' of 3072 bytes an image or whole numbers {key!r}, so that it is no batch of "
            f"CIFAR-{n_classes}: unpack the archive again."
        )
    if len(labels) != len(data):
        raise InputError(f"{path} holds {len(data)} images, but {len(labels)} {key!r}: unpack the archive again.")
    largest = max(labels, key=abs, default=0)
    if abs(largest) >= 2**63:
        raise InputError(f"{path} holds a label of {largest.bit_length()} bits: unpack the archive again.")
    return data.reshape(-1, 3, SIDE, SIDE), check_labels(np.array(labels, np.int64), n_classes, path)


def _class_names(path: Path, key: str, n_classes: int) -> list[str]:
    names = _unpickle(path).get(key)
    if not isinstance(names, list) or len(names) != n_classes:
        raise InputError(f"{path} does not name {n_classes} classes in {key!r}: unpack the archive again.")
    return [str(name) for name in names]
