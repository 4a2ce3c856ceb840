"""LoDoPaB-CT slices as samples: filtered back-projection and ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.lodopab.fbp_cache import fbp_image, fbp_images
from data_prep.lodopab.folder import find_ct_volumes
from data_prep.lodopab.simulation import observe, photons
from data_prep.lodopab.slices import CTSlices
from data_prep.lodopab.total_variation import tv_images
from data_prep.lodopab.volume import CTVolume
from data_prep.slices.sample import Sample, check_sizes, draw_shift, roll_together
from data_prep.storage.cache import write_hdf5
from data_prep.storage.nifti import write_nifti
from data_prep.storage.open_files import OpenFiles
from recon.errors import InputError
from recon.physics.ct import MU_MAX, attenuation_to_hu, ramp_taps
from recon.physics.movement import move_sinogram


class LoDoPaBDataset(CTSlices):
    """Slices of LoDoPaB-CT (Scientific Data 8, 109): of a split, a folder or one file.

    The input is the filtered back-projection of the low-dose observation, not clipped; by default with the filter of
    LoDoPaB's baseline. Input and target are mu / MU_MAX, the target in [0, 1], see `CTSlices`. `data_range` is
    max(g) - min(g) of each target g, as far as `image_size` shows it, without what is padded.

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
        measured: give sinograms as well, for a network that needs the measurement.

    Attributes:
        volumes: the files, sorted by name; others see `SliceDataset`.

    Raises:
        InputError: no such file or folder, a bad file (see `find_ct_volumes`), or bad settings; with the measurement,
            images that are cropped, or padded by less than max_shift.
    """

    title = "LoDoPaB-CT"
    baselines = {"fbp": "FBP", "tv": "TV"}
    definitions = {
        "TV": "Without training: the back-projection with the cosine window, made smooth by total variation "
        "(scikit-image, Chambolle's iteration) as strongly as the slice's photon noise asks for."
    }

    volumes: list[CTVolume]

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
        measured: bool = False,
    ) -> None:
        image_size = check_sizes(image_size, max_shift)
        ramp_taps(1, window, frequency_scaling)  # says what is wrong with the filter
        super().__init__(find_ct_volumes(Path(data), split, progress), image_size)
        self.window, self.frequency_scaling = window, frequency_scaling
        self.max_shift, self.training, self.seed = max_shift, training, seed
        self._images = fbp_images(self.volumes, window, frequency_scaling, progress) if cache else None
        self._files = OpenFiles()
        if measured:
            self._take_measurements(max_shift if training else 0)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: a file cannot be read any more.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        v, s = self.slices[index]
        volume = self.volumes[v]
        observation = self.observation(index) if self.measured or self._images is None else None
        if self._images is None:
            assert observation is not None
            image = self._reconstruct(volume, observation.numpy())
        else:
            image = torch.from_numpy(self._files.read(self._images[v], "data", s))
        ground_truth = self._ground_truth(volume, s) if volume.has_target else None
        sample = self._sample(v, s, image, ground_truth, observation=observation)
        draw = self.seed, epoch, volume.path.name, s
        if self.training:
            sample = roll_together(sample, self.max_shift, *draw)
        if self.training and self.max_shift and self.measured:
            shift = torch.tensor([draw_shift(self.max_shift, *draw)])
            sample = sample._replace(sinogram=move_sinogram(sample.sinogram[None], volume.geometry, shift)[0])
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
        ground_truth = self._ground_truth(volume, s)
        observation = observe(ground_truth[None], [noise], volume.geometry, volume.n_photons, shift)[0]
        image = self._reconstruct(volume, observation.numpy())
        return self._sample(v, s, image, ground_truth, with_target=False, observation=observation)

    def observation(self, index: int) -> Tensor:
        """Read what was measured of a sample's slice: line integrals of mu / MU_MAX in metres, (angles, detectors).

        Args:
            index: the sample.

        Raises:
            InputError: the file cannot be read any more.
        """
        v, s = self.slices[index]
        return torch.from_numpy(self._files.read(self.volumes[v].path, "data", s).astype(np.float32))

    def more_baselines(self, volume: int, device: torch.device) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Yield "tv" and its images (1, rows, columns), the iterative baseline (`tv_images`), in mu / MU_MAX.

        Args:
            volume: index into `volumes`.
            device: of no use, it is computed on the CPU.

        Raises:
            InputError: the file cannot be read any more.
        """
        found = self.volumes[volume]
        yield "tv", (self._fit(found, image)[None] for image in tv_images(found))

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

    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Return the size of a voxel: LoDoPaB's pixels, and slices of 1 mm, since they are of many people."""
        height, width = (1000 * side for side in self.volumes[0].geometry.pixel_size)
        return height, width, 1.0

    def write(self, path: Path, images: Tensor, made_by: str) -> None:
        """Write a reconstruction of the one volume, see `SliceDataset.write`.

        *.h5 holds mu / MU_MAX, as LoDoPaB's ground truth does; *.nii.gz HU, turned as one looks at it, with the middle
        of the volume at (0, 0, 0) mm.
        """
        images = self.for_file(images)
        if path.suffix == ".h5":
            write_hdf5(path, {"reconstruction": images.numpy()}, {"made_by": made_by})
            return
        hu = self.upright(attenuation_to_hu(images * MU_MAX)).numpy()
        middle = [side // 2 for side in (*hu.shape[1:], hu.shape[0])]
        write_nifti(path, hu, self.voxel_size_mm(), middle, made_by)

    def _reconstruct(self, volume: CTVolume, observation: np.ndarray) -> Tensor:
        return fbp_image(observation, volume, self.window, self.frequency_scaling)

    def _ground_truth(self, volume: CTVolume, part: int | slice) -> Tensor:
        if volume.target_path is None:
            raise InputError(f"{volume.path} has no {volume.recon_key} beside it: use a split that has targets.")
        return torch.from_numpy(self._files.read(volume.target_path, "data", part).astype(np.float32, copy=False))
