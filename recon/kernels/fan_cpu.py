"""The functions of :mod:`recon.kernels.fan_reference` on a CPU, with the batch as the last axis.

As in :mod:`recon.kernels.tomography_cpu` the weights are computed once for all slices and the innermost loop runs over
LANES of them; sums are taken in a fixed order, whoever takes them, so that a slice's result depends neither on the
slices beside it nor on the number of threads. The innermost functions are inlined by numba: called with arrays, they
would take three times as long.
"""

from __future__ import annotations

from itertools import product

import numba
import numpy as np
import torch
from torch import Tensor

from recon.kernels.fan_reference import FanPixels, FanRays
from recon.kernels.runner import compiled, run_jobs
from recon.kernels.tomography_cpu import ANGLES, LANES, TILE, lanes_last

LINES = 16
"""Rows or columns of the image that a thread fills at a time: 740 kB of float32 at LoDoPaB's 362, a core's cache."""

PADDING = 2
"""Zeros at either end of a line: what its outermost values are interpolated with, and what lies outside falls on."""

VALUES, ANY, TABLE, RAYS = "number[:, :, ::1]", "number[:, :, :]", "float64[::1]", "float64[:, ::1]"
LIMITS = "int32[:, ::1]"

_index = numba.types.uintp  # unsigned, so that numba leaves out the check for a negative index


def project_rays(image: Tensor, rays: FanRays) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j], ``(batch, rows, columns)`` -> ``(batch, angles, detectors)``."""
    n_angles, n = rays.start.shape
    result = np.empty((len(image), n_angles, n), image.numpy(force=True).dtype)
    tables = _tables(rays)
    for start in range(0, len(image), LANES):
        part = image[start : start + LANES]
        values = lanes_last(part, PADDING), lanes_last(part.mT, PADDING)
        jobs = [(result[start : start + LANES], *values, *tables, first) for first in range(0, n_angles, ANGLES)]
        run_jobs(_project_rays, jobs)
    return torch.from_numpy(result)


def transpose_rays(sinogram: Tensor, rays: FanRays) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k], ``(batch, angles, detectors)`` -> ``(batch, rows, columns)``."""
    result = np.zeros((len(sinogram), rays.rows, rays.columns), sinogram.numpy(force=True).dtype)
    tables = _tables(rays)
    for start in range(0, len(sinogram), LANES):
        values = lanes_last(sinogram[start : start + LANES], 0)
        rows = result[start : start + LANES]
        for lines, over_rows in ((rows, True), (rows.swapaxes(1, 2), False)):  # the second adds to the first
            firsts = range(0, lines.shape[1], LINES)
            run_jobs(_transpose_rays, [(lines, values, *tables, over_rows, first) for first in firsts])
    return torch.from_numpy(result)


def transpose_pixels(sinogram: Tensor, pixels: FanPixels) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k], ``(batch, angles, detectors)`` -> ``(batch, rows, columns)``."""
    result = np.empty((len(sinogram), pixels.rows, pixels.columns), sinogram.numpy(force=True).dtype)
    tables = [table.numpy() for table in pixels[3:]]
    corners = list(product(range(0, pixels.rows, TILE), range(0, pixels.columns, TILE)))
    for start in range(0, len(sinogram), LANES):
        values = lanes_last(sinogram[start : start + LANES], PADDING)
        part = result[start : start + LANES]
        run_jobs(_transpose_pixels, [(part, values, *tables, *corner) for corner in corners])
    return torch.from_numpy(result)


def project_pixels(image: Tensor, pixels: FanPixels) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j], ``(batch, rows, columns)`` -> ``(batch, angles, detectors)``."""
    n_angles = len(pixels.offset)
    result = np.empty((len(image), n_angles, pixels.n_detectors), image.numpy(force=True).dtype)
    tables = [table.numpy() for table in pixels[3:]]
    for start in range(0, len(image), LANES):
        values = lanes_last(image[start : start + LANES], 0)
        part = result[start : start + LANES]
        run_jobs(_project_pixels, [(part, values, *tables, first) for first in range(0, n_angles, ANGLES)])
    return torch.from_numpy(result)


