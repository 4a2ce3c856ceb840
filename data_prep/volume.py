"""One fastMRI file: what it holds, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data_prep.cache import reason
from data_prep.crop import center_crop
from data_prep.headers import parse_header
from recon.errors import InputError

RECON_KEYS = {"singlecoil": "reconstruction_esc", "multicoil": "reconstruction_rss"}
N_DIMS = {"singlecoil": 3, "multicoil": 4}
AXES = {3: "(slices, rows, columns)", 4: "(slices, coils, rows, columns)"}


@dataclass(frozen=True)
class Volume:
    """What is known of one fastMRI file (arXiv 1811.08839) without opening it again.

    Attributes:
        name: file name without suffix.
        path: the file.
        n_slices: number of slices.
        n_coils: number of receiver coils; 1 for single-coil files.
        kspace_size: (rows, columns) of k-space.
        image_size: (rows, columns) of the centre crop that fastMRI's U-Net transform takes.
        acquisition: for instance CORPD_FBK; "unknown" where the file does not tell.
        maximum: target.max() over the volume, centre-cropped to image_size, in the file's units: the data_range
            R of PSNR and SSIM; None without target.
        has_target: whether the file holds a reconstruction.
        has_mask: whether the file brings its own mask (fastMRI's test files do).
        recon_key: the reconstruction's name in the file.
    """

    name: str
    path: Path
    n_slices: int
    n_coils: int
    kspace_size: tuple[int, int]
    image_size: tuple[int, int]
    acquisition: str
    maximum: float | None
    has_target: bool
    has_mask: bool
    recon_key: str


@contextmanager
def open_volume(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what h5py raises inside becomes one sentence.

    Raises:
        InputError: the file is missing, truncated or no HDF5.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py raises either
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the sentence for a file that HDF5 cannot read."""
    return InputError(f"{path} is truncated or not a readable HDF5 file ({reason(error)}): copy it again or remove it.")


def read_volume(path: Path, challenge: str) -> Volume:
    """Validate one file and describe it; reads the whole target, for its maximum and to find damaged files.

    Args:
        path: the HDF5 file.
        challenge: singlecoil or multicoil.

    Raises:
        InputError: names the file and the key that is missing, damaged or of another kind than expected.
    """
    with open_volume(path) as file:
        kspace = _kspace(file, path, challenge)
        header = parse_header(_header_text(file, path), path)
        target = _target(file, path, RECON_KEYS[challenge], n_slices=kspace.shape[0])
        rows, columns = kspace.shape[-2:]
        wanted = header.recon_size[:2] if target is None else target.shape[-2:]
        size = crop_size((rows, columns), wanted)
        if not (0 < size[0] <= rows and 0 < size[1] <= columns):
            raise InputError(
                f"{path}: the image of {wanted[0]} x {wanted[1]} does not fit into 'kspace' of {rows} x {columns}: "
                "replace or remove the file."
            )
        return Volume(
            name=path.stem,
            path=path,
            n_slices=kspace.shape[0],
            n_coils=kspace.shape[1] if kspace.ndim == 4 else 1,
            kspace_size=(rows, columns),
            image_size=size,
            acquisition=_text(file.attrs.get("acquisition", "unknown")),
            maximum=None if target is None else _maximum(target, path, size),
            has_target=target is not None,
            has_mask=_has_mask(file, path, columns),
            recon_key=RECON_KEYS[challenge],
        )


def crop_size(kspace_size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Return the size fastMRI's U-Net transform crops to.

    It is the wanted size, but (columns, columns) where k-space has fewer columns than wanted (a few FLAIR brain
    volumes with 203 columns).
    """
    columns = kspace_size[1]
    if columns < wanted[1]:
        return columns, columns
    return int(wanted[0]), int(wanted[1])


def _dataset(file: h5py.File, key: str) -> h5py.Dataset | None:
    found = file.get(key)
    return found if isinstance(found, h5py.Dataset) else None


def _kspace(file: h5py.File, path: Path, challenge: str) -> h5py.Dataset:
    kspace = _dataset(file, "kspace")
    if kspace is None:
        raise InputError(f"{path} has no dataset 'kspace': it is not a fastMRI file, remove it from the folder.")
    if kspace.dtype.kind != "c":
        raise InputError(f"{path}: 'kspace' is {kspace.dtype}, expected complex64: replace or remove the file.")
    if kspace.ndim != N_DIMS[challenge]:
        others = [other for other, ndim in N_DIMS.items() if ndim == kspace.ndim]
        hint = f"it looks like {others[0]} data, set challenge to {others[0]}" if others else "remove the file"
        raise InputError(
            f"{path}: 'kspace' has {kspace.ndim} axes, {challenge} data have {N_DIMS[challenge]}, "
            f"{AXES[N_DIMS[challenge]]}: {hint}."
        )
    if 0 in kspace.shape:
        raise InputError(f"{path}: 'kspace' of shape {kspace.shape} is empty: replace or remove the file.")
    return kspace


def _header_text(file: h5py.File, path: Path) -> bytes:
    header = _dataset(file, "ismrmrd_header")
    if header is None:
        raise InputError(f"{path} has no dataset 'ismrmrd_header': it is not a fastMRI file, replace or remove it.")
    text = header[()]
    return text if isinstance(text, bytes) else str(text).encode()


def _target(file: h5py.File, path: Path, key: str, n_slices: int) -> h5py.Dataset | None:
    target = _dataset(file, key)
    if target is None:
        return None
    if target.dtype.kind != "f" or target.ndim != 3 or target.shape[0] != n_slices:
        raise InputError(
            f"{path}: {key!r} is {target.dtype} of shape {target.shape}, expected floats of shape "
            f"({n_slices}, rows, columns): replace or remove the file."
        )
    return target


def _maximum(target: h5py.Dataset, path: Path, size: tuple[int, int]) -> float:
    # FLAIR-203: the target may be larger than the crop in one axis and may not be smaller in the other
    if target.shape[1] < size[0] or target.shape[2] < size[1]:
        raise InputError(f"{path}: target of shape {target.shape} is smaller than {size}: replace or remove the file.")
    maximum = float(np.max([center_crop(np.asarray(image), size).max() for image in target]))  # keeps a nan
    if not (np.isfinite(maximum) and maximum > 0):
        raise InputError(
            f"{path}: the largest value of the target is {maximum}, so that no quality can be measured: "
            "replace or remove the file."
        )
    return maximum


def _has_mask(file: h5py.File, path: Path, columns: int) -> bool:
    mask = _dataset(file, "mask")
    if mask is not None and mask.shape != (columns,):
        raise InputError(
            f"{path}: 'mask' has shape {mask.shape}, expected one entry for each of the {columns} columns: "
            "replace or remove the file."
        )
    return mask is not None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
