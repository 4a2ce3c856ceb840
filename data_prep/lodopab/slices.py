"""Slices of CT as samples, of LoDoPaB-CT and of images in HU alike: in mu / MU_MAX, as LoDoPaB has them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any, Protocol

import torch
from torch import Tensor

from data_prep.lodopab.scan import Scan
from data_prep.slices.base import Panel, SliceDataset, SliceVolume, size_in_words
from data_prep.slices.crop import fit_center
from data_prep.slices.sample import EPS, Sample
from recon.errors import InputError
from recon.metrics import psnr, ssim
from recon.physics.ct import MU_MAX, attenuation_to_hu
from recon.physics.geometry import CTGeometry, ParallelBeam

STD = 1 / 16  # of mu / MU_MAX, 250 HU: inputs and what is missing in them are then of order 1; a power of two is exact
WINDOWS_HU = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0)}  # what a radiologist's display shows of each


class ScannedVolume(SliceVolume, Protocol):
    """A volume of which it is known how it was scanned."""

    @property
    def geometry(self) -> CTGeometry:
        """The scanner, with the grid of the file's images."""


class CTSlices(SliceDataset):
    """Slices of CT: filtered back-projections of few photons, and the images that were measured.

    Both are mu / MU_MAX and are left in this unit, which is the same for all images: `mean` is 0 and `std` is STD.
    Rows run along the patient's left-right axis.
    """

    volumes: Sequence[ScannedVolume]
    window: str
    frequency_scaling: float

    own_images = "chest-ct"
    per_image = True
    transposed = True
    constants = 0.0, STD

    @abstractmethod
    def observation(self, index: int) -> Tensor:
        """Return what was measured of a sample's slice: line integrals of mu / MU_MAX in metres, (angles, detectors).

        Args:
            index: the sample.

        Raises:
            InputError: the file cannot be read any more.
        """

    def as_input(self, image: Tensor) -> tuple[Tensor, float, float]:
        """Make any image (rows, columns), scaled to a size of 1, an input (1, rows, columns), with mean and std."""
        return (image / image.abs().max().clamp(min=EPS) / STD)[None], 0.0, STD

    def in_view(self, index: int, shift: Sequence[float]) -> tuple[slice, slice]:
        """Return the rows and columns of a sample whose content is in view before and after a move.

        Args:
            index: the sample.
            shift: (rows, columns) that the object moves by, see `moved`.
        """
        volume = self.volumes[self.slices[index][0]]
        parts = []
        for side, n, t in zip(self._size(volume), volume.image_size, shift, strict=True):
            first = max(0, (side - n) // 2)
            last = first + min(side, n)
            parts.append(slice(max(first, first + ceil(t)), min(last, last + floor(t))))
        return parts[0], parts[1]

    def what_moves(self) -> str:
        """Say in a sentence what a moved object means for these data."""
        return "The object is the ground truth; it is projected again, with photon noise of the same seed."

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Say how the inputs are made, from window, frequency_scaling and image_size."""
        return f"FBP with {settings['window']} filter at {settings['frequency_scaling']:g}{size_in_words(settings)}"

    def panels(self, index: int) -> list[Panel]:
        """Return the sinogram, (angles, detectors) in metres.

        Raises:
            InputError: the file cannot be read any more.
        """
        measured = self.observation(index)
        return [Panel("sinogram\n{} angles x {} detectors".format(*measured.shape), measured)]

    def more_quality(self, preds: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return LoDoPaB's figures with the data range 1, and the mean absolute error in HU within display windows.

        Args:
            preds: (batch, rows, columns) in mu / MU_MAX, without padding.
            target: (batch, rows, columns), the same.

        Returns:
            psnr_fr and ssim_fr; hu_lung and hu_soft, where the target lies in the window of lung (-1350 to 150 HU) or
            soft tissue (-160 to 240 HU). Tensors (batch,); nan where nothing lies in a window.
        """
        found = {
            "psnr_fr": psnr(preds, target, 1.0, per_slice=True),
            "ssim_fr": ssim(preds, target, 1.0, per_slice=True),
        }
        hu = attenuation_to_hu(target.double() * MU_MAX)
        error = (attenuation_to_hu(preds.double() * MU_MAX) - hu).abs()
        for name, (low, high) in WINDOWS_HU.items():
            inside = (hu >= low) & (hu <= high)
            found[f"hu_{name}"] = (error * inside).sum((-2, -1)) / inside.sum((-2, -1))
        return found

    def _take_measurements(self, max_shift: int = 0) -> None:
        """Let samples hold sinograms, and only those of one scan be in a batch.

        Args:
            max_shift: by how many pixels the objects will be moved.

        Raises:
            InputError: images would be cropped, or what is moved would come in again at the other side.
        """
        self.measured, self.fitted_by = True, ("pad",)
        scans = [volume.geometry for volume in self.volumes]
        shapes = [
            (*self._size(v), v.has_target, *v.image_size, scan.n_angles, scan.n_detectors)
            for v, scan in zip(self.volumes, scans, strict=True)
        ]
        self.shapes = [shapes[v] for v, _ in self.slices]
        for volume in self.volumes:
            padding = min((new - n) // 2 for new, n in zip(self._size(volume), volume.image_size, strict=True))
            if 0 <= padding < max_shift:
                raise InputError(
                    f"dataset.max_shift {max_shift} moves the images of {volume.path} over the border, and what the "
                    f"rays went through does not come in at the other side: pad by dataset.image_size, or give at most "
                    f"{padding}"
                )
            if padding < 0:
                raise InputError(
                    f"dataset.image_size {list(self._size(volume))} crops the images of {volume.path}, but a network "
                    "with the measurement inside reconstructs all that the rays went through: give at least "
                    f"{list(volume.image_size)}"
                )

    def _sample(
        self,
        v: int,
        s: int,
        image: Tensor,
        ground_truth: Tensor | None,
        with_target: bool = True,
        observation: Tensor | None = None,
    ) -> Sample:
        """The sample of a back-projection (rows, columns); data_range is that of the ground truth as far as it shows.

        Args:
            v: the volume.
            s: the slice in it.
            image: in mu / MU_MAX, like the ground truth.
            ground_truth: (rows, columns); None where there is none.
            with_target: keep it as the target.
            observation: what was measured, (angles, detectors), if it is at hand.
        """
        volume = self.volumes[v]
        target, data_range = torch.zeros(1, 0, 0), torch.tensor(0.0)
        if ground_truth is not None:
            sides = [min(pair) for pair in zip(ground_truth.shape, self._size(volume), strict=True)]
            shown = fit_center(ground_truth, sides)
            data_range = shown.max() - shown.min()
            target = self._fit(volume, ground_truth)[None] if with_target else target
        measurement: dict[str, Tensor] = {}
        if self.measured:
            assert observation is not None
            assert isinstance(volume.geometry, ParallelBeam)
            scan = Scan(volume.geometry, self.window, self.frequency_scaling)
            measurement = {"sinogram": observation / STD, "scan": scan.as_tensor()}
        return Sample(
            **measurement,
            image=self._fit(volume, image)[None] / STD,
            target=target,
            mean=torch.tensor(0.0),
            std=torch.tensor(STD),
            data_range=data_range,
            volume=torch.tensor(v),
            slice=torch.tensor(s),
        )
