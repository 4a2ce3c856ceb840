"""Batches of equal shapes, as a pure function of (seed, epoch)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

from torch.utils.data import Sampler

from data_prep.slices.seeds import generator
from recon.errors import InputError


class ShapeBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of dataset keys (epoch, index), never two shapes in one batch.

    Volumes differ in size, and tensors of a batch may not. The samples of each shape are cut into batches (the
    last of a shape may be small); with `shuffle`, first the samples within each shape, then the order of all
    batches is shuffled. Nothing is remembered but a position: what epoch e yields depends only on the arguments
    and e, so that a run resumed at (epoch, batch) goes on exactly.

    With several ranks, rank r takes batches r, r + n_ranks, ...; the list is padded from its beginning so that
    all ranks take as many steps. An evaluation must drop these duplicates (Sample tells volume and slice).

    Args:
        shapes: one hashable per sample; samples with equal ones may share a batch.
        batch_size: samples per batch.
        shuffle: new order in each epoch; else the dataset's order within each shape.
        seed: seed of the order.
        rank: this process.
        n_ranks: number of processes.

    Raises:
        InputError: batch_size below 1.
        ValueError: rank outside 0 .. n_ranks - 1.
    """

    def __init__(
        self,
        shapes: Sequence[Hashable],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: give a whole number of at least 1.")
        if not 0 <= rank < n_ranks:
            raise ValueError(f"rank {rank} is not in 0 .. {n_ranks - 1}")
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.n_ranks = rank, n_ranks
        self.epoch, self.start = 0, 0
        self._groups: dict[Hashable, list[int]] = {}
        for index, shape in enumerate(shapes):
            self._groups.setdefault(shape, []).append(index)

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Let the next iteration be epoch `epoch` from its batch number `batch` (of this rank) on.

        Iterating does not move the position: call this at the beginning of each epoch.
        """
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(f"no batch {batch} in epoch {epoch} of {len(self)} batches")
        self.epoch, self.start = epoch, batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Iterate over what is left of the epoch, as it is when the iteration begins."""
        return iter(self._batches(self.epoch)[self.start :])

    def __len__(self) -> int:
        """Number of batches of this rank in a full epoch; equal on all ranks and in all epochs."""
        n_batches = sum(math.ceil(len(group) / self.batch_size) for group in self._groups.values())
        return math.ceil(n_batches / self.n_ranks)

    def _batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """All batches of this rank in this epoch."""
        random = generator("batches", self.seed, epoch)
        batches = []
        for group in self._groups.values():
            order = [group[i] for i in random.permutation(len(group))] if self.shuffle else group
            batches += [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        if self.shuffle:
            batches = [batches[i] for i in random.permutation(len(batches))]
        n_total = len(self) * self.n_ranks
        padded = [batches[i % len(batches)] for i in range(n_total)]
        return [[(epoch, index) for index in batch] for batch in padded[self.rank :: self.n_ranks]]
