"""Max-pooling in the phase of the most energy, and its adjoint, on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from recon.kernels.planes_cpu import PLANES, Row, planes_of, run_over_planes
from recon.kernels.runner import compiled

_inner = njit(nogil=True, error_model="numpy")


def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool 2 x 2 in the phase of the most energy: pooled images, phases, and each maximum's place in its window."""
    batch, channels, rows, columns = x.shape
    planes = planes_of(x)
    energies = np.empty((len(planes), 4))
    run_over_planes(_pool_energies, (planes, energies))
    phase = torch.from_numpy(energies.reshape(batch, channels, 4).sum(1)).argmax(1)
    chosen = phase.repeat_interleave(channels).numpy()
    pooled = x.new_empty(batch, channels, rows // 2, columns // 2)
    where = torch.empty(pooled.shape, dtype=torch.uint8)
    run_over_planes(_pool_pick, (planes, chosen, planes_of(pooled), planes_of(where)))
    return pooled, phase, where


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima."""
    batch, channels, rows, columns = grad.shape
    result = grad.new_empty(batch, channels, 2 * rows, 2 * columns)
    bits = np.int32 if grad.dtype == torch.float32 else np.int64
    chosen = phase.repeat_interleave(channels).numpy()
    run_over_planes(_pool_back, (planes_of(grad).view(bits), chosen, planes_of(where), planes_of(result).view(bits)))
    return result


@compiled(f"{PLANES}, float64[:, ::1]")
def _pool_energies(x: np.ndarray, energies: np.ndarray) -> None:
    """The energy of each phase of the dense maximum: (even, odd) rows and columns in row-major order."""
    n_planes, n_rows, n_columns = x.shape
    above = np.empty(n_columns, x.dtype)
    totals = np.empty((2, n_columns))
    for p in range(n_planes):
        totals[:] = 0
        for i in range(n_rows):
            one, other, total = x[p, i], x[p, i + 1 if i + 1 < n_rows else 0], totals[i % 2]
            for j in range(n_columns):
                a, b = one[j], other[j]
                above[j] = b if (b > a or b != b) else a
            for j in range(n_columns - 1):
                a, b = above[j], above[j + 1]
                largest = np.float64(b if (b > a or b != b) else a)
                total[j] += largest * largest
            a, b = above[n_columns - 1], above[0]
            largest = np.float64(b if (b > a or b != b) else a)
            total[n_columns - 1] += largest * largest
        for row in range(2):
            even, odd = 0.0, 0.0
            for j in range(0, n_columns, 2):
                even += totals[row, j]
                odd += totals[row, j + 1]
            energies[p, 2 * row], energies[p, 2 * row + 1] = even, odd


@_inner
def _largest(a: Any, b: Any, c: Any, d: Any) -> Any:
    """The first maximum of a window in row-major order (a NaN is larger than all), and its place."""
    best, at = a, np.uint8(0)
    if b > best or b != b:
        best, at = b, np.uint8(1)
    if c > best or c != c:
        best, at = c, np.uint8(2)
    if d > best or d != d:
        best, at = d, np.uint8(3)
    return best, at


@_inner
def _pick(one: Row, other: Row, line: Row, place: Row) -> None:
    for j in range(len(line)):
        line[j], place[j] = _largest(one[2 * j], one[2 * j + 1], other[2 * j], other[2 * j + 1])


@compiled(f"{PLANES}, int64[::1], {PLANES}, uint8[:, :, ::1]")
def _pool_pick(x: np.ndarray, phase: np.ndarray, out: np.ndarray, where: np.ndarray) -> None:
    """The maximum of each window of the chosen phase, and which of its four pixels it is."""
    n_planes, n_rows, n_columns = x.shape
    for p in range(n_planes):
        r, c = phase[p] // 2, phase[p] % 2
        n = n_columns // 2 - c
        for i in range(n_rows // 2):
            top = 2 * i + r
            one, other = x[p, top], x[p, top + 1 if top + 1 < n_rows else 0]
            line, place = out[p, i], where[p, i]
            _pick(one[c : c + 2 * n], other[c : c + 2 * n], line[:n], place[:n])
            if c:
                line[n], place[n] = _largest(one[2 * n + 1], one[0], other[2 * n + 1], other[0])


@_inner
def _spread(line: Row, place: Row, first: int, out: Row) -> None:
    """Bits of numbers to one of two places, first or first + 1, and zeros to the other; masks make it one branch."""
    for j in range(len(line)):
        g, at = line[j], np.int32(place[j])
        out[2 * j] = g & -np.int32(at == first)
        out[2 * j + 1] = g & -np.int32(at == first + 1)


@_inner
def _spread_circularly(line: Row, place: Row, first: int, c: int, out: Row) -> None:
    """The same for pairs that begin at column c of ``out``, 0 or 1."""
    if c == 0:
        _spread(line, place, first, out)
        return
    n = len(line) - 1
    _spread(line[:n], place[:n], first, out[1 : 1 + 2 * n])
    g, at = line[n], np.int32(place[n])
    out[2 * n + 1] = g & -np.int32(at == first)
    out[0] = g & -np.int32(at == first + 1)


@compiled("number[:, :, ::1], int64[::1], uint8[:, :, ::1], number[:, :, ::1]", ("int32", "int64"))
def _pool_back(grad: np.ndarray, phase: np.ndarray, where: np.ndarray, out: np.ndarray) -> None:
    """Each gradient, as bits, to its window's maximum, zero to the window's other pixels."""
    n_planes, n_rows, _ = out.shape
    for p in range(n_planes):
        r, c = phase[p] // 2, phase[p] % 2
        for i in range(n_rows // 2):
            top = 2 * i + r
            _spread_circularly(grad[p, i], where[p, i], 0, c, out[p, top])
            _spread_circularly(grad[p, i], where[p, i], 2, c, out[p, top + 1 if top + 1 < n_rows else 0])
