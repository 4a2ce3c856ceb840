"""The reconstruction task: one network, its loss, its optimiser. MRI and CT differ in data, not in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torchmetrics import MetricCollection

from data_prep import Sample, Scan, center_crop, moved_scan, stable_seed
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.nested import Tree
from pipelines.training.base import TrainedTask
from recon.errors import check_choice
from recon.layers import circular_shift
from recon.metrics import NMSE, PSNR, SSIM, Equivariance, draw_shifts, ssim
from recon.physics.ct import MU_MAX
from recon.physics.geometry import ParallelBeam
from recon.physics.movement import move_kspace, move_maps

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
        """The loss of normalised outputs ``(batch, 1, rows, columns)``, or their centres, against a batch's targets."""
        preds = center_crop(preds, batch.target.shape[-2:])
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


def batch_of(image: Tensor) -> Sample:
    """A batch of normalised images ``(batch, 1, rows, columns)`` alone: no target, mean 0, standard deviation 1."""
    n = image.shape[0]  # which torch.export leaves free, unlike len
    zero = image.new_zeros(n)
    number = torch.zeros(n, dtype=torch.int64, device=image.device)
    return Sample(image, image.new_zeros(n, 1, 0, 0), zero, zero + 1, zero, number, number)


def shifted(batch: Sample, shifts: Tensor) -> Sample:
    """The batch (or a batch of one, once for each shift) whose object is moved by circular shifts ``(n, 2)``.

    Of a sinogram what each angle sees is moved, and back-projected anew. Several coils move along with the object, and
    so do maps that are given.
    """
    n = len(shifts)
    if batch.sinogram.numel():
        return moved_scan(batch, shifts)
    moved = batch._replace(image=circular_shift(batch.image.expand(n, *batch.image.shape[1:]), shifts))
    return moved_kspace(moved, shifts) if batch.kspace.numel() else moved


def moved_kspace(batch: Sample, shifts: Tensor) -> Sample:
    """The batch with the k-space of moved objects, and their coils' maps, for any shifts ``(n, 2)``; see `shifted`."""
    n = len(shifts)
    maps = batch.maps.expand(n, *batch.maps.shape[1:])
    return batch._replace(
        kspace=move_kspace(batch.kspace.expand(n, *batch.kspace.shape[1:]), shifts),
        mask=batch.mask.expand(n, -1),
        maps=move_maps(maps, shifts) if maps.numel() else maps,
    )


def image_of(batch: Sample, clamp: float) -> tuple[Tensor]:
    """What a network of images is handed: the normalised image ``(batch, 1, rows, columns)``, clamped to +-clamp."""
    return (batch.image.clamp(-clamp, clamp),)


def as_it_is(output: Tensor, batch: Sample) -> Tensor:
    """What a network of images gives is a normalised image ``(batch, 1, rows, columns)``."""
    return output


def measurement_of(batch: Sample, clamp: float) -> tuple[Tensor, ...]:
    """What an unrolled network is handed: k-space ``(batch, coil, rows, columns)``, mask ``(batch, columns)``, and maps
    like k-space where they are given."""
    return (batch.kspace, batch.mask, *([batch.maps] if batch.maps.numel() else []))


def sinogram_of(batch: Sample, clamp: float) -> tuple[Tensor, ParallelBeam, Tensor]:
    """What an unrolled CT network is handed: sinogram ``(batch, angles, detectors)``, geometry, and FBP in 1/m.

    The geometry has the grid of the back-projection ``(batch, 1, rows, columns)``.
    """
    unit = batch.std * MU_MAX
    geometry = Scan.of(batch).geometry.fitted(*batch.image.shape[-2:])
    return batch.sinogram * unit.view(-1, 1, 1), geometry, batch.image * _per_sample(unit)


def attenuation_of(output: Tensor, batch: Sample) -> Tensor:
    """The image y ``(batch, 1, rows, columns)`` in 1/m, normalised: y / (std MU_MAX)."""
    return output / _per_sample(batch.std * MU_MAX)


def magnitude_of(output: Tensor, batch: Sample) -> Tensor:
    """The complex image y ``(batch, rows, columns)``, in units of std, normalised: (|y| std - mean) / std."""
    return output.abs()[:, None] - _per_sample(batch.mean / batch.std)


