"""The quality of a subject's images, collected image by image, as its field defines it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from data_prep import Sample
from pipelines.measuring.rows import Row
from pipelines.reconstruction.subjects import Subject
from recon.metrics import NMSE, PSNR, SSIM, nmse, psnr, ssim
from recon.physics.ct import MU_MAX, attenuation_to_hu

BASELINES = {"zero-filled": "zero-filled", "fbp": "FBP", "tv": "TV"}  # what needs no training, and its name
WINDOWS_HU = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0)}  # what a radiologist's display shows of each


class VolumeQuality:
    """PSNR, SSIM and NMSE of one volume (MRI), over all images that are counted."""

    def __init__(self, subject: Subject) -> None:
        self.name, self.measured, self.shown = subject.name, subject.has_target, subject.shown
        kinds = {"psnr": PSNR, "ssim": SSIM, "nmse": NMSE}
        self.metrics = MetricCollection({name: kind(sync_on_compute=False) for name, kind in kinds.items()})
        self.metrics.to(subject.task.device)
        self.n_images = 0

    def update(self, image: Tensor, sample: Sample) -> None:
        """Count images ``(batch, 1, rows, columns)`` in the file's units, all of the sample's target."""
        if self.measured:
            n = len(image)
            number = torch.arange(self.n_images, self.n_images + n, device=image.device)
            self.n_images += n
            preds, target = self.shown(image), self.shown(sample.target).expand(n, -1, -1)
            self.metrics.update(preds, target, sample.data_range.expand(n), torch.zeros_like(number), number)

    def rows(self, protocol: str) -> Iterator[Row]:
        """One row of each metric."""
        for metric, value in self.metrics.compute().items() if self.n_images else ():
            yield Row(protocol, self.name, "", "", "", metric, float(value), "ok")


class ImageQuality:
    """PSNR, SSIM and NMSE of each image (CT), the mean over its shifts where it is counted more than once.

    psnr_fr and ssim_fr are LoDoPaB's, with the data range 1; hu_lung and hu_soft the mean absolute error in HU where
    the ground truth lies in the display window of lung (-1350 to 150 HU) or soft tissue (-160 to 240 HU).
    """

    def __init__(self, subject: Subject) -> None:
        self.name, self.measured, self.shown = subject.name, subject.has_target, subject.shown
        self.values: dict[tuple[int, str], list[float]] = defaultdict(list)

    def update(self, image: Tensor, sample: Sample) -> None:
        """Count images ``(batch, 1, rows, columns)`` in the file's units, all of the sample's target."""
        if not self.measured:
            return
        preds, goal = self.shown(image), self.shown(sample.target).expand(len(image), -1, -1)
        ranges = sample.data_range.expand(len(preds))
        found = {
            "psnr": psnr(preds, goal, ranges, per_slice=True),
            "ssim": ssim(preds, goal, ranges, per_slice=True),
            "nmse": nmse(preds, goal, per_slice=True),
            "psnr_fr": psnr(preds, goal, 1.0, per_slice=True),
            "ssim_fr": ssim(preds, goal, 1.0, per_slice=True),
        }
        hu = attenuation_to_hu(goal.double() * MU_MAX)
        error = (attenuation_to_hu(preds.double() * MU_MAX) - hu).abs()
        for name, (low, high) in WINDOWS_HU.items():
            inside = (hu >= low) & (hu <= high)
            found[f"hu_{name}"] = (error * inside).sum((-2, -1)) / inside.sum((-2, -1))
        for metric, values in found.items():
            self.values[int(sample.slice), metric] += [value for value in values.tolist() if value == value]

    def rows(self, protocol: str) -> Iterator[Row]:
        """One row of each image and metric."""
        for (number, metric), values in self.values.items():
            if values:
                yield Row(protocol, self.name, number, "", "", metric, sum(values) / len(values), "ok")


def quality_of(subject: Subject) -> VolumeQuality | ImageQuality:
    """What collects the quality of a subject: per volume in MRI, per image in CT."""
    return ImageQuality(subject) if subject.dataset.per_image else VolumeQuality(subject)
