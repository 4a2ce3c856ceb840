"""The files of LoDoPaB-CT: what they hold, and whether they are whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

import h5py
import numpy as np

from data_prep.storage.hdf5 import open_volume
from recon.errors import InputError, check_choice
from recon.physics.ct import LODOPAB, MU_MAX, ParallelBeam

PARTS = {"train": "train", "val": "validation", "test": "test"}
"""LoDoPaB's word, in its file names, for each split."""

N_SAMPLES = 128
"""Samples in each of LoDoPaB's files but the last of a split."""

N_PHOTONS = 4096.0
"""Photons for each detector pixel in LoDoPaB's simulation."""

SAME, EMPTY = 4.0, 1e-3  # how an image's mean and its projection's may differ: by a factor, and in mu / MU_MAX


@dataclass(frozen=True)
class CTVolume:
    """What is known of one of LoDoPaB's files and its ground truth (Scientific Data 8, 109) without opening them.

    LoDoPaB does not tell which samples are of one person: a volume here is a file, up to 128 slices of several.

    Attributes:
        name: see `volume_name`.
        path: the observations, observation_test_000.hdf5.
        target_path: the images, ground_truth_test_000.hdf5; None where there are none.
        n_slices: number of observations.
        sinogram_size: (angles, detectors), (1000, 513) in LoDoPaB.
        image_size: (rows, columns), (362, 362) in LoDoPaB.
        n_photons: of the simulation; 4096 where the file does not tell, as LoDoPaB's do not.
        acquisition: always LoDoPaB.
    """

    name: str
    path: Path
    target_path: Path | None
    n_slices: int
    sinogram_size: tuple[int, int]
    image_size: tuple[int, int]
    n_photons: float
    acquisition: str = "LoDoPaB"

    @property
    def has_target(self) -> bool:
        """Whether there is a file of ground truth."""
        return self.target_path is not None

    @property
    def recon_key(self) -> str:
        """The name of the file that holds the ground truth, or would."""
        return f"ground_truth_{self.name}.hdf5"

    @property
    def geometry(self) -> ParallelBeam:
        """The scanner: `geometry_of` these sizes."""
        return geometry_of(self.image_size[0], *self.sinogram_size)


def geometry_of(side: int, n_angles: int, n_detectors: int) -> ParallelBeam:
    """Return LoDoPaB's geometry with other counts, as the sizes of files tell them.

    The image's extent stays 0.26 m x 0.26 m, the detector as long as its diagonal, and the angles uniform over
    [0, pi). LoDoPaB's own counts give `LODOPAB`.

    Args:
        side: rows, and columns, of the image.
        n_angles: of the sinogram.
        n_detectors: of the sinogram.
    """
    return replace(LODOPAB, rows=side, columns=side, n_angles=n_angles, n_detectors=n_detectors)


def volume_name(split: str, number: int) -> str:
    """Return what LoDoPaB calls a file of a split, after the kind: validation_007 for ("val", 7).

    Raises:
        InputError: an unknown split.
    """
    check_choice("split", split, PARTS)
    return f"{PARTS[split]}_{number:03d}"


