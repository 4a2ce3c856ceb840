"""The protocol of a local change: a bright spot is added to the object, and the rest of the image should not notice."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from data_prep import Sample, generator
from pipelines.measuring.rows import Row, finite_or_empty
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.subjects import Subject
from recon.physics.mri import apply_mask, fft2c, ifft2c

RADIUS = 8  # pixels: deviation of the spot is a quarter of it, and what is nearer is left out


def local_change(subject: Subject, settings: Settings) -> Iterator[Row]:
    """|f(k + s) - f(k)|^2 / |f(k)|^2 over the image without the spot's surroundings, s the spot's k-space, masked.

    ``nmse_rest_input`` is the same of the zero-filled coil images: the spot's own aliases, which reach everywhere; so
    what a network adds is the difference. The spot is a Gaussian as bright as the image's largest value, somewhere in
    the outer half, by a function of (seed, file, slice); of several coils the same in each.
    """
    for name, inference in zip(subject.names, subject.inferences, strict=True):
        sample, task = inference.sample, subject.task
        spot, rest = _spot(name, sample, settings.seed)
        added = apply_mask(fft2c(spot).expand_as(sample.kspace), sample.mask[:, None, None])
        changed = sample._replace(kspace=sample.kspace + added)
        zero_filled = (ifft2c(each.kspace)[..., rest] for each in (changed, sample))
        outputs = (task.complex_image(each)[..., rest] for each in (changed, sample))
        for metric, (after, before) in (("nmse_rest_input", zero_filled), ("nmse_rest", outputs)):
            exact = before.to(torch.complex128)
            change = float((after - exact).abs().square().sum() / exact.abs().square().sum())
            yield Row("local-change", name, int(sample.slice), "", "", metric, finite_or_empty(change), "ok")


def _spot(name: str, sample: Sample, seed: int) -> tuple[Tensor, Tensor]:
    """The spot, complex ``(rows, columns)`` in units of std, and where the rest of the image is."""
    random = generator("spot", seed, name, int(sample.slice))
    size = sample.kspace.shape[-2:]
    y, x = (_distances(n, (0.75 + 0.5 * random.random()) * n).to(sample.kspace.device) for n in size)
    distance = torch.hypot(y[:, None], x)
    peak = ifft2c(sample.kspace).abs().max()
    return (peak * torch.exp(-distance.square() / (2 * (RADIUS / 4) ** 2))).to(sample.kspace.dtype), distance > RADIUS


def _distances(n: int, place: float) -> Tensor:
    """Of each pixel of an axis from a place, the nearest of its periodic copies."""
    return (torch.arange(n) - place + n / 2) % n - n / 2
