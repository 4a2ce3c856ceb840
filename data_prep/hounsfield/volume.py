"""CT volumes in Hounsfield units, from NIfTI files and folders of DICOM slices: what a scan is simulated of."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from data_prep.hounsfield.dicom import TILT, read_series, read_slice
from data_prep.storage.nifti import nifti_name, read_nifti
from recon.errors import InputError
from recon.physics.ct import LODOPAB, ParallelBeam

AXIAL = axcodes2ornt(("S", "L", "P"))  # LoDoPaB's: slices to superior, rows to the left, columns to posterior
HIGHEST_WITHOUT_AIR = -200.0  # HU; fat has -100, and every CT image some air or lung
HIGHEST = 40_000.0  # HU; extended scales end at 2^15 - 1024
FLAT = 0.1  # volume of a voxel whose sides are 1, below which its axes lie in one plane
LARGEST_SIDE, THINNEST = 4096, 10  # pixels of a slice's side; how much longer one side of a pixel is than the other
SMALLEST_MM, LARGEST_MM = 5.0, 1500.0  # side of an image


@dataclass(frozen=True, eq=False)
class HUVolume:
    """What is known of a volume in HU without its voxels.

    Attributes:
        name: of the NIfTI file without suffix, or of the folder.
        path: the NIfTI file, or the folder of DICOM slices.
        slices: the DICOM files in order; none of a NIfTI file.
        shape: of the array as it is stored: a NIfTI file's axes; (columns, rows, slices) of DICOM.
        affine: from an index into that array to mm (Right, Anterior, Superior), (4, 4).
        header: of the NIfTI file; None of DICOM.
    """

    name: str
    path: Path
    slices: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    header: Any = None

    has_target: ClassVar[bool] = True
    recon_key: ClassVar[str] = "image in HU"
    acquisition: ClassVar[str] = "CT image in HU"

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of an axial slice in LoDoPaB's layout, from right to left and from front to back."""
        return self._axial(self.shape)[1:]

    @property
    def n_slices(self) -> int:
        """Number of axial slices."""
        return self._axial(self.shape)[0]

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Of (slice, row, column) in LoDoPaB's layout."""
        return self._axial(voxel_sizes(self.affine).tolist())

    @property
    def geometry(self) -> ParallelBeam:
        """The scanner: `scanner_for` the image's size and pixels."""
        _, height, width = self.voxel_size_mm
        return scanner_for(self.image_size, (height / 1000, width / 1000))

    def as_axial(self, array: np.ndarray) -> np.ndarray:
        """The array as it is stored to LoDoPaB's layout, (slices, rows, columns): flips and exchanged axes alone."""
        return np.ascontiguousarray(apply_orientation(array, ornt_transform(io_orientation(self.affine), AXIAL)))

    def as_stored(self, images: np.ndarray) -> np.ndarray:
        """The inverse of `as_axial`."""
        return np.ascontiguousarray(apply_orientation(images, ornt_transform(AXIAL, io_orientation(self.affine))))

    def _axial(self, values: Any) -> Any:
        """What belongs to the stored axes, in the order of the axial ones."""
        order = ornt_transform(io_orientation(self.affine), AXIAL)[:, 0].astype(int).tolist()
        return tuple(values[order.index(axis)] for axis in range(3))


def scanner_for(size: tuple[int, int], pixel_size: tuple[float, float]) -> ParallelBeam:
    """LoDoPaB's scanner around an image of another size: 1000 angles, detectors as wide as a pixel over the diagonal.

    An image of 362 x 362 pixels of 0.26 / 362 m gets `LODOPAB`.

    Args:
        size: (rows, columns).
        pixel_size: height and width of a pixel in metres.
    """
    height, width = (n * side for n, side in zip(size, pixel_size, strict=True))
    diagonal = hypot(height, width)
    return ParallelBeam(*size, (height, width), LODOPAB.n_angles, ceil(diagonal / min(pixel_size)) + 1, diagonal)


def open_hu(path: Path) -> HUVolume:
    """Check a volume, all of it, and describe it.

    Args:
        path: a NIfTI file, or a folder of DICOM slices.

    Raises:
        InputError: not a readable volume of three axes with axial slices, or its values cannot be HU.
    """
    if path.is_dir():
        paths, shape, affine = read_series(path)
        volume = HUVolume(path.name, path, paths, shape, affine)
    else:
        volume = _open_nifti(path)
    _check_place(volume)
    _check_values(_stored(volume), path)
    return volume


def read_hu(volume: HUVolume) -> np.ndarray:
    """The voxels in HU, float32 (slices, rows, columns) in LoDoPaB's layout.

    Raises:
        InputError: they cannot be read any more.
    """
    return volume.as_axial(_stored(volume))


def _stored(volume: HUVolume) -> np.ndarray:
    """The voxels as they are stored, float32."""
    if not volume.slices:
        with np.errstate(over="ignore"):
            return read_nifti(volume.path)[1].astype(np.float32)
    return np.stack([read_slice(path).T for path in volume.slices], axis=-1)


def _open_nifti(path: Path) -> HUVolume:
    image, values = read_nifti(path)
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"{path} has {values.ndim} axes, of {values.shape}: give one volume, with three.")
    if values.dtype.kind not in "uif":
        raise InputError(f"{path} holds {values.dtype}: give numbers in HU.")
    return HUVolume(nifti_name(path), path, (), values.shape, image.affine, image.header)


def _check_place(volume: HUVolume) -> None:
    """Refuse what has no size, or no axial slices."""
    path, affine = volume.path, volume.affine
    directions = affine[:3, :3]
    lengths = voxel_sizes(affine) if np.isfinite(affine).all() else np.zeros(3)
    if not 1e-4 < lengths.min() <= lengths.max() < 1e4 or abs(np.linalg.det(directions / lengths)) < FLAT:
        raise InputError(f"{path}: its affine {affine.tolist()} gives no place in space: correct its header.")
    in_plane = [axis for axis in range(3) if int(io_orientation(affine)[axis, 0]) != 2]
    normal = np.cross(directions[:, in_plane[0]], directions[:, in_plane[1]])
    if abs(normal[2]) < np.cos(np.radians(TILT)) * np.linalg.norm(normal):
        raise InputError(
            f"{path} has no axial slices, its axes are tilted by more than {TILT:g} degrees: turn it first."
        )
    height, width = volume.voxel_size_mm[1:]
    if max(volume.image_size) > LARGEST_SIDE or max(height, width) > THINNEST * min(height, width):
        rows, columns = volume.image_size
        raise InputError(
            f"{path}: its slices have {rows} x {columns} pixels of {height:.4g} x {width:.4g} mm, and a scan is "
            f"simulated of {LARGEST_SIDE} at most, of about the same height and width: resample it."
        )
    sides = [n * side for n, side in zip(volume.image_size, volume.voxel_size_mm[1:], strict=True)]
    if not SMALLEST_MM <= min(sides) <= max(sides) <= LARGEST_MM:
        raise InputError(
            f"{path}: its slices are {sides[0]:.4g} x {sides[1]:.4g} mm, which no CT image is: correct its voxel size, "
            "which the header has in mm."
        )


def _check_values(values: np.ndarray, path: Path) -> None:
    """Refuse what cannot be HU."""
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds nan or inf: put -1000 HU, air, where there is no image.")
    low, high = float(values.min()), float(values.max())
    if low > HIGHEST_WITHOUT_AIR or high > HIGHEST:
        raise InputError(
            f"{path} holds values from {low:g} to {high:g}, which cannot be HU (air is -1000, water 0): give a CT "
            "image in HU."
        )
