"""What is measured of a trained network, and the rows it gives (docs/definitions.md).

Each protocol is a function of a subject and the settings that yields rows, and is called what one asks for. What its
rows are called is another thing at times: the table is in docs/definitions.md. T is a circular shift, x a slice's
normalised input, f the network with its clamp. T f(x) is compared with f(T x) on de-normalised images, with the
unshifted image's normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from data_prep import Sample, center_crop, generator, stable_seed
from pipelines.measuring.rows import Row, finite_or_empty
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.any_shift import any_shift
from pipelines.reconstruction.changed import flipped, noisy
from pipelines.reconstruction.local_change import local_change
from pipelines.reconstruction.physical_shift import physical_shift
from pipelines.reconstruction.qualities import ImageQuality, VolumeQuality, quality_of
from pipelines.reconstruction.subjects import Inference, Subject, infer
from pipelines.reconstruction.task import ReconstructionTask, denormalise, shifted
from recon import metrics
from recon.layers import circular_shift
from recon.metrics import draw_shifts, psnr
from recon.metrics.quality import WINDOW as SSIM_WINDOW

BORDER = 8  # a realistic shift moves by at most 1 / BORDER of the side
WAYS_TO_FLIP = {"flip-vertical": -2, "flip-horizontal": -1}
OF_CHANGED_OBJECTS = (
    "noise",
    "flip",
    "outside",
    "realistic-shift",
)  # of measurements, for data that can be acquired anew
OF_KSPACE = ("any-shift", "local-change")  # they need k-space, and complex images


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
    device = subject.task.device
    for name, images in subject.dataset.more_baselines(subject.volume, device) if subject.volume is not None else ():
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
    """White Gaussian noise added to the normalised input, or to k-space: quality of the volume, and equivariance."""
    for level in settings.noise_levels:

        def add(sample: Sample, name: str, index: int, level: float = level) -> Sample:
            return noisy(sample, level, generator("noise", settings.seed, str(level), name, int(sample.slice)))

        yield from _changed(f"noise-{level:g}", subject, settings, add)


def flip(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Input and target, or object and target, flipped along one axis: quality of the volume, and equivariance."""
    for protocol, axis in WAYS_TO_FLIP.items():

        def turn(sample: Sample, name: str, index: int, axis: int = axis) -> Sample:
            return flipped(subject, sample, index, axis)

        yield from _changed(protocol, subject, settings, turn)


def outside(subject: Subject, settings: Settings) -> Iterator[Row]:
    """Equivariance on images that are nothing like the training's: ``data_prep.OUTSIDE``, but the data's own."""
    for name, inference in zip(subject.names, subject.inferences, strict=True):
        shifts = _drawn(name, inference.sample, settings)
        yield from _compare(subject.name, subject.task, name, inference, shifts, settings)


