"""Reconstruction networks as they leave the project: files' units in and out, the normalisation inside."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from data_prep import Sample, SliceDataset
from data_prep.slices.sample import EPS
from pipelines.measuring.portable import Port, Portable, RealSlice, spread_out, without_ties
from pipelines.reconstruction.subjects import infer
from pipelines.reconstruction.task import ReconstructionTask, batch_of, denormalise, shifted
from recon.errors import InputError
from recon.physics.mri import apply_mask, ifft2c, rss


class OfImages(nn.Module):
    """The run's f on images in the file's units: (x - mean) / std, clamp, network, clamp, y std + mean.

    Args:
        task: in eval mode.
        constants: mean and std of every input; None for each image's own.
    """

    def __init__(self, task: ReconstructionTask, constants: tuple[float, float] | None) -> None:
        super().__init__()
        self.task, self.constants = task, constants

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(batch, 1, rows, columns)`` to the same."""
        mean, std = statistics(image)
        if self.constants is not None:
            mean, std = (torch.full_like(mean, value) for value in self.constants)
        batch = batch_of(torch.zeros_like(image))._replace(mean=mean, std=std)
        batch = batch._replace(image=(image - mean[:, None, None, None]) / std[:, None, None, None])
        return denormalise(self.task(batch), batch)


class OfKspace(nn.Module):
    """The run's f on k-space in the file's units, as real numbers: channels 2 c and 2 c + 1 are coil c's two parts.

    Args:
        task: in eval mode.
    """

    def __init__(self, task: ReconstructionTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
        """Reconstruct.

        Args:
            kspace: ``(batch, 2 coils, rows, columns)``; what the mask leaves out is passed over.
            mask: bool ``(batch, columns)``.
            maps: as k-space, where the network takes the file's.

        Returns:
            The magnitude ``(batch, 1, rows, columns)``.
        """
        measured = apply_mask(as_complex(kspace), mask[:, None, None, :])
        magnitude = rss(ifft2c(measured), 1)[:, None]
        mean, std = statistics(magnitude)
        batch = batch_of(magnitude)._replace(mean=mean, std=std, kspace=measured / std[:, None, None, None], mask=mask)
        return denormalise(self.task(batch if maps is None else batch._replace(maps=as_complex(maps))), batch)


def statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (n - 1) + 1e-11 of each image ``(batch, 1, rows, columns)``, by sums in float64."""
    exact = image.double()
    n = image.shape[2] * image.shape[3]
    mean = exact.sum((1, 2, 3), keepdim=True) / n
    std = ((exact - mean).square().sum((1, 2, 3)) / (n - 1)).sqrt() + EPS
    return mean.flatten().to(image.dtype), std.to(image.dtype)


def as_complex(parts: Tensor) -> Tensor:
    """Real ``(batch, 2 coils, rows, columns)`` to complex ``(batch, coil, rows, columns)``."""
    return torch.view_as_complex(parts.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous())


def as_real(coils: Tensor) -> Tensor:
    """The inverse of :func:`as_complex`."""
    return torch.view_as_real(coils).permute(0, 1, 4, 2, 3).flatten(1, 2)


def portable(task: ReconstructionTask, dataset: SliceDataset) -> Portable:
    """A run on its way out.

    Args:
        task: in eval mode, on the CPU.
        dataset: whose slices are the proof.

    Raises:
        InputError: the network needs what no other program has, or each slice is a tie.
    """
    first = dataset[0]
    if first.sinogram.numel():
        raise InputError(
            "a network with the sinogram inside cannot be exported, since the scanner's geometry and its loops stay in "
            "this project: export a run of network unet, which takes the back-projection"
        )
    return Portable(
        OfKspace(task) if first.kspace.numel() else OfImages(task, dataset.constants),
        _ports(first, f"the {dataset.baselines[dataset.baseline]} image, real, in the file's unit"),
        Port("reconstruction", ("batch", 1, "rows", "columns"), "the reconstruction, in the same unit"),
        task.total_stride,
        without_ties(_slices(task, dataset)),
    )


def _ports(sample: Sample, unit: str) -> tuple[Port, ...]:
    if not sample.kspace.numel():
        return (Port("image", ("batch", 1, "rows", "columns"), unit),)
    channels = 2 * len(sample.kspace)
    parts = "channels 2 c and 2 c + 1 the real and imaginary part of coil c"
    kspace = Port("kspace", ("batch", channels, "rows", "columns"), f"k-space of the whole matrix, centred, {parts}")
    mask = Port("mask", ("batch", "columns"), "True where a column was measured", torch.bool)
    maps = Port("maps", kspace.shape, f"the coils' maps, root sum of squares 1, {parts}")
    return (kspace, mask, maps) if sample.maps.numel() else (kspace, mask)


def _slices(task: ReconstructionTask, dataset: SliceDataset) -> Iterator[RealSlice | None]:
    for index in spread_out(len(dataset)):
        volume, number = dataset.slices[index]
        sample = Sample(*(part[None] for part in dataset[index]))
        name = dataset.volumes[volume].name
        found = infer(task, sample, name)
        output = denormalise(found.output, sample)
        moved = lambda shifts, sample=sample: _inputs(shifted(sample, shifts))  # noqa: E731
        yield None if found.tie else RealSlice(f"{name} slice {number}", _inputs(sample), output, moved, moves=True)


def _inputs(sample: Sample) -> tuple[Tensor, ...]:
    """What the ports take of a batch, in the file's units."""
    if not sample.kspace.numel():
        return (denormalise(sample.image, sample),)
    kspace = as_real(sample.kspace * sample.std.view(-1, 1, 1, 1))
    return (kspace, sample.mask, as_real(sample.maps)) if sample.maps.numel() else (kspace, sample.mask)
