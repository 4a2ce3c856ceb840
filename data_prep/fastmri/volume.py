"""One fastMRI file: what it holds, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np

from data_prep.fastmri.headers import Header, parse_header
from data_prep.slices.crop import center_crop
from data_prep.storage.hdf5 import find_dataset, open_volume
from recon.errors import InputError

RECON_KEYS = {"singlecoil": "reconstruction_esc", "multicoil": "reconstruction_rss"}
N_DIMS = {"singlecoil": 3, "multicoil": 4}
AXES = {3: "(slices, rows, columns)", 4: "(slices, coils, rows, columns)"}
LARGEST_AXIS = 2**15  # of any array in a file; more is a damaged or made-up number
LARGEST_SLICE = 2**32  # bytes


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
        seems_undersampled: whether the file has no mask, but columns between others that are zero in all slices and
            coils: it would be masked a second time.
        voxel_size_mm: of (row, column, slice) of the image that k-space gives; None where the header does not tell.
        subject: who was measured, the file's attribute patient_id; its name where it does not tell.
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
    seems_undersampled: bool = False
    voxel_size_mm: tuple[float, float, float] | None = None
    subject: str = ""


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
        size = _image_size((rows, columns), header, target, path)
        mask = read_mask(file, path, columns)
        measured = _measured(kspace, mask, path)
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
            has_mask=mask is not None,
            recon_key=RECON_KEYS[challenge],
            seems_undersampled=mask is None and _has_gaps(measured),
            voxel_size_mm=header.voxel_size_mm,
            subject=_text(file.attrs.get("patient_id", path.stem)),
        )


def read_mask(file: h5py.File, path: Path, columns: int) -> np.ndarray | None:
    """Return the file's own mask (columns,) bool; None where it has none.

    Raises:
        InputError: it is no dataset of that shape with values 0 and 1 alone, or no column is measured.
    """
    mask = find_dataset(file, "mask", path)
    if mask is None:
        if "mask" in file.attrs:
            raise InputError(f"{path}: 'mask' is an attribute, expected a dataset: store it as one.")
        return None
    if mask.shape != (columns,):
        raise InputError(
            f"{path}: 'mask' has shape {mask.shape}, expected one entry for each of the {columns} columns: correct it."
        )
    values = mask[()]
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise InputError(
            f"{path}: 'mask' ({mask.dtype}) holds other values than 0 and 1: store True or 1 for each measured column, "
            "and False or 0 for the others."
        )
    if not values.any():
        raise InputError(f"{path}: 'mask' has no measured column, so that there is nothing to reconstruct: correct it.")
    return values.astype(bool)


def _image_size(
    kspace_size: tuple[int, int], header: Header, target: h5py.Dataset | None, path: Path
) -> tuple[int, int]:
    """The centre of the zero-filled image that shows what the target shows, or what the header says is shown.

    It is the target's size, but (columns, columns) where k-space of the target's pixel size has fewer columns than
    the target, as in fastMRI's U-Net transform (a few FLAIR brain volumes with 203 columns).
    """
    rows, columns = kspace_size
    same = header.same_pixels
    if target is None:
        wanted = header.recon_size[:2] if same is not False else header.shown_size
    else:
        wanted = target.shape[1:]
        if same is False:
            raise InputError(
                f"{path}: the target's pixels are {_pixel(header.recon_voxel_mm)}, those of k-space "
                f"{_pixel(header.encoded_voxel_mm)} (fields of view by matrices in 'ismrmrd_header'), so that they "
                "cannot be compared: leave the file out, or give it a target that is not interpolated."
            )
        if same is None and (wanted[0] > rows or wanted[1] > columns):
            raise InputError(
                f"{path}: the target of {wanted[0]} x {wanted[1]} has more pixels than 'kspace' of {rows} x {columns}, "
                "and 'ismrmrd_header' does not tell the fields of view of both: leave the file out, or correct "
                "the header."
            )
    size = (int(wanted[0]), int(wanted[1]))
    if same is not True:
        size = (min(rows, size[0]), min(columns, size[1]))
    elif columns < size[1]:
        size = (columns, columns)
    if not (0 < size[0] <= rows and 0 < size[1] <= columns):
        raise InputError(
            f"{path}: the image of {wanted[0]} x {wanted[1]} does not fit into 'kspace' of {rows} x {columns}: "
            "correct the file or leave it out."
        )
    return size


def _pixel(voxel_mm: tuple[float, float, float] | None) -> str:
    return "unknown" if voxel_mm is None else f"{voxel_mm[0]:.3g} x {voxel_mm[1]:.3g} mm"


def _kspace(file: h5py.File, path: Path, challenge: str) -> h5py.Dataset:
    kspace = find_dataset(file, "kspace", path)
    if kspace is None:
        raise InputError(f"{path} has no dataset 'kspace', so it is not a fastMRI file: keep it elsewhere.")
    if kspace.dtype.kind != "c":
        raise InputError(f"{path}: 'kspace' is {kspace.dtype}, expected complex64: correct it or leave the file out.")
    if kspace.ndim != N_DIMS[challenge]:
        others = [other for other, ndim in N_DIMS.items() if ndim == kspace.ndim]
        hint = f"it looks like {others[0]} data, set challenge to {others[0]}" if others else "leave the file out"
        raise InputError(
            f"{path}: 'kspace' has {kspace.ndim} axes, {challenge} data have {N_DIMS[challenge]}, "
            f"{AXES[N_DIMS[challenge]]}: {hint}."
        )
    if 0 in kspace.shape:
        raise InputError(f"{path}: 'kspace' of shape {kspace.shape} is empty: copy the file again or leave it out.")
    _check_extent(kspace, path, "kspace")
    return kspace


def _check_extent(dataset: h5py.Dataset, path: Path, key: str) -> None:
    if max(dataset.shape) > LARGEST_AXIS or prod(dataset.shape[1:]) * dataset.dtype.itemsize > LARGEST_SLICE:
        raise InputError(
            f"{path}: {key!r} of shape {dataset.shape} is larger than any scanner's: copy the file again or leave "
            "it out."
        )


def _measured(kspace: h5py.Dataset, mask: np.ndarray | None, path: Path) -> np.ndarray:
    """Which columns (columns,) bool hold anything in some slice; looks only as far as it needs to know."""
    found = np.zeros(kspace.shape[-1], bool)
    for part in _parts(kspace):
        found |= (part != 0).reshape(-1, len(found)).any(0)
        if (found if mask is None else found & mask).any() and (mask is not None or not _has_gaps(found)):
            return found
    if not (found if mask is None else found & mask).any():
        where = "everywhere" if mask is None else "in all columns that 'mask' calls measured"
        raise InputError(f"{path}: 'kspace' is zero {where}: copy the file again or leave it out.")
    return found


def _parts(kspace: h5py.Dataset) -> Iterator[np.ndarray]:
    """One coil of the middle slice, which tells most at least cost, then all slices."""
    if not kspace.id.get_storage_size() and not kspace.is_virtual:
        return  # declared, but never written
    middle = kspace.shape[0] // 2
    yield _single(kspace[middle] if kspace.ndim == 3 else kspace[middle, 0])
    for number in (middle, *range(kspace.shape[0])):
        yield _single(kspace[number])


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what becomes inf is told of when it is reconstructed
        return values.astype(np.complex64)


def _has_gaps(measured: np.ndarray) -> bool:
    """Whether unmeasured columns lie between measured ones; those at the border are padding."""
    inside = np.flatnonzero(measured)
    return bool(len(inside)) and bool(len(inside) <= np.ptp(inside))


def _header_text(file: h5py.File, path: Path) -> bytes:
    header = find_dataset(file, "ismrmrd_header", path)
    if header is None:
        raise InputError(f"{path} has no dataset 'ismrmrd_header', so it is not a fastMRI file: keep it elsewhere.")
    if header.size != 1:
        raise InputError(f"{path}: 'ismrmrd_header' is not a usable ISMRMRD header, it is not one text: correct it.")
    text = np.asarray(header[()]).item()
    return text if isinstance(text, bytes) else str(text).encode()


def _target(file: h5py.File, path: Path, key: str, n_slices: int) -> h5py.Dataset | None:
    target = find_dataset(file, key, path)
    if target is None:
        return None
    if target.dtype.kind != "f" or target.ndim != 3 or target.shape[0] != n_slices:
        raise InputError(
            f"{path}: {key!r} is {target.dtype} of shape {target.shape}, expected floats of shape "
            f"({n_slices}, rows, columns): correct it or leave the file out."
        )
    if 0 in target.shape:
        raise InputError(f"{path}: {key!r} of shape {target.shape} is empty: copy the file again or leave it out.")
    _check_extent(target, path, key)
    return target


def _maximum(target: h5py.Dataset, path: Path, size: tuple[int, int]) -> float:
    # FLAIR-203: the target may be larger than the crop in one axis and may not be smaller in the other
    if target.shape[1] < size[0] or target.shape[2] < size[1]:
        raise InputError(f"{path}: target of shape {target.shape} is smaller than {size}: leave the file out.")
    maximum = float(np.max([center_crop(np.asarray(image), size).max() for image in target]))  # keeps a nan
    if not (np.isfinite(maximum) and maximum > 0):
        raise InputError(
            f"{path}: the largest value of the target is {maximum}, so that no quality can be measured: "
            "correct the file or leave it out."
        )
    return maximum


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def undersampled(volumes: Sequence[Volume]) -> list[str]:
    """Return a sentence on the files that seem undersampled already, but bring no mask; none where there are none."""
    names = [str(volume.path) for volume in volumes if volume.seems_undersampled]
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [
        f"{names[0]}{more} without a mask, but with columns of zeros between others: undersampled already, "
        "so it seems, and masked once more; store its 'mask' if it was"
    ]