def realistic_shift(subject: Subject, settings: Settings) -> Iterator[Row]:
    """A window moves over the slice, so that new content enters at its border; compared on the interior.

    Of networks that get k-space the object is acquired again in the window, a smaller field of view, by the middle of
    the mask. A slice that is too small to leave an interior gives no row, nor does k-space that is undersampled as it
    is.
    """
    task, multiple = subject.task, subject.task.total_stride
    for name, index, sample in zip(subject.names, subject.indices, subject.samples, strict=True):
        sides = sample.image.shape[-2:]
        reach = min(settings.max_shift, *(side // BORDER for side in sides))
        window = [(side - 2 * reach) // multiple * multiple for side in sides]
        if reach < 1 or min(window) - 2 * reach < SSIM_WINDOW or not _is_known(subject, sample):
            continue
        corner = [(side - size) // 2 for side, size in zip(sides, window, strict=True)]
        at_first = _windows(subject, index, sample, [corner], window)
        _, output, _, tie = infer(task, at_first, name)
        before = denormalise(output, at_first)
        shifts = draw_shifts(
            settings.shifts, reach, stable_seed("realistic", settings.seed, name, int(sample.slice))
        ).tolist()
        inside = [size - 2 * reach for size in window]
        for some in _chunks(shifts, settings.batch_size):
            corners = [[c - s for c, s in zip(corner, t, strict=True)] for t in some]
            moved = _windows(subject, index, sample, corners, window)
            preds = _cut(denormalise(task(moved), moved), [reach, reach], inside)
            expected = torch.cat([_cut(before, [reach - s for s in t], inside) for t in some])
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
    "any-shift": any_shift,
    "noise": noise,
    "flip": flip,
    "outside": outside,
    "physical-shift": physical_shift,
    "realistic-shift": realistic_shift,
    "local-change": local_change,
    "margins": margins,
}


def _changed(
    protocol: str, subject: Subject, settings: Settings, change: Callable[[Sample, str, int], Sample]
) -> Iterator[Row]:
    """Quality and equivariance of a volume whose inputs are changed first."""
    quality = quality_of(subject)
    for name, index, sample in zip(subject.names, subject.indices, subject.samples, strict=True):
        inference = infer(subject.task, change(sample, name, index), name)
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
        moved = shifted(sample, moves)
        preds = denormalise(task(moved), sample)
        expected = denormalise(_rolled(output, moves), sample)
        if quality is not None:
            quality.update(circular_shift(preds, -moves), sample)
        status, dpsnr = "tie" if tie else "ok", _psnr_change(sample, moves, preds, expected)
        more = {}
        if sample.sinogram.numel():  # the grids of the projector and the back-projection, without the network
            images = denormalise(moved.image, sample), denormalise(_rolled(sample.image, moves), sample)
            more["nmse_eq_input"] = metrics.equivariance(*(image[:, 0] for image in images)).nmse.tolist()
        yield from _error_rows(protocol, name, sample, some.tolist(), preds, expected, status, dpsnr, more)


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
    more: Mapping[str, list[float]] | None = None,
) -> Iterator[Row]:
    """The rows of ``(batch, 1, rows, columns)`` outputs in the file's units, one per shift and metric, and more."""
    error = metrics.equivariance(preds[:, 0], expected[:, 0], _peak(sample, len(preds)))
    columns = {f"{key}_eq": getattr(error, key).tolist() for key in ("nmse", "psnr", "ssim")}
    columns["max_abs"] = error.max_abs.tolist()
    if dpsnr is not None:
        columns["dpsnr"] = dpsnr.tolist()
    columns |= more or {}
    for i, (equal, (y, x)) in enumerate(zip(error.equal.tolist(), shifts, strict=True)):
        case = "exact" if equal and status == "ok" else status
        for metric, values in columns.items():
            yield Row(protocol, name, int(sample.slice), y, x, metric, finite_or_empty(values[i]), case)


def _peak(sample: Sample, n: int) -> Tensor | None:
    """R for n images of a slice; None where there is no target."""
    return sample.data_range.expand(n) if sample.target.numel() else None


def _is_known(subject: Subject, sample: Sample) -> bool:
    """Whether all of a slice can be seen: of measurements the object."""
    volume = subject.dataset.volumes[int(sample.volume)]
    return not (sample.kspace.numel() and getattr(volume, "has_mask", False))


def _windows(
    subject: Subject, index: int, sample: Sample, corners: Sequence[Sequence[int]], size: Sequence[int]
) -> Sample:
    """A batch of windows of a slice: cut out of the image, or acquired anew."""
    if not sample.kspace.numel():
        return sample._replace(image=torch.cat([_cut(sample.image, corner, size) for corner in corners]))
    found = [subject.batch(subject.dataset.in_window(index, corner, size)) for corner in corners]
    return Sample(*map(torch.cat, zip(*found, strict=True)))


def _cut(image: Tensor, corner: Sequence[int], size: Sequence[int]) -> Tensor:
    return image[..., corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]


def _chunks(items: list[Item], n: int) -> Iterable[list[Item]]:
    return (items[start : start + n] for start in range(0, len(items), n))
