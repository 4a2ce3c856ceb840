"""The classification task: one network, cross-entropy, and whether a shift changes the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from data_prep import LabelledImage, stable_seed
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.nested import Tree
from pipelines.training.base import TrainedTask
from recon.errors import check_choice
from recon.layers import circular_shift
from recon.metrics import ShiftConsistency, draw_shifts

SCHEDULES = ("step", "cosine")


def learning_rates(
    optimizer: torch.optim.Optimizer, n_epochs: int, name: str = "step", step_size: int = 30, gamma: float = 0.1
) -> LRScheduler:
    """How the learning rate falls, epoch by epoch.

    Args:
        optimizer: whose rate it is.
        n_epochs: of the whole training.
        name: "step" (times gamma after each step_size epochs) or "cosine" (half a period, to 0 at the end).
        step_size: epochs of a step.
        gamma: the factor of a step.

    Raises:
        InputError: an unknown name.
    """
    check_choice("scheduler.name", name, SCHEDULES)
    return StepLR(optimizer, step_size, gamma) if name == "step" else CosineAnnealingLR(optimizer, n_epochs)


class ClassificationTask(TrainedTask):
    """Train a network to name what an image shows.

    Args:
        network: maps ``(batch, channel, rows, columns)`` to logits ``(batch, n_classes)``.
        loss: the cross-entropy.
        optimizer: arguments of SGD.
        scheduler: arguments of :func:`learning_rates`.
        n_epochs: of the whole training, for the schedule.
        seed: of what is random inside a step and of the validation's shifts.
        max_shift: range of the validation's circular shifts, in pixels.
    """

    figures = ("val_accuracy", "val_loss", "val_consistency")
    monitor = "val_accuracy"

    def __init__(
        self,
        network: nn.Module,
        loss: nn.CrossEntropyLoss | None = None,
        optimizer: Tree | None = None,
        scheduler: Tree | None = None,
        n_epochs: int = 1,
        seed: int = 0,
        max_shift: int = 16,
    ) -> None:
        super().__init__(network, seed)
        self.loss = loss or nn.CrossEntropyLoss()
        self._optimizer, self._scheduler = dict(optimizer or {}), dict(scheduler or {})
        self.n_epochs, self.max_shift = n_epochs, max_shift
        self.answers = ShiftConsistency()

    def forward(self, batch: LabelledImage) -> Tensor:
        """The logits ``(batch, n_classes)`` of a batch of images."""
        return self.network(batch.image)

    def batch_loss(self, batch: LabelledImage) -> Tensor:
        """The cross-entropy of a batch."""
        return self.loss(self(batch), batch.label)

    def names(self, batch: LabelledImage) -> Callable[[], str]:
        """The images of a batch."""
        numbers, dataset = batch.index, self.trainer.datamodule.train  # type: ignore[attr-defined]
        return lambda: ", ".join(dataset.sample_name(index) for index in numbers.tolist())

    def validation_step(self, batch: LabelledImage, batch_idx: int) -> None:
        """Whether the answer is right, and whether it stays the same under one circular shift of each image."""
        with exact_arithmetic():
            logits = self(batch)
            shifted = self.network(circular_shift(batch.image, self._validation_shifts(batch).to(logits.device)))
            losses = nn.functional.cross_entropy(logits.float(), batch.label, reduction="none")
        self.answers.update(logits, shifted, batch.label, losses, batch.index)

    def _validation_shifts(self, batch: LabelledImage) -> Tensor:
        seeds = (stable_seed("validation shift", self.seed, index) for index in batch.index.tolist())
        return torch.cat([draw_shifts(1, self.max_shift, seed) for seed in seeds])

    def on_validation_epoch_end(self) -> None:
        """Log the means over images.

        Raises:
            InputError: one of them is not finite.
        """
        values = {f"val_{name}": value for name, value in self.answers.compute().items()}
        self.log_figures(values, "there is no validation image")
        self.answers.reset()

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """SGD with a schedule."""
        optimizer = torch.optim.SGD(parameters, **self._optimizer)
        return optimizer, learning_rates(optimizer, self.n_epochs, **self._scheduler)
