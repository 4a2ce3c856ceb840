"""The protocol of movements between the pixels, for networks that get k-space and give complex images.

An object that moves by t before the acquisition multiplies its k-space by a ramp, whole pixels or not, and T_t of a
complex image is the same ramp on its transform. So f(T_t k) can be compared with T_t f(k) before the magnitude is
taken, which would break the band limit that T_t by fractions of a pixel rests on (docs/definitions.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

from data_prep import Sample, generator, stable_seed
from pipelines.measuring.rows import Row, finite_or_empty
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.subjects import Subject
from pipelines.reconstruction.task import ReconstructionTask, moved_kspace
from recon.metrics import draw_shifts
from recon.physics.movement import move_image

CURVE = 20  # tenths of a pixel


def any_shift(subject: Subject, settings: Settings) -> Iterator[Row]:
    """The object moves before the acquisition by fractions of a pixel; NMSE_eq of complex images.

    Of each slice half of the moves are by quarters of a pixel, the others by tenths, added to whole ones that are drawn
    as for ``equivariance``. The rows ``shift-curve`` are of the volume's middle slice, moved along both axes by each
    tenth of a pixel up to two.
    """
    for name, inference in zip(subject.names, subject.inferences, strict=True):
        moves = _fractional(name, inference.sample, settings)
        yield from _compare("any-shift", subject.task, name, inference.sample, moves, settings, inference.tie)
    middle = len(subject.samples) // 2
    sample, *_, tie = subject.inferences[middle]
    moves = torch.arange(1, CURVE + 1, dtype=torch.float64)[:, None].expand(-1, 2) / 10
    yield from _compare("shift-curve", subject.task, subject.names[middle], sample, moves, settings, tie)


def _fractional(name: str, sample: Sample, settings: Settings) -> Tensor:
    """The moves of a slice, float64 ``(n, 2)`` in pixels."""
    key = settings.seed, name, int(sample.slice)
    n = ceil(settings.shifts / 2)
    if not n:
        return torch.empty(0, 2, dtype=torch.float64)
    random = generator("parts of pixels", *key)
    parts = [torch.from_numpy(random.integers(1, of, size=(n, 2)) / of) for of in (4, 10)]
    return draw_shifts(2 * n, settings.max_shift, stable_seed("any shift", *key)).double() + torch.cat(parts)


def _compare(
    protocol: str,
    task: ReconstructionTask,
    name: str,
    sample: Sample,
    moves: Tensor,
    settings: Settings,
    tie: bool,
) -> Iterator[Row]:
    output = task.complex_image(sample)
    for some in moves.split(settings.batch_size) if len(moves) else ():
        here = some.to(output.device)
        expected = move_image(output.expand(len(some), -1, -1), here)
        found = task.complex_image(moved_kspace(sample, here))
        for move, one, other in zip(some.tolist(), found, expected, strict=True):
            status = "tie" if tie else "exact" if torch.equal(one, other) else "ok"
            exact = other.to(torch.complex128)
            error = float((one - exact).abs().square().sum() / exact.abs().square().sum())
            shift_y, shift_x = (round(t, 2) for t in move)
            yield Row(protocol, name, int(sample.slice), shift_y, shift_x, "nmse_eq", finite_or_empty(error), status)
