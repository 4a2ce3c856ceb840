"""HDF5 files opened for reading: one sentence for each reason why they cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from data_prep.storage.cache import reason, refuse_pipe
from recon.errors import InputError


@contextmanager
def open_volume(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what h5py raises inside becomes one sentence.

    Raises:
        InputError: see `unreadable`.
    """
    try:
        refuse_pipe(Path(path))
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, MemoryError) as error:  # h5py raises any of them
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the sentence for a file that cannot be read: missing, locked, forbidden, truncated, of another kind ..."""
    return InputError(f"{path} {_complaint(Path(path), error)}.")


def _complaint(path: Path, error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError):
        return "needs more memory than there is: free some, or read it on a larger machine"
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return "is a link to a file that is gone: restore that file"
        return "is not there: give another name, or restore it"
    if isinstance(error, PermissionError):
        return f"cannot be read ({reason(error)}): ask its owner for the right to read it"
    if isinstance(error, BlockingIOError) or "unable to lock file" in text:
        return "is locked by a program that has it open for writing: close that program, or wait until it is done"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read ({reason(error)}): see to the disk, or give another file"
    return _complaint_of_hdf5(text, reason(error))


def _complaint_of_hdf5(text: str, short: str) -> str:
    if "is a pipe or a device" in text:
        return "is a pipe or a device, not a file: give a file, or move it out of the folder"
    if "external raw data file" in text:
        return "keeps its values in another file, which is gone: restore that one, or copy the values into this file"
    if any(word in text for word in ("filter", "can't open directory", "plugin")):
        return (
            f"is compressed with a filter that is not installed ({short}): install the filter and set "
            "HDF5_PLUGIN_PATH, or write the file anew with gzip (h5repack -f GZIP=4)"
        )
    if "file signature not found" in text:
        return (
            "is not a readable HDF5 file (it does not begin as one): give a fastMRI (*.h5) or LoDoPaB file (*.hdf5), "
            "or copy it again if it should be one"
        )
    if "truncated file" in text:
        return f"is truncated ({short}): copy it again"
    return f"is a damaged HDF5 file ({short}): copy it again"


def find_dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset | None:
    """Return a dataset of an open file; None where the file has nothing of that name.

    Raises:
        InputError: there is something else than a dataset, a link that leads nowhere, or a virtual dataset whose
            sources are not all there (HDF5 would fill in zeros).
    """
    link = file.get(key, getlink=True)
    if link is None:
        return None
    try:
        found = file[key]
    except (KeyError, OSError, RuntimeError) as error:
        if isinstance(link, h5py.HardLink):
            raise unreadable(path, error) from error
        target = repr(link.path) + (f" of {link.filename}" if isinstance(link, h5py.ExternalLink) else "")
        raise InputError(
            f"{path}: {key!r} is a link to {target}, which cannot be found: restore that, or copy it into the file."
        ) from error
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{path}: {key!r} is a {type(found).__name__.lower()}, expected a dataset: store it as one.")
    check_sources(found, path)
    return found


def check_sources(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a virtual dataset of which a source is gone.

    Raises:
        InputError: names the source.
    """
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        name = source.file_name
        if "%" in name or _holds(dataset, path, name, source.dset_name):  # %b: as many files as there are
            continue
        raise InputError(
            f"{path}: {dataset.name.lstrip('/')!r} is a view of {source.dset_name!r} in {name}, which cannot be found: "
            "restore that file, or copy the values into this one."
        )


def _holds(dataset: h5py.Dataset, path: Path, name: str, key: str) -> bool:
    """Whether a source is there, looked for where HDF5 looks."""
    if name == ".":
        return bool(key in dataset.file)
    prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(path.parent))
    for folder in (prefix, path.parent, path.resolve().parent, ""):
        place = Path(folder) / name
        if place.is_file() and h5py.is_hdf5(place):
            with open_volume(place) as file:
                return bool(key in file)
    return False
