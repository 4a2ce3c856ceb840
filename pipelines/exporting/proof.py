"""What proves an export: the run's own outputs on real slices, and their shifts, in the exported form itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines.measuring.portable import N_SLICES, Portable
from recon.errors import InputError
from recon.metrics import draw_shifts

N_SHIFTS = 50
TOLERANCE = 1e-5  # relative: what float32 leaves
PIXELS = N_SLICES * 256**2  # of all slices that are shifted
AT_ONCE, PIXELS_AT_ONCE = 10, 2**20  # of a batch of moved objects

Exported = Callable[..., Tensor]
"""An exported form at work: its inputs, in the ports' order, to its output."""


class Proof(NamedTuple):
    """What was measured of an exported form; differences are |a - b| / |b|, the root of NMSE.

    Attributes:
        slices: their names.
        difference: the largest, of its outputs from the run's.
        shifted: names of the slices that were shifted.
        n_shifts: of each.
        shift_error: the largest |f(T x) - T f(x)|, T by whole pixels.
        median_shift_error: the median of all of them.
    """

    slices: list[str]
    difference: float
    shifted: list[str]
    n_shifts: int
    shift_error: float
    median_shift_error: float

    @property
    def exact(self) -> bool:
        """Whether no shift left more than rounding does."""
        return self.shift_error < TOLERANCE


@torch.no_grad()
def prove(portable: Portable, exported: Exported) -> Proof:
    """Measure an exported form on the run's slices; of large images fewer are shifted.

    Raises:
        InputError: its outputs are not the run's.
    """
    outputs = [exported(*each.inputs) for each in portable.slices]
    difference = max(float(relative(y, each.output).max()) for y, each in zip(outputs, portable.slices, strict=True))
    if not difference < TOLERANCE:
        raise InputError(
            f"the exported network's outputs differ from the run's by {difference:.1e}, relative, more than "
            f"{TOLERANCE:.0e}: choose another --format"
        )
    rows, columns = portable.slices[0].size
    shifted = portable.slices[: max(1, PIXELS // (rows * columns))]
    at_once = min(AT_ONCE, max(1, PIXELS_AT_ONCE // (rows * columns)))
    errors = []
    for number, (each, y) in enumerate(zip(shifted, outputs, strict=False)):
        for shifts in draw_shifts(N_SHIFTS, min(each.size) // 2, (0, number)).split(at_once):
            moved = exported(*(x.contiguous() for x in each.moved(shifts)))
            errors.append(relative(moved, each._replace(output=y).expected(shifts)))
    return Proof(
        [each.name for each in portable.slices],
        difference,
        [each.name for each in shifted],
        N_SHIFTS,
        float(torch.cat(errors).max()),
        float(torch.cat(errors).median()),
    )


def relative(output: Tensor, expected: Tensor) -> Tensor:
    """|a - b| / |b| of each sample, ``(batch,)``; inf where there is anything that is not finite."""
    error = (output - expected).flatten(1).double().norm(dim=1) / expected.flatten(1).double().norm(dim=1)
    return torch.where(error.isfinite(), error, torch.inf)
