"""Volumes reconstructed one after the other, each written to a file of its own when it is whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from data_prep import CTVolume, FastMRIDataset, HUDataset, HUVolume, Volume, center_crop, write_hdf5
from data_prep.storage.nifti import write_nifti, write_nifti_like
from pipelines.reconstruction.task import ReconstructionTask, denormalise
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.shell import Interrupted, terminal
from pipelines.training.loaders import ReconstructionDataset
from recon.errors import InputError
from recon.metrics import psnr, ssim
from recon.physics.ct import MU_MAX, attenuation_to_hu


class Job(NamedTuple):
    """One volume to reconstruct.

    Attributes:
        dataset: holds this volume alone.
        path: the file to write, *.h5 or *.nii.gz.
        made_by: says from what, by what and how; stands in the file.
        voxel_size_mm: of (row, column, slice); None where the file does not tell, and for images in HU, whose volume
            has an affine.
    """

    dataset: ReconstructionDataset | HUDataset
    path: Path
    made_by: str
    voxel_size_mm: tuple[float, float, float] | None = None

    @property
    def volume(self) -> Volume | CTVolume | HUVolume:
        """What is known of the file."""
        return self.dataset.volumes[0]

    @property
    def unknown_size(self) -> bool:
        """Whether the size of a voxel is not known."""
        return self.voxel_size_mm is None and not isinstance(self.volume, HUVolume)


@torch.inference_mode()
def reconstruct_all(task: ReconstructionTask, jobs: Sequence[Job], batch_size: int) -> None:
    """Reconstruct and write volumes, in order, and print what was done. One volume at a time is in memory.

    Args:
        task: in eval mode, on the device to use.
        jobs: the volumes.
        batch_size: slices that run at once.

    Raises:
        Interrupted: by Ctrl-C; says how to go on.
        InputError: see :func:`reconstruct`.
        OSError: a file cannot be written.
    """
    table = Table("volume", "mask")
    for column in ("slices", "size", "PSNR (dB)", "SSIM"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("written", overflow="fold")
    bar = tqdm(total=sum(len(job.dataset) for job in jobs), desc="reconstructing", unit=" slice", disable=None)
    try:
        with bar, exact_arithmetic():
            for job in jobs:
                bar.set_postfix_str(job.volume.name)
                images, target = reconstruct(task, job.dataset, batch_size, bar)
                write(job, images)
                table.add_row(*_row(job, images, target))
    except KeyboardInterrupt:
        done = f"{table.row_count} of {len(jobs)} volumes are written, each whole"
        raise Interrupted(f"{done}; the same command goes on with the others") from None
    terminal(104).print(table)


def reconstruct(
    task: ReconstructionTask, dataset: ReconstructionDataset | HUDataset, batch_size: int = 1, bar: tqdm | None = None
) -> tuple[Tensor, Tensor]:
    """Reconstruct the one volume of a data set.

    Args:
        task: in eval mode, on the device to use.
        dataset: the volume.
        batch_size: slices that run at once.
        bar: counts slices.

    Returns:
        The reconstruction and the target, ``(slices, rows, columns)`` float32 in the file's units, on the CPU, CT
        without padding; the target is ``(slices, 0, 0)`` where the file has none.

    Raises:
        InputError: the file cannot be read any more, an output is not finite, or the device has too little memory.
    """
    dataset, path = copy.deepcopy(dataset), dataset.volumes[0].path  # the copy's file is closed at the end
    images, targets = [], []
    for numbers in torch.arange(len(dataset)).split(batch_size):
        batch = default_collate([dataset[number] for number in numbers.tolist()])
        targets.append(batch.target[:, 0])
        batch = batch._make(part.to(task.device) for part in batch)
        try:
            images.append(denormalise(task(batch.image), batch)[:, 0].cpu())
        except torch.OutOfMemoryError:
            raise InputError(
                f"{task.device} has too little memory for {len(numbers)} slices of {path} at once: give a smaller "
                "--batch-size, or --device cpu"
            ) from None
        if not images[-1].isfinite().all():
            raise InputError(
                f"{path}: its reconstruction is not finite in slice {_first_not_finite(images)}: look for such values "
                "in 'kspace', or leave the file out"
            )
        if bar is not None:
            bar.update(len(numbers))
    parts = torch.cat(images), torch.cat(targets)
    if isinstance(dataset, FastMRIDataset):
        return parts
    size = dataset.volumes[0].image_size
    images_only, target = (
        center_crop(part, [min(pair) for pair in zip(size, part.shape[1:], strict=True)]) if part.numel() else part
        for part in parts
    )
    return images_only.contiguous(), target


def write(job: Job, images: Tensor) -> None:
    """Write a reconstruction ``(slices, rows, columns)`` to the job's file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    if isinstance(job.volume, HUVolume):
        _write_like(job, job.volume, images.numpy())
        return
    if job.path.suffix == ".h5":
        write_hdf5(job.path, {"reconstruction": images.numpy()}, {"made_by": job.made_by})
        return
    if isinstance(job.volume, CTVolume):
        hu = attenuation_to_hu(images * MU_MAX).mT.numpy()
        middle = [side // 2 for side in (*hu.shape[1:], hu.shape[0])]
        write_nifti(job.path, hu, job.voxel_size_mm or (1, 1, 1), middle, job.made_by)
        return
    sizes = zip(job.volume.kspace_size, job.volume.image_size, images.shape[1:], strict=True)
    origin = *(_center(*of_axis) for of_axis in sizes), len(images) // 2
    write_nifti(job.path, images.numpy(), job.voxel_size_mm or (1, 1, 1), origin, job.made_by)


def _write_like(job: Job, volume: HUVolume, images: np.ndarray) -> None:
    """Write a volume that came in HU with its own axes and place."""
    stored = volume.as_stored(images)
    if job.path.suffix == ".h5":
        write_hdf5(job.path, {"reconstruction": stored.T}, {"made_by": job.made_by, "affine": volume.affine})
        return
    hu = attenuation_to_hu(torch.from_numpy(stored).double() * MU_MAX).float().numpy()
    write_nifti_like(job.path, hu, volume.affine, volume.header, job.made_by)


def _first_not_finite(images: Sequence[Tensor]) -> int:
    return int(torch.cat(list(images)).isfinite().all(-1).all(-1).int().argmin())


def _center(*sizes: int) -> int:
    """Where an axis has its pixel n // 2, the Fourier transform's centre, after each of its crops and pads."""
    return sizes[0] // 2 - sum(int((old - new) / 2) for old, new in pairwise(sizes))


def _row(job: Job, images: Tensor, target: Tensor) -> list[str]:
    quality, mask = ["no target", ""], ""
    n_slices, rows, columns = images.shape
    if job.volume.has_target:
        sides = [min(pair) for pair in zip(job.volume.image_size, (rows, columns), strict=True)]
        images, target = center_crop(images, sides), center_crop(target, sides)  # without padding
        per_slice = job.volume.maximum is None  # CT: each image has its own range
        ranges = target.amax((1, 2)) - target.amin((1, 2)) if job.volume.maximum is None else job.volume.maximum
        if isinstance(ranges, Tensor):
            images, target, ranges = (part[ranges > 0] for part in (images, target, ranges))  # air alone has no PSNR
        values = (float(metric(images, target, ranges, per_slice=per_slice).mean()) for metric in (psnr, ssim))
        quality = [f"{value:.{digits}f}" for value, digits in zip(values, (2, 4), strict=True)]
    if isinstance(job.volume, Volume):
        mask = "the file's" if job.volume.has_mask else "the run's"
    return [job.volume.name, mask, str(n_slices), f"{rows} x {columns}", *quality, job.path.name]
