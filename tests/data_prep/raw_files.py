"""ISMRMRD files as a scanner's converter writes them, through the package ismrmrd itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd.xsd import (
    encodingLimitsType,
    encodingSpaceType,
    encodingType,
    experimentalConditionsType,
    fieldOfViewMm,
    ismrmrdHeader,
    limitType,
    matrixSizeType,
    studyInformationType,
    subjectInformationType,
    trajectoryType,
)

AXES = (-2, -1)
SHAPE = (2, 1, 8, 6)  # slices, coils, rows, columns


def fft2(image: np.ndarray) -> np.ndarray:
    """The centred, orthonormal Fourier transform of images (..., rows, columns), in complex128."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, AXES), norm="ortho"), AXES)


def known_object(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Complex images (slices, coils, rows, columns): white, so that no sample of k-space is like another."""
    random = np.random.default_rng(seed)
    return random.standard_normal(shape) + 1j * random.standard_normal(shape)


def centred(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """k-space that is strongest in its middle."""
    kspace = fft2(known_object(shape))
    kspace[..., shape[-2] // 2, shape[-1] // 2] = 100
    return kspace


@dataclass
class Scan:
    """What an ISMRMRD file tells.

    Attributes:
        kspace: what each average measured, (slices, coils, rows, columns) on the whole encoded matrix.
        columns: those that were measured, all where it is None.
        first_sample: the readout's; those before it were not measured.
        oversampling: of the readout.
        flags: of each line, by its column.
        line: header fields of every line.
        before: lines that come first, such as noise.
        header: changes of the XML header's fields, by their path from the encoding.
    """

    kspace: Sequence[np.ndarray]
    columns: Sequence[int] | None = None
    first_sample: int = 0
    oversampling: int = 1
    flags: Mapping[int, Sequence[int]] = field(default_factory=dict)
    line: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[ismrmrd.Acquisition] = ()
    header: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path, name: str = "dataset") -> Path:
        """Write it; gives the path."""
        with ismrmrd.File(path) as file:
            file[name].header = self.xml()
            file[name].acquisitions = [*self.before, *self.lines()]
        return path

    def lines(self) -> list[ismrmrd.Acquisition]:
        """The image's lines, as they are stored."""
        rows, columns = self.kspace[0].shape[-2:]
        kept = range(columns) if self.columns is None else self.columns
        first = min(kept)  # a scanner counts the steps that it takes from 0
        lines = []
        for average, kspace in enumerate(self.kspace):
            for column in kept:
                for s, coils in enumerate(kspace):
                    samples = np.ascontiguousarray(coils[:, self.first_sample :, column], np.complex64)
                    line = ismrmrd.Acquisition.from_array(samples, center_sample=rows // 2 - self.first_sample)
                    line.idx.kspace_encode_step_1, line.idx.slice, line.idx.average = column - first, s, average
                    for key, value in self.line.items():
                        setattr(line.idx if hasattr(line.idx, key) else line, key, value)
                    for flag in self.flags.get(column, ()):
                        line.set_flag(flag)
                    lines.append(line)
        return lines

    def xml(self) -> ismrmrdHeader:
        """The header: pixels of 2 x 1.5 mm, slices of 5 mm, 0.055 T; with a person's name and a date."""
        rows, columns = self.kspace[0].shape[-2:]
        kept = range(columns) if self.columns is None else self.columns
        limit = limitType(minimum=0, maximum=max(kept) - min(kept), center=columns // 2 - min(kept))
        encoding = encodingType(
            encodedSpace=space(rows, columns),
            reconSpace=space(rows // self.oversampling, columns),
            encodingLimits=encodingLimitsType(kspace_encoding_step_1=limit),
            trajectory=trajectoryType.CARTESIAN,
        )
        for path, value in self.header.items():
            *steps, last = path.split(".")
            place: Any = encoding
            for step in steps:
                place = getattr(place, step)
            setattr(place, last, value)
        return ismrmrdHeader(
            subjectInformation=subjectInformationType(patientName="Doe^Jane", patientID="4711"),
            studyInformation=studyInformationType(studyDescription="secret"),
            experimentalConditions=experimentalConditionsType(H1resonanceFrequency_Hz=2_341_000),
            encoding=[encoding],
        )


def space(rows: int, columns: int, slices: int = 1) -> encodingSpaceType:
    """A matrix of pixels of 2 x 1.5 mm."""
    extent = fieldOfViewMm(x=2.0 * rows, y=1.5 * columns, z=5.0)
    return encodingSpaceType(matrixSize=matrixSizeType(x=rows, y=columns, z=slices), fieldOfView_mm=extent)


def other_line(n_coils: int, flag: int, n_samples: int = 20) -> ismrmrd.Acquisition:
    """A line that is no part of the image, of another length."""
    line = ismrmrd.Acquisition.from_array(np.full((n_coils, n_samples), 1e3, np.complex64))
    line.set_flag(flag)
    return line