def _tables(rays: FanRays) -> tuple[np.ndarray, ...]:
    """Start, slope, scale and ``over_rows`` of each ray, and the lines [low, high) on which -1 < c < length."""
    n_lines = torch.where(rays.over_rows, rays.rows, rays.columns)
    length = torch.where(rays.over_rows, rays.columns, rays.rows)
    level = rays.slope == 0  # such a ray meets all lines or none
    one, other = ((end - rays.start) / torch.where(level, 1, rays.slope) for end in (torch.tensor(-1), length))
    low, high = torch.minimum(one, other).ceil(), torch.maximum(one, other).floor() + 1
    low = torch.where(level, 0, low)
    high = torch.where(level, n_lines * ((rays.start > -1) & (rays.start < length)), high)
    limits = (end.clamp(min=0).minimum(n_lines).int() for end in (low, high))
    return tuple(table.numpy() for table in (*rays[2:], *limits))


@numba.njit(inline="always")
def _gather(sums, to, values, x, near, second, lanes):  # type: ignore[no-untyped-def]
    """sums[to] += near values[x] + second values[x + 1], for every lane."""
    to, x = _index(to) * _index(lanes), _index(x) * _index(lanes)
    if lanes == 1:
        sums[to] += near * values[x] + second * values[x + _index(1)]
    else:
        after = x + _index(LANES)
        for lane in range(_index(LANES)):
            sums[to + lane] += near * values[x + lane] + second * values[after + lane]


@numba.njit(inline="always")
def _scatter(sums, to, values, x, near, second, lanes):  # type: ignore[no-untyped-def]
    """sums[to] += near values[x] and sums[to + 1] += second values[x], for every lane."""
    to, x = _index(to) * _index(lanes), _index(x) * _index(lanes)
    if lanes == 1:
        sums[to] += near * values[x]
        sums[to + _index(1)] += second * values[x]
    else:
        after = to + _index(LANES)
        for lane in range(_index(LANES)):
            sums[to + lane] += near * values[x + lane]
            sums[after + lane] += second * values[x + lane]


@numba.njit(nogil=True, error_model="numpy")
def _follow(sums, values, start, slope, over_rows, low, high, along_rows, first, n_angles):  # type: ignore[no-untyped-def]
    """Add what the rays that are followed so meet on all lines of values ``(lines, padded length, lanes)``."""
    n_lines, padded, lanes = values.shape
    n, flat, number = start.shape[1], values.reshape(-1), values.dtype.type
    for top in range(0, n_lines, LINES):
        for a in range(n_angles):
            for k in range(n):
                if over_rows[first + a, k] != along_rows:
                    continue
                begin, rise = start[first + a, k] + PADDING, slope[first + a, k]
                for line in range(max(top, low[first + a, k]), min(top + LINES, high[first + a, k])):
                    position = begin + line * rise
                    at = int(position)
                    second = number(position - at)
                    _gather(sums, a * n + k, flat, line * padded + at, number(1) - second, second, lanes)


@compiled(f"{VALUES}, {VALUES}, {VALUES}, {RAYS}, {RAYS}, {RAYS}, boolean[:, ::1], {LIMITS}, {LIMITS}, int64")
def _project_rays(result, rows, columns, start, slope, scale, over_rows, low, high, first):  # type: ignore[no-untyped-def]
    """Fill ANGLES angles of a result ``(batch, angles, detectors)`` from both ``(lines, padded length, lanes)``."""
    batch, n_angles, n = result.shape
    lanes, n_angles = rows.shape[2], min(ANGLES, n_angles - first)
    sums = np.zeros(n_angles * n * lanes, rows.dtype)
    _follow(sums, rows, start, slope, over_rows, low, high, True, first, n_angles)
    _follow(sums, columns, start, slope, over_rows, low, high, False, first, n_angles)
    for lane in range(batch):
        for a in range(n_angles):
            for k in range(n):
                result[lane, first + a, k] = sums[(a * n + k) * lanes + lane] * rows.dtype.type(scale[first + a, k])


