"""The functions of :mod:`recon.kernels.tomography_reference` on a CPU, with the batch as the last axis.

The weights of a pixel and a ray are computed once for all slices, and the innermost loop, over LANES slices, becomes
vector instructions. Its operations are those of IEEE arithmetic in a fixed order (no fastmath), so that a slice's
result depends neither on the slices beside it nor on the number of threads.
"""

from __future__ import annotations

import math
from itertools import product

import numba
import numpy as np
import scipy.fft
import torch
from torch import Tensor

from recon.kernels.runner import compiled, run_jobs
from recon.kernels.tomography_reference import Footprint, filter_length

LANES = 32
"""How many slices are computed together, 128 bytes of float32: 2 cost as much as 32. A single one has its own loop."""

TILE = 64
"""Rows and columns of the image that a thread fills at a time: 512 kB of float32, a core's cache."""

ANGLES = 16
"""How many angles of a sinogram a thread fills at a time: 1 MB of float32 at LoDoPaB's 513 detectors."""

FILTERED = 128
"""How many angles of one slice a thread filters at a time."""

VALUES, TABLE = "number[:, :, ::1]", "float64[::1]"

_index = numba.types.uintp  # unsigned, so that numba leaves out the check for a negative index


def project(image: Tensor, footprint: Footprint) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j], ``(batch, rows, columns)`` -> ``(batch, angles, detectors)``."""
    result = np.empty((len(image), len(footprint.offset), footprint.n_detectors), image.numpy(force=True).dtype)
    rows = footprint.steps_over_rows()
    for start in range(0, len(image), LANES):
        part, jobs = image[start : start + LANES], []
        for chosen, lines, per_step, per_tap in (
            (rows, part, footprint.per_row, footprint.per_column),
            (~rows, part.mT, footprint.per_column, footprint.per_row),
        ):
            radius = footprint.width / per_tap.abs()
            padding = _padding(radius[chosen])
            values = lanes_last(lines, padding)
            tables = [table.numpy() for table in (footprint.offset, per_step, per_tap, radius, footprint.scale)]
            jobs += [
                (result[start : start + LANES], values, padding, *tables, angles.numpy())
                for angles in chosen.nonzero().flatten().split(ANGLES)
            ]
        run_jobs(_project, jobs)
    return torch.from_numpy(result)


def transpose(sinogram: Tensor, footprint: Footprint) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k], ``(batch, angles, detectors)`` -> ``(batch, rows, columns)``."""
    result = np.empty((len(sinogram), footprint.rows, footprint.columns), sinogram.numpy(force=True).dtype)
    tables = [table.numpy() for table in footprint[3:7]]
    corners = list(product(range(0, footprint.rows, TILE), range(0, footprint.columns, TILE)))
    padding = _padding(footprint.width)
    for start in range(0, len(sinogram), LANES):
        part = result[start : start + LANES]
        values = lanes_last(sinogram[start : start + LANES], padding, footprint.scale)
        run_jobs(_transpose, [(part, values, padding, *tables, *corner) for corner in corners])
    return torch.from_numpy(result)


def convolve(sinogram: Tensor, taps: Tensor) -> Tensor:
    """Every angle convolved with symmetric taps ``(detectors,)``, ``(batch, angles, detectors)``."""
    lines, length, n = sinogram.numpy(force=True), filter_length(len(taps)), len(taps)
    result = np.empty_like(lines)
    response = scipy.fft.rfft(np.concatenate([taps, np.zeros(length - 2 * n + 1), taps[1:].flip(0)])).real
    response = response.astype(lines.dtype)

    def filtered(index: int, first: int) -> None:  # one slice at a time: its result depends on no other
        spectrum = scipy.fft.rfft(lines[index, first : first + FILTERED], length)
        result[index, first : first + FILTERED] = scipy.fft.irfft(spectrum * response, length)[:, :n]

    run_jobs(filtered, product(range(len(lines)), range(0, lines.shape[1], FILTERED)))
    return torch.from_numpy(result)


def _padding(radius: Tensor) -> int:
    """How many zeros hold all of a triangle that touches a line."""
    return math.ceil(2 * float(radius.max())) + 2 if len(radius) else 0


def lanes_last(lines: Tensor, padding: int, scale: Tensor | None = None) -> np.ndarray:
    """``(batch, lines, length)``, each line scaled, to ``(lines, padding + length + padding, lanes)``."""
    batch, n_lines, length = lines.shape
    source, factors = lines.numpy(force=True), np.ones(n_lines) if scale is None else scale.numpy()
    values = np.empty((n_lines, length + 2 * padding, 1 if batch == 1 else LANES), source.dtype)
    run_jobs(_lay_out, [(values, source, factors, padding, first) for first in range(0, n_lines, TILE)])
    return values


