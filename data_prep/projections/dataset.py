"""The slices of one measured CT scan as samples: back-projected with the scan's own geometry."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from data_prep.lodopab.slices import CTSlices
from data_prep.projections.scan_file import MeasuredScan
from data_prep.slices.sample import Sample
from data_prep.storage.cache import write_hdf5
from data_prep.storage.nifti import write_nifti
from data_prep.storage.open_files import OpenFiles
from recon.errors import InputError
from recon.physics.ct import fbp


class ScanDataset(CTSlices):
    """The slices of one scan, as `LoDoPaBDataset` gives LoDoPaB's, without targets.

    The input is mu / mu_max, mu being the filtered back-projection and mu_max the scan's own: measured objects and
    X-ray energies are others than LoDoPaB's, whose images are divided by its largest attenuation in the same way. The
    image keeps the scan's grid and is zero-padded to what the network takes.

    Args:
        scan: what was measured.
        multiple: of the sides of the padded images, the network's total stride.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter.

    Attributes:
        volumes: the scan alone; others see `SliceDataset`.
    """

    title = "measured CT"
    baselines = {"fbp": "FBP"}

    volumes: list[MeasuredScan]

    def __init__(
        self, scan: MeasuredScan, multiple: int = 1, window: str = "hann", frequency_scaling: float = 0.641
    ) -> None:
        rows, columns = (ceil(n / multiple) * multiple for n in scan.image_size)
        super().__init__([scan], (rows, columns))
        self.window, self.frequency_scaling = window, frequency_scaling
        self._files = OpenFiles(limit=1)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index), the same in every epoch; an index alone will do.

        Raises:
            InputError: the file cannot be read any more.
        """
        _, s = self.slices[key[1] if isinstance(key, tuple) else key]
        scan = self.volumes[0]
        sinogram = torch.from_numpy(self._files.read(scan.path, "data", s))
        return self._sample(0, s, fbp(sinogram, scan.geometry, self.window, self.frequency_scaling) / scan.mu_max, None)

    def observation(self, index: int) -> Tensor:
        """Read what was measured of a sample's slice: line integrals of mu / mu_max in metres, (angles, detectors).

        Raises:
            InputError: the file cannot be read any more.
        """
        scan = self.volumes[0]
        return torch.from_numpy(self._files.read(scan.path, "data", self.slices[index][1])) / scan.mu_max

    def moved(self, index: int, shift: Sequence[float]) -> Sample:
        """Refuse: nobody knows what was measured.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.volumes[0].path} has no ground truth that could be moved: use simulated data.")

    def volume_target(self, index: int) -> Tensor:
        """Refuse, as `moved` does.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.volumes[0].path} has no ground truth: use data that have.")

    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Return the size of a voxel: slices are as far apart as the pixels, since detector pixels are square."""
        height, width = (1000 * side for side in self.volumes[0].geometry.pixel_size)
        return height, width, width

    def write(self, path: Path, images: Tensor, made_by: str) -> None:
        """Write a reconstruction, in 1/m, see `SliceDataset.write`; *.nii.gz turned as one looks at it."""
        mu = self.for_file(images) * self.volumes[0].mu_max
        if path.suffix == ".h5":
            write_hdf5(path, {"reconstruction": mu.numpy()}, {"made_by": made_by})
            return
        mu = self.upright(mu)
        middle = [side // 2 for side in (*mu.shape[1:], mu.shape[0])]
        write_nifti(path, mu.numpy(), self.voxel_size_mm(), middle, made_by)
