"""NIfTI files, read to their end and written whole; where it is not known how the patient lay, by a convention."""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from data_prep.storage.cache import reason, replace_file
from recon.errors import InputError

NIFTI = (".nii", ".nii.gz")
UNKNOWN, SCANNER, ALIGNED = 0, 1, 2  # NIfTI's codes: nothing said, the scanner's coordinates, others but no atlas's
ROUNDING_MM = 0.01  # how far from the affine a quaternion may put a corner
FAST = 1  # of gzip's levels: noise hardly gets smaller by the others
GZIP = b"\x1f\x8b"
CHUNK = 2**24  # bytes that are read at once
DAMAGE = (
    OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, zlib.error,
    ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError,
)  # fmt: skip
"""What nibabel and gzip make of files that are cut off or damaged."""


def is_nifti(path: Path) -> bool:
    """Whether a file is called as a NIfTI file, in small or capital letters."""
    return path.name.lower().endswith(NIFTI)


def nifti_name(path: Path) -> str:
    """The name of a file without NIfTI's suffix, if it has one."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def read_nifti(path: Path) -> tuple[Any, np.ndarray]:
    """Read a NIfTI-1 or NIfTI-2 file, all of it: a compressed one to its checksum, which nibabel stops before.

    Args:
        path: one file, compressed by gzip or not, whatever it is called.

    Returns:
        The image, which knows header and affine; and its voxels as they are stored, scaled as the header says.

    Raises:
        InputError: there is no such file, it is truncated, damaged or of another kind, or it does not fit into memory.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with _quiet():
            kind, content = _whole(path)
            image: Any = kind.from_stream(content)
            return image, np.asanyarray(image.dataobj)
    except MemoryError as error:
        raise InputError(f"{path} holds more voxels than fit into memory: crop it, or give another file.") from error
    except DAMAGE as error:
        raise InputError(
            f"{path} is not a readable NIfTI volume ({reason(error)}): copy it again, or give another file."
        ) from error


def _whole(path: Path) -> tuple[Any, io.BytesIO]:
    """The image's class, and the bytes that it is made of; no more than the header says is kept in memory."""
    with path.open("rb") as raw:
        file: Any = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
        head = file.read(nibabel.Nifti2Header.sizeof_hdr)
        kind = nibabel.Nifti2Image if head[4:7] == b"n+2" else nibabel.Nifti1Image
        if kind is nibabel.Nifti1Image and head[344:347] != b"n+1":
            raise ValueError("it does not begin as one")
        header = kind.header_class(head[: kind.header_class.sizeof_hdr])
        shape = [int(n) for n in header.get_data_shape()]
        if min(shape, default=0) < 1:
            raise ValueError(f"its shape is {shape}")
        size = int(header.get_data_offset()) + math.prod(shape) * header.get_data_dtype().itemsize
        content, n_bytes = io.BytesIO(head), len(head)
        content.seek(n_bytes)
        while n_bytes < size and (chunk := file.read(min(CHUNK, size - n_bytes))):
            n_bytes += content.write(chunk)
        if n_bytes < size:
            raise EOFError(f"it is truncated, with {n_bytes} bytes of {size}")
        while file.read(CHUNK):
            pass  # on to the checksum
    content.seek(0)
    return kind, content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what nibabel and NumPy remark about a file."""
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        logger.disabled = before


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
            None where the affine is all there is; it is then one of the scanner's coordinates, and stands in the
            sform alone, with a qform of code 0, where it has a shear (a tilted gantry's): no quaternion can hold it.
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
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.shape) - 1)
    there = apply_affine(image.get_qform(), corners)
    if np.linalg.norm(there - apply_affine(affine, corners), axis=1).max() > ROUNDING_MM:
        image.set_qform(affine, UNKNOWN)
    image.header.set_xyzt_units("mm")
    return image


def _write(path: Path, image: nibabel.Nifti1Image, description: str) -> None:
    image.header["descrip"] = description
    with replace_file(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), FAST, mtime=0))


def nifti_description(path: Path) -> str:
    """The description in the header of a NIfTI file, which is read to its end.

    Raises:
        InputError: it is no readable NIfTI file.
    """
    return bytes(read_nifti(path)[0].header["descrip"]).rstrip(b"\0").decode(errors="replace")
