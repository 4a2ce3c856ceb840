"""Which reader a file of raw data has."""

from __future__ import annotations

from pathlib import Path

import h5py

from data_prep.raw.arrays import read_array
from data_prep.raw.ismrmrd_file import ismrmrd_groups, read_ismrmrd
from data_prep.raw.volume import RawVolume
from data_prep.storage.cache import reason, refuse_pipe
from recon.errors import InputError

ARRAYS = (".npy", ".mat")


def read_raw(
    path: Path, variable: str | None = None, axes: str | None = None, phase_encoding: str | None = None
) -> list[RawVolume]:
    """Read measured k-space of an ISMRMRD, MATLAB, NumPy or other HDF5 file.

    Args:
        path: the file.
        variable: the array's name, or the group's of ISMRMRD data; None where there is but one.
        axes: of an array, see `read_array`.
        phase_encoding: of an array, see `read_array`.

    Returns:
        The volumes: one of an array, one or several of ISMRMRD data.

    Raises:
        InputError: it is no such file, or cannot be used.
    """
    path = Path(path)
    try:
        refuse_pipe(path)
        is_hdf5 = path.is_file() and h5py.is_hdf5(path)
        if path.is_dir() or not path.exists():
            raise OSError("it is a folder" if path.is_dir() else "there is no such file")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give a file of raw data") from error
    if not is_hdf5 and path.suffix.lower() not in ARRAYS:
        raise InputError(
            f"{path} is of an unknown kind: give an ISMRMRD, MATLAB (*.mat), NumPy (*.npy) or HDF5 file (converters "
            "such as siemens_to_ismrmrd make ISMRMRD of vendors' raw data)"
        )
    groups = ismrmrd_groups(path) if is_hdf5 else []
    if variable is not None:
        groups = [name for name in groups if name == variable.strip("/")]
    if len(groups) > 1:
        raise InputError(f"{path} holds several scans: choose by --variable one of {', '.join(groups)}")
    if not groups:
        return [read_array(path, variable, axes, phase_encoding)]
    if axes is not None or phase_encoding is not None:
        raise InputError(f"{path} is an ISMRMRD file, which tells its axes: leave --axes and --phase-encoding out")
    return read_ismrmrd(path, groups[0])
