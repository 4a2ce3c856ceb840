"""Measured k-space in one form, whatever file it comes from, and how it becomes a fastMRI file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_prep.fastmri.headers import write_header
from data_prep.fastmri.kspace_file import Undersampling, write_kspace
from recon.errors import InputError

FAR = 8  # a peak is far from the centre if it is more than 1 / FAR of the side away


@dataclass(frozen=True)
class RawVolume:
    """The k-space of a volume, each sample at its place.

    Attributes:
        path: the file that it comes from.
        kspace: complex64 (slices, coils, rows, columns); rows are the readout, columns the phase encoding, and the
            centre is (rows // 2, columns // 2). What was not measured is zero.
        measured: (columns,) bool.
        field_of_view_mm: (rows, columns) extent of the image; 0 where it is not known, as for the next two.
        thickness_mm: extent of a slice.
        resonance_hz: hydrogen's frequency.
        part: what sets the volume apart from others of the same file, such as contrast1; empty where it is alone.
        notes: sentences to be said aloud.
    """

    path: Path
    kspace: np.ndarray
    measured: np.ndarray
    field_of_view_mm: tuple[float, float] = (0.0, 0.0)
    thickness_mm: float = 0.0
    resonance_hz: int = 0
    part: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the measured columns have no gap and reach as far on either side of the centre.

        Then the image is the object at their resolution, and the columns beyond are its zero filling. Columns between
        others that were not measured are acceleration, and such on one side alone are partial Fourier.
        """
        places = np.flatnonzero(self.measured) - len(self.measured) // 2
        return bool(len(places) > np.ptp(places)) and abs(int(places[0] + places[-1])) <= 1

    def kspace_for(self, challenge: str) -> np.ndarray:
        """Return k-space as the files of a challenge hold it, singlecoil without the axis of coils.

        Raises:
            InputError: singlecoil with several coils.
        """
        n_coils = self.kspace.shape[1]
        if challenge == "singlecoil" and n_coils > 1:
            raise InputError(f"{self.path} has {n_coils} coils: give --challenge multicoil, or leave it out")
        return self.kspace[:, 0] if challenge == "singlecoil" else self.kspace

    def padded(self, multiple: int) -> RawVolume:
        """Return the volume with rows and columns of zeros around, so that both sides are multiples of a number.

        Such zero filling interpolates the image and leaves the field of view as it is; the centre stays the centre.
        """
        sides = self.kspace.shape[-2:]
        if not any(n % multiple for n in sides):
            return self
        pads = []
        for n in sides:
            m = -(-n // multiple) * multiple
            pads.append((m // 2 - n // 2, (m - m // 2) - (n - n // 2)))
        kspace = np.pad(self.kspace, ((0, 0), (0, 0), *pads))
        return replace(self, kspace=kspace, measured=np.pad(self.measured, pads[1]))

    def peak(self) -> tuple[int, int]:
        """Where k-space has most energy, over all slices and coils: (row, column), counted from the centre."""
        power = sum(np.square(np.abs(image)).sum(0) for image in self.kspace)
        row, column = np.unravel_index(int(np.argmax(power)), self.kspace.shape[-2:])
        return int(row) - self.kspace.shape[-2] // 2, int(column) - self.kspace.shape[-1] // 2

    def remarks(self) -> list[str]:
        """Return the sentences to be said aloud: the notes, what is missing, and a peak far from the centre."""
        found = [f"{self.path}: {note}" for note in self.notes]
        if not self.is_complete:
            found.append(
                f"{self.path}: {self.measured.sum()} of {len(self.measured)} columns were measured (acceleration or "
                "partial Fourier): they are the file's mask, and it has no target to train with or to measure by"
            )
        peak = self.peak()
        if any(abs(place) > side // FAR for place, side in zip(peak, self.kspace.shape[-2:], strict=True)):
            found.append(
                f"{self.path}: k-space is strongest {peak[0]} rows and {peak[1]} columns from its centre, where the "
                "middle of the spectrum is expected: look at the preview, and check the axes and the order of the "
                "samples (the centre is index n // 2, as after fftshift)"
            )
        return found


def checked(path: Path, kspace: np.ndarray) -> np.ndarray:
    """Return k-space of any shape in complex64.

    Args:
        path: the file, for the message.
        kspace: complex.

    Raises:
        InputError: it is not finite, or zero everywhere.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = kspace.astype(np.complex64, copy=False)
    if not np.isfinite(single).all():
        raise InputError(f"{path}: k-space holds nan, inf or numbers beyond float32: repair it, or leave the file out")
    if not single.any():
        raise InputError(f"{path}: k-space is zero everywhere: copy the file again, or leave it out")
    return single


def write_raw(path: Path, raw: RawVolume, challenge: str, acquisition: str, subject: str) -> None:
    """Write a measured volume as a fastMRI file, whole or not at all; nothing of the source's header but sizes.

    A volume with all its columns (`RawVolume.is_complete`) has a target, see `write_kspace`; another has a mask.

    Args:
        path: the file, *.h5.
        raw: the volume.
        challenge: singlecoil, for one coil, or multicoil.
        acquisition: the contrast.
        subject: who was measured: the file's attribute patient_id.

    Raises:
        InputError: singlecoil with several coils, or the file cannot be written.
    """
    kspace, size = raw.kspace_for(challenge), raw.kspace.shape[-2:]
    header = write_header(size, size, raw.field_of_view_mm, raw.thickness_mm, raw.resonance_hz)
    attributes = {"acquisition": acquisition, "patient_id": subject}
    write_kspace(path, kspace, header, attributes, None if raw.is_complete else _undersampling(raw.measured))


def _undersampling(measured: np.ndarray) -> Undersampling:
    """The mask, columns by measured columns, and how many are measured without a gap around the centre."""
    center = len(measured) // 2
    return Undersampling(
        measured, round(len(measured) / measured.sum()), _run(measured[center:]) + _run(measured[:center][::-1])
    )


def _run(measured: Sequence[bool] | np.ndarray) -> int:
    """How many come first without a gap."""
    return int(np.argmin([*measured, False]))
