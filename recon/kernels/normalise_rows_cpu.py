"""Normalising, activating and padding images in channels_last, and the gradients, on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from recon.kernels.rows_cpu import ROWS, block_size, rows_of, run_over_rows, tile
from recon.kernels.runner import compiled
from recon.kernels.switches import new_images

Row = np.ndarray

GROUP = 8
"""Rows whose sums are taken together."""

_inner = njit(nogil=True, error_model="numpy")


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """What :func:`recon.kernels.normalise_cpu.normalise` computes."""
    batch, channels, rows, columns = x.shape
    lines = rows_of(x)
    statistics = np.empty((batch, channels, 2))
    if given is not None:
        statistics[:] = given.numpy()
    else:
        sums = np.empty((batch, -(-rows // GROUP), 2, channels))
        run_over_rows(_moments, batch, sums.shape[1], lines.size, lines, block_size(channels), sums)
        mean, square = _means(sums, over, rows * columns)
        statistics[:, :, 0] = mean
        statistics[:, :, 1] = 1 / np.sqrt(np.maximum(square - mean**2, 0) + eps)
    scale = statistics[:, :, 1] * weight.detach().double().numpy()
    shift = np.broadcast_to(bias.detach().double().numpy(), scale.shape)
    numbers = tile(np.stack([statistics[:, :, 0], scale, shift], 1), lines.dtype)
    result = new_images(x, batch, channels, rows + 2 * pad, columns + 2 * pad)
    out = rows_of(result)
    run_over_rows(_normalise, batch, rows + 2 * pad, out.size, lines, numbers, slope, pad, channels, out)
    return result, torch.from_numpy(statistics)


def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    batch, channels, rows, columns = x.shape
    lines, result = rows_of(x), new_images(x, *x.shape)
    out, (mean, deviation) = rows_of(result), statistics.numpy().transpose(2, 0, 1)
    scale = deviation * weight.detach().double().numpy()
    shift = np.broadcast_to(bias.detach().double().numpy(), scale.shape)
    numbers = tile(np.stack([mean, scale, shift], 1), lines.dtype)
    sums = np.empty((batch, -(-rows // GROUP), 2, channels))
    parts = (rows_of(grad), lines, numbers, slope, pad, out, sums)
    run_over_rows(_activation_back, batch, sums.shape[1], out.size, *parts)
    totals = sums.sum(1)
    if over == "given":
        first = second = np.zeros_like(mean)
    else:
        first, second = _means(sums, over, rows * columns)
    numbers = tile(np.stack([mean, scale, np.broadcast_to(first, mean.shape), second * deviation**2], 1), lines.dtype)
    run_over_rows(_statistics_back, batch, rows, out.size, lines, numbers, out)
    weights, biases = (totals[:, 1] * deviation).sum(0), totals[:, 0].sum(0)
    return result, torch.from_numpy(weights).to(x.dtype), torch.from_numpy(biases).to(x.dtype)


def _means(sums: np.ndarray, over: str, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The means of the two sums over each sample, or over all, ``(batch or 1, channel)``."""
    means = sums.sum(1) / n_pixels
    return tuple((means if over == "plane" else means.mean(0, keepdims=True)).transpose(1, 0, 2))


@_inner
def _clear(line: Row) -> None:
    for j in range(len(line)):
        line[j] = 0


@_inner
def _add(line: Row, total: Row) -> None:
    for j in range(len(line)):
        total[j] += line[j]


@_inner
def _add_moments(line: Row, total: Row, squares: Row) -> None:
    for j in range(len(line)):
        value = np.float64(line[j])
        total[j] += value
        squares[j] += value * value


@_inner
def _fold(block: Row, sums: Row) -> None:
    """The sum over the pixels of a block."""
    channels = len(sums)
    _clear(sums)
    for first in range(0, len(block), channels):
        for c in range(channels):
            sums[c] += block[first + c]


@compiled(f"{ROWS}, int64, float64[:, :, :, ::1], int64, int64")
def _moments(x: np.ndarray, size: int, sums: np.ndarray, start: int, stop: int) -> None:
    """Sum and sum of squares of each channel in each group of rows, in blocks of that size; parts are of the groups."""
    n_rows, width = x.shape[1:]
    block = np.empty((2, size))
    for g in range(start, stop):
        b, group = g // sums.shape[1], g % sums.shape[1]
        _clear(block[0])
        _clear(block[1])
        for i in range(GROUP * group, min(GROUP * (group + 1), n_rows)):
            line = x[b, i]
            for j in range(0, width, size):
                n = min(size, width - j)
                _add_moments(line[j : j + n], block[0, :n], block[1, :n])
        _fold(block[0], sums[b, group, 0])
        _fold(block[1], sums[b, group, 1])


@_inner
def _activate(line: Row, mean: Row, scale: Row, bias: Row, slope: float, out: Row) -> None:
    for j in range(len(line)):
        z = (line[j] - mean[j]) * scale[j] + bias[j]
        out[j] = z if z > 0 else slope * z


