"""Reconstructions of a fastMRI file as files: fastMRI's submission format, and NIfTI."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from data_prep.fastmri.volume import Volume
from data_prep.storage.cache import write_hdf5
from data_prep.storage.nifti import write_nifti


def write_volume(path: Path, volume: Volume, images: np.ndarray, made_by: str) -> None:
    """Write a reconstruction, whole or not at all.

    Args:
        path: the file, *.h5 or *.nii.gz.
        volume: what was reconstructed. In NIfTI the voxel where its acquired field is centred is at (0, 0, 0) mm, and
            voxels are of 1 mm where its header does not tell their size.
        images: (slices, rows, columns) float32 in the file's units.
        made_by: stands in the file.

    Raises:
        OSError: the file cannot be written.
    """
    if path.suffix == ".h5":
        write_hdf5(path, {"reconstruction": images}, {"made_by": made_by})
        return
    sizes = zip(volume.kspace_size, volume.image_size, images.shape[1:], strict=True)
    origin = *(_center(*of_axis) for of_axis in sizes), len(images) // 2
    write_nifti(path, images, volume.voxel_size_mm or (1, 1, 1), origin, made_by)


def _center(*sizes: int) -> int:
    """Where an axis has its pixel n // 2, the Fourier transform's centre, after each of its crops and pads."""
    return sizes[0] // 2 - sum(int((old - new) / 2) for old, new in pairwise(sizes))
