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


class VolumeQuality:
    """PSNR, SSIM and NMSE of one volume, over all images that are counted."""

    def __init__(self, subject: Subject) -> None:
        self.name, self.measured, self.shown = subject.name, subject.has_target, subject.shown
        metrics = {"psnr": PSNR, "ssim": SSIM, "nmse": NMSE}
        self.metrics = MetricCollection({name: metric(sync_on_compute=False) for name, metric in metrics.items()})
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
    """PSNR, SSIM, NMSE and the data's own figures of each image; the mean over its shifts where there are some."""

    def __init__(self, subject: Subject) -> None:
        self.name, self.measured, self.shown = subject.name, subject.has_target, subject.shown
        self.more_quality = subject.dataset.more_quality
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
            **self.more_quality(preds, goal),
        }
        for metric, values in found.items():
            self.values[int(sample.slice), metric] += [value for value in values.tolist() if value == value]

    def rows(self, protocol: str) -> Iterator[Row]:
        """One row of each image and metric."""
        for (number, metric), values in self.values.items():
            if values:
                yield Row(protocol, self.name, number, "", "", metric, sum(values) / len(values), "ok")


def quality_of(subject: Subject) -> VolumeQuality | ImageQuality:
    """What collects the quality of a subject: per volume or per image, as the data set says."""
    return ImageQuality(subject) if subject.dataset.per_image else VolumeQuality(subject)
