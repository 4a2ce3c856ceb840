"""k-space as an array of a MATLAB, NumPy or HDF5 file, whose axes someone names."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from data_prep.raw.opening import open_raw
from data_prep.raw.volume import RawVolume, checked
from data_prep.storage.cache import reason
from data_prep.storage.hdf5 import find_dataset
from data_prep.storage.numpy_file import read_npy
from recon.errors import InputError, check_choice

AXES = ("slice", "coil", "average", "readout", "phase", "rows", "columns")
ORDER = ("average", "slice", "coil", "readout", "phase")
NEEDED = ("readout", "phase")
ZERO = 1e-12  # of the largest value: what arithmetic in float64 leaves of zeros
LISTED = 6
MATLAB = b"MATLAB"
Shape = tuple[int, ...]


def _parse_axes(text: str, phase_encoding: str | None) -> list[str]:
    """Read what the axes of an array are, such as slice,readout,phase.

    Args:
        text: names separated by commas: slice, coil, average; readout and phase, or rows and columns.
        phase_encoding: along which of rows and columns it runs, where these are named; None is columns.

    Returns:
        The names, with readout and phase in the place of rows and columns.

    Raises:
        InputError: a name that is unknown or stands twice, no readout or no phase.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        check_choice("axis of --axes", name, AXES)
    if phase_encoding is not None and "rows" not in names and "columns" not in names:
        raise InputError(
            f"--phase-encoding is for axes called rows and columns, and --axes {text} tells it: leave it out"
        )
    phase = phase_encoding or "columns"
    named = {phase: "phase", ({"rows", "columns"} - {phase}).pop(): "readout"}
    names = [named.get(name, name) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--axes {text} names {name} twice: name each dimension once")
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise InputError(f"--axes {text} has no {' and no '.join(missing)}: name it, such as slice,readout,phase")
    return names


def read_array(path: Path, variable: str | None, axes: str | None, phase_encoding: str | None) -> RawVolume:
    """Read k-space that is stored as an array.

    Columns that are zero in all coils were not measured. Averages are averaged, where they were measured.

    Args:
        path: a file *.npy or *.mat (MATLAB's 5 and 7.3), or another HDF5 file.
        variable: the array's name, in HDF5 with the groups that it is in; None where there is but one. Not of *.npy.
        axes: what its dimensions are (`_parse_axes`), in the program's order that wrote the file; None for two,
            rows,columns.
        phase_encoding: see `_parse_axes`.

    Raises:
        InputError: the file cannot be read, has no such array or several, or that is not complex, not finite, zero,
            or does not have these axes; its slices were measured at different columns.
    """
    values = _read(path, variable)
    shape = " x ".join(map(str, values.shape))
    if axes is None and values.ndim != 2:
        raise InputError(
            f"{path} has {values.ndim} dimensions ({shape}): say by --axes which is what, such as slice,readout,phase"
        )
    names = _parse_axes(axes or "rows,columns", phase_encoding)
    if path.suffix.lower() == ".mat":  # MATLAB forgets last dimensions of one
        values = values.reshape(*values.shape, *[1] * (len(names) - values.ndim))
    if len(names) != values.ndim:
        raise InputError(
            f"{path} has {values.ndim} dimensions ({shape}), but --axes {axes or 'rows,columns'} names {len(names)}: "
            "name each"
        )
    if values.dtype.kind != "c":
        raise InputError(
            f"{path} holds {values.dtype}, not complex numbers: give k-space, its parts joined to complex numbers"
        )
    missing = [name for name in ORDER if name not in names]
    whole = values.reshape(*values.shape, *[1] * len(missing))
    placed = whole.transpose([[*names, *missing].index(name) for name in ORDER])
    if 0 in placed.shape:
        raise InputError(f"{path} has the shape {shape}: give an array that holds k-space")
    if min(placed.shape[-2:]) < 2:
        raise InputError(f"{path} has the shape {shape}, so that --axes {axes} leaves one line: name the axes again")
    size = np.abs(placed).max((2, 3))  # (averages, slices, columns)
    there = ~(size <= ZERO * size[np.isfinite(size)].max(initial=0))  # also what is not finite
    counts = there.sum(0)
    measured = counts.any(0)
    if not ((counts > 0) == measured).all():
        raise InputError(
            f"{path}: its slices were measured at different columns, and a file has one mask: import them one by one"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        kspace = np.where(there[:, :, None, None], placed, 0).sum(0) / np.maximum(counts, 1)[:, None, None]
    return RawVolume(path, checked(path, kspace), measured)


def _read(path: Path, variable: str | None) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        if variable is not None:
            raise InputError(f"{path} holds one array without a name: leave --variable out")
        return read_npy(path)
    if path.suffix.lower() == ".mat" and not h5py.is_hdf5(path):
        return _read_matlab(path, variable)
    found: dict[str, Shape] = {}
    with open_raw(path) as file:
        file.visititems(lambda name, item: _note(found, name, item))
        likely = [name for name in found if _is_complex(file[name].dtype)]
        dataset = find_dataset(file, _choose(path, variable, found, likely), path)
        assert dataset is not None
        values = _complex(dataset[()])
    with path.open("rb") as start:
        reversed_axes = start.read(len(MATLAB)) == MATLAB  # columns first: HDF5 tells them the other way round
    return values.T if reversed_axes else values


def _note(found: dict[str, Shape], name: str, item: object) -> None:
    """Remember an array of two or more dimensions."""
    if isinstance(item, h5py.Dataset) and item.ndim >= 2:
        found[name] = item.shape


def _is_complex(kind: np.dtype) -> bool:
    return kind.kind == "c" or (kind.names is not None and len(kind.names) == 2)


def _complex(values: np.ndarray) -> np.ndarray:
    """MATLAB's pairs of numbers, called real and imag, as complex ones."""
    names = values.dtype.names
    if names is None or not _is_complex(values.dtype) or {values.dtype[name].kind for name in names} != {"f"}:
        return values
    return values[names[0]] + 1j * values[names[1]]


def _read_matlab(path: Path, variable: str | None) -> np.ndarray:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    damage = (OSError, ValueError, TypeError, LookupError, EOFError, NotImplementedError, MemoryError)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            found = {name: shape for name, shape, kind in whosmat(path) if kind in ("double", "single")}
            name = _choose(path, variable, found, list(found))
            return np.asarray(loadmat(path, variable_names=[name])[name])
    except InputError:
        raise
    except (*damage, zlib.error, MatReadError) as error:
        why = reason(error) or "it claims more than there is memory for"
        raise InputError(f"{path} is not a readable MATLAB file ({why}): copy it again") from error


def _choose(path: Path, variable: str | None, found: Mapping[str, Shape], likely: Sequence[str]) -> str:
    """Return the name of the array to read.

    Args:
        path: the file, for the message.
        variable: what the user gave; None for the only likely one.
        found: all that there are, and their shapes.
        likely: those that may well be k-space.

    Raises:
        InputError: there is no such array, none, or several to choose from; names some.
    """
    if variable is not None and variable.strip("/") in found:
        return variable.strip("/")
    named = [f"{name} ({' x '.join(map(str, found[name]))})" for name in likely]
    listed = ", ".join(named[:LISTED]) + (f" and {len(named) - LISTED} more" if len(named) > LISTED else "")
    if not likely:
        raise InputError(f"{path} holds no complex array of two or more dimensions: give another file")
    if variable is not None:
        raise InputError(f"{path} has no array {variable}: give --variable one of {listed}")
    if len(likely) > 1:
        raise InputError(f"{path} holds several arrays: choose by --variable one of {listed}")
    return likely[0]
