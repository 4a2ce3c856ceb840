"""Read HDF5 files: few are kept open, and none is shared between processes."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from data_prep.storage.hdf5 import check_sources, unreadable
from recon.errors import InputError

LARGEST_CACHE = 2**26  # bytes, of the chunks of one dataset


class OpenFiles:
    """Reads parts of HDF5 files and keeps the `limit` files used last open, with their datasets.

    To open one takes longer than to read an image from it. So where a dataset lies in one piece, as in fastMRI's
    files, that place is kept in mind, and later reads go past HDF5, as long as the file does not change.

    What HDF5 has open survives neither a pickle nor a fork: a copy in another process starts with none.

    Args:
        limit: number of files kept open.
    """

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self._process = os.getpid()
        self._files: OrderedDict[Path, tuple[h5py.File, dict[str, h5py.Dataset]]] = OrderedDict()
        self._places: dict[tuple[Path, str], _Place] = {}

    def read(self, path: Path, key: str, part: int | slice = slice(None)) -> np.ndarray:
        """Read a part, along the first axis, of one dataset.

        Raises:
            InputError: the file cannot be read, or no longer holds the dataset or the part.
        """
        try:
            place = self._places.get((path, key))
            if place is not None and isinstance(part, int):
                values = place.read(path, part)
                if values is not None:
                    return values
                self._forget(path)
            return np.asarray(self._dataset(path, key)[part])
        except InputError:
            raise
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"{path} changed while it was in use ({key!r}: {error}): start again.") from error
        except (OSError, RuntimeError, MemoryError) as error:
            raise unreadable(path, error) from error

    def close(self) -> None:
        """Close all files of this process."""
        files, self._files = self._files, OrderedDict()
        if self._process == os.getpid():
            for file, _ in files.values():
                file.close()

    def _forget(self, path: Path) -> None:
        """Close the file, which may have been replaced since it was opened."""
        self._places = {place: at for place, at in self._places.items() if place[0] != path}
        if path in self._files:
            self._open(path)[0].close()
            del self._files[path]

    def _dataset(self, path: Path, key: str) -> h5py.Dataset:
        file, datasets = self._open(path)
        if key not in datasets:
            dataset = _open_dataset(file, key)
            check_sources(dataset, path)
            datasets[key] = dataset
            place = _place(file, datasets[key])
            if place is not None:
                self._places[path, key] = place
        return datasets[key]

    def _open(self, path: Path) -> tuple[h5py.File, dict[str, h5py.Dataset]]:
        if self._process != os.getpid():
            self._process, self._files = os.getpid(), OrderedDict()
        if path not in self._files:
            self._files[path] = h5py.File(path, "r"), {}
            while len(self._files) > self.limit:
                self._files.popitem(last=False)[1][0].close()
        self._files.move_to_end(path)
        return self._files[path]

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[int]]:
        return OpenFiles, (self.limit,)


class _Place(NamedTuple):
    """Where in a file a dataset lies in one piece."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    stamp: tuple[int, int]  # of the file: its size, and when it was changed

    def read(self, path: Path, index: int) -> np.ndarray | None:
        """One part along the first axis; None where HDF5 is to say what is wrong."""
        if not 0 <= index < self.shape[0]:
            return None
        values = np.empty(self.shape[1:], self.dtype)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if _stamp(descriptor) != self.stamp:
                return None
            n_bytes = os.preadv(descriptor, [values.data], self.offset + index * values.nbytes)
        finally:
            os.close(descriptor)
        return values if n_bytes == values.nbytes else None


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _place(file: h5py.File, dataset: h5py.Dataset) -> _Place | None:
    """None for a dataset in chunks, of another type than NumPy's, or on a system without `preadv`."""
    known = dataset.dtype.kind in "fc" and dataset.dtype.isnative and dataset.ndim > 1 and dataset.size
    packed = dataset.id.get_type().get_size() == dataset.dtype.itemsize
    offset = dataset.id.get_offset() if known and packed and file.driver == "sec2" and hasattr(os, "preadv") else None
    if offset is None:
        return None
    return _Place(offset, dataset.shape, dataset.dtype, _stamp(file.id.get_vfd_handle()))


def _open_dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """Open a dataset; where a chunk holds several slices, keep all those of a slice for the next ones."""
    dataset = file[key]
    if dataset.chunks is None or dataset.chunks[0] == 1:
        return dataset
    n_chunks = math.prod(-(-n // side) for n, side in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
    n_bytes = n_chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize
    if n_bytes > LARGEST_CACHE:
        return dataset
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(100 * n_chunks + 1, n_bytes, 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, key.encode(), access))
