"""How a file is written whole or not at all, and read without waiting."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from data_prep.storage.folder import cache_folder

__all__ = [
    "NAME_PART",
    "cache_folder",
    "open_file",
    "reason",
    "refuse_pipe",
    "replace_file",
    "temporary_sibling",
    "write_hdf5",
]

NAME_PART = 50  # characters of a folder's name that the name of a derived file takes up


def temporary_sibling(path: Path) -> Path:
    """Return a hidden, unused, short name in the same folder (so that a rename onto `path` is atomic)."""
    return path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; on success move it to `path`, on any error remove it.

    A reader sees the old file or the whole new one, never a part.

    Raises:
        OSError: the file cannot be moved to its place.
    """
    temporary = temporary_sibling(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the content before the name, also when the power fails
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_pipe(path: Path) -> None:
    """Refuse what would be waited on for ever.

    Raises:
        OSError: it is a pipe or a device.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is a pipe or a device, not a file")


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device.
    """
    refuse_pipe(path)
    return path.open("rb")


def reason(error: BaseException) -> str:
    """Return what the system says of an error, on one line: h5py wraps it in several."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()).rstrip(".")[:200]


def write_hdf5(path: Path, datasets: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> None:
    """Write a small HDF5 file, whole or not at all.

    It is put together in memory first: HDF5 itself does not survive a disk that fills while it writes.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        file.attrs.update(attributes or {})
    with replace_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
