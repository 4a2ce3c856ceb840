"""Open HDF5 files, few at a time and never shared between processes."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np

from data_prep.volume import unreadable
from recon.errors import InputError


class Handles:
    """Reads parts of HDF5 files and keeps the `limit` files used last open.

    HDF5's handles survive neither a pickle nor a fork: a copy in another process starts with none.

    Args:
        limit: number of files kept open.
    """

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self._process = os.getpid()
        self._files: OrderedDict[Path, h5py.File] = OrderedDict()

    def read(self, path: Path, key: str, part: int | slice = slice(None)) -> np.ndarray:
        """Read a part, along the first axis, of one dataset.

        Raises:
            InputError: the file cannot be read, or no longer holds the dataset or the part.
        """
        try:
            return np.asarray(self._open(path)[key][part])
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"{path} changed while it was in use ({key!r}: {error}): start again.") from error
        except (OSError, RuntimeError) as error:
            raise unreadable(path, error) from error

    def close(self) -> None:
        """Close all files of this process."""
        files, self._files = self._files, OrderedDict()
        if self._process == os.getpid():
            for file in files.values():
                file.close()

    def _open(self, path: Path) -> h5py.File:
        if self._process != os.getpid():
            self._process, self._files = os.getpid(), OrderedDict()
        if path not in self._files:
            self._files[path] = h5py.File(path, "r")
            while len(self._files) > self.limit:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def __reduce__(self) -> tuple[type[Handles], tuple[int]]:
        return Handles, (self.limit,)
