"""The fastMRI files of a split, of a folder, or a single one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_prep.fastmri.volume import N_DIMS, Volume, read_volume
from data_prep.storage.cache import reason
from data_prep.storage.index import describe_files, index_file, sizes
from recon.errors import InputError, check_choice

SUFFIXES = (".h5", ".hdf5")


def split_folder(data: Path, challenge: str, split: str) -> Path:
    """Return `<data>/<challenge>_<split>`, for instance knee/singlecoil_train.

    Args:
        data: the root folder of the data set.
        challenge: singlecoil or multicoil.
        split: train, val or test.

    Raises:
        InputError: the folder does not exist; tells what does.
    """
    check_choice("challenge", challenge, N_DIMS)
    folder = Path(data) / f"{challenge}_{split}"
    if os.path.isdir(folder):
        return folder
    try:
        found = sorted(child.name for child in os.scandir(data) if child.is_dir())
    except OSError as error:
        raise InputError(
            f"The data folder {data} cannot be read ({reason(error)}): give the folder that holds {folder.name}."
        ) from error
    listed = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
    raise InputError(
        f"{data} has no folder {folder.name} (expected {challenge}_train, {challenge}_val, {challenge}_test; "
        f"found {listed or 'no folders'}): give the folder that holds them, or another challenge."
    )


def find_volumes(data: Path, challenge: str, split: str | None, progress: bool = True) -> list[Volume]:
    """Validate and describe the files of one split, of one folder, or a single file.

    Args:
        data: with a split, the root folder that holds `<challenge>_<split>`; without, a folder of *.h5 files (see
            `fastmri_files`) or one such file.
        challenge: singlecoil or multicoil.
        split: train, val or test; None where `data` says it all.
        progress: show a progress bar while the files of a folder are read.

    Returns:
        The volumes, sorted by name.

    Raises:
        InputError: no such file or folder, no files in it, or the first bad file (see `read_volume`).
    """
    check_choice("challenge", challenge, N_DIMS)
    data = Path(data)
    if split is not None:
        return index_folder(split_folder(data, challenge, split), challenge, progress)
    if os.path.isdir(data):
        return index_folder(data, challenge, progress)
    if os.path.exists(data):
        return [read_volume(data, challenge)]
    raise InputError(f"There is no file or folder {data}: give a folder of fastMRI files (*.h5), or one such file.")


def fastmri_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are taken for fastMRI's: *.h5 and *.hdf5, in any case, but not hidden ones.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({reason(error)}): give one that can.") from error
    return [path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def index_folder(folder: Path, challenge: str, progress: bool = True) -> list[Volume]:
    """Validate and describe all fastMRI files of a folder.

    What was found is kept as JSON in the cache folder with each file's size and modification time, so that only
    new and changed files are read again. A cache that cannot be read or written costs time and nothing else.

    Args:
        folder: a folder of *.h5 files, one volume each.
        challenge: singlecoil or multicoil.
        progress: show a progress bar while files are read.

    Returns:
        The volumes, sorted by name.

    Raises:
        InputError: no such folder, no files in it, or the first bad file (see `read_volume`).
    """
    check_choice("challenge", challenge, N_DIMS)
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"There is no folder {folder}: give a folder of fastMRI files (*.h5).")
    files = fastmri_files(folder)
    names: dict[str, Path] = {}
    for path in files:
        if names.setdefault(path.stem, path) != path:
            raise InputError(f"{names[path.stem]} and {path} have one name: keep one of them elsewhere.")
    if not files:
        raise InputError(f"{folder} holds no fastMRI files (*.h5): give the folder that does.")
    return describe_files(
        index_file(folder, challenge),
        {"folder": str(folder.resolve()), "challenge": challenge},
        [(path,) for path in files],
        lambda path: read_volume(path, challenge),
        _restore,
        progress,
    )


def _restore(values: dict[str, Any], path: Path) -> Volume:
    voxel = values["voxel_size_mm"]
    if voxel is not None:
        x, y, z = map(float, voxel)
        values["voxel_size_mm"] = x, y, z
    return Volume(**{**sizes(values, "kspace_size", "image_size"), "path": path})
