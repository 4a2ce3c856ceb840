"""Folders of classified image files, as torchvision's ImageFolder has them: found, checked once, and decoded."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_prep.labelled.base import SPLITS
from data_prep.storage.cache import open_file, reason
from data_prep.storage.index import describe_files, index_file
from data_prep.storage.notes import note
from recon.errors import InputError, check_choice

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
OTHER_SUFFIXES = (".bmp", ".gif", ".jp2", ".ppm", ".pgm", ".tif", ".tiff")  # of images that are not read
FOLDERS = {"train": "train", "val": "val", "test": "val"}  # the labels of ImageNet's own test images are not public
LAYOUT = "<data>/train/<class>/*.JPEG and <data>/val/<class>/*.JPEG, with the same classes"
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # what stands last in a file that is whole
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes, as of 16-bit grey PNG files
TOO_WIDE = ("I", "F")  # modes of 32 bits, whose black and white nobody knows
BAD = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # Pillow's complaints


@dataclass(frozen=True)
class ClassFolder:
    """The images of one class.

    Attributes:
        path: the folder.
        files: names in it, sorted; all of them were checked.
    """

    path: Path
    files: tuple[str, ...]


def find_images(data: Path, split: str, progress: bool = True) -> list[ClassFolder]:
    """Find and check the images of a split, class by class.

    Each file is opened once (`check_image`); the class folders are then remembered by their time of change, that is
    until a file is added, removed or renamed. Hidden files and files of other kinds do not count.

    Args:
        data: holds train and val (LAYOUT).
        split: train, or val or test, which are both the folder val.
        progress: show a progress bar while files are opened.

    Returns:
        The classes, sorted by name.

    Raises:
        InputError: a folder is missing or empty, train and val have different classes, or the first bad file.
    """
    check_choice("split", split, SPLITS)
    folder = Path(data) / FOLDERS[split]
    classes = _class_folders(folder)
    other = Path(data) / ("val" if folder.name == "train" else "train")
    if os.path.isdir(other):
        _compare(folder, other)
    about = {"folder": str(folder), "kind": "images"}
    store = index_file(folder, "images")
    return describe_files(store, about, [(path,) for path in classes], _read_class, _restore_class, progress, "class")


def check_image(path: Path) -> None:
    """Open an image file and look at its header and its last bytes; what does not end as it should is decoded.

    So a file that is no image, or is cut short, is found at a hundredth of what decoding takes. Of PNG files, which
    Pillow otherwise decodes without, all checksums are compared.

    Raises:
        InputError: names the file.
    """
    try:
        with open_file(path) as file, Image.open(file) as image:
            end = ENDS.get(image.format or "")
            _check_mode(image, path)
            if image.format == "PNG":
                image.verify()
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            whole = end is not None and file.read().endswith(end)
    except BAD as error:
        raise _unreadable(path, error) from error
    if not whole:
        read_image(path)


def read_image(path: Path) -> Tensor:
    """Decode an image file.

    Pillow decodes; torchvision's own decoders are deprecated (since 0.29) and give the same pixels. The tensor's
    memory is as decoded, channels last, which torchvision resizes fastest. Grey values of 16 bits are scaled to 8.

    Returns:
        (3, rows, columns) uint8, red, green and blue.

    Raises:
        InputError: names the file.
    """
    try:
        with open_file(path) as file, Image.open(file) as image:
            _check_mode(image, path)
            if image.mode in SIXTEEN_BITS:
                grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535  # rounded
                return torch.from_numpy(np.repeat(grey.astype(np.uint8)[..., None], 3, -1)).permute(2, 0, 1)
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except BAD as error:
        raise _unreadable(path, error) from error


def _check_mode(image: Image.Image, path: Path) -> None:
    if image.mode in TOO_WIDE:
        raise InputError(f"{path} holds pixels of 32 bits (mode {image.mode}): save it with 8 or 16 bits for each.")


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as an image ({reason(error)}): copy it again or leave it out.")


def _class_folders(folder: Path) -> list[Path]:
    """The class folders of a split, sorted.

    Raises:
        InputError: the split is missing, or holds none.
    """
    try:
        children = [child for child in os.scandir(folder) if not child.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"The split's folder {folder} cannot be read ({reason(error)}): give the folder of {LAYOUT}."
        ) from error
    found = sorted(Path(child) for child in children if child.is_dir())
    if not found:
        loose = sum(child.name.lower().endswith(SUFFIXES) for child in children)
        what = f"{loose} images, but no class folder to put them in" if loose else "no class folders and no images"
        raise InputError(f"{folder} holds {what}: the layout is {LAYOUT}.")
    return found


def _compare(folder: Path, other: Path) -> None:
    """Refuse two splits of different classes."""
    names, others = ({path.name for path in _class_folders(split)} for split in (folder, other))
    for here, there, missing in ((folder, other, names - others), (other, folder, others - names)):
        if missing:
            raise InputError(
                f"{here} has the class folder {min(missing)} but {there} has not ({len(missing)} such): "
                "both need the same classes."
            )


def _read_class(folder: Path) -> ClassFolder:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"The class folder {folder} cannot be read ({reason(error)}): make it readable.") from error
    files = sorted(name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES))
    if not files:
        raise InputError(
            f"The class folder {folder} holds no image ({', '.join(SUFFIXES)}): fill it, or move it out of train "
            "and val alike."
        )
    others = [name for name in sorted(names) if name not in files and Path(name).suffix.lower() in OTHER_SUFFIXES]
    if others:
        note(f"{folder / others[0]} and {len(others) - 1} more are left out: images here are {', '.join(SUFFIXES)}.")
    for name in files:
        check_image(folder / name)
    return ClassFolder(folder, tuple(files))


def _restore_class(values: dict[str, Any], folder: Path) -> ClassFolder:
    return ClassFolder(folder, tuple(map(str, values["files"])))