@compiled(f"{ROWS}, {ROWS}, float64, int64, int64, {ROWS}, int64, int64")
def _normalise(
    x: np.ndarray,
    numbers: np.ndarray,
    slope: float,
    pad: int,
    channels: int,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Leaky ReLU of (x - mean) * scale + bias, padded circularly; rows are those of ``out``.

    Args:
        x: rows.
        numbers: mean, scale and bias of each sample, for a block of pixels ``(batch, 3, block)``.
        slope: for negative values.
        pad: pixels on each side.
        channels: of a pixel.
        out: larger rows.
        start: the first row.
        stop: one after the last.
    """
    n_rows, width = x.shape[1:]
    typed = np.empty(1, x.dtype)
    typed[0] = slope
    size, border = numbers.shape[2], pad * channels
    for r in range(start, stop):
        b, i = r // out.shape[1], r % out.shape[1]
        line, mean, scale, bias = x[b, (i - pad) % n_rows], numbers[b, 0], numbers[b, 1], numbers[b, 2]
        centre = out[b, i, border : border + width]
        for j in range(0, width, size):
            n = min(size, width - j)
            _activate(line[j : j + n], mean[:n], scale[:n], bias[:n], typed[0], centre[j : j + n])
        whole = out[b, i]
        for k in range(border - 1, -1, -1):
            whole[k] = whole[k + width]
        for k in range(border):
            whole[border + width + k] = whole[border + k]


@_inner
def _collect(given: np.ndarray, i: int, first: int, n_rows: int, line: Row) -> None:
    """The sum of all copies of a row that circular padding has made: in the rows i, i + n_rows, ... of ``given``."""
    _clear(line)
    for r in range(i, len(given), n_rows):
        row = given[r]
        j, k = 0, first
        while j < len(row):
            n = min(len(row) - j, len(line) - k)
            _add(row[j : j + n], line[k : k + n])
            j, k = j + n, 0


@_inner
def _slope_back(grad: Row, line: Row, mean: Row, scale: Row, bias: Row, slope: float, out: Row) -> None:
    for j in range(len(line)):
        z = (line[j] - mean[j]) * scale[j] + bias[j]
        out[j] = grad[j] if z > 0 else slope * grad[j]


@_inner
def _add_products(g: Row, line: Row, mean: Row, total: Row) -> None:
    for j in range(len(line)):
        total[j] += np.float64(g[j]) * np.float64(line[j] - mean[j])


@compiled(f"{ROWS}, {ROWS}, {ROWS}, float64, int64, {ROWS}, float64[:, :, :, ::1], int64, int64")
def _activation_back(
    grad: np.ndarray,
    x: np.ndarray,
    numbers: np.ndarray,
    slope: float,
    pad: int,
    out: np.ndarray,
    sums: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The adjoint of :func:`_normalise` up to the activation: g, and each group's sums of g and of g (x - mean)."""
    n_rows, width = x.shape[1:]
    typed = np.empty(1, x.dtype)
    typed[0] = slope
    size, channels = numbers.shape[2], sums.shape[3]
    block, given = np.empty((2, size)), np.empty(width, x.dtype)
    for g in range(start, stop):
        b, group = g // sums.shape[1], g % sums.shape[1]
        mean, scale, bias = numbers[b, 0], numbers[b, 1], numbers[b, 2]
        _clear(block[0])
        _clear(block[1])
        for i in range(GROUP * group, min(GROUP * (group + 1), n_rows)):
            line, target = x[b, i], out[b, i]
            _collect(grad[b], (i + pad) % n_rows, (-pad * channels) % width, n_rows, given)
            for j in range(0, width, size):
                n = min(size, width - j)
                part, result = line[j : j + n], target[j : j + n]
                _slope_back(given[j : j + n], part, mean[:n], scale[:n], bias[:n], typed[0], result)
                _add(result, block[0, :n])
                _add_products(result, part, mean[:n], block[1, :n])
        _fold(block[0], sums[b, group, 0])
        _fold(block[1], sums[b, group, 1])


@_inner
def _centre_back(line: Row, mean: Row, scale: Row, first: Row, second: Row, out: Row) -> None:
    for j in range(len(line)):
        out[j] = scale[j] * (out[j] - first[j] - second[j] * (line[j] - mean[j]))


@compiled(f"{ROWS}, {ROWS}, {ROWS}, int64, int64")
def _statistics_back(x: np.ndarray, numbers: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    """scale (g - first - second (x - mean)), g being in ``out``; the numbers of each sample, for a block of pixels."""
    n_rows, width = x.shape[1:]
    size = numbers.shape[2]
    for r in range(start, stop):
        b, i = r // n_rows, r % n_rows
        line, target, own = x[b, i], out[b, i], numbers[b]
        for j in range(0, width, size):
            n = min(size, width - j)
            _centre_back(line[j : j + n], own[0, :n], own[1, :n], own[2, :n], own[3, :n], target[j : j + n])
