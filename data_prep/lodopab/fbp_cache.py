"""Filtered back-projections of LoDoPaB's observations, computed once and kept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_prep.lodopab.volume import CTVolume
from data_prep.storage.cache import NAME_PART, cache_folder, reason, write_hdf5
from data_prep.storage.index import file_stamp
from data_prep.storage.locks import locked
from data_prep.storage.open_files import OpenFiles
from data_prep.storage.packaged import CT_PHYSICS, packaged_hash
from recon.errors import InputError
from recon.physics.ct import MU_MAX, fbp

BATCH = 32  # slices that are back-projected together


def fbp_images(volumes: Sequence[CTVolume], window: str, frequency_scaling: float, progress: bool = True) -> list[Path]:
    """Return, for each volume, the HDF5 file with its filtered back-projections; computes those that are missing.

    One file for each file of observations, `<cache>/fbp/<folder>-<key>/fbp_<file>`: dataset `data` float32 (slices,
    rows, columns) in the observations' unit, mu / MU_MAX, and as attributes all that it is a function of: geometry,
    window, frequency scaling, size and modification time of the observations, and a hash of the code. A file whose
    attributes or shape are others is computed anew. Each file appears whole or not at all, with bytes that depend on
    nothing else, so that an interrupted run goes on where it stopped and ends with the same files. Of several processes
    one computes and the others wait for it.

    Args:
        volumes: the files of observations.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter, above 0 and at most 1.
        progress: show a progress bar while files are computed.

    Raises:
        InputError: bad settings of the filter, observations that cannot be read or are not finite, or no space.
    """
    made_from = [_made_from(volume, window, frequency_scaling) for volume in volumes]
    paths = [_path(volume, attributes) for volume, attributes in zip(volumes, made_from, strict=True)]
    found = list(zip(volumes, paths, made_from, strict=True))
    missing = [each for each in found if not _holds(*each)]
    try:
        for folder in sorted({path.parent for _, path, _ in missing}):
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                _compute([each for each in missing if each[1].parent == folder and not _holds(*each)], progress)
    except OSError as error:
        gigabytes = sum(4 * v.n_slices * v.image_size[0] * v.image_size[1] for v, _, _ in missing) / 1e9
        raise InputError(
            f"The filtered back-projections ({gigabytes:.1f} GB) cannot be written to {cache_folder() / 'fbp'} "
            f"({reason(error)}): free space there, or set RECON_CACHE to another folder."
        ) from error
    return paths


def fbp_image(observation: np.ndarray, volume: CTVolume, window: str, frequency_scaling: float) -> Tensor:
    """Return the filtered back-projection of observations as LoDoPaB stores them.

    Args:
        observation: float (..., angles, detectors): line integrals divided by MU_MAX.
        volume: knows the geometry.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter.

    Returns:
        mu / MU_MAX, float32 (..., rows, columns), not clipped. A slice's values do not depend on others beside it.

    Raises:
        InputError: the observations are not finite, zero everywhere, or larger than LoDoPaB's unit allows.
    """
    sinogram = torch.from_numpy(observation.astype(np.float32, copy=False))
    if not sinogram.isfinite().all():
        raise InputError(f"{volume.path} holds nan or inf: copy it again, or leave it out.")
    largest = sinogram.amax((-2, -1))
    if not (largest > 0).all():
        raise InputError(f"{volume.path} holds an observation that is zero: copy it again, or leave it out.")
    if float(largest.max()) > volume.geometry.detector_extent * (1 + 1e-3):  # mu / MU_MAX of 1 all over the diagonal
        raise InputError(
            f"{volume.path} holds line integrals up to {float(largest.max()):.3g}, and LoDoPaB's, divided by "
            f"{MU_MAX:.5f}, are at most {volume.geometry.detector_extent:.3g} metres: divide them."
        )
    return fbp(sinogram, volume.geometry, window, frequency_scaling)


def _made_from(volume: CTVolume, window: str, frequency_scaling: float) -> dict[str, Any]:
    """All that a file's content is a function of."""
    size, time = file_stamp(volume.path)
    return {
        "code": packaged_hash(CT_PHYSICS),
        "geometry": str(volume.geometry),
        "window": window,
        "frequency_scaling": float(frequency_scaling),
        "source": volume.path.name,
        "source_size": size,
        "source_mtime_ns": time,
    }


def _path(volume: CTVolume, made_from: dict[str, Any]) -> Path:
    """Each folder and setting has a folder of its own, so that two runs with other filters do not undo each other."""
    source = volume.path.parent.resolve()
    settings = [str(source), *(str(made_from[key]) for key in ("geometry", "window", "frequency_scaling"))]
    key = hashlib.sha256("\n".join(settings).encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_folder() / "fbp" / f"{source.name[:NAME_PART]}-{key}" / f"fbp_{volume.path.name}"


def _holds(volume: CTVolume, path: Path, made_from: dict[str, Any]) -> bool:
    """Whether the file is there, whole, and made from just this."""
    try:
        with h5py.File(path, "r") as file:
            shape = (volume.n_slices, *volume.image_size)
            return dict(file.attrs) == made_from and (file["data"].shape, file["data"].dtype) == (shape, np.float32)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError):  # what h5py makes of damage
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on the folder, and clear away what a killed one left.

    This saves double work and no more: without locks, two processes write the same bytes.
    """
    lock = folder / ".lock"
    lock.touch()
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ImportError, OSError):  # where there are no locks
            held.enter_context(locked(lock, wait=True))
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        yield


def _compute(todo: Sequence[tuple[CTVolume, Path, dict[str, Any]]], progress: bool) -> None:
    total, files = sum(volume.n_slices for volume, _, _ in todo), OpenFiles(limit=1)
    with tqdm(total=total, desc="FBP", unit="slice", disable=None if progress and todo else True) as bar:
        for volume, path, made_from in todo:
            images = np.empty((volume.n_slices, *volume.image_size), np.float32)
            for start in range(0, volume.n_slices, BATCH):
                part = slice(start, min(start + BATCH, volume.n_slices))
                observation = files.read(volume.path, "data", part)
                images[part] = fbp_image(observation, volume, made_from["window"], made_from["frequency_scaling"])
                bar.update(len(observation))
            write_hdf5(path, {"data": images}, made_from)
    files.close()
