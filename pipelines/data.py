"""Samples in batches: the loaders of a run, and where a resumed run goes on."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from torch.utils.data import DataLoader

from data_prep import FastMRIDataset, HUDataset, LoDoPaBDataset, Sample, ShapeBatchSampler, bundled_ct, bundled_mri
from recon.errors import InputError
from recon.networks import UNet

SMALLEST_SIDE = 7
ReconstructionDataset = FastMRIDataset | LoDoPaBDataset


def open_dataset(config: Namespace, split: str, training: bool = False) -> ReconstructionDataset:
    """The data set of one split: the configured folder's, or the bundled sample's.

    Raises:
        InputError: no such folder or split, or broken files.
    """
    settings = {key: value for key, value in config.dataset.items() if key not in ("batch_size", "n_workers")}
    if config.task == "ct":
        folder = bundled_ct() if config.data is None else Path(config.data)
        return LoDoPaBDataset(folder, split, training=training, seed=config.seed, **settings)
    folder = bundled_mri(challenge=config.dataset.challenge) if config.data is None else Path(config.data)
    return FastMRIDataset(folder, split, training=training, seed=config.seed, **settings)


def describe_data(config: Namespace) -> str:
    """On what the figures were measured, in words."""
    dataset = config.dataset
    if config.task == "ct":
        source = "bundled chest sample, simulated from HU images" if config.data is None else str(config.data)
        how = f"FBP with {dataset.window} filter at {dataset.frequency_scaling:g}"
    else:
        source = "bundled brain sample, simulated from magnitude" if config.data is None else str(config.data)
        kept = ", ".join(f"{100 * fraction:g} %" for fraction in dataset.center_fractions)
        factors = ", ".join(str(a) for a in dataset.accelerations)
        how = f"{dataset.mask_type} mask, acceleration {factors}, centre {kept}"
        how += ", several coils" if dataset.challenge == "multicoil" else ""
    size = "" if dataset.image_size is None else f", {dataset.image_size[0]} x {dataset.image_size[1]} pixels"
    return f"{source}; {config.evaluation.split} split, {how}{size}"


def check_image_sizes(dataset: ReconstructionDataset | HUDataset, network: UNet) -> None:
    """Refuse volumes whose images the network cannot take, before anything runs.

    Raises:
        InputError: names the file, the side, the multiple and the remedies.
    """
    multiple = network.total_stride
    trial = copy.deepcopy(network).to("meta").eval()  # shapes without numbers: finds out at no cost
    sizes = {shape[:2]: number for shape, (number, _) in zip(dataset.shapes, dataset.slices, strict=True)}
    for (rows, columns), number in sizes.items():
        path = dataset.volumes[number].path
        if rows % multiple or columns % multiple:
            side, n = ("height", rows) if rows % multiple else ("width", columns)
            crop, pad = ([x // multiple * multiple + extra for x in (rows, columns)] for extra in (0, multiple))
            raise InputError(
                f"{path}: image {side} {n} is not a multiple of the network's total stride {multiple}; crop with "
                f"--dataset.image_size '{crop}' or pad with --dataset.image_size '{pad}'"
            )
        if min(rows, columns) < SMALLEST_SIDE:
            raise InputError(f"{path}: image {rows} x {columns} is smaller than the 7 x 7 window of SSIM: pad it")
        try:
            trial(torch.empty(1, 1, rows, columns, device="meta"))
        except ValueError as error:
            raise InputError(f"{path}: image {rows} x {columns} does not fit the network: {error}") from None


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
        train: ReconstructionDataset,
        val: ReconstructionDataset,
        batch_size: int,
        n_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.n_workers, self.seed = batch_size, n_workers, seed
        self.position = (0, 0)  # epoch, and the first batch of it

    def state_dict(self) -> dict[str, int]:
        """Where the run stands: the epoch, and how many of its batches are done."""
        assert self.trainer is not None
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        in_epoch = epochs.started > epochs.processed
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"epoch": epochs.processed, "batch": batches.processed if in_epoch else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self.position = (state_dict["epoch"], state_dict["batch"])

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled batches."""
        loader = self._loader(self.train, shuffle=True)
        loader.batch_sampler.set_position(*self.position)  # type: ignore[union-attr]
        return loader

    def val_dataloader(self) -> DataLoader[Sample]:
        """Batches in order; every process sees equally many, the last may repeat some (the metrics drop those)."""
        return self._loader(self.val, shuffle=False)

    def transfer_batch_to_device(self, batch: Sample, device: torch.device, dataloader_idx: int) -> Sample:
        """Everything but the volume's and the slice's numbers, which are read and not computed with."""
        moved = super().transfer_batch_to_device(tuple(batch[:5]), device, dataloader_idx)
        return Sample._make((*moved, batch.volume, batch.slice))

    def _loader(self, dataset: ReconstructionDataset, shuffle: bool) -> DataLoader[Sample]:
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
