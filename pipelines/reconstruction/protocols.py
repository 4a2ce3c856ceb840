"""What is measured of a trained network, and the rows it gives (docs/definitions.md).

Each protocol is a function of a subject and the settings that yields rows, and is called what one asks for. What its
rows are called is another thing at times: the table is in docs/definitions.md. T is a circular shift, x a slice's
normalised input, f the network with its clamp. T f(x) is compared with f(T x) on de-normalised images, with the
unshifted image's normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, isfinite
from typing import TypeVar

import torch
from torch import Tensor

from data_prep import Sample, center_crop, generator, stable_seed
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.qualities import ImageQuality, VolumeQuality, quality_of
from pipelines.reconstruction.subjects import Inference, Subject, infer
from pipelines.reconstruction.task import ReconstructionTask, denormalise, shifted
from recon import metrics
from recon.layers import circular_shift
from recon.metrics import draw_shifts, psnr
from recon.metrics.quality import WINDOW as SSIM_WINDOW
from recon.physics.movement import move_kspace
from recon.physics.mri import fft2c, ifft2c, move_object

BORDER = 8  # a realistic shift moves by at most 1 / BORDER of the side
WAYS_TO_FLIP = {"flip-vertical": -2, "flip-horizontal": -1}
OF_IMAGES = ("noise", "flip", "outside", "realistic-shift")  # they change the input as an image, not the measurement


Item = TypeVar("Item")
Quality = VolumeQuality | ImageQuality
Protocol = Callable[[Subject, Settings], Iterator[Row]]


def plain(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Quality of the volume or its images: the data's baselines and the reconstruction."""
    if not subject.has_target:
        return
    before, after = quality_of(subject), quality_of(subject)
    for sample, output, *_ in subject.inferences:
        before.update(denormalise(sample.image, sample), sample)
        after.update(denormalise(output, sample), sample)
    yield from before.rows(subject.dataset.baseline)
    for name, images in subject.dataset.more_baselines(subject.volume) if subject.volume is not None else ():
        baseline = quality_of(subject)
        for sample, image in zip(subject.samples, images, strict=True):
            baseline.update(image[None].to(sample.image.device), sample)
        yield from baseline.rows(name)
    yield from after.rows("plain")


