"""What is measured of a trained classifier, and the rows it gives (docs/definitions.md).

Each protocol takes a group of images and yields rows: ``volume`` is the image's class and ``slice`` its place in the
split. For each image the rows without a shift hold ``predicted`` (the number of the class that f(x) names) and
``correct`` (0 or 1); the rows of a shift T hold the same of f(T x), ``logit_change``, max |f(T x) - f(x)| / max |f(x)|,
and, for every second shift, ``consistent``: whether its answer is that of the shift before (a pair drawn at random).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from data_prep import stable_seed
from pipelines.classification.subjects import ImageGroup, Inference
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from recon import layers
from recon.errors import InputError
from recon.metrics import draw_shifts, logit_change, same_class

Protocol = Callable[[ImageGroup, Settings], Iterator[Row]]
Change = Callable[[Tensor, Sequence[int]], Tensor]
Move = Callable[[Inference, Sequence[int], Tensor], Tensor]


def plain(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """The answers."""
    yield from _protocol("plain", group, settings, shifts=0)


def circular_shift(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """The answers under circular shifts drawn for each image."""
    yield from _protocol("circular-shift", group, settings, settings.shifts)


def view_shift(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """The answers where the view moves, so that content leaves and enters (ImageNet: the crop in the larger image)."""
    reach = min(settings.max_shift, group.dataset.view_reach)
    if reach < 1:
        raise InputError("the view cannot move, since images are not cropped: leave out the protocol view-shift")

    def move(inference: Inference, indices: Sequence[int], shifts: Tensor) -> Tensor:
        pairs = zip(indices, shifts.tolist(), strict=True)
        return torch.stack([group.dataset.shifted_view(index, (dy, dx)) for index, (dy, dx) in pairs])

    yield from _protocol("view-shift", group, settings, settings.shifts, move=move, reach=reach)


def flip(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """Images turned upside down (flipped along both axes), and circular shifts of these."""
    yield from _protocol("flip", group, settings, settings.shifts, lambda images, _: images.flip((-2, -1)))


def erase(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """Images with a random 3 x 3 patch erased, and circular shifts of these."""

    def change(images: Tensor, indices: Sequence[int]) -> Tensor:
        return torch.stack([group.dataset.erased(index, settings.seed) for index in indices])

    yield from _protocol("erase", group, settings, settings.shifts, change)


def margins(group: ImageGroup, settings: Settings) -> Iterator[Row]:
    """The phase margin of each selector for each image: the relative gap between the best and the second phase."""
    for indices, images in _batches(group, settings.batch_size):
        inference = group.infer(images, indices)
        for index, tie, found in zip(indices, inference.tie.tolist(), inference.margins.tolist(), strict=True):
            for level, margin in enumerate(found, 1):
                status = "tie" if tie else "ok"
                yield Row("margins", group.class_name(index), index, "", "", f"margin_{level}", margin, status)


PROTOCOLS: dict[str, Protocol] = {
    "plain": plain,
    "circular-shift": circular_shift,
    "view-shift": view_shift,
    "flip": flip,
    "erase": erase,
    "margins": margins,
}


def _batches(group: ImageGroup, size: int) -> Iterator[tuple[Sequence[int], Tensor]]:
    for start in range(0, len(group.indices), size):
        yield group.indices[start : start + size], group.images[start : start + size]


def _roll(inference: Inference, indices: Sequence[int], shifts: Tensor) -> Tensor:
    return layers.circular_shift(inference.image, shifts.to(inference.image.device))


def _protocol(
    protocol: str,
    group: ImageGroup,
    settings: Settings,
    shifts: int,
    change: Change | None = None,
    move: Move = _roll,
    reach: int | None = None,
) -> Iterator[Row]:
    """The rows of a group's images, changed first, without a shift and under drawn ones."""
    for indices, images in _batches(group, settings.batch_size):
        inference = group.infer(images if change is None else change(images, indices), indices)
        names = [group.class_name(index) for index in indices]
        labels = torch.as_tensor(group.dataset.labels[indices.start : indices.stop])  # type: ignore[attr-defined]
        status = ["tie" if tie else "ok" for tie in inference.tie.tolist()]
        drawn = torch.stack([_drawn(index, shifts, reach or settings.max_shift, settings.seed) for index in indices])
        found = [_answers(inference.logits, labels)]
        before = inference.logits
        for k in range(shifts):
            logits = group.task.network(move(inference, indices, drawn[:, k]).to(inference.image.device))
            columns = _answers(logits, labels)
            columns["logit_change"] = logit_change(logits, inference.logits).tolist()
            if k % 2:
                columns["consistent"] = same_class(logits, before).int().tolist()
            before = logits
            found.append(columns)
        for i, index in enumerate(indices):
            places = [("", ""), *drawn[i].tolist()]
            for (y, x), columns in zip(places, found, strict=True):
                for metric, values in columns.items():
                    yield Row(protocol, names[i], index, y, x, metric, values[i], status[i])


def _answers(logits: Tensor, labels: Tensor) -> dict[str, list[float]]:
    if not logits.isfinite().all():
        raise InputError(
            "the network's logits are inf or nan, which is no answer: look for such values in the images, or train "
            "again with a lower optimizer.lr"
        )
    predicted = logits.argmax(1).cpu()
    return {"predicted": predicted.tolist(), "correct": (predicted == labels).int().tolist()}


def _drawn(index: int, n: int, reach: int, seed: int) -> Tensor:
    return draw_shifts(n, reach, stable_seed("shifts", seed, index))
