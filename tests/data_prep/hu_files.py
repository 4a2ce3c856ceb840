"""Tiny CT images in HU, as NIfTI and as CT Image Storage of DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SPACING = (5.0, 6.0)  # mm, of rows and columns
THICKNESS = 3.0
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES = generate_uid(entropy_srcs=["series"])


def body(n_slices: int = 3, rows: int = 36, columns: int = 32) -> np.ndarray:
    """Slices (n, rows, columns) int16: an ellipse of tissue in air, bone in its upper left, higher up a larger one."""
    y, x = np.mgrid[:rows, :columns]
    hu = np.full((n_slices, rows, columns), -1000, np.int16)
    for number, image in enumerate(hu):
        image[((y - rows / 2) / (rows / 3)) ** 2 + ((x - columns / 2) / (columns / 3)) ** 2 < 1] = 40
        image[rows // 3 : rows // 3 + 3, columns // 3 : columns // 3 + 3 + number] = 900
    return hu


def slice_header(
    hu: np.ndarray,
    position: Sequence[float] = (0, 0, 0),
    orientation: Sequence[float] = STRAIGHT,
    spacing: Sequence[float] = SPACING,
) -> FileDataset:
    """One slice: pixels are HU + 1024, as scanners store them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.Modality, header.SeriesInstanceUID, header.ImageType = "CT", SERIES, ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.PatientID, header.PatientName = "0", "Phantom"
    header.ImagePositionPatient, header.ImageOrientationPatient = list(position), list(orientation)
    header.PixelSpacing, header.SliceThickness = list(spacing), THICKNESS
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 2, -1024, "HU"
    header.Rows, header.Columns = hu.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelData = ((hu.astype(np.int32) + 1024) // 2).astype("<u2").tobytes()
    return header


def series(hu: np.ndarray, step: float = THICKNESS) -> list[FileDataset]:
    """The slices of a straight series, from the feet to the head."""
    return [slice_header(image, (-90.0, -80.0, -20 + step * number)) for number, image in enumerate(hu)]


def write_series(folder: Path, headers: Sequence[FileDataset], suffix: str = ".dcm") -> Path:
    """Write slices under names that are not in their order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, header in enumerate(headers):
        header.save_as(folder / f"{(number * 7 + 3) % 10}_{number}{suffix}", enforce_file_format=True)
    return folder


def write_nifti(path: Path, hu: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write an array as it is; by default in the place of `series`, whose (slices, rows, columns) it takes turned."""
    if affine is None:
        hu = hu.transpose(2, 1, 0)
        affine = np.diag([-SPACING[1], -SPACING[0], THICKNESS, 1])
        affine[:3, 3] = 90, 80, -20
    image = nibabel.Nifti1Image(hu, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path
