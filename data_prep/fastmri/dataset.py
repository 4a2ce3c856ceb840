"""fastMRI slices as samples: zero-filled input, target and the numbers that normalise them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from data_prep.fastmri.folder import find_volumes
from data_prep.fastmri.masks import check_mask, make_mask
from data_prep.fastmri.reading import VolumeReader
from data_prep.fastmri.volume import Volume, undersampled
from data_prep.fastmri.writing import write_volume
from data_prep.slices.base import SliceDataset, SliceVolume, size_in_words
from data_prep.slices.crop import fit_center
from data_prep.slices.sample import Sample, check_sizes, normalise, roll_together
from data_prep.slices.seeds import stable_seed
from recon.errors import InputError
from recon.physics.mri import apply_mask, move_object, zero_filled


class FastMRIDataset(SliceDataset):
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

    Attributes:
        volumes: the files, sorted by name; others see `SliceDataset`.

    Raises:
        InputError: no such file or folder, a bad file (see `read_volume`), bad mask settings or a bad image_size; with
            the measurement any image_size, and a max_shift where targets show but a part of the matrix.
    """

    title = "fastMRI"
    baselines = {"zero-filled": "zero-filled"}
    own_images = "brain-mri"
    per_image = False
    transposed = False  # rows run from front to back

    volumes: list[Volume]

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
    ) -> None:
        check_mask(mask_type, center_fractions, accelerations)
        image_size = check_sizes(image_size, max_shift)
        if measured and image_size is not None:
            raise InputError(
                f"dataset.image_size is {list(image_size)}, but a network with the measurement inside reconstructs all "
                "of k-space's matrix: leave dataset.image_size out"
            )
        super().__init__(find_volumes(Path(data), challenge, split, progress), image_size)
        self.challenge = challenge
        self.mask_type, self.center_fractions, self.accelerations = mask_type, center_fractions, accelerations
        self.max_shift, self.training, self.seed = max_shift, training, seed
        self.measured = measured
        if measured:
            self._take_whole_matrices()
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
        target = self._target(volume, s)[None] if volume.has_target else torch.zeros(1, 0, 0)
        sample = self._sample(v, s, epoch, self._reader.kspace(volume, s), target)
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
            self._still = index, self._reader.kspace(volume, s), self._reader.maps(volume)
        _, kspace, maps = self._still
        kspace = move_object(kspace, shift, maps)
        return self._sample(v, s, 0, kspace, torch.zeros(1, 0, 0))

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

    def coils_move(self, volume: int) -> bool:
        """Whether `moved` moves the coils' sensitivities along with the object, since it does not know them.

        True for a file of several coils without `sensitivity_maps` (see `write_fastmri`), and for one whose k-space
        is undersampled already, from which the object cannot be told: then `moved` is not quite what a scanner
        would have measured. False with one coil, whose sensitivity counts as part of the object.

        Args:
            volume: index into `volumes`.

        Raises:
            InputError: the file's coil maps are unusable, or the file cannot be read any more.
        """
        return self.volumes[volume].n_coils > 1 and self._reader.maps(self.volumes[volume]) is None

    def mask(self, volume: int, slice_number: int = 0, epoch: int = 0) -> Tensor:
        """Return the mask (columns,) bool that the sample of this slice has in this epoch."""
        return self._mask(self.volumes[volume], epoch, slice_number)

    def volume_target(self, index: int) -> Tensor:
        """Read a whole target volume, cropped or padded as the samples' targets are.

        Args:
            index: index into `volumes`.

        Returns:
            Tensor (slices, rows, columns) float32 in the file's units.

        Raises:
            InputError: the file has no target, or cannot be read any more.
        """
        volume = self.volumes[index]
        if not volume.has_target:
            raise InputError(f"{volume.path} has no {volume.recon_key!r}: use a split that has targets.")
        return self._target(volume, slice(None))

    def what_moves(self) -> str:
        """Say in a sentence what a moved object means for these data.

        Raises:
            InputError: a file's coil maps are unusable, or it cannot be read any more.
        """
        moving = [self.coils_move(number) for number in range(len(self.volumes))]
        if any(moving):
            return (
                f"In {sum(moving)} of {len(moving)} volumes the coils' sensitivities are unknown and move along with "
                "the object; in a scanner they stay where they are."
            )
        several = any(volume.n_coils > 1 for volume in self.volumes)
        return "The object moves under fixed coils." if several else "One coil: its sensitivity counts as the object's."

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Say how the inputs are made, from mask_type, center_fractions, accelerations, challenge and image_size."""
        kept = ", ".join(f"{100 * fraction:g} %" for fraction in settings["center_fractions"])
        factors = ", ".join(str(a) for a in settings["accelerations"])
        coils = ", several coils" if settings["challenge"] == "multicoil" else ""
        mask = f"{settings['mask_type']} mask, acceleration {factors}, centre {kept}"
        return f"{mask}{coils}{size_in_words(settings)}"

    def check(self) -> None:
        """Make a mask for each width of k-space; with the measurement, look for calibration lines.

        Raises:
            InputError: one cannot be made, or has none; names a file.
        """
        for number in {volume.kspace_size[1]: number for number, volume in enumerate(self.volumes)}.values():
            self.mask(number)
        for number, volume in enumerate(self.volumes) if self.measured else ():
            if not self.mask(number)[volume.kspace_size[1] // 2]:
                raise InputError(
                    f"{volume.path}: the mask has no calibration lines (its centre was not measured), from which "
                    "coil maps and the image's phase are estimated: give another mask, or a network of images"
                )

    @classmethod
    def notes_on(cls, volumes: Sequence[SliceVolume]) -> list[str]:
        """Return a sentence on the files that seem undersampled already, but bring no mask."""
        return undersampled(cast("Sequence[Volume]", volumes))

    def n_coils(self, volume: int) -> int:
        """Return the number of receiver coils of a volume."""
        return self.volumes[volume].n_coils

    def whose_mask(self, volume: int) -> str:
        """Say whose mask a volume has: "the file's" or "the run's"."""
        return "the file's" if self.volumes[volume].has_mask else "the run's"

    def voxel_size_mm(self) -> tuple[float, float, float] | None:
        """Return what the first file's header tells of a voxel, along (row, column, slice)."""
        return self.volumes[0].voxel_size_mm

    def for_file(self, images: Tensor) -> Tensor:
        """Return all of a reconstruction, padded if the network had it so; of whole matrices what the target shows."""
        return self.without_padding(images, 0).contiguous() if self.measured else images.contiguous()

    def write(self, path: Path, images: Tensor, made_by: str) -> None:
        """Write a reconstruction of the one volume, see `SliceDataset.write` and `write_volume`."""
        write_volume(path, self.volumes[0], self.for_file(images).numpy(), made_by)

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

    def _take_whole_matrices(self) -> None:
        """Let images be as large as k-space.

        Raises:
            InputError: a target shows but a part of it, and would have to be rolled as the object is.
        """
        self.fitted_by = ()
        shapes = [(*v.kspace_size, v.has_target, v.n_coils, *v.image_size) for v in self.volumes]
        self.shapes = [shapes[v] for v, _ in self.slices]
        parts = [volume for volume in self.volumes if volume.image_size != volume.kspace_size]
        if self.training and self.max_shift and parts:
            raise InputError(
                f"{parts[0].path}: the target shows {parts[0].image_size} of k-space's {parts[0].kspace_size} pixels, "
                "so that it cannot be rolled as the object is: set dataset.max_shift to 0"
            )

    def _sample(self, v: int, s: int, epoch: int, kspace: Tensor, target: Tensor) -> Sample:
        """The sample of k-space, (rows, columns) or (coils, rows, columns), masked as in an epoch."""
        volume, mask = self.volumes[v], self._mask(self.volumes[v], epoch, s)
        coil_dim = 0 if kspace.ndim == 3 else None
        magnitude = zero_filled(kspace, mask, coil_dim, None if self.measured else volume.image_size)
        image, mean, std = normalise(magnitude if self.measured else fit_center(magnitude, self._size(volume)))
        measurement: dict[str, Tensor] = {}
        if self.measured:
            coils = kspace if kspace.ndim == 3 else kspace[None]
            measurement = {"kspace": apply_mask(coils, mask).div_(std), "mask": mask}
        return Sample(
            **measurement,
            image=image,
            target=target,
            mean=torch.tensor(mean, dtype=torch.float32),
            std=torch.tensor(std, dtype=torch.float32),
            data_range=torch.tensor(self.volumes[v].maximum or 0.0, dtype=torch.float32),
            volume=torch.tensor(v),
            slice=torch.tensor(s),
        )

    def _target(self, volume: Volume, part: int | slice) -> Tensor:
        return self._fit(volume, self._reader.target(volume, part))
