"""Axial slices in HU as samples: a low-dose scan is simulated of each and back-projected."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.hounsfield.volume import HUVolume, read_hu
from data_prep.lodopab.simulation import BATCH, FINER, observe, photons
from data_prep.lodopab.slices import CTSlices
from data_prep.lodopab.volume import N_PHOTONS
from data_prep.slices.sample import Sample
from data_prep.storage.cache import write_hdf5
from data_prep.storage.nifti import write_nifti_like
from recon.physics.ct import MU_MAX, attenuation_to_hu, fbp, hu_to_attenuation


class HUDataset(CTSlices):
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
        measured: give sinograms as well, for a network that needs the measurement.

    Attributes:
        volumes: the volume alone; others see `SliceDataset`.
    """

    title = "CT images in HU"
    baselines = {"fbp": "FBP"}

    volumes: list[HUVolume]

    def __init__(
        self,
        volume: HUVolume,
        multiple: int = 1,
        window: str = "hann",
        frequency_scaling: float = 0.641,
        n_photons: float = N_PHOTONS,
        measured: bool = False,
    ) -> None:
        rows, columns = (ceil(n / multiple) * multiple for n in volume.image_size)
        super().__init__([volume], (rows, columns))
        self.window, self.frequency_scaling, self.n_photons = window, frequency_scaling, n_photons
        n_pixels = FINER**2 * volume.image_size[0] * volume.image_size[1]
        self._batch = min(BATCH, max(1, int(BATCH * 1e6 / n_pixels)))  # no more memory than LoDoPaB's simulation takes
        self._hu: np.ndarray | None = None
        self._part, self._images, self._observations = -1, torch.empty(0), torch.empty(0)
        if measured:
            self._take_measurements()

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index), the same in every epoch; an index alone will do.

        Its neighbours, measured together with it, are kept for the next calls.

        Raises:
            InputError: the volume cannot be read any more.
        """
        index = key[1] if isinstance(key, tuple) else key
        _, s = self.slices[index]
        part = s // self._batch
        if part != self._part:
            first = part * self._batch
            numbers = range(first, min(first + self._batch, len(self)))
            self._part, self._observations = part, self._observe(numbers)
            self._images = self._back_project(self._observations)
        image, observation = (values[s % self._batch] for values in (self._images, self._observations))
        return self._sample(0, s, image, self._target(range(s, s + 1))[0], observation=observation)

    def moved(self, index: int, shift: Sequence[float]) -> Sample:
        """Return the sample of a slice whose object moved before it was measured, with noise of the same seed.

        The object is the image, with air around it (`observe`). So the shift (0, 0) gives the sample itself.

        Args:
            index: the sample.
            shift: (rows, columns) in pixels of the image, positive towards larger indices.

        Returns:
            The sample without a target, (1, 0, 0); data_range stays that of the unmoved image.

        Raises:
            InputError: the shift is not two finite numbers, or the volume cannot be read any more.
        """
        _, s = self.slices[index]
        numbers = range(s, s + 1)
        observation = self._observe(numbers, shift)
        image, target = self._back_project(observation)[0], self._target(numbers)[0]
        return self._sample(0, s, image, target, with_target=False, observation=observation[0])

    def observation(self, index: int) -> Tensor:
        """Measure a sample's slice: line integrals of mu / MU_MAX in metres, (angles, detectors).

        Args:
            index: the sample.

        Raises:
            InputError: the volume cannot be read any more.
        """
        _, s = self.slices[index]
        return self._observe(range(s, s + 1))[0]

    def volume_target(self, index: int = 0) -> Tensor:
        """Return all images of the volume, padded as the samples' targets are.

        Args:
            index: 0.

        Returns:
            Tensor (slices, rows, columns) float32, mu / MU_MAX in [0, 1].

        Raises:
            InputError: the volume cannot be read any more.
        """
        return self._fit(self.volumes[index], self._target(range(len(self))))

    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Return the size of a voxel along (row, column, slice), as the header has it."""
        thickness, height, width = self.volumes[0].voxel_size_mm
        return height, width, thickness

    def write(self, path: Path, images: Tensor, made_by: str) -> None:
        """Write a reconstruction of the volume with its own axes and place, see `SliceDataset.write`.

        *.nii.gz holds HU, with the volume's affine; *.h5 mu / MU_MAX, its axes reversed, and the affine as attribute.
        """
        volume = self.volumes[0]
        stored = volume.as_stored(self.for_file(images).numpy())
        if path.suffix == ".h5":
            write_hdf5(path, {"reconstruction": stored.T}, {"made_by": made_by, "affine": volume.affine})
            return
        hu = attenuation_to_hu(torch.from_numpy(stored).double() * MU_MAX).float().numpy()
        write_nifti_like(path, hu, volume.affine, volume.header, made_by)

    def _target(self, numbers: range) -> Tensor:
        """g of some slices, (slices, rows, columns)."""
        if self._hu is None:
            self._hu = read_hu(self.volumes[0])
        hu = torch.from_numpy(self._hu[numbers.start : numbers.stop])
        return (hu_to_attenuation(hu.double()) / MU_MAX).clamp(0, 1).float()

    def _observe(self, numbers: range, shift: Sequence[float] = (0.0, 0.0)) -> Tensor:
        """What is measured of some slices, (slices, angles, detectors)."""
        volume = self.volumes[0]
        noise = [photons(0, volume.name, number) for number in numbers]
        return observe(self._target(numbers), noise, volume.geometry, self.n_photons, shift)

    def _back_project(self, observation: Tensor) -> Tensor:
        return fbp(observation, self.volumes[0].geometry, self.window, self.frequency_scaling)
