"""Axial CT slices in DICOM files: a folder of one series, checked and put in order."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.pixels import apply_rescale

from data_prep.storage.cache import open_file, reason
from data_prep.storage.notes import note
from recon.errors import InputError

TILT = 30.0  # degrees; gantries tilt by no more
ROUNDING_MM, ROUNDING = 0.02, 0.01  # how far a gap between slices may be off, in mm and relative
AIR = -1000  # HU
SUFFIXES = (".dcm", ".ima")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
LARGE = 2**12  # bytes of a value that is left in the file while headers are read
HEAD = 4096  # bytes that tell whether a file is text
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes go to Left, Posterior, Superior
DAMAGE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError,
    struct.error, InvalidDicomError, BytesLengthException,
)  # fmt: skip
"""What pydicom makes of files that are cut off or damaged."""


class Slice(NamedTuple):
    """What the header of one slice says; positions in mm, in DICOM's axes."""

    path: Path
    series: str
    size: tuple[int, int]  # rows, columns
    spacing: tuple[float, ...]  # of rows, of columns
    orientation: tuple[float, ...]  # along which a row runs, along which a column runs
    position: tuple[float, ...]  # of the first pixel's centre
    thickness: float | None  # None where the file does not tell it


class Series(NamedTuple):
    """One series.

    Attributes:
        paths: of its slices, in order along the patient.
        shape: (columns, rows, slices).
        affine: from (column, row, slice) to mm (Right, Anterior, Superior), (4, 4).
    """

    paths: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, by name: those that say so inside or are called so.

    Once there is one, files without a suffix or with a number for one count too, so that a damaged one is not missed;
    but not text, such as a README.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({reason(error)}): give another one.") from error
    visible = [folder / name for name in names if not name.startswith(".") and name.upper() != "DICOMDIR"]
    found = {path for path in visible if is_slice(path)}
    return [path for path in visible if path in found or _may_be_slice(path)] if found else []


def is_slice(path: Path) -> bool:
    """Whether a file says inside that it is DICOM, or is called so."""
    try:
        return path.suffix.lower() in SUFFIXES or (path.is_file() and is_dicom(path))
    except OSError:
        return False


def _may_be_slice(path: Path) -> bool:
    """Whether a file is called as slices often are, and holds no text."""
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
    except OSError:
        return True  # it will be told when it is read
    return not head or any(byte < 9 for byte in head)


def read_series(folder: Path) -> Series:
    """Check the headers of a folder's slices, and put them in order.

    Raises:
        InputError: a slice is damaged, not of CT, not axial, multi-frame or not in HU, or the slices are not of one
            series, size, spacing and orientation, or not evenly spaced.
    """
    slices = [_describe(path) for path in dicom_files(folder)]
    if not slices:
        raise InputError(f"{folder} holds no DICOM slices: give the folder of one series.")
    first = slices[0]
    for other in slices[1:]:
        _check_same(first, other)
    along, down = np.reshape(first.orientation, (2, 3))
    slices.sort(key=lambda each: float(np.dot(np.cross(along, down), each.position)))
    step = _step(slices, np.cross(along, down))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along * first.spacing[1], down * first.spacing[0], step], axis=1)
    affine[:3, 3] = slices[0].position
    rows, columns = first.size
    return Series(tuple(each.path for each in slices), (columns, rows, len(slices)), TO_RAS @ affine)


def read_slice(path: Path) -> np.ndarray:
    """The pixels of a slice in HU, float32 (rows, columns); padded ones, outside the field of view, are air.

    Raises:
        InputError: the file is cut off, damaged, compressed in a way that cannot be read, or no image of grey values.
    """
    pixels = _pixels(_read(path), path)
    if pixels.ndim != 2:
        raise InputError(f"{path} is not one image of grey values: give a series of axial CT slices.")
    return pixels