class ReconstructionTask(TrainedTask):
    """Train a network to map a measured slice to the target, both in normalised units.

    Args:
        network: tells its ``total_stride``.
        loss: a ReconstructionLoss.
        optimizer: arguments of Adam.
        scheduler: arguments of StepLR, stepped each epoch.
        clamp: input and output are clamped to +-clamp, in normalised units (docs/definitions.md: 6).
        seed: of what is random inside a step (dropout) and of the validation's shifts.
        max_shift: range of the validation's circular shifts, in pixels.
        per_image: the validation's quality is that of each image (CT), not of each volume (MRI).
        input_of: what the network is handed of a batch: ``network(*input_of(batch, clamp))``.
        output_of: makes what it gives a normalised image ``(batch, 1, rows, columns)``: ``output_of(output, batch)``.
    """

    figures = ("val_psnr", "val_ssim", "val_nmse", "val_nmse_eq")
    monitor = "val_psnr"

    def __init__(
        self,
        network: nn.Module,
        loss: ReconstructionLoss | None = None,
        optimizer: Tree | None = None,
        scheduler: Tree | None = None,
        clamp: float = 6.0,
        seed: int = 0,
        max_shift: int = 16,
        per_image: bool = False,
        input_of: Callable[[Sample, float], tuple[Any, ...]] = image_of,
        output_of: Callable[[Tensor, Sample], Tensor] = as_it_is,
    ) -> None:
        super().__init__(network, seed)
        self.loss = loss or ReconstructionLoss()
        self._optimizer, self._scheduler = dict(optimizer or {}), dict(scheduler or {})
        self.clamp, self.max_shift, self.per_image = clamp, max_shift, per_image
        self.input_of, self.output_of = input_of, output_of
        self.quality = MetricCollection({"psnr": PSNR(), "ssim": SSIM(), "nmse": NMSE()})
        self.shift_error = Equivariance()

    def forward(self, batch: Sample) -> Tensor:
        """The normalised reconstruction ``(batch, 1, rows, columns)``, clamped, of a batch of slices."""
        output = self.network(*self.input_of(batch, self.clamp))
        return self.output_of(output, batch).clamp(-self.clamp, self.clamp)

    def complex_image(self, batch: Sample) -> Tensor:
        """Of a network that gives complex images ``(batch, rows, columns)``, these, in the file's units, unclamped."""
        image: Tensor = self.network(*self.input_of(batch, self.clamp))
        return image * batch.std.view(-1, 1, 1)

    def batch_loss(self, batch: Sample) -> Tensor:
        """The loss of a batch of slices."""
        return self.loss(self(batch), batch, self.clamp)

    def names(self, batch: Sample) -> Callable[[], str]:
        """The volumes and slices of a batch."""
        volumes, numbers = batch.volume, batch.slice
        known = self.trainer.datamodule.train.volumes  # type: ignore[attr-defined]
        slices = lambda: zip(volumes.tolist(), numbers.tolist(), strict=True)  # noqa: E731
        return lambda: ", ".join(f"{known[volume].name} slice {number}" for volume, number in slices())

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Quality in the file's units, and equivariance for one circular shift of each slice."""
        with exact_arithmetic():
            output = self(batch)
            shifts = self._validation_shifts(batch).to(output.device)
            moved = denormalise(self(shifted(batch, shifts)), batch)[:, 0]
        reconstruction = denormalise(output, batch)[:, 0]
        where = batch.volume.to(self.device), batch.slice.to(self.device)
        case = where[0] * MANY_SLICES + where[1]
        group = case if self.per_image else where[0]
        dataset, volume = self.trainer.datamodule.val, int(batch.volume[0])  # type: ignore[attr-defined]
        preds, target = (dataset.without_padding(image, volume) for image in (reconstruction, batch.target[:, 0]))
        self.quality.update(preds, target, batch.data_range, group, where[1])
        expected = circular_shift(reconstruction[:, None], shifts)[:, 0]
        self.shift_error.update(moved, expected, batch.data_range, case=case)

    def _validation_shifts(self, batch: Sample) -> Tensor:
        keys = zip(batch.volume.tolist(), batch.slice.tolist(), strict=True)
        seeds = (stable_seed("validation shift", self.seed, *key) for key in keys)
        return torch.cat([draw_shifts(1, self.max_shift, seed) for seed in seeds])

    def on_validation_epoch_end(self) -> None:
        """Log the means over volumes (the same on every process: the metrics are gathered first).

        Raises:
            InputError: one of them is not finite.
        """
        values = {f"val_{name}": value for name, value in self.quality.compute().items()}
        values["val_nmse_eq"] = self.shift_error.compute().get("nmse_mean", torch.tensor(0.0))
        self.log_figures(
            values, "a validation volume holds values that are not finite, or is reconstructed without any error"
        )
        self.quality.reset()
        self.shift_error.reset()

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """Adam with StepLR."""
        optimizer = torch.optim.Adam(parameters, **self._optimizer)
        return optimizer, StepLR(optimizer, **({"step_size": 5, "gamma": 0.5} | self._scheduler))
