"""Tiny data sets of classified images in the layouts of CIFAR, ImageNet and Fashion-MNIST."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CIFAR_FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FASHION_FILES = {"train": "train", "test": "t10k"}


class _Bytes:
    """A Python 2 string that holds bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes what Python 2's cPickle wrote into CIFAR's files: byte strings, NumPy's names and numbers of old."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def _save_string(self, content: bytes) -> None:
        short = len(content) < 256
        head = pickle.SHORT_BINSTRING + bytes([len(content)]) if short else pickle.BINSTRING
        self.write(head + (b"" if short else struct.pack("<i", len(content))) + content)

    def save_str(self, text: str) -> None:
        self._save_string(text.encode("latin1"))

    def save_bytes(self, wrapped: _Bytes) -> None:
        self._save_string(wrapped.content)

    def save_array(self, array: np.ndarray) -> None:
        self._save_call("numpy.core.multiarray", "_reconstruct", np.ndarray, (0,), "b")
        self.save((1, array.shape, array.dtype, False, _Bytes(array.tobytes())))
        self.write(pickle.BUILD)

    def save_dtype(self, dtype: np.dtype) -> None:
        self._save_call("numpy", "dtype", dtype.str[1:], 0, 1)
        self.save((3, "|", None, None, None, -1, -1, 0))
        self.write(pickle.BUILD)

    def save_type(self, kind: type) -> None:
        self.write(pickle.GLOBAL + f"{kind.__module__}\n{kind.__name__}\n".encode())

    def _save_call(self, module: str, name: str, *arguments: Any) -> None:
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.save(arguments)
        self.write(pickle.REDUCE)

    dispatch[str] = save_str
    dispatch[_Bytes] = save_bytes
    dispatch[np.ndarray] = save_array
    dispatch[np.dtype("u1").__class__] = save_dtype
    dispatch[type] = save_type


def write_python2_pickle(path: Path, content: object) -> Path:
    """Pickle as Python 2 did, protocol 2."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, 2).dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path


def class_patterns(n_classes: int, shape: Sequence[int]) -> np.ndarray:
    """A pattern of coarse blocks for each class, (classes, channels, rows, columns) in [0, 255]: easy to tell apart."""
    channels, rows, columns = shape
    coarse = np.random.default_rng(0).uniform(30, 225, (n_classes, channels, 4, 4))
    return coarse[:, :, np.arange(rows) * 4 // rows][:, :, :, np.arange(columns) * 4 // columns]


def labelled_images(n: int, n_classes: int, shape: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, channels, rows, columns) uint8, the class's pattern in noise, and labels, all classes in turn."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % n_classes)
    images = class_patterns(n_classes, shape)[labels] + random.normal(0, 12, (n, *shape))
    return images.clip(0, 255).astype(np.uint8), labels


def write_cifar(folder: Path, n_classes: int = 10, n_train: int = 50, n_test: int = 20) -> Path:
    """Write `<folder>/cifar-10-batches-py` or `<folder>/cifar-100-python`; returns `folder`."""
    root = folder / CIFAR_FOLDERS[n_classes]
    train, test = (labelled_images(n, n_classes, (3, 32, 32), seed) for n, seed in ((n_train, 1), (n_test, 2)))
    if n_classes == 10:
        names: dict[str, Any] = {"num_cases_per_batch": 10000, "label_names": CIFAR10_NAMES, "num_vis": 3072}
        write_python2_pickle(root / "batches.meta", names)
        for number, part in enumerate(np.array_split(np.arange(n_train), 5), 1):
            _write_cifar_batch(root / f"data_batch_{number}", train[0][part], train[1][part], 10)
        _write_cifar_batch(root / "test_batch", *test, 10)
    else:
        coarse = [f"coarse{i:02d}" for i in range(20)]
        names = {"fine_label_names": [f"fine{i:02d}" for i in range(100)], "coarse_label_names": coarse}
        write_python2_pickle(root / "meta", names)
        _write_cifar_batch(root / "train", *train, 100)
        _write_cifar_batch(root / "test", *test, 100)
    return folder


def _write_cifar_batch(path: Path, images: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
    keyed = {"labels" if n_classes == 10 else "fine_labels": labels.tolist()}
    if n_classes == 100:
        keyed["coarse_labels"] = (labels // 5).tolist()
    names = [f"image_s_{i:06d}.png" for i in range(len(labels))]
    data = images.reshape(len(images), 3072)
    write_python2_pickle(path, {"batch_label": path.name, **keyed, "data": data, "filenames": names})


def write_fashion_mnist(folder: Path, n_train: int = 50, n_test: int = 20, packed: bool = True) -> Path:
    """Write the four IDX files, by default packed as distributed; returns `folder`."""
    for part, n, seed in (("train", n_train, 1), ("test", n_test, 2)):
        images, labels = labelled_images(n, 10, (1, 28, 28), seed)
        write_idx(folder / f"{FASHION_FILES[part]}-images-idx3-ubyte", images[:, 0], packed)
        write_idx(folder / f"{FASHION_FILES[part]}-labels-idx1-ubyte", labels, packed)
    return folder


def write_idx(path: Path, values: np.ndarray, packed: bool = True) -> Path:
    """Write an IDX file of unsigned bytes, with .gz at its name if it is packed."""
    head = bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    content = head + values.astype(np.uint8).tobytes()
    path = path.with_name(f"{path.name}.gz") if packed else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def write_imagenet(
    folder: Path,
    n_classes: int = 3,
    n_per_class: int | Mapping[str, int] = 4,
    size: Sequence[int] = (80, 96),
    splits: Sequence[str] = ("train", "val"),
) -> Path:
    """Write `<folder>/<split>/<class>/*.JPEG`; returns `folder`.

    Args:
        folder: is made.
        n_classes: class folders n00000001, n00000002, ...
        n_per_class: images in each, or by split.
        size: (rows, columns) of the JPEGs; every second one has them exchanged.
        splits: which to write.
    """
    patterns = {shape: class_patterns(n_classes, (3, *shape)) for shape in (tuple(size), tuple(size[::-1]))}
    for seed, split in enumerate(splits):
        random = np.random.default_rng(seed)
        n = n_per_class if isinstance(n_per_class, int) else n_per_class[split]
        for label in range(n_classes):
            name = f"n{label + 1:08d}"
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                pattern = patterns[tuple(size[::-1] if i % 2 else size)][label]
                image = (pattern + random.normal(0, 8, pattern.shape)).clip(0, 255).astype(np.uint8)
                path = folder / split / name / f"{name}_{split}_{i:04d}.JPEG"
                Image.fromarray(image.transpose(1, 2, 0)).save(path, "JPEG", quality=95)
    return folder