def equivariance(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Equivariance and dPSNR over drawn shifts of each slice; quality of the volume over all its shifted inputs.

    For the quality each output is shifted back, so that the same pixels and windows count as without a shift.
    """
    quality = quality_of(subject)
    for name, inference in zip(subject.names, subject.inferences, strict=True):
        shifts = _drawn(name, inference.sample, settings)
        yield from _compare("equivariance", subject.task, name, inference, shifts, settings, quality)
    yield from quality.rows("shift")


def all_phases(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Equivariance of the volume's middle slice for every shift modulo the total stride: 1 to S along each axis."""
    middle = len(subject.samples) // 2
    axis = torch.arange(1, subject.task.total_stride + 1)
    inference = subject.inferences[middle]
    yield from _compare(
        "all-phases", subject.task, subject.names[middle], inference, torch.cartesian_prod(axis, axis), settings
    )


def noise(subject: Subject, settings: Settings) -> Iterator[Row]:
    """White Gaussian noise added to the normalised input: quality of the volume, and equivariance."""
    for level in settings.noise_levels:

        def add(sample: Sample, name: str, level: float = level) -> Sample:
            random = generator("noise", settings.seed, str(level), name, int(sample.slice))
            values = torch.from_numpy(random.standard_normal(sample.image.shape, dtype="float32"))
            return sample._replace(image=sample.image + level * values.to(sample.image.device))

        yield from _changed(f"noise-{level:g}", subject, settings, add)


def flip(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Input and target flipped along one axis: quality of the volume, and equivariance."""
    for protocol, axis in WAYS_TO_FLIP.items():

        def turn(sample: Sample, name: str, axis: int = axis) -> Sample:
            return sample._replace(image=sample.image.flip(axis), target=sample.target.flip(axis))

        yield from _changed(protocol, subject, settings, turn)


def outside(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Equivariance on images that are nothing like the training's: ``data_prep.OUTSIDE``, but the data's own."""
    for name, inference in zip(subject.names, subject.inferences, strict=True):
        shifts = _drawn(name, inference.sample, settings)
        yield from _compare(subject.name, subject.task, name, inference, shifts, settings)


def physical_shift(subject: Subject, settings: Settings) -> Iterator[Row]:
    """The object moves by t before the acquisition, whole and fractional pixels, each slice.

    x is the unmoved slice's input, x' the moved one's, acquired again. What is compared with T f(x), step by step:
    ``nmse_eq_network`` f(T x), the network alone; ``nmse_eq_acquisition`` f(x'), where x' is normalised with the
    constants of x, so that new content at the crop's border and what fractions change come in; ``nmse_eq`` f(x')
    with its own constants, as it happens. ``nmse_eq_input`` compares x' with T x, before any network. All over the
    pixels that are in view before and after. T of an image by a fraction of a pixel is :func:`_translate`'s.
    """
    for name, index in zip(subject.names, subject.indices, strict=True):
        inference = infer(subject.task, _moved_sample(subject, index, (0, 0)), name)
        for t in _whole_and_fractional(name, inference.sample, settings):
            yield from _moved(subject, name, index, inference, t, settings.batch_size)


def realistic_shift(subject: Subject, settings: Settings) -> Iterator[Row]:
    """A window moves over the slice, so that new content enters at its border; compared on the interior.

    A slice that is too small to leave an interior gives no row.
    """
    task, multiple = subject.task, subject.task.total_stride
    for name, sample in zip(subject.names, subject.samples, strict=True):
        sides = sample.image.shape[-2:]
        reach = min(settings.max_shift, *(side // BORDER for side in sides))
        window = [(side - 2 * reach) // multiple * multiple for side in sides]
        if reach < 1 or min(window) - 2 * reach < SSIM_WINDOW:
            continue
        corner = [(side - size) // 2 for side, size in zip(sides, window, strict=True)]
        _, before, _, tie = infer(task, sample._replace(image=_cut(sample.image, corner, window)), name)
        shifts = draw_shifts(
            settings.shifts, reach, stable_seed("realistic", settings.seed, name, int(sample.slice))
        ).tolist()
        inside = [size - 2 * reach for size in window]
        for some in _chunks(shifts, settings.batch_size):
            moved = torch.cat(
                [_cut(sample.image, [c - s for c, s in zip(corner, t, strict=True)], window) for t in some]
            )
            preds = denormalise(_cut(task(sample._replace(image=moved)), [reach, reach], inside), sample)
            expected = denormalise(torch.cat([_cut(before, [reach - s for s in t], inside) for t in some]), sample)
            yield from _error_rows("realistic-shift", name, sample, some, preds, expected, "tie" if tie else "ok")


def margins(subject: Subject, settings: Settings) -> Iterator[Row]:
    """The phase margin of each level for each slice: the relative gap between the best and the second phase."""
    for name, (sample, _, found, tie) in zip(subject.names, subject.inferences, strict=True):
        for level, margin in enumerate(found.tolist(), 1):
            yield Row("margins", name, int(sample.slice), "", "", f"margin_{level}", margin, "tie" if tie else "ok")


PROTOCOLS: dict[str, Protocol] = {
    "plain": plain,
    "equivariance": equivariance,
    "all-phases": all_phases,
    "noise": noise,
    "flip": flip,
    "outside": outside,
    "physical-shift": physical_shift,
    "realistic-shift": realistic_shift,
    "margins": margins,
}


def _changed(
    protocol: str, subject: Subject, settings: Settings, change: Callable[[Sample, str], Sample]
) -> Iterator[Row]:
    """Quality and equivariance of a volume whose inputs are changed first."""
    quality = quality_of(subject)
    for name, sample in zip(subject.names, subject.samples, strict=True):
        inference = infer(subject.task, change(sample, name), name)
        quality.update(denormalise(inference.output, inference.sample), inference.sample)
        yield from _compare(protocol, subject.task, name, inference, _drawn(name, sample, settings), settings)
    yield from quality.rows(protocol)


def _drawn(name: str, sample: Sample, settings: Settings) -> Tensor:
    seed = stable_seed("shifts", settings.seed, name, int(sample.slice))
    return draw_shifts(settings.shifts, settings.max_shift, seed)


def _compare(
    protocol: str,
    task: ReconstructionTask,
    name: str,
    inference: Inference,
    shifts: Tensor,
    settings: Settings,
    quality: Quality | None = None,
) -> Iterator[Row]:
    """The rows of some circular shifts of one slice."""
    sample, output, _, tie = inference
    for some in shifts.split(settings.batch_size) if len(shifts) else ():
        moves = some.to(output.device)
        preds = denormalise(task(shifted(sample, moves)), sample)
        expected = denormalise(_rolled(output, moves), sample)
        if quality is not None:
            quality.update(circular_shift(preds, -moves), sample)
        status, dpsnr = "tie" if tie else "ok", _psnr_change(sample, moves, preds, expected)
        yield from _error_rows(protocol, name, sample, some.tolist(), preds, expected, status, dpsnr)


def _psnr_change(sample: Sample, moves: Tensor, preds: Tensor, expected: Tensor) -> Tensor | None:
    """What shifts change of the PSNR against the target that is shifted along; None where there is no target.

    Of a target that shows but the images' centre, it is the images that are shifted back.
    """
    size, peak = sample.target.shape[-2:], _peak(sample, len(preds))
    if peak is None:
        return None
    if size == preds.shape[-2:]:
        targets = _rolled(sample.target, moves)
    else:
        preds, expected = (center_crop(circular_shift(image, -moves), size) for image in (preds, expected))
        targets = sample.target.expand(len(preds), -1, -1, -1)
    before, after = (psnr(y[:, 0], targets[:, 0], peak, per_slice=True) for y in (expected, preds))
    return (before - after).abs()


def _rolled(image: Tensor, shifts: Tensor) -> Tensor:
    return circular_shift(image.expand(len(shifts), *image.shape[1:]), shifts)


def _error_rows(
    protocol: str,
    name: str,
    sample: Sample,
    shifts: Sequence[Sequence[int]],
    preds: Tensor,
    expected: Tensor,
    status: str,
    dpsnr: Tensor | None = None,
) -> Iterator[Row]:
    """The rows of ``(batch, 1, rows, columns)`` outputs in the file's units, one per shift and metric."""
    error = metrics.equivariance(preds[:, 0], expected[:, 0], _peak(sample, len(preds)))
    columns = {f"{key}_eq": getattr(error, key).tolist() for key in ("nmse", "psnr", "ssim")}
    columns["max_abs"] = error.max_abs.tolist()
    if dpsnr is not None:
        columns["dpsnr"] = dpsnr.tolist()
    for i, (equal, (y, x)) in enumerate(zip(error.equal.tolist(), shifts, strict=True)):
        case = "exact" if equal and status == "ok" else status
        for metric, values in columns.items():
            yield Row(protocol, name, int(sample.slice), y, x, metric, _finite(values[i]), case)


def _finite(value: float) -> float | str:
    """Nothing for what is infinite or undefined: PSNR_eq of equal outputs, NMSE_eq of an output that is all zero."""
    return value if isfinite(value) else ""


def _peak(sample: Sample, n: int) -> Tensor | None:
    """R for n images of a slice; None where there is no target."""
    return sample.data_range.expand(n) if sample.target.numel() else None


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
    translated = sample._replace(image=_translate(sample.image, t))
    held = sample._replace(image=(acquired - sample.mean) / sample.std)  # a batch of one, whose constants are (1,)
    if sample.kspace.numel():
        translated = translated._replace(kspace=move_kspace(sample.kspace, torch.tensor([t], device=output.device)))
        held = held._replace(kspace=again.kspace * (again.std / sample.std))
    inputs = Sample(*map(torch.cat, zip(translated, held, again, strict=True)))
    batches = zip(*(part.split(batch_size) for part in inputs), strict=True)
    outputs = torch.cat([task(Sample(*batch)) for batch in batches])
    network, acquisition, whole = denormalise(outputs, inputs)[:, None]
    rows, columns = dataset.in_view(index, t)

    def view(image: Tensor) -> Tensor:
        return image[..., rows, columns]

    expected = view(denormalise(_translate(output, t), sample))
    steps = {
        "nmse_eq_input": (view(acquired), view(denormalise(translated.image, sample))),
        "nmse_eq_network": (view(network), expected),
        "nmse_eq_acquisition": (view(acquisition), expected),
        "nmse_eq": (view(whole), expected),
    }
    for metric, (found, reference) in steps.items():  # unlike recon.metrics.nmse, of no pixels or zeros: an empty value
        error = float((found.double() - reference.double()).square().sum() / reference.double().square().sum())
        status = "tie" if inference.tie else "exact" if torch.equal(found, reference) else "ok"
        yield Row("physical-shift", name, int(sample.slice), *t, metric, _finite(error), status)


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


def _cut(image: Tensor, corner: Sequence[int], size: Sequence[int]) -> Tensor:
    return image[..., corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]


def _chunks(items: list[Item], n: int) -> Iterable[list[Item]]:
    return (items[start : start + n] for start in range(0, len(items), n))