def _read(path: Path, whole: bool = True) -> pydicom.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not to the letter of the standard
            if path.exists() and not path.is_file():
                raise OSError("it is no file")
            return pydicom.dcmread(path, defer_size=None if whole else LARGE)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _pixels(header: pydicom.Dataset, path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = header.pixel_array
            with np.errstate(over="ignore"):  # inf is refused with all other values that cannot be HU
                values = np.array(apply_rescale(stored, header), np.float32)
            values[_is_padding(stored, header)] = AIR
            return values
    except DAMAGE as error:
        syntax = header.file_meta.get("TransferSyntaxUID")
        known = isinstance(syntax, pydicom.uid.UID) and syntax.is_transfer_syntax
        if known and syntax.is_compressed and "PixelData" in header:
            raise InputError(
                f"{path}: its pixels, compressed as {syntax.name}, cannot be read ({reason(error)}): decompress the "
                "series, or copy it again."
            ) from error
        raise _damaged(path, error) from error


def _is_padding(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Which stored values mean that there is no image: PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2).

    Writers take a negative one for unsigned and the reverse: what counts is its bits.
    """
    found = [header.get(key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if stored.dtype.kind not in "ui" or found[0] in (None, ""):
        return np.zeros(stored.shape, bool)
    limits = [np.array(int(value), np.int64).astype(stored.dtype) for value in found if value not in (None, "")]
    low, high = min(limits), max(limits)
    return (stored >= low) & (stored <= high)


def _damaged(path: Path, error: Exception) -> InputError:
    why = "it does not begin as one" if isinstance(error, InvalidDicomError) else reason(error)  # not pydicom's advice
    return InputError(f"{path} is truncated or not a readable DICOM file ({why}): copy it again, or move it out.")


def _describe(path: Path) -> Slice:
    """What one slice says, if it is an axial slice in HU."""
    header = _read(path, whole=False)
    if header.get("Modality") in (None, "", "CT") and not any(key in header for key in PIXELS):
        raise InputError(f"{path} is truncated, or holds no image: copy it again, or move it out.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_kind(header, path)
            described = Slice(
                path,
                series=str(header.get("SeriesInstanceUID", "")),
                size=(int(header.Rows), int(header.Columns)),
                spacing=_numbers(header, path, "PixelSpacing", 2),
                orientation=_numbers(header, path, "ImageOrientationPatient", 6),
                position=_numbers(header, path, "ImagePositionPatient", 3),
                thickness=_thickness(header),
            )
    except InputError:
        raise
    except DAMAGE as error:
        raise _damaged(path, error) from error
    _check_axial(described)
    return described


def _thickness(header: pydicom.Dataset) -> float | None:
    try:
        thickness = float(header.get("SliceThickness") or 0)
    except (TypeError, ValueError):
        return None
    return thickness if 0 < thickness < np.inf else None


def _check_kind(header: pydicom.Dataset, path: Path) -> None:
    modality = str(header.get("Modality") or "")
    if modality != "CT":
        raise InputError(f"{path} is of modality {modality!r}, not CT: give a folder of CT slices alone.")
    if int(header.get("NumberOfFrames") or 1) > 1 or "SharedFunctionalGroupsSequence" in header:
        raise InputError(
            f"{path} is a multi-frame file: export the series as single slices, or convert it to NIfTI in HU."
        )
    missing = [key for key in ("RescaleSlope", "RescaleIntercept") if header.get(key) in (None, "")]
    if missing:
        raise InputError(
            f"{path} has no {' and no '.join(missing)}, so that its values in HU are unknown: export the series again "
            "with its rescale tags."
        )
    kind, (slope,) = header.get("RescaleType") or "HU", _numbers(header, path, "RescaleSlope", 1)
    if not slope or kind not in ("HU", "US"):  # US: unspecified
        raise InputError(
            f"{path} has RescaleSlope {slope:g} and RescaleType {kind!r}: its values are not HU, give a "
            "series that is in HU."
        )
    _numbers(header, path, "RescaleIntercept", 1)


def _numbers(header: pydicom.Dataset, path: Path, key: str, n: int) -> tuple[float, ...]:
    value: Any = header.get(key)
    try:
        numbers = tuple(float(x) for x in (value if n > 1 else [value]))
    except (TypeError, ValueError):
        numbers = ()
    good = len(numbers) == n and all(np.isfinite(numbers)) and (key != "PixelSpacing" or min(numbers) > 0)
    if not good:
        raise InputError(
            f"{path}: {key} is {'missing' if value in (None, '') else repr(value)}, where an axial slice has {n} number"
            f"{'s' if n > 1 else ''}: export the series again, or convert it to NIfTI in HU."
        )
    return numbers


def _check_axial(found: Slice) -> None:
    along, down = np.reshape(found.orientation, (2, 3))
    lengths_and_angle = [np.linalg.norm(along), np.linalg.norm(down), 1 + np.dot(along, down)]
    normal = np.cross(along, down)
    if not np.allclose(lengths_and_angle, 1, atol=1e-2) or abs(normal[2]) < np.cos(np.radians(TILT)):
        said = "\\".join(f"{x:g}" for x in found.orientation)
        raise InputError(
            f"{found.path} is not an axial slice (ImageOrientationPatient {said}): give a folder of axial slices alone."
        )


def _check_same(first: Slice, other: Slice) -> None:
    """All slices are of one series, size, spacing and orientation."""
    folder, names = first.path.parent, f"{first.path.name} and {other.path.name}"
    if other.series != first.series:
        raise InputError(f"{folder} holds slices of more than one series ({names}): give each a folder of its own.")
    if other.size != first.size:
        here, there = ("{} x {}".format(*each.size) for each in (first, other))
        raise InputError(f"{folder} holds slices of {here} and of {there} pixels ({names}): give each its own folder.")
    if not np.allclose(other.spacing, first.spacing, rtol=1e-3):
        here, there = ("{:g} x {:g} mm".format(*each.spacing) for each in (first, other))
        raise InputError(
            f"{folder} holds slices with pixels of {here} and of {there} ({names}): give each its own folder."
        )
    if not np.allclose(other.orientation, first.orientation, atol=1e-3):
        raise InputError(f"{folder} holds slices that are not parallel ({names}): give each its own folder.")


def _step(slices: Sequence[Slice], normal: np.ndarray) -> np.ndarray:
    """From one slice to the next in mm, in DICOM's axes."""
    if len(slices) == 1:
        if slices[0].thickness is None:
            note(f"{slices[0].path} is the only slice and does not tell its SliceThickness: it is taken for 1 mm.")
        return normal * (slices[0].thickness or 1)
    steps = np.diff([each.position for each in slices], axis=0)
    folder, usual = slices[0].path.parent, np.median(steps, axis=0)
    for one, two, step in zip(slices, slices[1:], steps, strict=False):
        if np.dot(step, normal) < ROUNDING_MM:
            raise InputError(
                f"{one.path} and {two.path.name} lie at the same position: give a folder of one series, without copies."
            )
        if np.linalg.norm(step - usual) > ROUNDING_MM + ROUNDING * np.linalg.norm(usual):
            raise InputError(
                f"{folder}: {one.path.name} and {two.path.name} are {np.linalg.norm(step):.4g} mm apart, where "
                f"{np.linalg.norm(usual):.4g} mm is usual: add the slices that are missing, or give an evenly spaced "
                "series."
            )
    return (np.asarray(slices[-1].position) - slices[0].position) / (len(slices) - 1)
