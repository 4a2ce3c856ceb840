"""How a batch of sinograms was scanned and back-projected, as numbers that travel with it; and moving its objects."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from data_prep.slices.crop import fit_center
from data_prep.slices.sample import Sample
from recon.layers import circular_shift
from recon.physics.ct import WINDOWS, fbp
from recon.physics.geometry import ParallelBeam
from recon.physics.movement import move_sinogram


class Scan(NamedTuple):
    """What a sinogram is of, and how its back-projection is made.

    Attributes:
        geometry: of the file, whose images are cropped or padded to the samples' size afterwards.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter.
    """

    geometry: ParallelBeam
    window: str
    frequency_scaling: float

    def as_tensor(self) -> Tensor:
        """Return the numbers that a sample holds: all but the sinogram's size."""
        scan = self.geometry
        numbers = [scan.rows, scan.columns, *scan.extent, scan.detector_extent]
        return torch.tensor([*numbers, WINDOWS.index(self.window), self.frequency_scaling], dtype=torch.float64)

    @classmethod
    def of(cls, batch: Sample) -> Self:
        """Return the scan of a batch of samples, which is the same for all of them: those of one shape are of one."""
        rows, columns, height, width, detectors, window, frequency_scaling = batch.scan[0].tolist()
        n_angles, n_detectors = batch.sinogram.shape[-2:]
        extent = (height, width)
        geometry = ParallelBeam(round(rows), round(columns), extent, n_angles, n_detectors, detectors)
        return cls(geometry, WINDOWS[round(window)], frequency_scaling)


def moved_scan(batch: Sample, shifts: Tensor) -> Sample:
    """Return a batch of one slice, or of n, whose objects moved by (n, 2) pixels before they were measured.

    The sinograms move as `move_sinogram` says, noise and all. They are back-projected anew, the frame of pixels that
    the file has moving along with the object, so that the image differs from the circularly shifted one by what the
    projector's and the back-projection's own grids leave.

    Args:
        batch: with sinograms.
        shifts: of each sample, in pixels; for fractions of one the frame moves by the nearest whole number.
    """
    scan, n, size = Scan.of(batch), len(shifts), batch.image.shape[-2:]
    sinogram = move_sinogram(batch.sinogram.expand(n, -1, -1), scan.geometry, shifts)
    image = fbp(sinogram, scan.geometry.fitted(*size), scan.window, scan.frequency_scaling)
    frame = fit_center(image.new_ones(scan.geometry.rows, scan.geometry.columns), size)
    image = image[:, None] * circular_shift(frame.expand(n, 1, *size), shifts.round().long())
    return batch._replace(image=image, sinogram=sinogram, scan=batch.scan.expand(n, -1))
