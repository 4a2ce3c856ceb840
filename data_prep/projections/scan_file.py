"""One file for a measured CT scan: line integrals, and how they were measured."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from torch import Tensor

from data_prep.storage.cache import write_hdf5
from data_prep.storage.hdf5 import find_dataset, open_volume
from recon.errors import InputError
from recon.physics.fan_beam import FanBeam
from recon.physics.geometry import CTGeometry, ParallelBeam

BEAMS = ("parallel", "fan")
HOW_TO = "make it by recon-prepare import --task ct"


@dataclass(frozen=True)
class MeasuredScan:
    """What is known of a measured scan without its sinograms.

    Attributes:
        name: the file's, without suffix.
        path: of the file.
        n_slices: number of sinograms.
        geometry: of every slice. The image has as many rows and columns as there are detectors, pixels as wide as the
            rays are apart at the centre of rotation, and that centre in its middle.
        mu_max: attenuation in 1/m that images are divided by, as LoDoPaB's are by its largest.
        acquisition: measured.
    """

    name: str
    path: Path
    n_slices: int
    geometry: CTGeometry
    mu_max: float
    acquisition: str = "measured"

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.geometry.rows, self.geometry.columns

    @property
    def has_target(self) -> bool:
        """No: nobody knows what was measured."""
        return False

    @property
    def recon_key(self) -> str:
        """What there would be to compare with."""
        return "ground truth"


def write_scan(
    path: Path, sinogram: Tensor, geometry: CTGeometry, mu_max: float, n_photons: float | None = None
) -> None:
    """Write a scan, whole or not at all.

    Datasets data, float32 ``(slices, angles, detectors)``, and theta in radians, ``(angles,)``; attributes beam
    (parallel or fan), detector_spacing, detector_offset and, of a fan, source_to_origin and source_to_detector in
    metres; mu_max in 1/m; n_photons where it is known.

    Args:
        path: of the file.
        sinogram: line integrals without unit, ``(slices, angles, detectors)``.
        geometry: of every slice; its image is not kept.
        mu_max: see :class:`MeasuredScan`.
        n_photons: that an open detector pixel counts.

    Raises:
        OSError: it cannot be written.
    """
    attributes: dict[str, float | str] = {
        "beam": BEAMS[isinstance(geometry, FanBeam)],
        "detector_spacing": geometry.detector_spacing,
        "detector_offset": geometry.detector_offset,
        "mu_max": mu_max,
    }
    if isinstance(geometry, FanBeam):
        attributes["source_to_origin"] = geometry.source_to_origin
        attributes["source_to_detector"] = geometry.source_to_detector
    if n_photons is not None:
        attributes["n_photons"] = n_photons
    write_hdf5(path, {"data": sinogram.float().numpy(), "theta": geometry.angles.numpy()}, attributes)


def is_scan(path: Path) -> bool:
    """Whether a file was written by :func:`write_scan`."""
    with contextlib.suppress(InputError), open_volume(path) as file:
        return "beam" in file.attrs
    return False


def read_scan(path: Path) -> MeasuredScan:
    """Validate a file that :func:`write_scan` wrote; reads all of it.

    Raises:
        InputError: names the file, and what is missing, damaged or of another kind than expected.
    """
    with open_volume(path) as file:
        data, theta = (find_dataset(file, key, path) for key in ("data", "theta"))
        if data is None or theta is None:
            raise InputError(f"{path} has no dataset {'data' if data is None else 'theta'}: {HOW_TO}.")
        if data.ndim != 3 or data.dtype != np.float32 or 0 in data.shape:
            raise InputError(
                f"{path}: data is {data.dtype} {data.shape}, expected float32 (slices, angles, detectors): {HOW_TO}."
            )
        n_slices, n_angles, n = data.shape
        if theta.shape != (n_angles,) or theta.dtype.kind != "f":
            raise InputError(f"{path}: theta is {theta.dtype} {theta.shape} for {n_angles} views: {HOW_TO}.")
        for number in range(n_slices):
            if not np.isfinite(data[number]).all():
                raise InputError(f"{path}: slice {number} has values that are not finite: {HOW_TO} again.")
        beam, mu_max = file.attrs.get("beam"), _number(file, path, "mu_max")
        spacing, offset = (_number(file, path, f"detector_{key}") for key in ("spacing", "offset"))
        distances = [_number(file, path, f"source_to_{key}") for key in ("origin", "detector") if beam == "fan"]
        angles = tuple(theta[()].astype(float).tolist())
    if beam not in BEAMS or not mu_max > 0:
        raise InputError(f"{path}: beam is {beam!r} and mu_max {mu_max:g}, expected {BEAMS} and above 0: {HOW_TO}.")
    try:
        if beam == "fan":
            origin, detector = distances
            side = n * spacing * origin / detector
            geometry: CTGeometry = FanBeam(
                n, n, (side, side), n_angles, n, n * spacing, detector_offset=offset, theta=angles,
                source_to_origin=origin, source_to_detector=detector,
            )  # fmt: skip
        else:
            side = n * spacing
            geometry = ParallelBeam(n, n, (side, side), n_angles, n, side, detector_offset=offset, theta=angles)
    except (InputError, ZeroDivisionError) as error:
        raise InputError(f"{path} is of no scanner that can be: {HOW_TO} again ({error}).") from error
    return MeasuredScan(path.stem, path, n_slices, geometry, mu_max)


def _number(file: h5py.File, path: Path, key: str) -> float:
    value = file.attrs.get(key)
    if not isinstance(value, np.number | float) or not math.isfinite(float(value)):
        raise InputError(f"{path}: attribute {key} is {value!r}, expected a number: {HOW_TO}.")
    return float(value)
