"""The reconstruction task: one network, its loss, its optimiser. MRI and CT differ in data, not in training."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MetricCollection

from data_prep import Sample, center_crop, stable_seed
from pipelines.arithmetic import exact_arithmetic
from recon.errors import InputError, check_choice
from recon.layers import circular_shift
from recon.metrics import NMSE, PSNR, SSIM, Equivariance, draw_shifts, ssim
from recon.networks import UNet

GPU_CHECKS = 50  # steps on a GPU between two looks at the loss
MANY_SLICES = 1_000_000  # more than a volume has
LOSSES = ("mse", "l1", "ssim")


class ReconstructionLoss(nn.Module):
    """Mean squared error, mean absolute error (both of normalised images) or 1 - SSIM (of images in their units).

    Args:
        name: "mse", "l1" or "ssim" (with the volume's maximum as data range).

    Raises:
        InputError: an unknown name.
    """

    def __init__(self, name: str = "mse") -> None:
        super().__init__()
        check_choice("loss", name, LOSSES)
        self.name = name

    def forward(self, preds: Tensor, batch: Sample, clamp: float) -> Tensor:
        """The loss of normalised outputs ``(batch, 1, rows, columns)`` against a batch's targets."""
        if self.name == "ssim":
            preds = denormalise(preds, batch)
            return 1 - ssim(preds[:, 0], batch.target[:, 0], batch.data_range, per_slice=True).mean().to(preds.dtype)
        target = ((batch.target - _per_sample(batch.mean)) / _per_sample(batch.std)).clamp(-clamp, clamp)
        return F.mse_loss(preds, target) if self.name == "mse" else F.l1_loss(preds, target)


def _per_sample(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def denormalise(image: Tensor, batch: Sample) -> Tensor:
    """Back to the file's units: image * std + mean, with each slice's own constants."""
    return image * _per_sample(batch.std) + _per_sample(batch.mean)


class ReconstructionTask(pl.LightningModule):
    """Train a network to map a normalised, artefact-ridden image to the target's.

    Args:
        network: maps ``(batch, 1, rows, columns)`` to the same shape.
        loss: a ReconstructionLoss.
        optimizer: arguments of Adam.
        scheduler: arguments of StepLR, stepped each epoch.
        clamp: input and output are clamped to +-clamp, in normalised units (FIELD: 6).
        seed: of what is random inside a step (dropout) and of the validation's shifts.
        max_shift: range of the validation's circular shifts, in pixels.
        per_image: the validation's quality is that of each image (CT), not of each volume (MRI).
    """

    def __init__(
        self,
        network: UNet,
        loss: ReconstructionLoss | None = None,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        clamp: float = 6.0,
        seed: int = 0,
        max_shift: int = 16,
        per_image: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss or ReconstructionLoss()
        self._optimizer, self._scheduler = dict(optimizer or {}), dict(scheduler or {})
        self.clamp, self.seed, self.max_shift, self.per_image = clamp, seed, max_shift, per_image
        self.quality = MetricCollection({"psnr": PSNR(), "ssim": SSIM(), "nmse": NMSE()})
        self.shift_error = Equivariance()
        self._unchecked: list[tuple[Tensor, str]] = []

    def forward(self, image: Tensor) -> Tensor:
        """The reconstruction, clamp(network(clamp(image))), of normalised images ``(batch, 1, rows, columns)``."""
        return self.network(image.clamp(-self.clamp, self.clamp)).clamp(-self.clamp, self.clamp)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """One loss. Whatever is random inside depends on (seed, step, rank) alone."""
        if len(self._unchecked) >= (1 if self.device.type == "cpu" else GPU_CHECKS):
            self.check_loss()
        torch.manual_seed(stable_seed("step", self.seed, self.global_step, self.global_rank)[0])
        loss = self.loss(self(batch.image), batch, self.clamp)
        volumes = self.trainer.datamodule.train.volumes  # type: ignore[attr-defined]
        slices = zip(batch.volume.tolist(), batch.slice.tolist(), strict=True)
        names = ", ".join(f"{volumes[volume].name} slice {number}" for volume, number in slices)
        self._unchecked.append((loss.detach(), f"epoch {self.current_epoch}, batch {batch_idx} ({names})"))
        return loss

    def check_loss(self) -> None:
        """Refuse to go on from a loss that is not finite.

        Looked at after the step, on a GPU only now and then (reading a value makes the GPU wait), and always before
        anything is saved.

        Raises:
            InputError: names the epoch, the batch and its slices.
        """
        losses, self._unchecked = self._unchecked, []
        values = torch.stack([loss for loss, _ in losses]).tolist() if losses else []
        bad = [f"{value} in {where}" for value, (_, where) in zip(values, losses, strict=True) if not isfinite(value)]
        self._refuse_together(
            f"the loss became {bad[0]}: look at these slices, or lower optimizer.lr; the last checkpoint is from before"
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

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Quality in the file's units, and equivariance for one circular shift of each slice."""
        with exact_arithmetic():
            output = self(batch.image)
            shifts = self._validation_shifts(batch).to(output.device)
            shifted = denormalise(self(circular_shift(batch.image, shifts)), batch)[:, 0]
        reconstruction = denormalise(output, batch)[:, 0]
        where = batch.volume.to(self.device), batch.slice.to(self.device)
        case = where[0] * MANY_SLICES + where[1]
        group = case if self.per_image else where[0]
        volumes = self.trainer.datamodule.val.volumes  # type: ignore[attr-defined]
        sides = [
            min(pair) for pair in zip(batch.image.shape[-2:], volumes[int(batch.volume[0])].image_size, strict=True)
        ]
        preds, target = center_crop(reconstruction, sides), center_crop(batch.target[:, 0], sides)  # without padding
        self.quality.update(preds, target, batch.data_range, group, where[1])
        expected = circular_shift(reconstruction[:, None], shifts)[:, 0]
        self.shift_error.update(shifted, expected, batch.data_range, case=case)

    def _validation_shifts(self, batch: Sample) -> Tensor:
        keys = zip(batch.volume.tolist(), batch.slice.tolist(), strict=True)
        seeds = (stable_seed("validation shift", self.seed, *key) for key in keys)
        return torch.cat([draw_shifts(1, self.max_shift, seed) for seed in seeds])

    def on_validation_epoch_end(self) -> None:
        """Log the means over volumes (the same on every process: the metrics are gathered first).

        Raises:
            InputError: the quality is not finite.
        """
        values = {f"val_{name}": value for name, value in self.quality.compute().items()}
        values["val_nmse_eq"] = self.shift_error.compute().get("nmse_mean", torch.tensor(0.0))
        if not isfinite(values["val_psnr"]):
            raise InputError(
                f"the validation PSNR became {float(values['val_psnr'])} in epoch {self.current_epoch}: a validation "
                "volume holds values that are not finite, or is reconstructed without any error"
            )
        self.log_dict({name: value.float() for name, value in values.items()}, prog_bar=True)
        self.quality.reset()
        self.shift_error.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with StepLR."""
        optimizer = torch.optim.Adam(self.network.parameters(), **self._optimizer)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, **({"step_size": 5, "gamma": 0.5} | self._scheduler))
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
