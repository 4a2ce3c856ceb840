"""The protocol in which the object moves before the acquisition, step by step (docs/definitions.md)."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

from data_prep import Sample, generator, moved_scan, stable_seed
from pipelines.measuring.rows import Row, finite_or_empty
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.subjects import Inference, Subject, infer
from pipelines.reconstruction.task import denormalise
from recon.layers import circular_shift
from recon.metrics import draw_shifts
from recon.physics.movement import move_image, move_kspace, move_maps
from recon.physics.mri import fft2c, ifft2c, move_object


def physical_shift(subject: Subject, settings: Settings) -> Iterator[Row]:
    """The object moves by t before the acquisition, whole and fractional pixels, each slice.

    x is the unmoved slice's input, x' the moved one's, acquired again. What is compared with T f(x), step by step:
    ``nmse_eq_network`` f(T x), the network alone; ``nmse_eq_acquisition`` f(x'), where x' is normalised with the
    constants of x, so that new content at the crop's border and what fractions change come in; ``nmse_eq`` f(x')
    with its own constants, as it happens. ``nmse_eq_input`` compares x' with T x, before any network. All over the
    pixels that are in view before and after. T of an image by a fraction of a pixel is :func:`_translate`'s; where
    networks get k-space, complex images are compared (of the input each coil's), and T is the Fourier shift.
    """
    for name, index in zip(subject.names, subject.indices, strict=True):
        inference = infer(subject.task, _moved_sample(subject, index, (0, 0)), name)
        for t in _whole_and_fractional(name, inference.sample, settings):
            yield from _moved(subject, name, index, inference, t, settings.batch_size)


def _whole_and_fractional(name: str, sample: Sample, settings: Settings) -> list[tuple[float, float]]:
    """Half as many shifts as elsewhere of each kind, by a quarter of the side at most; fractions are quarters."""
    n, reach = ceil(settings.shifts / 2), min(settings.max_shift, min(sample.image.shape[-2:]) // 4)
    if not reach:
        return []
    shifts = draw_shifts(n, reach, stable_seed("moves", settings.seed, name, int(sample.slice))).tolist()
    random = generator("fractions", settings.seed, name, int(sample.slice))
    fractions = (random.integers(1, 4, size=(n, 2)) / 4).tolist()
    return [(y, x) for y, x in shifts] + [(y + dy, x + dx) for (y, x), (dy, dx) in zip(shifts, fractions, strict=True)]


def _moved(
    subject: Subject, name: str, index: int, inference: Inference, t: tuple[float, float], batch_size: int
) -> Iterator[Row]:
    """The rows of one slice that moved by t pixels before it was acquired."""
    sample, output, *_ = inference
    dataset, task = subject.dataset, subject.task
    again = _moved_sample(subject, index, t)
    acquired = denormalise(again.image, again)
    rolled = _translate(sample.image, t)
    translated = sample._replace(image=rolled)
    held = sample._replace(image=(acquired - sample.mean) / sample.std)  # a batch of one, whose constants are (1,)
    if sample.kspace.numel():
        shift = torch.tensor([t], device=output.device)
        translated = translated._replace(kspace=move_kspace(sample.kspace, shift))
        if sample.maps.numel():
            translated = translated._replace(maps=move_maps(sample.maps, shift))
        held = held._replace(kspace=again.kspace * (again.std / sample.std), maps=again.maps)
    if sample.sinogram.numel():
        translated = moved_scan(sample, torch.tensor([t], device=output.device))
        held = held._replace(sinogram=again.sinogram * (again.std / sample.std))
    inputs = Sample(*map(torch.cat, zip(translated, held, again, strict=True)))
    batches = [Sample(*parts) for parts in zip(*(part.split(batch_size) for part in inputs), strict=True)]
    rows, columns = dataset.in_view(index, t)
    if sample.kspace.numel():
        move = torch.tensor([t], dtype=torch.float64, device=output.device)
        outputs = torch.cat([task.complex_image(batch) for batch in batches])
        expected = move_image(task.complex_image(sample), move)[..., rows, columns]
        before, after = (ifft2c(each.kspace * each.std) for each in (translated, again))
    else:
        outputs = denormalise(torch.cat([task(batch) for batch in batches]), inputs)
        expected = denormalise(_translate(output, t), sample)[..., rows, columns]
        before, after = denormalise(rolled, sample), acquired
    network, acquisition, whole = outputs[:, None, ..., rows, columns]
    steps = {
        "nmse_eq_input": (after[..., rows, columns], before[..., rows, columns]),
        "nmse_eq_network": (network, expected),
        "nmse_eq_acquisition": (acquisition, expected),
        "nmse_eq": (whole, expected),
    }
    for metric, (found, reference) in steps.items():  # unlike recon.metrics.nmse, of no pixels or zeros: an empty value
        exact = reference.to(torch.promote_types(reference.dtype, torch.float64))
        error = float((found - exact).abs().square().sum() / exact.abs().square().sum())
        status = "tie" if inference.tie else "exact" if torch.equal(found, reference) else "ok"
        yield Row("physical-shift", name, int(sample.slice), *t, metric, finite_or_empty(error), status)


def _moved_sample(subject: Subject, index: int, t: tuple[float, float]) -> Sample:
    return Sample(*(part[None].to(subject.task.device) for part in subject.dataset.moved(index, t)))


def _translate(image: Tensor, t: tuple[float, float]) -> Tensor:
    """T of a batch of one real image: the circular shift; by fractions of a pixel, the real part of the Fourier shift.

    So content at the Nyquist frequency of an even side is damped (docs/definitions.md), where
    :func:`recon.physics.movement.move_image` leaves it out.
    """
    if all(float(part).is_integer() for part in t):
        return circular_shift(image, torch.tensor([[int(part) for part in t]], device=image.device))
    return ifft2c(move_object(fft2c(image.double()), t)).real.to(image.dtype)
