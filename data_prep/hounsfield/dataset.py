"""Axial slices in HU as samples: a low-dose scan is simulated of each and back-projected."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_prep.hounsfield.volume import HUVolume, read_hu
from data_prep.lodopab.dataset import STD
from data_prep.lodopab.simulation import BATCH, FINER, observe, photons
from data_prep.lodopab.volume import N_PHOTONS
from data_prep.slices.crop import fit_center
from data_prep.slices.sample import Sample
from recon.physics.ct import MU_MAX, fbp, hu_to_attenuation


class HUDataset(Dataset[Sample]):
    """The axial slices of one volume in HU, as `LoDoPaBDataset` gives LoDoPaB's.

    g = clip(hu_to_attenuation(HU) / MU_MAX, 0, 1) is the target. It is measured as LoDoPaB's images were (`observe`:
    projected from a finer grid, with photon noise that is a function of the volume's name and the slice's number), by
    the scanner of `HUVolume.geometry`, which has the image's own pixel size; and back-projected onto the image's own
    grid. Nothing is resampled or cropped: the image is zero-padded to what the network takes.

    The slices are numbered from the feet to the head; rows run from the patient's right to the left, columns from the
    front to the back, as in LoDoPaB. `HUVolume.as_stored` turns them back.

    Args:
        volume: what is measured.
        multiple: of the sides of the padded images, the network's total stride.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter.
        n_photons: for each detector pixel.

    Attributes:
        volumes: the volume alone.
        slices: (0, slice) of each sample.
        shapes: (rows, columns, True) of each sample.
    """

    transposed = True

    def __init__(
        self,
        volume: HUVolume,
        multiple: int = 1,
        window: str = "hann",
        frequency_scaling: float = 0.641,
        n_photons: float = N_PHOTONS,
    ) -> None:
        self.volumes, self.slices = [volume], [(0, number) for number in range(volume.n_slices)]
        rows, columns = (ceil(n / multiple) * multiple for n in volume.image_size)
        self.shapes = [(rows, columns, True)] * volume.n_slices
        self.window, self.frequency_scaling, self.n_photons = window, frequency_scaling, n_photons
        n_pixels = FINER**2 * volume.image_size[0] * volume.image_size[1]
        self._batch = min(BATCH, max(1, int(BATCH * 1e6 / n_pixels)))  # no more memory than LoDoPaB's simulation takes
        self._hu: np.ndarray | None = None
        self._part, self._images = -1, torch.empty(0)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.slices)

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of a slice; its neighbours, measured together with it, are kept for the next calls.

        Raises:
            InputError: the volume cannot be read any more.
        """
        part = index // self._batch
        if part != self._part:
            first = part * self._batch
            numbers = range(first, min(first + self._batch, len(self)))
            self._part, self._images = part, self._measure(numbers)
        target = self._target(range(index, index + 1))
        size = self.shapes[0][:2]
        return Sample(
            image=fit_center(self._images[index % self._batch], size)[None] / STD,
            target=fit_center(target, size).contiguous(),
            mean=torch.tensor(0.0),
            std=torch.tensor(STD),
            data_range=target.max() - target.min(),
            volume=torch.tensor(0),
            slice=torch.tensor(index),
        )

    def _target(self, numbers: range) -> Tensor:
        """g of some slices, (slices, rows, columns)."""
        if self._hu is None:
            self._hu = read_hu(self.volumes[0])
        hu = torch.from_numpy(self._hu[numbers.start : numbers.stop])
        return (hu_to_attenuation(hu.double()) / MU_MAX).clamp(0, 1).float()

    def _measure(self, numbers: range) -> Tensor:
        """Filtered back-projections of some slices, (slices, rows, columns)."""
        volume = self.volumes[0]
        noise = [photons(0, volume.name, number) for number in numbers]
        observation = observe(self._target(numbers), noise, volume.geometry, self.n_photons)
        return fbp(observation, volume.geometry, self.window, self.frequency_scaling)
