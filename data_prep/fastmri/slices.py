"""What fastMRI's slices are, whatever samples are made of them: words, coils, targets, reconstructions as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from data_prep.fastmri.reading import VolumeReader
from data_prep.fastmri.splits import describe_split
from data_prep.fastmri.volume import Volume, undersampled
from data_prep.fastmri.writing import write_volume
from data_prep.slices.base import SliceDataset, SliceVolume, size_in_words
from recon.errors import InputError


class FastMRISlices(SliceDataset):
    """Slices of fastMRI files; what samples they make is :class:`data_prep.FastMRIDataset`'s."""

    title = "fastMRI"
    baselines = {"zero-filled": "zero-filled", "cg-sense": "CG-SENSE"}
    definitions = {
        "CG-SENSE": "Of several coils, without training: least squares with Tikhonov's term, by a fixed number of "
        "conjugate-gradient steps; coil maps from the calibration lines by ESPIRiT."
    }
    own_images = "brain-mri"
    per_image = False
    transposed = False  # rows run from front to back
    acquires = True

    volumes: list[Volume]
    _reader: VolumeReader

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
        return self.volumes[volume].n_coils > 1 and self._fixed(self.volumes[volume]) is None

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
        """Say how the inputs are made, from the settings of masks, challenge, splits and image_size."""
        kept = ", ".join(f"{100 * fraction:g} %" for fraction in settings["center_fractions"])
        factors = ", ".join(str(a) for a in settings["accelerations"])
        coils = ", several coils" if settings["challenge"] == "multicoil" else ""
        mask = f"{settings['mask_type']} mask, acceleration {factors}, centre {kept}"
        return ", ".join(filter(None, (f"{mask}{coils}{size_in_words(settings)}", describe_split(settings))))

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

    def _fixed(self, volume: Volume) -> Tensor | None:
        """The maps of coils under which the object can move: of a file that keeps them, and is fully sampled."""
        return None if volume.has_mask else self._reader.maps(volume)

    def _target(self, volume: Volume, part: int | slice) -> Tensor:
        return self._fit(volume, self._reader.target(volume, part))
