"""Samples in batches: the loaders of a run, and where a resumed run goes on."""

from __future__ import annotations

import copy
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader

from data_prep import (
    CIFARDataset,
    FashionMNISTDataset,
    FastMRIDataset,
    HUDataset,
    ImageNetDataset,
    LoDoPaBDataset,
    ShapeBatchSampler,
    Volume,
    bundled_ct,
    bundled_mri,
)
from pipelines.runs.config import DATASETS, RECONSTRUCTION
from pipelines.runs.resume import check_place
from recon.errors import InputError
from recon.networks import ResNet, UNet

SMALLEST_SIDE = 7
NUMBERS = ("volume", "slice", "index")  # fields of a sample
OF_LOADERS = ("batch_size", "n_workers")
ReconstructionDataset = FastMRIDataset | LoDoPaBDataset
ClassificationDataset = FashionMNISTDataset | CIFARDataset | ImageNetDataset
AnyDataset = ReconstructionDataset | ClassificationDataset


def open_dataset(config: Namespace, split: str, training: bool = False) -> Any:
    """The data set of one split, an AnyDataset: the configured folder's, or the bundled sample's.

    Raises:
        InputError: no such folder or split, or broken files.
    """
    settings = {key: value for key, value in config.dataset.items() if key not in OF_LOADERS}
    folder = None if config.data is None else Path(config.data)
    if config.data is None and config.task in RECONSTRUCTION:
        folder = bundled_ct() if config.task == "ct" else bundled_mri(challenge=config.dataset.challenge)
    if config.task in ("cifar10", "cifar100"):
        settings["n_classes"] = int(config.task.removeprefix("cifar"))
    dataset = DATASETS[config.task](folder, split, training=training, seed=config.seed, **settings)
    if config.task == "mri":
        tell_undersampled(dataset.volumes)
    return dataset


def tell_undersampled(volumes: Sequence[Volume]) -> None:
    """Say aloud, once, which files seem undersampled already, but bring no mask."""
    names = [str(volume.path) for volume in volumes if volume.seems_undersampled]
    if names and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        _say_once(
            f"note: {names[0]}{more} without a mask, but with columns of zeros between others: undersampled already, "
            "so it seems, and masked once more; store its 'mask' if it was"
        )


