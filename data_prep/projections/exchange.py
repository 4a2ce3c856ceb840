"""HDF5 data exchange, the files of beamlines: raw counts become a sinogram, its scan and its photons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from data_prep.storage.hdf5 import find_dataset, open_volume
from recon.errors import InputError
from recon.physics.geometry import ParallelBeam
from recon.physics.photons import line_integrals, photons_of
from recon.physics.rotation import rotation_centre

UNITS = {"degrees": math.pi / 180, "degree": math.pi / 180, "deg": math.pi / 180, "rad": 1.0, "radians": 1.0}
AXES = "theta:y:x"


@dataclass(frozen=True, eq=False)
class Projections:
    """A scan with parallel rays as it was measured.

    Attributes:
        path: of the file.
        sinogram: line integrals without unit, float32 ``(slices, angles, detectors)``.
        geometry: of every slice, with the file's angles and the centre of rotation, and as many rows and columns of
            the detector's pixels as it has columns.
        rotation_centre: the detector column on which the centre of rotation falls.
        found: whether that was searched for, and not given.
        n_photons: that an open detector pixel counts; None where the flat fields do not tell.
    """

    path: Path
    sinogram: Tensor
    geometry: ParallelBeam
    rotation_centre: float
    found: bool
    n_photons: float | None

    def thinned(self, every: int) -> Projections:
        """Return the scan of every so manieth view, from the first on; what was found of all of them stays."""
        sinogram, theta = self.sinogram[:, ::every].contiguous(), self.geometry.angles[::every]
        geometry = replace(self.geometry, n_angles=len(theta), theta=tuple(theta.tolist()))
        return replace(self, sinogram=sinogram, geometry=geometry)

    def described(self) -> str:
        """Return what a person should know before they trust the reconstruction, in one sentence."""
        n_slices, n_angles, n_detectors = self.sinogram.shape
        how = "found by registering views half a turn apart" if self.found else "as given"
        photons = "an unknown number of" if self.n_photons is None else f"about {float(f'{self.n_photons:.3g}'):.0f}"
        first, last = (math.degrees(angle) for angle in self.geometry.angles[[0, -1]].tolist())
        return (
            f"{self.path}: {n_slices} slices of {n_angles} angles from {first:g} to {last:g} degrees and {n_detectors} "
            f"detector columns, the centre of rotation at column {self.rotation_centre:.2f} ({how}), {photons} photons "
            "in an open detector pixel."
        )


def read_exchange(
    path: Path, pixel_size: float = 1.0, rotation_centre_at: float | None = None, rows: slice = slice(None)
) -> Projections:
    """Read a scan with parallel rays, ``exchange/data``, ``data_white``, ``data_dark`` and ``theta``.

    p = -log((data - dark) / (white - dark)) with the means of the flat and dark fields. theta is in degrees unless its
    attribute ``units`` says otherwise.

    Args:
        path: an HDF5 file of data exchange, counts ``(angles, rows, columns)``.
        pixel_size: of the detector in metres; the image is in its inverse. Such files need not tell it.
        rotation_centre_at: the detector column of the centre of rotation; None to search for it.
        rows: of the detector, each of which is a slice; those of a large file need not all be read.

    Raises:
        InputError: names the file, and what is missing, of another size than expected, or not a number.

    Source: De Carlo et al., Journal of Synchrotron Radiation 21 (2014), the data exchange format.
    """
    with open_volume(path) as file:
        counts, white, dark = (_frames(file, path, key, rows) for key in ("data", "data_white", "data_dark"))
        theta = _angles(file, path, len(counts))
    for key, frames in (("data_white", white), ("data_dark", dark)):
        if frames.shape[1:] != counts.shape[1:]:
            raise InputError(
                f"{path}: exchange/{key} has frames of {tuple(frames.shape[1:])} and exchange/data of "
                f"{tuple(counts.shape[1:])}: give fields of the same detector pixels."
            )
    try:
        sinogram = line_integrals(counts, white.mean(0), dark.mean(0)).transpose(0, 1).contiguous()
        found = rotation_centre_at is None
        centre = rotation_centre(sinogram, theta) if rotation_centre_at is None else rotation_centre_at
    except InputError as error:
        raise InputError(f"{path}: {error}.") from error
    n = sinogram.shape[-1]
    if not 0 <= centre <= n - 1:
        raise InputError(f"{path}: the centre of rotation {centre:g} is not on the {n} columns: give 0 to {n - 1}.")
    side = n * pixel_size
    geometry = ParallelBeam(n, n, (side, side), len(theta), n, side, theta=tuple(theta.tolist()))
    return Projections(path, sinogram.float(), geometry.rotating_about(centre), centre, found, _photons(white, dark))


def _frames(file: h5py.File, path: Path, key: str, rows: slice) -> Tensor:
    """A stack of frames, float64 ``(frames, rows, columns)``."""
    data = find_dataset(file, f"exchange/{key}", path)
    if data is None:
        raise InputError(
            f"{path} has no dataset exchange/{key}: give a file of HDF5 data exchange with counts, flat fields "
            "(data_white) and dark fields (data_dark)."
        )
    axes = data.attrs.get("axes", AXES)
    axes = axes.decode(errors="replace") if isinstance(axes, bytes) else str(axes)
    if data.ndim != 3 or data.dtype.kind not in "iuf" or not axes.endswith(":y:x"):
        raise InputError(
            f"{path}: exchange/{key} is {data.dtype} {data.shape} with axes {axes}, expected counts (frames, rows, "
            f"columns) with axes {AXES}: store them so."
        )
    values = torch.from_numpy(data[:, rows].astype(np.float64))
    if not values.numel():
        raise InputError(f"{path}: exchange/{key} {data.shape} is empty in the rows that are read: give others.")
    if not torch.isfinite(values).all():
        raise InputError(f"{path}: exchange/{key} has values that are not finite: mend or leave out those frames.")
    return values


def _angles(file: h5py.File, path: Path, n: int) -> Tensor:
    """Theta in radians, float64 ``(angles,)``."""
    data = find_dataset(file, "exchange/theta", path)
    if data is None:
        raise InputError(f"{path} has no dataset exchange/theta: store the angle of each view in it, in degrees.")
    units = data.attrs.get("units", "degrees")
    units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
    if data.shape != (n,) or data.dtype.kind not in "iuf" or units not in UNITS:
        raise InputError(
            f"{path}: exchange/theta is {data.dtype} {data.shape} in {units!r} for {n} views: store one angle for "
            "each, in degrees or radians."
        )
    theta = torch.from_numpy(data[()].astype(np.float64)) * UNITS[units]
    if not torch.isfinite(theta).all():
        raise InputError(f"{path}: exchange/theta has angles that are not finite: mend them.")
    return theta


def _photons(white: Tensor, dark: Tensor) -> float | None:
    try:
        return photons_of(white, dark.mean(0))
    except InputError:  # one flat field, or copies of one
        return None
