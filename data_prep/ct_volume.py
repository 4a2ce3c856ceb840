"""The files of LoDoPaB-CT: where they are, what they hold, and whether they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_prep.cache import reason
from data_prep.hdf5 import open_volume
from data_prep.remember import describe_files, index_file, sizes
from recon.errors import InputError, check_choice
from recon.physics.ct import LODOPAB, ParallelBeam

PARTS = {"train": "train", "val": "validation", "test": "test"}
"""LoDoPaB's word, in its file names, for each split."""

N_SAMPLES = 128
"""Samples in each of LoDoPaB's files but the last of a split."""

N_PHOTONS = 4096.0
"""Photons for each detector pixel in LoDoPaB's simulation."""


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
        n_coils: always 1, as in a file of k-space without an axis for coils.
        maximum: None; the data_range of CT is each image's own.
    """

    name: str
    path: Path
    target_path: Path | None
    n_slices: int
    sinogram_size: tuple[int, int]
    image_size: tuple[int, int]
    n_photons: float
    acquisition: str = "LoDoPaB"
    n_coils: int = 1
    maximum: float | None = None

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


def ct_splits(data: Path) -> list[str]:
    """Return the splits, among train, val and test, of which a root folder has observations.

    Raises:
        InputError: it has none; tells what there is.
    """
    found = [split for split, part in PARTS.items() if _of_part(Path(data), "observation", part)]
    if not found:
        raise _nothing(Path(data), "train")
    return found


def find_ct_volumes(data: Path, split: str | None, progress: bool = True) -> list[CTVolume]:
    """Validate and describe LoDoPaB's files of one split, of one folder, or a single one.

    A split's files lie in `data` itself, or in folders that are called as their zip files:
    `observation_train/observation_train_000.hdf5` and `ground_truth_train/ground_truth_train_000.hdf5`. What was
    found is kept as JSON in the cache folder, so that only new and changed files are read again.

    Args:
        data: with a split, the root folder; without, a folder of observations or one file of them, with or without
            their ground truth in one of the places above.
        split: train, val, test, or None where `data` says it all.
        progress: show a progress bar while files are read.

    Returns:
        The volumes, sorted by name, all of one geometry.

    Raises:
        InputError: no such folder, no files in it, one of a pair without the other, sizes that differ between files,
            or the first bad file (see `read_ct_volume`).
    """
    data = Path(data)
    if split is None and os.path.isfile(data):
        return [read_ct_volume(*_with_target(data))]
    paths = _folder(data) if split is None else _split(data, split)
    groups = [_with_target(path) for path in paths]
    alone = [path for path, *target in groups if split is not None and not target]
    if alone:
        raise InputError(f"{alone[0]} has no {_target_name(alone[0])} beside it: copy or unpack the ground truth too.")
    about = {"folder": str(data.resolve()), "split": split or "none"}
    store = index_file(data, f"lodopab-{split}")
    volumes = describe_files(store, about, groups, read_ct_volume, _restore, progress)
    for volume in volumes:
        if volume.sinogram_size != volumes[0].sinogram_size:
            here, there = ("{} x {}".format(*found.sinogram_size) for found in (volume, volumes[0]))
            raise InputError(
                f"{volume.path} has sinograms of {here} and {volumes[0].path.name} of {there} (angles x detectors): "
                "keep one size in a folder."
            )
    return volumes


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
        n_slices, *sinogram_size = _data(file, path, "(samples, angles, detectors)").shape
        n_photons = file.attrs.get("n_photons", N_PHOTONS)
    if not (isinstance(n_photons, np.number | float) and 0 < n_photons < np.inf):
        raise InputError(f"{path}: attribute n_photons is {n_photons!r}: give a positive number.")
    side = LODOPAB.rows if target_path is None else _read_target(target_path, path, n_slices)
    _check_size(path, side, *sinogram_size)
    return CTVolume(
        name=path.stem.removeprefix("observation_"),
        path=path,
        target_path=target_path,
        n_slices=n_slices,
        sinogram_size=(sinogram_size[0], sinogram_size[1]),
        image_size=(side, side),
        n_photons=float(n_photons),
    )


def _split(data: Path, split: str) -> list[Path]:
    """The observations of a split, which has as many files of ground truth."""
    check_choice("split", split, PARTS)
    part = PARTS[split]
    observations, targets = (_of_part(data, kind, part) for kind in ("observation", "ground_truth"))
    if not observations:
        raise _nothing(data, part)
    names = {path.name for path in observations}
    for target in targets:
        name = target.name.replace("ground_truth", "observation", 1)
        if name not in names:
            raise InputError(f"{target} has no {name} beside it: copy or unpack the observations too.")
    return observations


def _nothing(data: Path, part: str) -> InputError:
    return InputError(
        f"{data} has no files observation_{part}_*.hdf5 (found {_listed(data)}): give the folder that LoDoPaB's zip "
        "files were unpacked to."
    )


def _of_part(data: Path, kind: str, part: str) -> list[Path]:
    """The files of a kind and a part, in the root folder or in a folder of their own."""
    name = f"{kind}_{part}"
    return _hdf5(data, f"{name}_*") or _hdf5(data / name, f"{name}_*")


def _folder(data: Path) -> list[Path]:
    """The observations of a folder."""
    if not os.path.isdir(data):
        raise InputError(f"There is no file or folder {data}: give a folder of LoDoPaB's observations, or one file.")
    found = [path for path in _hdf5(data, "*") if not path.name.startswith("ground_truth_")]
    if not found:
        raise InputError(f"{data} holds no observations (*.hdf5, found {_listed(data)}): give the folder that does.")
    return found


def _hdf5(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{pattern}.hdf5") if not path.name.startswith("."))


def _listed(folder: Path) -> str:
    """What is in a folder, for an error message."""
    try:
        found = sorted(child.name for child in os.scandir(folder))
    except OSError as error:
        raise InputError(f"The data folder {folder} cannot be read ({reason(error)}): give LoDoPaB's.") from error
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "") or "nothing"


def _with_target(path: Path) -> tuple[Path, ...]:
    """The observations and, where there is one, their ground truth."""
    name = _target_name(path)
    folder = name.rpartition("_")[0]
    places = [path.parent / name, path.parent / folder / name]
    if path.parent.name.startswith("observation_"):
        places += [path.parent.parent / name, path.parent.parent / folder / name]
    return path, *[place for place in places if os.path.isfile(place)][:1]


def _target_name(path: Path) -> str:
    return f"ground_truth_{path.stem.removeprefix('observation_')}.hdf5"


def _restore(values: dict[str, Any], path: Path, target_path: Path | None = None) -> CTVolume:
    return CTVolume(**{**sizes(values, "sinogram_size", "image_size"), "path": path, "target_path": target_path})


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


def _read_target(target_path: Path, path: Path, n_slices: int) -> int:
    """Check the images; returns their side."""
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
        for number, image in enumerate(_images(data, n_slices)):
            low, high = float(image.min()), float(image.max())
            if not 0 <= low < high <= 1:
                raise InputError(
                    f"{target_path}: image {number} has values from {low:.4g} to {high:.4g}, expected attenuation "
                    "divided by LoDoPaB's largest, in [0, 1] and not flat: correct it or leave it out."
                )
    return rows


def _images(data: h5py.Dataset, n: int) -> Iterable[np.ndarray]:
    """The first n images; many are read at once, since LoDoPaB's chunks span several."""
    for start in range(0, n, N_SAMPLES):
        yield from data[start : min(start + N_SAMPLES, n)]
