"""fastMRI slices as samples: zero-filled input, target and the numbers that normalise them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor
from pathlib import Path

import torch
from torch import Tensor

from data_prep.fastmri.folder import find_volumes
from data_prep.fastmri.masks import check_mask, make_mask
from data_prep.fastmri.measured import (
    cg_sense_images,
    check_maps,
    check_rolled,
    flip_image,
    flip_kspace,
    flip_mask,
    is_calibrated,
    measurement,
)
from data_prep.fastmri.reading import VolumeReader
from data_prep.fastmri.simulation import coil_maps
from data_prep.fastmri.slices import FastMRISlices
from data_prep.fastmri.splits import split_volumes
from data_prep.fastmri.volume import Volume
from data_prep.slices.crop import fit_center
from data_prep.slices.sample import Sample, check_sizes, normalise, roll_together
from data_prep.slices.seeds import stable_seed
from recon.errors import InputError
from recon.physics.movement import move_maps
from recon.physics.mri import fft2c, ifft2c, move_object, zero_filled


class FastMRIDataset(FastMRISlices):
    """Slices of a fastMRI data set: of a split, a folder or one file; single- or multi-coil, knee or brain.

    The input is fastMRI's U-Net transform (arXiv 1811.08839, section 5; `fastmri.data.transforms`), short of its
    clamp: x = |crop(F^-1 M k)|, with the root sum of squares over coils where there are several; then
    (x - mean(x)) / (std(x) + 1e-11).

    Every draw is a function of what it is for, so that results depend neither on the number of workers nor on the
    order of reading. Evaluation: the mask is fastMRI's, seeded with the file's name, one for all slices of a volume.
    Training: mask and shift are functions of (seed, epoch, file name, slice). A file that brings its own mask
    (fastMRI's test files) is masked with that one.

    Args:
        data: root folder, which holds `<challenge>_<split>`; where split is None, a folder of *.h5 files or one such
            file.
        split: train, val, test or None.
        challenge: singlecoil or multicoil.
        mask_type: see `make_mask`.
        center_fractions: see `make_mask`.
        accelerations: see `make_mask`.
        image_size: (rows, columns) that image and target are centre-cropped or zero-padded to before they are
            normalised, for a network that cannot take the file's size; None keeps the file's. data_range stays
            the whole volume's.
        max_shift: in training, roll image and target circularly by one vector drawn from [-max_shift, max_shift]^2.
        training: draw anew in each epoch.
        seed: seed of the training draws.
        progress: show a progress bar while files are indexed.
        measured: give k-space and mask as well, for a network that needs the measurement. Images are then those of
            k-space's whole matrix, so that an object that moves circularly moves them circularly.
        given_maps: with the measurement of several coils, give the file's coil maps as well (see `write_fastmri`).
        split_by: a YAML file with lists train, val and test of files, in whatever folder of the challenge they lie (see
            `split_volumes`); None where each split has its folder, or there are folds.
        folds: split by subject in so many folds: one to test on, the next to validate on; None where the folders do.
        fold: which of them to test on, from 0; None for the first.

    Attributes:
        volumes: the files, sorted by name; others see `SliceDataset`.

    Raises:
        InputError: no such file or folder, a bad file (see `read_volume`), bad mask settings or a bad image_size; with
            the measurement any image_size, and a max_shift where targets show but a part of the matrix.
    """

    def __init__(
        self,
        data: Path,
        split: str | None,
        challenge: str = "singlecoil",
        mask_type: str = "random",
        center_fractions: Sequence[float] = (0.08,),
        accelerations: Sequence[int] = (4,),
        image_size: Sequence[int] | None = None,
        max_shift: int = 0,
        training: bool = False,
        seed: int = 0,
        progress: bool = True,
        measured: bool = False,
        given_maps: bool = False,
        split_by: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        check_mask(mask_type, center_fractions, accelerations)
        image_size = check_sizes(image_size, max_shift)
        if measured and image_size is not None:
            raise InputError(
                f"dataset.image_size is {list(image_size)}, but a network with the measurement inside reconstructs all "
                "of k-space's matrix: leave dataset.image_size out"
            )
        if split is None or (split_by is None and folds is None and fold is None):
            volumes = find_volumes(Path(data), challenge, split, progress)
        else:
            volumes = split_volumes(Path(data), challenge, split, split_by, folds, fold, progress)
        super().__init__(volumes, image_size)
        self.challenge = challenge
        self.mask_type, self.center_fractions, self.accelerations = mask_type, center_fractions, accelerations
        self.max_shift, self.training, self.seed = max_shift, training, seed
        self.measured, self.given_maps = measured, given_maps
        if measured:
            self.fitted_by = ()
            shapes = [(*v.kspace_size, v.has_target, v.n_coils, *v.image_size) for v in self.volumes]
            self.shapes = [shapes[v] for v, _ in self.slices]
            check_rolled(self.volumes if training and max_shift else [])
        self._reader = VolumeReader(challenge)
        self._still: tuple[int, Tensor, Tensor | None] | None = None

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: the file cannot be read any more.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        v, s = self.slices[index]
        volume = self.volumes[v]
        mask, kspace = self._mask(volume, epoch, s), self._reader.kspace(volume, s)
        sample = self._sample(v, s, mask, kspace, self._target_of(volume, s), self._given(v))
        if self.training:
            sample = roll_together(sample, self.max_shift, self.seed, epoch, volume.path.name, s)
        return sample

    def moved(self, index: int, shift: Sequence[float]) -> Sample:
        """Return the sample of a slice whose object moved before it was acquired again with the same mask.

        The object moves in k-space's full matrix, circularly, by whole pixels or fractions (`move_object`); then
        follow the very mask of the sample (epoch 0), zero-filling, magnitude, crop and normalisation with the moved
        image's own mean and std. Where k-space's matrix is cropped, content enters and leaves at the border. Where
        the file keeps its coil maps the object moves under fixed coils; for others see `coils_move`.

        Args:
            index: the sample; its image, mean and std are what the shift (0, 0) gives, outside training.
            shift: (rows, columns) in pixels of k-space's matrix, positive towards larger indices.

        Returns:
            The sample without a target, (1, 0, 0); data_range stays the volume's.

        Raises:
            InputError: the shift is not two finite numbers, the file's coil maps are unusable, or the file cannot
                be read any more.
        """
        v, s = self.slices[index]
        if self._still is None or self._still[0] != index:  # read once for all moves of a slice
            volume = self.volumes[v]
            self._still = index, self._reader.kspace(volume, s), self._fixed(volume)
        _, kspace, fixed = self._still
        given = self._given(v)
        if given is not None and fixed is None:
            given = move_maps(given[None], torch.tensor([shift]))[0]
        return self._sample(v, s, self.mask(v, s), move_object(kspace, shift, fixed), torch.zeros(1, 0, 0), given)

    def flipped(self, index: int, axis: int) -> Sample:
        """Return the sample of a slice whose object was flipped, with its coils, before it was acquired again.

        The same mask measures it, and it is normalised by its own mean and std; the target is flipped along. Of a file
        that is undersampled already, the object is not known: its mask is flipped with k-space's columns.

        Args:
            index: the sample.
            axis: -2 for upside down, -1 for left and right.

        Raises:
            InputError: the file cannot be read any more.
        """
        v, s = self.slices[index]
        volume, mask, maps = self.volumes[v], self.mask(v, s), self._given(v)
        if volume.has_mask and axis == -1:
            mask = flip_mask(mask)
        kspace = flip_kspace(self._reader.kspace(volume, s), axis, volume.image_size)
        maps = None if maps is None else flip_image(maps, axis, volume.image_size)
        return self._sample(v, s, mask, kspace, self._target_of(volume, s).flip(axis), maps)

    def in_window(self, index: int, corner: Sequence[int], size: Sequence[int]) -> Sample:
        """Return the sample of a slice whose object is acquired again in a smaller field of view, without a target.

        All coils' images are cut, and with them the maps and, in the middle, the mask, so that calibration lines stay.

        Args:
            index: the sample, of a file that is fully sampled.
            corner: (row, column) of the window in k-space's matrix.
            size: (rows, columns) of the window.

        Raises:
            InputError: the file cannot be read any more.
        """
        v, s = self.slices[index]
        rows, columns = (slice(start, start + n) for start, n in zip(corner, size, strict=True))
        volume, maps, mask = self.volumes[v], self._given(v), self.mask(v, s)
        first = (len(mask) // 2) - size[1] // 2  # so that the centre of k-space stays the centre
        kspace = fft2c(ifft2c(self._reader.kspace(volume, s))[..., rows, columns])
        maps = None if maps is None else maps[..., rows, columns]
        return self._sample(v, s, mask[first : first + size[1]], kspace, torch.zeros(1, 0, 0), maps)

    def acquired(self, image: Tensor) -> Sample:
        """Return the sample of any real object (rows, columns) of k-space's size, without a target.

        It is measured with the mask of the first volume and, where that has several coils, through as many simulated
        ones (`coil_maps`), which are the maps that are given. data_range is 0, the volume and the slice are the first.
        """
        maps = coil_maps(self.volumes[0].n_coils, *image.shape) if self.volumes[0].n_coils > 1 else None
        kspace = fft2c(image if maps is None else image * maps)
        sample = self._sample(0, 0, self.mask(0), kspace, torch.zeros(1, 0, 0), maps if self.given_maps else None)
        return sample._replace(data_range=torch.tensor(0.0))

    def more_baselines(self, volume: int, device: torch.device) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Yield "cg-sense" and its images (`cg_sense_images`), of several coils whose mask has calibration lines."""
        found, mask = self.volumes[volume], self.mask(volume)
        if found.n_coils > 1 and is_calibrated(mask):
            images = cg_sense_images(found, self._reader, mask, device)
            yield "cg-sense", (self._fit(found, image)[None] for image in images)

    def as_input(self, image: Tensor) -> tuple[Tensor, float, float]:
        """Make any image (rows, columns) an input, with its mean and std: see `normalise`."""
        return normalise(image)

    def in_view(self, index: int, shift: Sequence[float]) -> tuple[slice, slice]:
        """Return the rows and columns of a sample whose content is in view before and after a move.

        All of an axis that is neither cropped nor padded: what leaves it on one side comes in on the other. What is
        padded is not in view. With the measurement all of the whole matrix.

        Args:
            index: the sample.
            shift: (rows, columns) that the object moves by, see `moved`.
        """
        if self.measured:
            return slice(None), slice(None)
        volume = self.volumes[self.slices[index][0]]
        parts = []
        for side, n, field, t in zip(self._size(volume), volume.image_size, volume.kspace_size, shift, strict=True):
            shown = min(side, n)
            first = (side - shown) // 2
            moved = slice(first + max(0, ceil(t)), first + shown + min(0, floor(t)))
            parts.append(slice(None) if side == n == field else moved)
        return parts[0], parts[1]

    def mask(self, volume: int, slice_number: int = 0, epoch: int = 0) -> Tensor:
        """Return the mask (columns,) bool that the sample of this slice has in this epoch."""
        return self._mask(self.volumes[volume], epoch, slice_number)

    def check(self) -> None:
        """Make a mask for each width of k-space; with the measurement of several coils, look for what their maps need.

        Raises:
            InputError: one cannot be made, there are no calibration lines, or no usable maps; names a file.
        """
        for number in {volume.kspace_size[1]: number for number, volume in enumerate(self.volumes)}.values():
            self.mask(number)
        for number, volume in enumerate(self.volumes) if self.measured else ():
            check_maps(volume, self.mask(number), self._reader, self.given_maps)

    def _mask(self, volume: Volume, epoch: int, s: int) -> Tensor:
        own = self._reader.mask(volume)
        if own is not None:
            return own
        name, columns = volume.path.name, volume.kspace_size[1]
        seed = stable_seed("mask", self.seed, epoch, name, s) if self.training else tuple(map(ord, name))
        try:
            return make_mask(self.mask_type, columns, self.center_fractions, self.accelerations, seed)
        except InputError as error:
            raise InputError(f"{volume.path} cannot have the run's mask: {error}") from None

    def _given(self, v: int) -> Tensor | None:
        """The maps that a sample holds."""
        return self._reader.maps(self.volumes[v]) if self.given_maps else None

    def _sample(self, v: int, s: int, mask: Tensor, kspace: Tensor, target: Tensor, maps: Tensor | None) -> Sample:
        """The sample of k-space, (rows, columns) or (coils, rows, columns), that is to be masked."""
        volume, coil_dim = self.volumes[v], 0 if kspace.ndim == 3 else None
        magnitude = zero_filled(kspace, mask, coil_dim, None if self.measured else volume.image_size)
        image, mean, std = normalise(magnitude if self.measured else fit_center(magnitude, self._size(volume)))
        return Sample(
            **(measurement(kspace, mask, std, maps) if self.measured else {}),
            image=image,
            target=target,
            mean=torch.tensor(mean, dtype=torch.float32),
            std=torch.tensor(std, dtype=torch.float32),
            data_range=torch.tensor(volume.maximum or 0.0, dtype=torch.float32),
            volume=torch.tensor(v),
            slice=torch.tensor(s),
        )

    def _target_of(self, volume: Volume, s: int) -> Tensor:
        """The target of one slice, (1, rows, columns); (1, 0, 0) where there is none."""
        return self._target(volume, s)[None] if volume.has_target else torch.zeros(1, 0, 0)
