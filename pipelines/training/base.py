"""What every task does while it trains: seeded steps, a watched loss, one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data_prep import stable_seed
from pipelines.runtime.nested import Value
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
        last_loss: of the last batch, whatever the step makes of it (Lightning divides it where gradients add up).
    """

    figures: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]
    last_loss: Tensor

    def __init__(self, network: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.network, self.seed = network, seed
        self._unchecked: list[tuple[Tensor, str, Callable[[], str]]] = []

    @property
    def total_stride(self) -> int:
        """Of the network: each side of an image must be a multiple of it."""
        return int(getattr(self.network, "total_stride", 1))

    def batch_loss(self, batch: Any) -> Tensor:
        """The loss of a batch, one number."""
        raise NotImplementedError

    def names(self, batch: Any) -> Callable[[], str]:
        """How to find out, if need be, what is in a batch; holds on to no image."""
        raise NotImplementedError

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> tuple[Optimizer, LRScheduler]:
        """The optimizer of some parameters as the settings say, and how its learning rate falls, epoch by epoch."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Those of the network's weights."""
        optimizer, scheduler = self.make_optimizer(self.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_load_checkpoint(self, checkpoint: dict[str, Value]) -> None:
        """Let a resumed run go on with its configuration's settings, not with those that the checkpoint was made with.

        The checkpoint gives the state (moments, epochs done). The learning rate is the one that the settings lead to
        after as many epochs, by the very steps of a run that had them from its start.
        """
        optimizer, scheduler = self.make_optimizer(self.network.parameters())
        for _ in range(checkpoint["lr_schedulers"][0]["last_epoch"]):
            optimizer.step()  # without gradients: nothing moves
            scheduler.step()
        checkpoint["optimizer_states"][0]["param_groups"] = optimizer.state_dict()["param_groups"]
        checkpoint["lr_schedulers"] = [scheduler.state_dict()]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss. Whatever is random inside depends on (seed, step, rank) alone."""
        if len(self._unchecked) >= (1 if self.device.type == "cpu" else GPU_CHECKS):
            self.check_loss()
        torch.manual_seed(stable_seed("step", self.seed, self.global_step, self.global_rank)[0])
        loss = self.batch_loss(batch)
        where = f"epoch {self.current_epoch}, batch {batch_idx}"
        self.last_loss = loss.detach()
        self._unchecked.append((self.last_loss, where, self.names(batch)))
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

    def check_state(self) -> None:
        """Refuse to save a state that nothing can go on from: a loss, a weight or a running mean that is not finite.

        Raises:
            InputError: names the epoch, and what it is.
        """
        self.check_loss()
        floats = {name: value for name, value in self.state_dict().items() if value.is_floating_point()}
        finite = torch.stack([value.isfinite().all() for value in floats.values()]).tolist()
        bad = [name for name, good in zip(floats, finite, strict=True) if not good]
        self._refuse_together(
            f"{bad[0]} became inf or nan in epoch {self.current_epoch}: lower optimizer.lr, or clip gradients with "
            "trainer.gradient_clip_val; the last checkpoint is from before"
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
            InputError: one of them is not finite.
        """
        self.check_state()  # the cause, where it is known
        for figure, value in values.items():
            if not isfinite(value):
                name = figure.removeprefix("val_")
                raise InputError(
                    f"the validation {name.upper() if len(name) < 5 else name} became {float(value)} in "
                    f"epoch {self.current_epoch}: {remedy}"
                )
        self.log_dict({name: value.float() for name, value in values.items()}, prog_bar=True)
