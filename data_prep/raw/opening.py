"""HDF5 files of any layout, opened for reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from data_prep.storage.hdf5 import open_volume, unreadable


@contextmanager
def open_raw(path: Path) -> Iterator[h5py.File]:
    """Open a file, all of which may be looked at; what h5py raises of a damaged part becomes one sentence.

    Raises:
        InputError: see `unreadable`.
    """
    try:
        with open_volume(path) as file:
            yield file
    except (KeyError, UnicodeDecodeError) as error:  # so h5py tells of an object that cannot be opened
        raise unreadable(path, error) from error
