"""What every task does while it trains: seeded steps, a watched loss, one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data_prep import stable_seed
from recon.errors import InputError

GPU_CHECKS = 50  # steps on a GPU between two looks at the loss


class TrainedTask(pl.LightningModule):
    """A network, its loss, its optimiser; what a data set needs beside it is the subclass's.

    Args:
        network: what is trained.
        seed: of what is random inside a step (dropout).

    Attributes:
        figures: the validation figures that the run's table has a column for.
        monitor: the one of them that tells the best checkpoint; more is better.
    """

    figures: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]

    def __init__(self, network: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.network, self.seed = network, seed
        self._unchecked: list[tuple[Tensor, str, Callable[[], str]]] = []

    def batch_loss(self, batch: Any) -> Tensor:
        """The loss of a batch, one number."""
        raise NotImplementedError

    def names(self, batch: Any) -> Callable[[], str]:
        """How to find out, if need be, what is in a batch; holds on to no image."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss. Whatever is random inside depends on (seed, step, rank) alone."""
        if len(self._unchecked) >= (1 if self.device.type == "cpu" else GPU_CHECKS):
            self.check_loss()
        torch.manual_seed(stable_seed("step", self.seed, self.global_step, self.global_rank)[0])
        loss = self.batch_loss(batch)
        where = f"epoch {self.current_epoch}, batch {batch_idx}"
        self._unchecked.append((loss.detach(), where, self.names(batch)))
        return loss

    def check_loss(self) -> None:
        """Refuse to go on from a loss that is not finite.

        Looked at after the step, on a GPU only now and then (reading a value makes the GPU wait), and always before
        anything is saved.

        Raises:
            InputError: names the epoch, the batch and what is in it.
        """
        losses, self._unchecked = self._unchecked, []
        values = torch.stack([loss for loss, *_ in losses]).tolist() if losses else []
        bad = [
            f"{value} in {where} ({names()})"
            for value, (_, where, names) in zip(values, losses, strict=True)
            if not isfinite(value)
        ]
        self._refuse_together(
            f"the loss became {bad[0]}: look at these, or lower optimizer.lr; the last checkpoint is from before"
            if bad
            else None
        )

    def _refuse_together(self, complaint: str | None) -> None:
        """Raise InputError if there is a complaint; with several processes, all leave at the same step."""
        together = self.trainer.world_size > 1
        if together and not self.trainer.strategy.reduce_boolean_decision(complaint is not None, all=False):
            return
        if complaint is not None:
            raise InputError(complaint)
        if together:
            raise SystemExit(2)  # another process says why

    def log_figures(self, values: Mapping[str, Tensor], remedy: str) -> None:
        """Log the validation's figures, the same on every process: the metrics are gathered first.

        Raises:
            InputError: the monitored one is not finite.
        """
        if not isfinite(values[self.monitor]):
            name = self.monitor.removeprefix("val_")
            raise InputError(
                f"the validation {name.upper() if len(name) < 5 else name} became {float(values[self.monitor])} in "
                f"epoch {self.current_epoch}: {remedy}"
            )
        self.log_dict({name: value.float() for name, value in values.items()}, prog_bar=True)
