"""The one linear map of the CT scanner, in torch's operators: every pixel casts a triangular footprint on the detector.

Joseph's ray transform and the linear interpolation of a back-projection differ in the triangle's width only. These
functions run on any device. They are what a GPU uses, and the truth of :mod:`recon.kernels.tomography_cpu`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import scipy.fft
import torch
from torch import Tensor

CHUNK = 2**24
"""About how many values are held at once; whatever the batch, the result is the same to rounding."""


class Footprint(NamedTuple):
    """What pixel (i, j) and detector k weigh for each other at angle a, all in float64 ``(angles,)`` on the CPU.

    w[a, k, i, j] = scale[a] max(0, 1 - |k - u| / width[a]), where u = offset[a] + i per_row[a] + j per_column[a] is
    the detector index, not rounded, on which the pixel's centre falls.
    """

    rows: int
    columns: int
    n_detectors: int
    offset: Tensor
    per_row: Tensor
    per_column: Tensor
    width: Tensor
    scale: Tensor

    def steps_over_rows(self) -> Tensor:
        """Where a ray crosses more rows than columns, so that it is followed row by row: bool ``(angles,)``."""
        return self.per_column.abs() >= self.per_row.abs()


def project(image: Tensor, footprint: Footprint) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j].

    Args:
        image: x, ``(batch, rows, columns)``, float32 or float64.
        footprint: the weights w.

    Returns:
        y, ``(batch, angles, detectors)``, dtype and device of ``image``.
    """
    result = image.new_zeros(len(image), len(footprint.offset), footprint.n_detectors)
    detector = torch.arange(footprint.n_detectors, device=image.device)[:, None]
    rows = footprint.steps_over_rows()
    for chosen, lines, per_step, per_tap in (
        (rows, image, footprint.per_row, footprint.per_column),
        (~rows, image.mT, footprint.per_column, footprint.per_row),
    ):
        step = torch.arange(lines.shape[1], device=image.device)
        for angles in chunks(chosen.nonzero().flatten(), result[:, 0].numel() * len(step)):
            offset, per_step_, per_tap_, width, scale = (
                _columns(table[angles], image) for table in (footprint.offset, per_step, per_tap, *footprint[-2:])
            )
            centre = (detector - offset - step * per_step_) / per_tap_
            rays = interpolate(lines, step.expand_as(centre), centre, width / per_tap_.abs()).sum(-1)
            result[:, angles.to(image.device)] = rays * scale[..., 0].to(image.dtype)
    return result


def transpose(sinogram: Tensor, footprint: Footprint) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k]: the exact transpose of :func:`project`.

    Args:
        sinogram: y, ``(batch, angles, detectors)``, float32 or float64.
        footprint: the weights w.

    Returns:
        x, ``(batch, rows, columns)``, dtype and device of ``sinogram``.
    """
    result = sinogram.new_zeros(len(sinogram), footprint.rows, footprint.columns)
    row = torch.arange(footprint.rows, device=sinogram.device)[:, None]
    column = torch.arange(footprint.columns, device=sinogram.device)
    for angles in chunks(torch.arange(len(footprint.offset)), result.numel()):
        offset, per_row, per_column, width, scale = (_columns(table[angles], sinogram) for table in footprint[3:])
        centre = offset + row * per_row + column * per_column
        lines = sinogram[:, angles.to(sinogram.device)] * scale[..., 0].to(sinogram.dtype)
        angle = torch.arange(len(angles), device=sinogram.device)[:, None, None]
        result += interpolate(lines, angle.expand_as(centre), centre, width).sum(1)
    return result


def convolve(sinogram: Tensor, taps: Tensor) -> Tensor:
    """q[a, k] = sum_m taps[|k - m|] y[a, m]: every angle convolved with symmetric taps; its own transpose.

    Args:
        sinogram: y, ``(batch, angles, detectors)``, float32 or float64.
        taps: float64 ``(detectors,)`` on the CPU.

    Returns:
        q: shape, dtype and device of ``sinogram``.
    """
    n, length = len(taps), filter_length(len(taps))
    circle = torch.cat([taps, taps.new_zeros(length - 2 * n + 1), taps[1:].flip(0)])
    response = torch.fft.rfft(circle).real.to(sinogram)
    return torch.fft.irfft(torch.fft.rfft(sinogram, length) * response, length)[..., :n].contiguous()


def filter_length(n: int) -> int:
    """A length, quick to transform, at which n values and 2 n - 1 taps do not wrap around."""
    return scipy.fft.next_fast_len(2 * n - 1, real=True)


def chunks(angles: Tensor, n_values: int) -> tuple[Tensor, ...]:
    """The angles in groups of which each makes about CHUNK values, n_values an angle."""
    return angles.split(max(1, CHUNK // max(1, n_values))) if len(angles) else ()


def _columns(table: Tensor, like: Tensor) -> Tensor:
    return table.to(like.device)[:, None, None]


def interpolate(lines: Tensor, line: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """sum_k max(0, 1 - |k - centre| / half) lines[:, line, k]: ``(batch, lines, length)`` -> ``(batch, *centre)``."""
    length = lines.shape[2]
    values, first = lines.flatten(1), torch.floor(centre - half) + 1
    total = lines.new_zeros(len(lines), *centre.shape)
    for tap in range(max(1, math.ceil(2 * float(half.max())))):
        index = first + tap
        weight = (1 - (index - centre).abs() / half).clamp(min=0) * ((index >= 0) & (index < length))
        total = total + values[:, line * length + index.clamp(0, length - 1).long()] * weight.to(lines.dtype)
    return total
