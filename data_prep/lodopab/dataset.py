"""LoDoPaB-CT slices as samples: filtered back-projection and ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_prep.lodopab.fbp_cache import fbp_image, fbp_images
from data_prep.lodopab.folder import find_ct_volumes
from data_prep.lodopab.simulation import observe, photons
from data_prep.lodopab.total_variation import tv_images
from data_prep.lodopab.volume import CTVolume
from data_prep.slices.crop import fit_center
from data_prep.slices.sample import EPS, Sample, check_sizes, roll_together
from data_prep.storage.open_files import Handles
from recon.errors import InputError
from recon.physics.ct import ramp_taps

STD = 1 / 16  # of mu / MU_MAX, 250 HU: inputs and what is missing in them are then of order 1; a power of two is exact


class LoDoPaBDataset(Dataset[Sample]):
    """Slices of LoDoPaB-CT (Scientific Data 8, 109): of a split, a folder or one file.

    The input is the filtered back-projection of the low-dose observation, not clipped; by default with the filter of
    LoDoPaB's baseline. Input and target are mu / MU_MAX, the target in [0, 1]; both are left in this unit, which is
    the same for all images: `mean` is 0 and `std` is STD. `data_range` is max(g) - min(g) of each target g, as far as
    `image_size` shows it, without what is padded.

    The images of LoDoPaB are transposed: their rows run along the patient's left-right axis.

    Args:
        data: root folder of the files, see `find_ct_volumes`; where split is None, a folder of observations or one
            such file.
        split: train, val (LoDoPaB's validation), test or None.
        window: of the filter, see `recon.physics.ct.fbp`.
        frequency_scaling: of the filter, above 0 and at most 1.
        image_size: (rows, columns) that image and target are centre-cropped or zero-padded to. The default pads
            LoDoPaB's 362 = 2 x 181 to a multiple of 128; [352, 352] is the papers' crop. None keeps the file's.
        cache: compute all back-projections here, once, and keep them (see `fbp_images`); else compute each when it is
            asked for, with the same result.
        max_shift: in training, roll image and target circularly by one vector drawn from [-max_shift, max_shift]^2.
        training: draw anew in each epoch.
        seed: seed of the training draws and of the photons in `moved`.
        progress: show progress bars while files are indexed and back-projected.

    Attributes:
        volumes: the files, sorted by name.
        slices: (index into volumes, slice) of each sample.
        shapes: (rows, columns, has_target) of each sample; only equal ones fit into one batch.

    Raises:
        InputError: no such file or folder, a bad file (see `find_ct_volumes`), or bad settings.
    """

    baseline = "fbp"  # what the input is, as an image
    own_kind = "chest-ct"  # of `outside_images`, what is not outside for such data
    per_image = True  # quality is an image's, not a volume's
    transposed = True  # rows run from left to right: to be looked at, images are transposed

    def __init__(
        self,
        data: Path,
        split: str | None,
        window: str = "hann",
        frequency_scaling: float = 0.641,
        image_size: Sequence[int] | None = (384, 384),
        cache: bool = True,
        max_shift: int = 0,
        training: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.image_size = check_sizes(image_size, max_shift)
        ramp_taps(1, window, frequency_scaling)  # says what is wrong with the filter
        self.volumes = find_ct_volumes(Path(data), split, progress)
        self.slices = [(v, s) for v, volume in enumerate(self.volumes) for s in range(volume.n_slices)]
        self.shapes = [(*self._size(self.volumes[v]), self.volumes[v].has_target) for v, _ in self.slices]
        self.window, self.frequency_scaling = window, frequency_scaling
        self.max_shift, self.training, self.seed = max_shift, training, seed
        self._images = fbp_images(self.volumes, window, frequency_scaling, progress) if cache else None
        self._handles = Handles()

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.slices)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: a file cannot be read any more.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        v, s = self.slices[index]
        volume = self.volumes[v]
        if self._images is None:
            image = self._reconstruct(volume, self._handles.read(volume.path, "data", s))
        else:
            image = torch.from_numpy(self._handles.read(self._images[v], "data", s))
        sample = self._sample(v, s, image, with_target=True)
        if self.training:
            sample = roll_together(sample, self.max_shift, self.seed, epoch, volume.path.name, s)
        return sample

    def moved(self, index: int, shift: Sequence[float]) -> Sample:
        """Return the sample of a slice whose object moved before it was measured again with as few photons.

        The object is the ground truth, with air around it (`observe`); it moves by whole pixels or fractions, is
        projected from a finer grid, and gets photon noise that is a function of (seed, file, slice), whatever the
        shift. So this is to be compared with the shift (0, 0), which has another noise than the file's own
        observation. The bundled sample's, with seed 0, is the very same.

        Args:
            index: the sample.
            shift: (rows, columns) in pixels of the image, positive towards larger indices.

        Returns:
            The sample without a target, (1, 0, 0); data_range stays that of the unmoved ground truth.

        Raises:
            InputError: the shift is not two finite numbers, there is no ground truth, or a file cannot be read any
                more.
        """
        v, s = self.slices[index]
        volume = self.volumes[v]
        noise = photons(self.seed, volume.name, s)
        observation = observe(self._ground_truth(volume, s)[None], [noise], volume.geometry, volume.n_photons, shift)
        return self._sample(v, s, self._reconstruct(volume, observation[0].numpy()), with_target=False)

    def coils_move(self, volume: int) -> bool:
        """Whether `moved` moves coils along with the object: never, there are none."""
        return False

    def observation(self, index: int) -> Tensor:
        """Read what was measured of a sample's slice: line integrals of mu / MU_MAX in metres, (angles, detectors).

        Args:
            index: the sample.

        Raises:
            InputError: the file cannot be read any more.
        """
        v, s = self.slices[index]
        return torch.from_numpy(self._handles.read(self.volumes[v].path, "data", s).astype(np.float32))

    def total_variation(self, volume: int) -> Iterator[Tensor]:
        """Yield the images (1, rows, columns) of a volume by the iterative baseline (`tv_images`), in mu / MU_MAX.

        Args:
            volume: index into `volumes`.

        Raises:
            InputError: the file cannot be read any more.
        """
        found = self.volumes[volume]
        return (self._fit(found, image)[None] for image in tv_images(found))

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

    def volume_target(self, index: int) -> Tensor:
        """Read all targets of a volume, cropped or padded as the samples' are.

        Args:
            index: index into `volumes`.

        Returns:
            Tensor (slices, rows, columns) float32, mu / MU_MAX in [0, 1].

        Raises:
            InputError: there is no ground truth, or it cannot be read any more.
        """
        volume = self.volumes[index]
        return self._fit(volume, self._ground_truth(volume, slice(volume.n_slices)))

    def _size(self, volume: CTVolume) -> tuple[int, int]:
        return self.image_size or volume.image_size

    def _fit(self, volume: CTVolume, image: Tensor) -> Tensor:
        return fit_center(image, self._size(volume)).contiguous()

    def _reconstruct(self, volume: CTVolume, observation: np.ndarray) -> Tensor:
        return fbp_image(observation, volume, self.window, self.frequency_scaling)

    def _ground_truth(self, volume: CTVolume, part: int | slice) -> Tensor:
        if volume.target_path is None:
            raise InputError(f"{volume.path} has no {volume.recon_key} beside it: use a split that has targets.")
        return torch.from_numpy(self._handles.read(volume.target_path, "data", part).astype(np.float32, copy=False))

    def _sample(self, v: int, s: int, image: Tensor, with_target: bool) -> Sample:
        volume = self.volumes[v]
        target, data_range = torch.zeros(1, 0, 0), torch.tensor(0.0)
        if volume.has_target:
            whole = self._ground_truth(volume, s)
            shown = fit_center(whole, [min(sides) for sides in zip(whole.shape, self._size(volume), strict=True)])
            data_range = shown.max() - shown.min()
            target = self._fit(volume, whole)[None] if with_target else target
        return Sample(
            image=self._fit(volume, image)[None] / STD,
            target=target,
            mean=torch.tensor(0.0),
            std=torch.tensor(STD),
            data_range=data_range,
            volume=torch.tensor(v),
            slice=torch.tensor(s),
        )