def read_ct_volume(path: Path, target_path: Path | None = None) -> CTVolume:
    """Validate one file of observations and its ground truth; reads all of the ground truth.

    LoDoPaB's last files of a split hold fewer observations than 128 but 128 images, of which the last are zero.
    That much more ground truth is taken for what it is.

    Args:
        path: the observations, float dataset `data` (samples, angles, detectors).
        target_path: the ground truth, float dataset `data` (samples, rows, columns), in [0, 1]; None where there is
            none, and then only LoDoPaB's own size of sinograms is accepted.

    Raises:
        InputError: names the file, and what is missing, damaged or of another kind than expected.
    """
    with open_volume(path) as file:
        data = _data(file, path, "(samples, angles, detectors)")
        n_slices, *sinogram_size = data.shape
        one_angle = data[:, sinogram_size[0] // 2].astype(np.float64)
        n_photons = file.attrs.get("n_photons", N_PHOTONS)
    if not (isinstance(n_photons, np.number | float) and 0 < n_photons < np.inf):
        raise InputError(f"{path}: attribute n_photons is {n_photons!r}: give a positive number.")
    side, means = (LODOPAB.rows, None) if target_path is None else _read_target(target_path, path, n_slices)
    _check_size(path, side, *sinogram_size)
    if means is not None:
        _check_unit(path, one_angle, means)
    return CTVolume(
        name=path.stem.removeprefix("observation_"),
        path=path,
        target_path=target_path,
        n_slices=n_slices,
        sinogram_size=(sinogram_size[0], sinogram_size[1]),
        image_size=(side, side),
        n_photons=float(n_photons),
    )


def _data(file: h5py.File, path: Path, axes: str) -> h5py.Dataset:
    data = file.get("data")
    if not isinstance(data, h5py.Dataset):
        raise InputError(f"{path} has no dataset 'data': it is not a LoDoPaB file, keep it elsewhere.")
    if data.dtype.kind != "f" or data.ndim != 3 or 0 in data.shape:
        raise InputError(
            f"{path}: 'data' is {data.dtype} of shape {data.shape}, expected floats of shape {axes}: "
            "copy it again or leave it out."
        )
    return data


def _check_size(path: Path, side: int, n_angles: int, n_detectors: int) -> None:
    """Refuse sinograms that are not LoDoPaB's, or a smaller copy's whose detector spans the image's diagonal.

    Of LoDoPaB's detector, with 513 pixels for 362, only the 1000 angles are accepted: some of them would be others
    than those of a scanner with fewer.
    """
    of_lodopab = (LODOPAB.n_angles, LODOPAB.n_detectors)
    found, size = (n_angles, n_detectors), f"{path}: sinograms of {n_angles} x {n_detectors} (angles x detectors)"
    if side == LODOPAB.rows and found != of_lodopab:
        raise InputError(f"{size}, expected LoDoPaB's 1000 x 513: copy it again or leave it out.")
    if isqrt((n_detectors - 1) ** 2 // 2) != side:
        raise InputError(
            f"{size} do not fit images of {side} x {side}, whose diagonal needs {diagonal_detectors(side)} detectors: "
            "copy it again or leave it out."
        )


def diagonal_detectors(side: int) -> int:
    """Return how many detectors LoDoPaB has for an image: ceil(sqrt(2) side) + 1, 513 for 362."""
    return isqrt(2 * side**2 - 1) + 2


def _check_unit(path: Path, one_angle: np.ndarray, means: np.ndarray) -> None:
    """Refuse observations that are not of these images, or in another unit.

    A parallel projection keeps what there is: the sum over the detectors of an angle, times their width, is the sum
    over the image's pixels, times their area. The noise of few photons changes it by much less than SAME.

    Args:
        path: the observations.
        one_angle: (samples, detectors) of one angle, in metres.
        means: (samples,) of the images.
    """
    height, width = LODOPAB.extent
    measured = one_angle.mean(1) * LODOPAB.detector_extent / (height * width)
    off = ~((measured > means / SAME - EMPTY) & (measured < means * SAME + EMPTY))  # nan is off, too
    if off.any():
        s = int(off.argmax())
        raise InputError(
            f"{path}: observation {s} has the line integrals of an image whose mean is {measured[s]:.3g}, but that of "
            f"the ground truth is {means[s]:.3g}: give the observations of these images, divided by "
            f"{MU_MAX:.5f} as LoDoPaB's."
        )


def _read_target(target_path: Path, path: Path, n_slices: int) -> tuple[int, np.ndarray]:
    """Check the images; returns their side and the mean of each."""
    with open_volume(target_path) as file:
        data = _data(file, target_path, "(samples, rows, columns)")
        n_images, rows, columns = data.shape
        if rows != columns:
            raise InputError(f"{target_path}: images of {rows} x {columns}, expected square ones: replace the file.")
        surplus = data[n_slices:].any() if n_images > n_slices else n_images < n_slices
        if surplus:
            raise InputError(
                f"{target_path} has {n_images} images and {path.name} {n_slices} observations: copy both again."
            )
        means = np.zeros(n_slices)
        for number, image in enumerate(_images(data, n_slices)):
            means[number] = image.mean(dtype=np.float64)
            low, high = float(image.min()), float(image.max())
            if not 0 <= low < high <= 1:
                raise InputError(
                    f"{target_path}: image {number} has values from {low:.4g} to {high:.4g}, expected attenuation "
                    "divided by LoDoPaB's largest, in [0, 1] and not flat: correct it or leave it out."
                )
    return rows, means


def _images(data: h5py.Dataset, n: int) -> Iterable[np.ndarray]:
    """The first n images; many are read at once, since LoDoPaB's chunks span several."""
    for start in range(0, n, N_SAMPLES):
        yield from data[start : min(start + N_SAMPLES, n)]