@compiled(f"{ANY}, {VALUES}, {RAYS}, {RAYS}, {RAYS}, boolean[:, ::1], {LIMITS}, {LIMITS}, boolean, int64")
def _transpose_rays(  # type: ignore[no-untyped-def]
    result, values, start, slope, scale, over_rows, low, high, along_rows, first
):
    """Add to LINES lines of a result ``(batch, lines, length)`` from ``(angles, detectors, lanes)``."""
    batch, n_lines, length = result.shape
    n_angles, n, lanes = values.shape
    n_lines, padded, flat, number = min(LINES, n_lines - first), length + 2 * PADDING, values.reshape(-1), values.dtype
    sums = np.zeros(n_lines * padded * lanes, values.dtype)
    for a in range(n_angles):
        for k in range(n):
            if over_rows[a, k] != along_rows:
                continue
            begin, rise, weight = start[a, k] + PADDING, slope[a, k], number.type(scale[a, k])
            for line in range(max(first, low[a, k]), min(first + n_lines, high[a, k])):
                position = begin + line * rise
                at = int(position)
                second = number.type(position - at)
                near = (number.type(1) - second) * weight
                _scatter(sums, (line - first) * padded + at, flat, a * n + k, near, second * weight, lanes)
    for lane in range(batch):
        for line in range(n_lines):
            for k in range(length):
                result[lane, first + line, k] += sums[(line * padded + PADDING + k) * lanes + lane]


@numba.njit(nogil=True, error_model="numpy")
def _place(at, near, second, u, per_column, d, depth_per_column, scale, padded):  # type: ignore[no-untyped-def]
    """Where a row of pixels falls on padded detectors, and what the two beside it weigh; outside are zeros."""
    for column in range(len(at)):
        inverse = 1 / (d + column * depth_per_column)
        position = min(max((u + column * per_column) * inverse + PADDING, 0.0), padded - 2.0)
        at[column] = np.int32(position)
        rest, weight = position - at[column], scale * inverse * inverse
        near[column], second[column] = (1 - rest) * weight, rest * weight


@compiled(f"{VALUES}, {VALUES}, {', '.join([TABLE] * 7)}, int64, int64")
def _transpose_pixels(  # type: ignore[no-untyped-def]
    result, values, offset, per_row, per_column, depth, depth_per_row, depth_per_column, scale, top, left
):
    """Fill a tile of a result ``(batch, rows, columns)`` from ``(angles, padded detectors, lanes)``."""
    batch, n_rows, n_columns = result.shape
    n_angles, padded, lanes = values.shape
    height, width, flat = min(TILE, n_rows - top), min(TILE, n_columns - left), values.reshape(-1)
    sums, at = np.zeros(height * width * lanes, values.dtype), np.empty(width, np.int32)
    near, second = np.empty(width, values.dtype), np.empty(width, values.dtype)
    for a in range(n_angles):
        for row in range(height):
            u = offset[a] + (top + row) * per_row[a] + left * per_column[a]
            d = depth[a] + (top + row) * depth_per_row[a] + left * depth_per_column[a]
            _place(at, near, second, u, per_column[a], d, depth_per_column[a], scale[a], padded)
            for column in range(width):
                x = a * padded + at[column]
                _gather(sums, row * width + column, flat, x, near[column], second[column], lanes)
    for lane in range(batch):
        for row in range(height):
            for column in range(width):
                result[lane, top + row, left + column] = sums[(row * width + column) * lanes + lane]


@compiled(f"{VALUES}, {VALUES}, {', '.join([TABLE] * 7)}, int64")
def _project_pixels(  # type: ignore[no-untyped-def]
    result, values, offset, per_row, per_column, depth, depth_per_row, depth_per_column, scale, first
):
    """Fill ANGLES angles of a result ``(batch, angles, detectors)`` from ``(rows, columns, lanes)``."""
    batch, n_angles, n = result.shape
    n_rows, n_columns, lanes = values.shape
    n_angles, padded, flat = min(ANGLES, n_angles - first), n + 2 * PADDING, values.reshape(-1)
    sums, at = np.zeros(n_angles * padded * lanes, values.dtype), np.empty(n_columns, np.int32)
    near, second = np.empty(n_columns, values.dtype), np.empty(n_columns, values.dtype)
    for row in range(n_rows):
        for a in range(n_angles):
            b = first + a
            u, d = offset[b] + row * per_row[b], depth[b] + row * depth_per_row[b]
            _place(at, near, second, u, per_column[b], d, depth_per_column[b], scale[b], padded)
            for column in range(n_columns):
                x = row * n_columns + column
                _scatter(sums, a * padded + at[column], flat, x, near[column], second[column], lanes)
    for lane in range(batch):
        for a in range(n_angles):
            for k in range(n):
                result[lane, first + a, k] = sums[(a * padded + PADDING + k) * lanes + lane]
