"""Reconstructed volumes as NIfTI. fastMRI's files do not tell how the patient lay: the orientation is a convention."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from data_prep.cache import replace_file
from recon.errors import InputError

SCANNER, ALIGNED = 1, 2  # NIfTI's codes for the scanner's coordinates, and for others that are no atlas's
FAST = 1  # of gzip's levels: noise hardly gets smaller by the others


def image_affine(voxel_size_mm: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    """From voxel (column, row, slice) to mm (Right, Anterior, Superior), as in an axial DICOM slice that lies straight.

    Columns go towards the patient's Left, rows towards Posterior, slices towards Superior:
    (R, A, S) = diag(-dx, -dy, dz) ((column, row, slice) - origin).

    Args:
        voxel_size_mm: (dy, dx, dz) of (row, column, slice).
        origin: (row, column, slice) of the voxel at (0, 0, 0) mm.

    Returns:
        Array (4, 4).
    """
    dy, dx, dz = voxel_size_mm
    row, column, number = origin
    scale = np.array([-dx, -dy, dz])
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = -scale * (column, row, number)
    return affine


def write_nifti(
    path: Path, images: np.ndarray, voxel_size_mm: Sequence[float], origin: Sequence[float], description: str = ""
) -> None:
    """Write a volume as compressed NIfTI-1, whole or not at all; equal content gives equal bytes.

    Args:
        path: the file, *.nii.gz.
        images: (slices, rows, columns); the file holds (columns, rows, slices).
        voxel_size_mm: see `image_affine`.
        origin: see `image_affine`.
        description: up to 80 characters for the header.

    Raises:
        OSError: the file cannot be written.
    """
    affine = image_affine(voxel_size_mm, origin)
    _write(path, _placed(np.ascontiguousarray(images.transpose(2, 1, 0)), affine, ALIGNED), description)


def write_nifti_like(path: Path, volume: np.ndarray, affine: np.ndarray, header: Any, description: str = "") -> None:
    """Write a volume in the place of another one, as compressed NIfTI; whole or not at all.

    Args:
        path: the file, *.nii.gz.
        volume: float32, of the other one's shape.
        affine: of the other one.
        header: of the other one, if it was a NIfTI file: sform, qform, their codes and the unit are kept as they are.
            None where the affine is all there is; it is then one of the scanner's coordinates.
        description: up to 80 characters for the header.

    Raises:
        OSError: the file cannot be written.
    """
    if header is None:
        image = _placed(volume, affine, SCANNER)
    else:
        header = header.copy()
        header.set_data_dtype(np.float32)
        header["cal_min"] = header["cal_max"] = 0
        kind = nibabel.Nifti2Image if header.sizeof_hdr == nibabel.Nifti2Header.sizeof_hdr else nibabel.Nifti1Image
        image = kind(volume, None, header)
    _write(path, image, description)


def _placed(volume: np.ndarray, affine: np.ndarray, code: int) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(volume, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm")
    return image


def _write(path: Path, image: nibabel.Nifti1Image, description: str) -> None:
    image.header["descrip"] = description
    with replace_file(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), FAST, mtime=0))


def nifti_description(path: Path) -> str:
    """The description in the header of a NIfTI file.

    Raises:
        InputError: it is no readable NIfTI file.
    """
    try:
        return bytes(nibabel.Nifti1Image.from_filename(path).header["descrip"]).rstrip(b"\0").decode(errors="replace")
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError):
        raise InputError(f"{path} is not a readable NIfTI file: copy it again.") from None
