"""Samples in batches: the loaders of a run, and where a resumed run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from data_prep import ShapeBatchSampler
from recon.errors import InputError

NUMBERS = ("volume", "slice", "index")  # fields of a sample


class Data(Protocol):
    """What every data set tells, of slices or of classified images."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Of each sample; only equal ones fit into one batch."""

    @property
    def files(self) -> Sequence[Path]:
        """What it is read from."""

    @property
    def smallest_side(self) -> int:
        """The shortest side of any image, in pixels."""

    def __len__(self) -> int:
        """Number of samples."""

    def notes(self) -> list[str]:
        """What is to be said aloud of the files."""


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
        train: Data,
        val: Data,
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

    def _loader(self, dataset: Data, shuffle: bool) -> DataLoader[Any]:
        rank, n_ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = ShapeBatchSampler(dataset.shapes, self.batch_size, shuffle, self.seed, rank, n_ranks)
        n_workers = min(self.n_workers, os.cpu_count() or 1)  # more would only wait for each other
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # torch asks for a class, and calls no more than Data has
            batch_sampler=sampler,
            num_workers=n_workers,
            pin_memory=on_gpu,
            persistent_workers=n_workers > 0,
        )


def check_place(recorded: Mapping[str, int], own: Mapping[str, int]) -> None:
    """Refuse to go on in the middle of an epoch whose batches would be cut in another way.

    Args:
        recorded: the place, and what it counts in, of the checkpoint.
        own: what this process counts in.

    Raises:
        InputError: says what differs.
    """
    for name, value in own.items() if recorded["batch"] else ():
        if recorded.get(name, value) != value:
            raise InputError(
                f"the run stopped in the middle of epoch {recorded['epoch']} with {recorded[name]} "
                f"{name.removeprefix('n_').replace('_', ' ')}, and now there are {value}: go on with as many as before "
                "to the end of the epoch, or start another run"
            )
