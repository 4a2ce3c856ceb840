"""What is read of fastMRI files again and again: k-space, mask, coil maps and target, as they were when indexed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.fastmri.volume import N_DIMS, Volume
from data_prep.slices.crop import center_crop
from data_prep.storage.hdf5 import find_dataset, open_volume
from data_prep.storage.open_files import OpenFiles
from recon.errors import InputError

MAPS_TOLERANCE = 1e-3  # of the coil maps' sum of squares; complex64 has 1e-7


class VolumeReader:
    """Reads parts of fastMRI volumes, and refuses those that changed since they were described.

    Args:
        challenge: singlecoil or multicoil.
    """

    def __init__(self, challenge: str) -> None:
        self.has_coils = N_DIMS[challenge] == 4
        self._files = OpenFiles()
        self._maps: tuple[Path, Tensor | None] | None = None  # of the last volume

    def kspace(self, volume: Volume, s: int) -> Tensor:
        """Read a slice's k-space, (rows, columns) or (coils, rows, columns), complex64.

        Raises:
            InputError: the file cannot be read any more.
        """
        coils = (volume.n_coils,) if self.has_coils else ()
        values = self._read(volume, "kspace", s, (*coils, *volume.kspace_size))
        with np.errstate(over="ignore"):  # what becomes inf is told of when it is reconstructed
            return torch.from_numpy(values.astype(np.complex64, copy=False))

    def mask(self, volume: Volume) -> Tensor | None:
        """Read the file's own mask (columns,) bool; None where it has none.

        Raises:
            InputError: the file cannot be read any more.
        """
        if not volume.has_mask:
            return None
        return torch.from_numpy(self._read(volume, "mask", slice(None), volume.kspace_size[1:]).astype(bool))

    def maps(self, volume: Volume) -> Tensor | None:
        """Read the coil maps (coils, rows, columns) complex64, of a file of several coils that has them; else None.

        Raises:
            InputError: the file's maps are unusable, or it cannot be read any more.
        """
        if volume.n_coils == 1:
            return None
        if self._maps is None or self._maps[0] != volume.path:
            self._maps = volume.path, self._read_maps(volume)
        return self._maps[1]

    def _read_maps(self, volume: Volume) -> Tensor | None:
        expected = (volume.n_coils, *volume.kspace_size)
        with open_volume(volume.path) as file:
            found = find_dataset(file, "sensitivity_maps", volume.path)
            if found is None:
                return None
            fits = found.shape == expected and found.dtype.kind == "c"
            maps = found[()].astype(np.complex64) if fits else np.full(expected, np.nan)
        power = np.square(np.abs(maps)).sum(0)
        if not np.all((np.abs(power - 1) < MAPS_TOLERANCE) | (power == 0)):
            raise InputError(
                f"{volume.path}: 'sensitivity_maps' is not complex of shape {expected} with a root sum of squares over "
                "the coils of 1 (or 0): correct it."
            )
        return torch.from_numpy(maps)

    def target(self, volume: Volume, part: int | slice) -> Tensor:
        """Read the target of one slice or several, (..., rows, columns) float32, cropped to the volume's image_size.

        Raises:
            InputError: the file cannot be read any more.
        """
        values = self._files.read(volume.path, volume.recon_key, part).astype(np.float32, copy=False)
        try:
            return center_crop(torch.from_numpy(values), volume.image_size)
        except ValueError as error:
            raise InputError(
                f"{volume.path} changed while it was in use ({volume.recon_key!r}: {error}): start again."
            ) from error

    def _read(self, volume: Volume, key: str, part: int | slice, shape: tuple[int, ...]) -> np.ndarray:
        """Read what had this shape when the file was indexed."""
        values = self._files.read(volume.path, key, part)
        if values.shape != shape:
            raise InputError(
                f"{volume.path} changed while it was in use ({key!r} had shape {shape}, now {values.shape}): "
                "start again."
            )
        return values