@functools.cache
def _say_once(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def describe_data(config: Namespace) -> str:
    """On what the figures were measured, in words."""
    dataset = config.dataset
    source = str(config.data)
    if config.task not in RECONSTRUCTION:
        source = "bundled part of Fashion-MNIST" if config.data is None else source
        return f"{source}; {config.evaluation.split} split"
    if config.task == "ct":
        source = "bundled chest sample, simulated from HU images" if config.data is None else source
        how = f"FBP with {dataset.window} filter at {dataset.frequency_scaling:g}"
    else:
        source = "bundled brain sample, simulated from magnitude" if config.data is None else source
        kept = ", ".join(f"{100 * fraction:g} %" for fraction in dataset.center_fractions)
        factors = ", ".join(str(a) for a in dataset.accelerations)
        how = f"{dataset.mask_type} mask, acceleration {factors}, centre {kept}"
        how += ", several coils" if dataset.challenge == "multicoil" else ""
    size = "" if dataset.image_size is None else f", {dataset.image_size[0]} x {dataset.image_size[1]} pixels"
    return f"{source}; {config.evaluation.split} split, {how}{size}"


def files_of(dataset: AnyDataset) -> list[Path]:
    """The files that a data set is read from."""
    if isinstance(dataset, FastMRIDataset | LoDoPaBDataset):
        return [volume.path for volume in dataset.volumes]
    return list(dataset.files)


def smallest_side(dataset: AnyDataset) -> int:
    """The shortest side of any image, in pixels."""
    if isinstance(dataset, FastMRIDataset | LoDoPaBDataset):
        return min(min(shape[:2]) for shape in dataset.shapes)
    return min(dataset.image_size)


def fit_network(config: Namespace, dataset: ClassificationDataset) -> None:
    """Fill in how many classes and channels the network has, where the configuration leaves it to the data.

    Raises:
        InputError: the configuration says otherwise than the data.
    """
    for key, found in (("n_classes", len(dataset.class_names)), ("in_channels", dataset.n_channels)):
        given = config.network[key]
        if given is not None and given != found:
            raise InputError(f"network.{key} is {given}, but the data have {found}: leave it out, or give other data")
        config.network[key] = found


def check_labelled_images(dataset: ClassificationDataset, network: ResNet) -> None:
    """Refuse images that the network cannot take, before anything runs.

    Raises:
        InputError: names the size and the remedy.
    """
    size = tuple(dataset.image_size)
    try:
        copy.deepcopy(network).to("meta").eval()(torch.empty(1, dataset.n_channels, *size, device="meta"))
    except ValueError as error:
        raise InputError(f"images of {size[0]} x {size[1]} do not fit the network: {error}") from None


def check_image_sizes(dataset: ReconstructionDataset | HUDataset, network: UNet) -> None:
    """Refuse volumes whose images the network cannot take, or which cannot be masked, before anything runs.

    Raises:
        InputError: names the file, and the side, the multiple and the remedies, or the mask's numbers.
    """
    multiple = network.total_stride
    trial = copy.deepcopy(network).to("meta").eval()  # shapes without numbers: finds out at no cost
    sizes = {shape[:2]: number for shape, (number, _) in zip(dataset.shapes, dataset.slices, strict=True)}
    for (rows, columns), number in sizes.items():
        path = dataset.volumes[number].path
        if rows % multiple or columns % multiple:
            side, n = ("height", rows) if rows % multiple else ("width", columns)
            crop, pad = ([x // multiple * multiple + extra for x in (rows, columns)] for extra in (0, multiple))
            remedy = f"crop with --dataset.image_size '{crop}' or pad" if all(crop) else "pad"
            raise InputError(
                f"{path}: image {side} {n} is not a multiple of the network's total stride {multiple}; {remedy} with "
                f"--dataset.image_size '{pad}'"
            )
        if min(rows, columns) < SMALLEST_SIDE:
            raise InputError(f"{path}: image {rows} x {columns} is smaller than the 7 x 7 window of SSIM: pad it")
        try:
            trial(torch.empty(1, 1, rows, columns, device="meta"))
        except ValueError as error:
            raise InputError(f"{path}: image {rows} x {columns} does not fit the network: {error}") from None
    if isinstance(dataset, FastMRIDataset):
        for number in {volume.kspace_size[1]: i for i, volume in enumerate(dataset.volumes)}.values():
            dataset.mask(number)


class Loaders(pl.LightningDataModule):
    """The training and validation loaders.

    Batches are a pure function of (seed, epoch); a run resumed in mid-epoch starts at the batch after the last one
    it had trained on.

    Args:
        train: the training set.
        val: the validation set.
        batch_size: slices in a batch, on each device.
        n_workers: loading processes, for each device.
        seed: of the order.
    """

    def __init__(
        self,
        train: AnyDataset,
        val: AnyDataset,
        batch_size: int,
        n_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.n_workers, self.seed = batch_size, n_workers, seed
        self.position = (0, 0)  # epoch, and the first batch of it

    def state_dict(self) -> dict[str, int]:
        """Where the run stands: the epoch, how many of its batches are done, and what it is cut by."""
        assert self.trainer is not None
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        in_epoch = epochs.started > epochs.processed
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"epoch": epochs.processed, "batch": batches.processed if in_epoch else 0, **self._cut()}

    def _cut(self) -> dict[str, int]:
        """What the batches of an epoch hang on, beside the seed."""
        assert self.trainer is not None
        return {
            "batch_size": self.batch_size,
            "n_processes": self.trainer.world_size,
            "n_training_samples": len(self.train),
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there.

        Raises:
            InputError: in the middle of an epoch whose batches would be others now.
        """
        check_place(state_dict, self._cut())
        self.position = (state_dict["epoch"], state_dict["batch"])

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches."""
        loader = self._loader(self.train, shuffle=True)
        loader.batch_sampler.set_position(*self.position)  # type: ignore[union-attr]
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches in order; every process sees equally many, the last may repeat some (the metrics drop those)."""
        return self._loader(self.val, shuffle=False)

    def n_batches(self, n_processes: int) -> tuple[int, int]:
        """The batches of an epoch and of a validation, for each of so many processes."""
        train, val = (
            len(ShapeBatchSampler(dataset.shapes, self.batch_size, shuffle=False, n_ranks=n_processes))
            for dataset in (self.train, self.val)
        )
        return train, val

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Everything but the numbers of volume, slice or image, which are read and not computed with."""
        numbers = {name: part for name, part in batch._asdict().items() if name in NUMBERS}
        moved = super().transfer_batch_to_device(batch._replace(**dict.fromkeys(numbers)), device, dataloader_idx)
        return moved._replace(**numbers)

    def _loader(self, dataset: AnyDataset, shuffle: bool) -> DataLoader[Any]:
        rank, n_ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = ShapeBatchSampler(dataset.shapes, self.batch_size, shuffle, self.seed, rank, n_ranks)
        n_workers = min(self.n_workers, os.cpu_count() or 1)  # more would only wait for each other
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=n_workers,
            pin_memory=on_gpu,
            persistent_workers=n_workers > 0,
        )
