"""Volumes reconstructed one after the other, each written to a file of its own when it is whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from data_prep import Sample, SliceDataset
from pipelines.reconstruction.task import ReconstructionTask, denormalise
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.shell import Interrupted, terminal
from recon.errors import InputError
from recon.metrics import psnr, ssim


class Job(NamedTuple):
    """One volume to reconstruct.

    Attributes:
        dataset: holds this volume alone.
        path: the file to write, *.h5 or *.nii.gz.
        made_by: says from what, by what and how; stands in the file.
    """

    dataset: SliceDataset
    path: Path
    made_by: str


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
                bar.set_postfix_str(job.dataset.volumes[0].name)
                images, target, ranges = reconstruct(task, job.dataset, batch_size, bar)
                job.dataset.write(job.path, images, job.made_by)
                table.add_row(*_row(job, images, target, ranges))
    except KeyboardInterrupt:
        done = f"{table.row_count} of {len(jobs)} volumes are written, each whole"
        raise Interrupted(f"{done}; the same command goes on with the others") from None
    terminal(104).print(table)


def reconstruct(
    task: ReconstructionTask, dataset: SliceDataset, batch_size: int = 1, bar: tqdm | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruct the one volume of a data set.

    Args:
        task: in eval mode, on the device to use.
        dataset: the volume.
        batch_size: slices that run at once.
        bar: counts slices.

    Returns:
        The reconstruction and the target, ``(slices, rows, columns)`` float32 in the file's units, on the CPU, as they
        are written; the target is ``(slices, 0, 0)`` where the file has none. And R of each slice, ``(slices,)``.

    Raises:
        InputError: the file cannot be read any more, an output is not finite, or the device has too little memory.
    """
    dataset, path = copy.deepcopy(dataset), dataset.volumes[0].path  # the copy's file is closed at the end
    images, targets, ranges = [], [], []
    for numbers in torch.arange(len(dataset)).split(batch_size):
        batch: Sample = default_collate([dataset[number] for number in numbers.tolist()])
        targets.append(batch.target[:, 0])
        ranges.append(batch.data_range)
        batch = Sample(*(part.to(task.device) for part in batch))
        try:
            images.append(denormalise(task(batch), batch)[:, 0].cpu())
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
    written = [dataset.for_file(part) if part.numel() else part for part in map(torch.cat, (images, targets))]
    return written[0], written[1], torch.cat(ranges)


def _first_not_finite(images: Sequence[Tensor]) -> int:
    return int(torch.cat(list(images)).isfinite().all(-1).all(-1).int().argmin())


def _row(job: Job, images: Tensor, target: Tensor, ranges: Tensor) -> list[str]:
    dataset, quality = job.dataset, ["no target", ""]
    n_slices, rows, columns = images.shape
    if dataset.volumes[0].has_target:
        preds, goal = dataset.without_padding(images, 0), dataset.without_padding(target, 0)
        if dataset.per_image:
            preds, goal, ranges = (part[ranges > 0] for part in (preds, goal, ranges))  # air alone has no PSNR
        of = ranges if dataset.per_image else float(ranges[0])
        values = (float(metric(preds, goal, of, per_slice=dataset.per_image).mean()) for metric in (psnr, ssim))
        quality = [f"{value:.{digits}f}" for value, digits in zip(values, (2, 4), strict=True)]
    name, mask = dataset.volumes[0].name, dataset.whose_mask(0)
    return [name, mask, str(n_slices), f"{rows} x {columns}", *quality, job.path.name]
