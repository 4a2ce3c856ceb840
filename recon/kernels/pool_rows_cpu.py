"""Max-pooling in the phase of the most energy, and its adjoint, of images in channels_last, on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from recon.kernels.rows_cpu import ROWS, block_size, rows_of, run_over_rows
from recon.kernels.runner import compiled
from recon.kernels.switches import new_images

Row = np.ndarray

_inner = njit(nogil=True, error_model="numpy")


def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`recon.kernels.pool_cpu.pool` computes."""
    batch, channels, rows, columns = x.shape
    lines, energies = rows_of(x), np.empty((batch, rows, 2))
    run_over_rows(_energies, batch, rows, lines.size, lines, channels, block_size(channels), energies)
    phase = torch.from_numpy(energies.reshape(batch, rows // 2, 4).sum(1)).argmax(1)
    pooled = new_images(x, batch, channels, rows // 2, columns // 2)
    where = new_images(x, *pooled.shape, dtype=torch.uint8)
    parts = (lines, phase.numpy(), rows_of(pooled), rows_of(where), channels)
    run_over_rows(_pool, batch, rows // 2, lines.size, *parts)
    return pooled, phase, where


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima."""
    batch, channels, rows, columns = grad.shape
    result = new_images(where, batch, channels, 2 * rows, 2 * columns, dtype=grad.dtype)
    out = rows_of(result)
    run_over_rows(_pool_back, batch, rows, out.size, rows_of(grad), phase.numpy(), rows_of(where), out, channels)
    return result


@_inner
def _clear(line: Row) -> None:
    for j in range(len(line)):
        line[j] = 0


@_inner
def _larger(one: Row, other: Row, line: Row) -> None:
    """The larger of two numbers; a NaN is larger than all."""
    for j in range(len(line)):
        a, b = one[j], other[j]
        line[j] = b if (b > a or b != b) else a


@_inner
def _add_squares(one: Row, other: Row, total: Row) -> None:
    for j in range(len(one)):
        a, b = one[j], other[j]
        largest = np.float64(b if (b > a or b != b) else a)
        total[j] += largest * largest


@compiled(f"{ROWS}, int64, int64, float64[:, :, ::1], int64, int64")
def _energies(x: np.ndarray, channels: int, size: int, energies: np.ndarray, start: int, stop: int) -> None:
    """The energy of the dense maximum in each row: of the pixels of even, and of odd columns."""
    n_rows, width = x.shape[1:]
    above, block = np.empty(width + channels, x.dtype), np.empty(size)
    for r in range(start, stop):
        b, i = r // n_rows, r % n_rows
        _larger(x[b, i], x[b, i + 1 if i + 1 < n_rows else 0], above[:width])
        above[width:] = above[:channels]
        _clear(block)
        for j in range(0, width, size):
            n = min(size, width - j)
            _add_squares(above[j : j + n], above[j + channels : j + channels + n], block[:n])
        sums = energies[b, i]
        _clear(sums)
        for j in range(0, size, channels):
            for c in range(channels):
                sums[j // channels % 2] += block[j + c]


@_inner
def _largest(a: Row, b: Row, c: Row, d: Row, line: Row) -> None:
    """The maximum of each channel's window; a NaN is larger than all."""
    for j in range(len(line)):
        best = b[j] if (b[j] > a[j] or b[j] != b[j]) else a[j]
        best = c[j] if (c[j] > best or c[j] != c[j]) else best
        line[j] = d[j] if (d[j] > best or d[j] != d[j]) else best


@_inner
def _place(a: Row, b: Row, c: Row, line: Row, place: Row) -> None:
    """Which of the window's pixels it is, the first in row-major order."""
    for j in range(len(line)):
        best = line[j]
        at = np.uint8(2) if c[j] == best else np.uint8(3)
        at = np.uint8(1) if b[j] == best else at
        place[j] = np.uint8(0) if a[j] == best else at


@compiled(f"{ROWS}, int64[::1], {ROWS}, uint8[:, :, ::1], int64, int64, int64")
def _pool(
    x: np.ndarray, phase: np.ndarray, out: np.ndarray, where: np.ndarray, channels: int, start: int, stop: int
) -> None:
    """The maximum of each window of the chosen phase, and which of its four pixels it is; rows are those of ``out``."""
    n_rows, width = x.shape[1:]
    for r in range(start, stop):
        b, i = r // out.shape[1], r % out.shape[1]
        top = 2 * i + phase[b] // 2
        one, other = x[b, top], x[b, top + 1 if top + 1 < n_rows else 0]
        k = phase[b] % 2 * channels
        for j in range(0, out.shape[2], channels):
            m = k + channels if k + channels < width else 0
            left, right = slice(k, k + channels), slice(m, m + channels)
            line, place = out[b, i, j : j + channels], where[b, i, j : j + channels]
            _largest(one[left], one[right], other[left], other[right], line)
            _place(one[left], one[right], other[left], line, place)
            k += 2 * channels


@_inner
def _spread(line: Row, place: Row, at: int, out: Row) -> None:
    for j in range(len(line)):
        out[j] = line[j] if place[j] == at else 0


@compiled(f"{ROWS}, int64[::1], uint8[:, :, ::1], {ROWS}, int64, int64, int64")
def _pool_back(
    grad: np.ndarray, phase: np.ndarray, where: np.ndarray, out: np.ndarray, channels: int, start: int, stop: int
) -> None:
    """Each gradient to its window's maximum, zero to the window's other pixels; rows are those of ``grad``."""
    n_rows, width = out.shape[1:]
    for r in range(start, stop):
        b, i = r // grad.shape[1], r % grad.shape[1]
        top = 2 * i + phase[b] // 2
        one, other = out[b, top], out[b, top + 1 if top + 1 < n_rows else 0]
        k = phase[b] % 2 * channels
        for j in range(0, grad.shape[2], channels):
            m = k + channels if k + channels < width else 0
            line, place = grad[b, i, j : j + channels], where[b, i, j : j + channels]
            _spread(line, place, 0, one[k : k + channels])
            _spread(line, place, 1, one[m : m + channels])
            _spread(line, place, 2, other[k : k + channels])
            _spread(line, place, 3, other[m : m + channels])
            k += 2 * channels
