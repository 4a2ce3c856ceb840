"""Normalising, activating and padding, and the gradients, on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from recon.kernels.planes_cpu import PLANES, Plane, Row, planes_of, run_over_planes
from recon.kernels.runner import compiled

_inner = njit(nogil=True, error_model="numpy")
_any_order = njit(nogil=True, error_model="numpy", fastmath={"reassoc"})


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """Normalise, activate and pad; also the statistics ``(batch, channel, 2)``: mean, 1 / deviation."""
    batch, channels, rows, columns = x.shape
    planes = planes_of(x)
    statistics = torch.empty(batch, channels, 2, dtype=torch.float64)
    if over == "batch":
        sums = np.empty((len(planes), 2))
        run_over_planes(_moments, (planes, sums))
        mean, square = (sums.reshape(batch, channels, 2).sum(0) / (batch * rows * columns)).T
        deviation = np.sqrt(np.maximum(square - mean**2, 0) + eps)
        statistics.copy_(torch.from_numpy(np.stack([mean, 1 / deviation], axis=1)))
    elif given is not None:
        statistics.copy_(given)
    result = x.new_empty(batch, channels, rows + 2 * pad, columns + 2 * pad)
    parts = (planes, statistics.view(-1, 2).numpy(), _affine(weight, bias, batch), planes_of(result))
    run_over_planes(_normalise, parts, eps, over == "plane", slope, pad)
    return result, statistics


def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    batch, channels = x.shape[:2]
    planes, result = planes_of(x), torch.empty_like(x, memory_format=torch.contiguous_format)
    numbers, affine = statistics.view(-1, 2).numpy(), _affine(weight, bias, batch)
    sums, out = np.empty((len(planes), 2)), planes_of(result)
    run_over_planes(_normalise_back, (planes_of(grad), planes, numbers, affine, sums, out), slope, pad, over == "plane")
    mean, scale = numbers.T
    totals = sums.reshape(batch, channels, 2)
    if over != "plane":
        means = totals.sum(0) / (x.numel() / channels) if over == "batch" else np.zeros((channels, 2))
        first, second = np.tile(means, (batch, 1)).T
        rest = np.stack([mean, scale * affine[:, 0], first, second * scale**2], axis=1)
        run_over_planes(_shared_statistics_back, (planes, rest, out))
    weights = (totals[:, :, 1] * scale.reshape(batch, channels)).sum(0)
    biases = totals[:, :, 0].sum(0)
    return result, torch.from_numpy(weights).to(x.dtype), torch.from_numpy(biases).to(x.dtype)


def _affine(weight: Tensor, bias: Tensor, batch: int) -> np.ndarray:
    """Weight and bias of each plane, float64."""
    affine = np.empty((batch, len(weight), 2))
    affine[:, :, 0], affine[:, :, 1] = weight.detach().numpy(), bias.detach().numpy()
    return affine.reshape(-1, 2)


@_inner
def _add(given: Row, line: Row) -> None:
    for j in range(len(line)):
        line[j] += given[j]


@_inner
def _collect_row(given: Plane, i: int, first: int, n_rows: int, line: Row) -> None:
    """The sum of all copies of a row that circular padding has made: in the rows i, i + n_rows, ... of ``given``.

    It is the same as in :mod:`recon.kernels.join_cpu`, and stands here again because numba's cache notices changes of
    the file that a loop stands in, and of no other.
    """
    line[:] = 0
    for r in range(i, len(given), n_rows):
        row = given[r]
        j, k = 0, first
        while j < len(row):
            n = min(len(row) - j, len(line) - k)
            _add(row[j : j + n], line[k : k + n])
            j, k = j + n, 0


@_any_order
def _sums(x: Plane) -> tuple[float, float]:
    """Sum and sum of squares of a plane."""
    total, squares = 0.0, 0.0
    for i in range(len(x)):
        row = x[i]
        for j in range(len(row)):
            value = np.float64(row[j])
            total += value
            squares += value * value
    return total, squares


@_any_order
def _products(g: Row, x: Row, centre: float) -> tuple[float, float]:
    """Sum of g and of g (x - centre) over a row."""
    total, products = 0.0, 0.0
    for j in range(len(g)):
        value = np.float64(g[j])
        total += value
        products += value * (np.float64(x[j]) - centre)
    return total, products


@compiled(f"{PLANES}, float64[:, ::1]")
def _moments(x: np.ndarray, sums: np.ndarray) -> None:
    """Sum and sum of squares of each plane."""
    for p in range(len(x)):
        sums[p, 0], sums[p, 1] = _sums(x[p])


@compiled(f"{PLANES}, float64[:, ::1], float64[:, ::1], {PLANES}, float64, boolean, float64, int64")
def _normalise(
    x: np.ndarray,
    statistics: np.ndarray,
    affine: np.ndarray,
    out: np.ndarray,
    eps: float,
    own: bool,
    slope: float,
    pad: int,
) -> None:
    """Leaky ReLU of (x - mean) / deviation * weight + bias, padded circularly.

    Args:
        x: planes.
        statistics: mean and 1 / deviation of each plane; written if they are to be its ``own``.
        affine: weight and bias of each plane.
        out: larger planes.
        eps: what is added to the variance.
        own: take the statistics from the plane itself.
        slope: for negative values.
        pad: pixels on each side.
    """
    n_planes, n_rows, n_columns = x.shape
    numbers = np.empty(4, x.dtype)
    for p in range(n_planes):
        plane, result = x[p], out[p]
        if own:
            total, squares = _sums(plane)
            mean = total / plane.size
            variance = max(squares / plane.size - mean * mean, 0.0)
            if squares != squares:
                variance = squares
            statistics[p, 0], statistics[p, 1] = mean, 1 / np.sqrt(variance + eps)
        numbers[0], numbers[1] = statistics[p, 0], statistics[p, 1] * affine[p, 0]
        numbers[2], numbers[3] = affine[p, 1], slope
        mean_, scale, bias, slope_ = numbers[0], numbers[1], numbers[2], numbers[3]
        for i in range(n_rows):
            row, line = plane[i], result[i + pad]
            centre = line[pad : pad + n_columns]
            for j in range(n_columns):
                z = (row[j] - mean_) * scale + bias
                centre[j] = z if z > 0 else slope_ * z
            for k in range(pad):
                line[k] = line[n_columns + k]
                line[pad + n_columns + k] = line[pad + k]
        for k in range(pad):
            result[k] = result[n_rows + k]
            result[pad + n_rows + k] = result[pad + k]


@_inner
def _activation_back(grad: Plane, x: Plane, numbers: Row, pad: int, out: Plane, line: Row) -> tuple[float, float]:
    """The gradient before the activation, into ``out``; returns its sum and its sum of products with x - mean."""
    n_rows, n_columns = x.shape
    mean, scale, bias, slope = numbers[0], numbers[1], numbers[2], numbers[3]
    total, products = 0.0, 0.0
    for i in range(n_rows):
        row, result = x[i], out[i]
        _collect_row(grad, (i + pad) % n_rows, -pad % n_columns, n_rows, line)
        for j in range(n_columns):
            z = (row[j] - mean) * scale + bias
            result[j] = line[j] if z > 0 else slope * line[j]
        one, other = _products(result, row, np.float64(mean))
        total += one
        products += other
    return total, products


@_inner
def _statistics_back(x: Plane, mean: float, scale: float, first: float, second: float, out: Plane) -> None:
    """scale (g - first - second (x - mean)), g being in ``out``."""
    for i in range(len(x)):
        row, result = x[i], out[i]
        for j in range(len(row)):
            result[j] = scale * (result[j] - first - second * (row[j] - mean))


@compiled(f"{PLANES}, {PLANES}, float64[:, ::1], float64[:, ::1], float64[:, ::1], {PLANES}, float64, int64, boolean")
def _normalise_back(
    grad: np.ndarray,
    x: np.ndarray,
    statistics: np.ndarray,
    affine: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
    slope: float,
    pad: int,
    own: bool,
) -> None:
    """The adjoint of :func:`_normalise` up to the activation, and to the end if the statistics are each plane's own.

    ``sums`` takes what each plane's gradient g before the activation sums to: g, and g (x - mean).
    """
    n_planes, _, n_columns = x.shape
    numbers = np.empty(4, x.dtype)
    line = np.empty(n_columns, x.dtype)
    for p in range(n_planes):
        scale = statistics[p, 1] * affine[p, 0]
        numbers[0], numbers[1], numbers[2], numbers[3] = statistics[p, 0], scale, affine[p, 1], slope
        total, products = _activation_back(grad[p], x[p], numbers, pad, out[p], line)
        sums[p, 0], sums[p, 1] = total, products
        if own:
            size = x[p].size
            numbers[2], numbers[3] = total / size, products * statistics[p, 1] ** 2 / size
            _statistics_back(x[p], numbers[0], numbers[1], numbers[2], numbers[3], out[p])


@compiled(f"{PLANES}, float64[:, ::1], {PLANES}")
def _shared_statistics_back(x: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
    """The rest of the adjoint for statistics over several planes: mean, scale, first and second of each plane."""
    typed = np.empty(4, x.dtype)
    for p in range(len(x)):
        for k in range(4):
            typed[k] = numbers[p, k]
        _statistics_back(x[p], typed[0], typed[1], typed[2], typed[3], out[p])
