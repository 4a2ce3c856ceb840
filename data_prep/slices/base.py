"""Data sets of slices: what MRI and CT alike are to whoever trains on them, measures them and shows them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_prep.slices.crop import center_crop, fit_center
from data_prep.slices.sample import Sample


class SliceVolume(Protocol):
    """What is known of one volume without opening its file."""

    @property
    def name(self) -> str:
        """What tells it apart from the others."""

    @property
    def path(self) -> Path:
        """Its file, or the folder of its slices."""

    @property
    def n_slices(self) -> int:
        """Number of slices."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of an image, before it is cropped or padded to a network's size."""

    @property
    def has_target(self) -> bool:
        """Whether there are images to compare with."""

    @property
    def recon_key(self) -> str:
        """What these are called in the file, or their file."""

    @property
    def acquisition(self) -> str:
        """How it was acquired; figures are averaged by it."""


class Panel(NamedTuple):
    """A picture to be shown beside a slice.

    Attributes:
        title: one line or two.
        image: (rows, columns), as it is to be looked at.
    """

    title: str
    image: Tensor


class SliceDataset(Dataset[Sample], ABC):
    """Slices of volumes as samples. A subclass declares the class attributes and finishes the abstract methods.

    To be the data set of a task, its own constructor is called as (folder, split, training=, seed=, **settings):

        folder: of the data; None for a bundled sample that the data set finds itself.
        split: train, val or test.
        training: draw anew in each epoch what is drawn, such as masks and shifts.
        seed: of these draws.
        settings: the keys `dataset.*` of the configuration, one argument each.

    Args:
        volumes: what the slices are of.
        image_size: (rows, columns) that image and target are centre-cropped or zero-padded to; None keeps each
            volume's own.

    Attributes:
        title: what the data are called, for instance fastMRI.
        baselines: the images that need no training: their key in results.csv and their name for a reader. The first
            is the input itself.
        own_images: the name in `data_prep.OUTSIDE` of this modality's own images, which are not outside for it.
        per_image: quality is an image's (CT), not a volume's (MRI).
        transposed: rows run from left to right, so that an image is transposed to be looked at.
        definitions: words that only such data's reports need, each with its meaning.
        constants: mean and std of every input; None where each has its own.
        volumes: as given.
        slices: (index into volumes, slice) of each sample.
        shapes: (rows, columns, has_target, ...) of each sample; only equal ones fit into one batch.
        measured: samples hold the measurement as well; their images are whole, and the targets the centres of them.
        fitted_by: how images can be brought to another size: crop, pad, both or neither.
        given_maps: of several coils they hold the file's coil maps, too.
        acquires: any object can be acquired as the slices were: `flipped`, `in_window` and `acquired` are there.

    Raises:
        TypeError: a class attribute is not declared, or an abstract method not finished.
    """

    title: ClassVar[str]
    baselines: ClassVar[Mapping[str, str]]
    own_images: ClassVar[str]
    per_image: ClassVar[bool]
    transposed: ClassVar[bool]
    definitions: ClassVar[Mapping[str, str]] = {}
    constants: ClassVar[tuple[float, float] | None] = None

    volumes: Sequence[SliceVolume]
    slices: list[tuple[int, int]]
    shapes: list[tuple[int, ...]]
    measured: bool = False
    fitted_by: tuple[str, ...] = ("crop", "pad")
    given_maps: bool = False
    acquires: bool = False

    def __new__(cls, *args: object, **settings: object) -> Self:
        """Refuse what Python's ABC does not: a class without one of the attributes above.

        Their annotations are read as text, which they are by `from __future__ import annotations`.
        """
        annotations = SliceDataset.__annotations__
        declared = [name for name, annotation in annotations.items() if annotation.startswith("ClassVar")]
        missing = [name for name in declared if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} is not a whole SliceDataset: declare {', '.join(missing)}")
        return super().__new__(cls)

    def __init__(self, volumes: Sequence[SliceVolume], image_size: tuple[int, int] | None) -> None:
        self.volumes, self.image_size = volumes, image_size
        self.slices = [(v, s) for v, volume in enumerate(volumes) for s in range(volume.n_slices)]
        shapes: list[tuple[int, ...]] = [(*self._size(volume), volume.has_target) for volume in volumes]
        self.shapes = [shapes[v] for v, _ in self.slices]

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.slices)

    @abstractmethod
    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of (epoch, index); an index alone means epoch 0.

        Raises:
            InputError: a file cannot be read any more.
        """

    @abstractmethod
    def moved(self, index: int, shift: Sequence[float]) -> Sample:
        """Return the sample of a slice whose object moved before it was acquired again.

        Args:
            index: the sample.
            shift: (rows, columns) in pixels, positive towards larger indices.

        Returns:
            The sample without a target, (1, 0, 0), with the unmoved one's data_range.

        Raises:
            InputError: the shift is not two finite numbers, the object is not known, or a file cannot be read any more.
        """

    @abstractmethod
    def in_view(self, index: int, shift: Sequence[float]) -> tuple[slice, slice]:
        """Return the rows and columns of a sample whose content is in view before and after a move.

        Args:
            index: the sample.
            shift: (rows, columns) that the object moves by, see `moved`.
        """

    @abstractmethod
    def what_moves(self) -> str:
        """Say in a sentence what a moved object means for these data."""

    @abstractmethod
    def as_input(self, image: Tensor) -> tuple[Tensor, float, float]:
        """Make any image (rows, columns) an input (1, rows, columns), with the mean and std that undo it."""

    @abstractmethod
    def volume_target(self, index: int) -> Tensor:
        """Read all targets of a volume, cropped or padded as the samples' are.

        Args:
            index: index into `volumes`.

        Returns:
            Tensor (slices, rows, columns) float32 in the samples' units.

        Raises:
            InputError: there is no target, or it cannot be read any more.
        """

    @classmethod
    @abstractmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Say how the inputs are made.

        Args:
            settings: the run's, dataset.* without that prefix.
        """

    @abstractmethod
    def voxel_size_mm(self) -> tuple[float, float, float] | None:
        """Return the size of a voxel of the first volume along (row, column, slice); None where it is not known."""

    @abstractmethod
    def write(self, path: Path, images: Tensor, made_by: str) -> None:
        """Write a reconstruction of the data set's one volume, whole or not at all.

        Args:
            path: the file, *.h5 or *.nii.gz.
            images: (slices, rows, columns) float32 in the samples' units, on the CPU.
            made_by: says from what, by what and how; stands in the file.

        Raises:
            OSError: the file cannot be written.
        """

    @property
    def baseline(self) -> str:
        """What the input is, as an image: the first key of `baselines`."""
        return next(iter(self.baselines))

    @property
    def files(self) -> list[Path]:
        """The files that the slices are read from."""
        return [volume.path for volume in self.volumes]

    @property
    def smallest_side(self) -> int:
        """The shortest side of any image, in pixels."""
        return min(min(shape[:2]) for shape in self.shapes)

    def n_coils(self, volume: int) -> int:
        """Return the number of receiver coils of a volume; 1 where there are no coils."""
        return 1

    def without_padding(self, image: Tensor, volume: int) -> Tensor:
        """Crop images (..., rows, columns), of the samples' size, to the part that is not padding; a view.

        Args:
            image: of the volume.
            volume: index into `volumes`.
        """
        size = self.volumes[volume].image_size
        return center_crop(image, [min(n, side) for n, side in zip(size, image.shape[-2:], strict=True)])

    def upright(self, image: Tensor) -> Tensor:
        """Turn images (..., rows, columns) as one looks at them; a view."""
        return image.mT if self.transposed else image

    def for_file(self, images: Tensor) -> Tensor:
        """Return the part of a reconstruction (slices, rows, columns) that `write` keeps: all but the padding."""
        return self.without_padding(images, 0).contiguous()

    def whose_mask(self, volume: int) -> str:
        """Say whose mask a volume has, "the file's" or "the run's"; nothing where there are no masks."""
        return ""

    def check(self) -> None:
        """Refuse early what would be refused in the midst of a run.

        Raises:
            InputError: names the file, and what is wrong with it.
        """

    def notes(self) -> list[str]:
        """Return sentences on what is odd about the files, to be said aloud."""
        return self.notes_on(self.volumes)

    @classmethod
    def notes_on(cls, volumes: Sequence[SliceVolume]) -> list[str]:
        """Return what `notes` says of volumes, also of those of several data sets."""
        return []

    def panels(self, index: int) -> list[Panel]:
        """Return further pictures to be shown beside a slice.

        Raises:
            InputError: a file cannot be read any more.
        """
        return []

    def flipped(self, index: int, axis: int) -> Sample:
        """Return the sample of a slice whose object was flipped before it was acquired again; where it `acquires`.

        Args:
            index: the sample.
            axis: -2 for upside down, -1 for left and right.

        Raises:
            InputError: a file cannot be read any more.
        """
        raise NotImplementedError

    def in_window(self, index: int, corner: Sequence[int], size: Sequence[int]) -> Sample:
        """Return the sample of a slice whose object was acquired again in a window of it; where it `acquires`."""
        raise NotImplementedError

    def acquired(self, image: Tensor) -> Sample:
        """Return the sample, without a target, of any object (rows, columns); where it `acquires`."""
        raise NotImplementedError

    def more_baselines(self, volume: int, device: torch.device) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Yield the `baselines` but the first: their key and their images (1, rows, columns), one for each slice.

        Args:
            volume: index into `volumes`.
            device: to compute on, where that is of use.

        Raises:
            InputError: a file cannot be read any more.
        """
        return iter(())

    def more_quality(self, preds: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return figures of images beside PSNR, SSIM and NMSE, by their name in results.csv.

        Args:
            preds: (batch, rows, columns) in the samples' units, without padding.
            target: (batch, rows, columns), the same.

        Returns:
            Tensors (batch,); nan where an image has no such figure.
        """
        return {}

    def _size(self, volume: SliceVolume) -> tuple[int, int]:
        """The size of a volume's samples."""
        return self.image_size or volume.image_size

    def _fit(self, volume: SliceVolume, image: Tensor) -> Tensor:
        """Crop or pad a volume's images to the size of its samples."""
        return fit_center(image, self._size(volume)).contiguous()


def size_in_words(settings: Mapping[str, Any]) -> str:
    """Return what `SliceDataset.describe` ends with: the size of the images, where the run sets it."""
    size = settings.get("image_size")
    return "" if size is None else f", {size[0]} x {size[1]} pixels"