@compiled(f"{VALUES}, number[:, :, :], {TABLE}, int64, int64")
def _lay_out(values, lines, scale, padding, first):  # type: ignore[no-untyped-def]
    """Fill TILE lines of values ``(lines, padding + length + padding, lanes)`` from ``(batch, lines, length)``."""
    batch, n_lines, length = lines.shape
    for line in range(first, min(first + TILE, n_lines)):
        values[line] = 0
        factor = values.dtype.type(scale[line])
        for k in range(length):
            for lane in range(batch):
                values[line, padding + k, lane] = factor * lines[lane, line, k]


@numba.njit(nogil=True, error_model="numpy")
def _add(sums, y, n, values, line, length, lanes, padding, start, slope, radius):  # type: ignore[no-untyped-def]
    """sums[y + t] += sum_k max(0, 1 - |k - c| / radius) values[line, k] for all t < n, where c = start + t slope."""
    number, width = values.dtype.type, _index(lanes)
    taps = math.ceil(2 * radius)
    # the triangle meets the line only where -radius < c < length - 1 + radius
    low, high = 0.0, n - 1.0
    if slope != 0:
        ends = (-radius - start) / slope, (length - 1 + radius - start) / slope
        low, high = min(max(low, min(ends)), float(n)), max(min(high, max(ends)), -1.0)
    elif not -radius < start < length - 1 + radius:
        return
    start += padding + 1 - radius
    for t in range(math.ceil(low), math.floor(high) + 1):
        position = start + t * slope
        first = int(position)
        rest = position - first
        if radius == 1.0:
            second = number(rest)
            near = number(1) - second
        else:
            rest += radius - 1
            near = number(max(0.0, 1 - abs(rest) / radius))
            second = number(max(0.0, 1 - abs(rest - 1) / radius))
        to, x = _index(y + t) * width, _index(line * (length + 2 * padding) + first) * width
        if lanes == 1:
            sums[to] += near * values[x] + second * values[x + width]
        else:
            after = x + _index(LANES)
            for lane in range(_index(LANES)):
                sums[to + lane] += near * values[x + lane] + second * values[after + lane]
        for tap in range(2, taps):
            weight = number(max(0.0, 1 - abs(rest - tap) / radius))
            for lane in range(width):
                sums[to + lane] += weight * values[x + _index(tap) * width + lane]


@compiled(f"{VALUES}, {VALUES}, int64, {TABLE}, {TABLE}, {TABLE}, {TABLE}, {TABLE}, int64[::1]")
def _project(result, values, padding, offset, per_step, per_tap, radius, scale, angles):  # type: ignore[no-untyped-def]
    """Fill the given angles of a result ``(batch, angles, detectors)`` from ``(steps, padded taps, lanes)``."""
    batch, _, n = result.shape
    n_steps, length, lanes = values.shape
    sums, flat, length = np.zeros(len(angles) * n * lanes, values.dtype), values.reshape(-1), length - 2 * padding
    for step in range(n_steps):
        for to, a in enumerate(angles):
            start, slope = -(offset[a] + step * per_step[a]) / per_tap[a], 1 / per_tap[a]
            _add(sums, to * n, n, flat, step, length, lanes, padding, start, slope, radius[a])
    for lane in range(batch):
        for to, a in enumerate(angles):
            for k in range(n):
                result[lane, a, k] = sums[(to * n + k) * lanes + lane] * values.dtype.type(scale[a])


@compiled(f"{VALUES}, {VALUES}, int64, {TABLE}, {TABLE}, {TABLE}, {TABLE}, int64, int64")
def _transpose(result, values, padding, offset, per_row, per_column, radius, top, left):  # type: ignore[no-untyped-def]
    """Fill a tile of a result ``(batch, rows, columns)`` from ``(angles, padded detectors, lanes)``."""
    batch, n_rows, n_columns = result.shape
    n_angles, length, lanes = values.shape
    height, n = min(TILE, n_rows - top), min(TILE, n_columns - left)
    sums, flat, length = np.zeros(height * n * lanes, values.dtype), values.reshape(-1), length - 2 * padding
    for a in range(n_angles):
        for row in range(height):
            start = offset[a] + (top + row) * per_row[a] + left * per_column[a]
            _add(sums, row * n, n, flat, a, length, lanes, padding, start, per_column[a], radius[a])
    for lane in range(batch):
        for row in range(height):
            for column in range(n):
                result[lane, top + row, left + column] = sums[(row * n + column) * lanes + lane]
