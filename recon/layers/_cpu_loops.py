"""Compiled loops over planes, the images of all samples and channels: ``(batch * channel, rows, columns)``.

Pixels are computed with IEEE's arithmetic in the order written, so that a pixel's value does not depend on where it
lies. Sums are float64, in an order that the compiler chooses. Each loop is compiled where it is first called, once per
machine. All are in this one file, since numba's cache notices only the changes of a function's own file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from recon.compiled import compiled

PLANES = "number[:, :, ::1]"
PHASES = "number[:, :, :, ::1]"
Row = np.ndarray
Plane = np.ndarray

_inner = njit(nogil=True, error_model="numpy")
_any_order = njit(nogil=True, error_model="numpy", fastmath={"reassoc"})


@compiled(f"{PLANES}, float64[:, ::1]")
def pool_energies(x: np.ndarray, energies: np.ndarray) -> None:
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
def pool_pick(x: np.ndarray, phase: np.ndarray, out: np.ndarray, where: np.ndarray) -> None:
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
def pool_back(grad: np.ndarray, phase: np.ndarray, where: np.ndarray, out: np.ndarray) -> None:
    """Each gradient, as bits, to its window's maximum, zero to the window's other pixels."""
    n_planes, n_rows, _ = out.shape
    for p in range(n_planes):
        r, c = phase[p] // 2, phase[p] % 2
        for i in range(n_rows // 2):
            top = 2 * i + r
            _spread_circularly(grad[p, i], where[p, i], 0, c, out[p, top])
            _spread_circularly(grad[p, i], where[p, i], 2, c, out[p, top + 1 if top + 1 < n_rows else 0])


@_inner
def _copy(source: Row, line: Row) -> None:
    for j in range(len(line)):
        line[j] = source[j]


@_inner
def _add(given: Row, line: Row) -> None:
    for j in range(len(line)):
        line[j] += given[j]


@_inner
def _repeat(source: Row, first: int, line: Row) -> None:
    """Fill a row with a periodic one, from its column ``first`` on."""
    j, k = 0, first
    while j < len(line):
        n = min(len(line) - j, len(source) - k)
        _copy(source[k : k + n], line[j : j + n])
        j, k = j + n, 0


@_inner
def _collect_row(given: Plane, i: int, first: int, n_rows: int, line: Row) -> None:
    """The sum of all that :func:`_repeat` copied from a row to the rows i, i + n_rows, ... of ``given``."""
    line[:] = 0
    for r in range(i, len(given), n_rows):
        row = given[r]
        j, k = 0, first
        while j < len(row):
            n = min(len(row) - j, len(line) - k)
            _add(row[j : j + n], line[k : k + n])
            j, k = j + n, 0


@compiled(f"{PLANES}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def place(x: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, out: np.ndarray) -> None:
    """Shift each plane p by its ``moves[p]``, pad it, and write it as plane ``where[p]``."""
    n_planes, n_rows, n_columns = x.shape
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % n_columns
        for i in range(out.shape[1]):
            _repeat(x[p, (i - top - moves[p, 0]) % n_rows], first, out[where[p], i])


@compiled(f"{PLANES}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def collect(out: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, grad: np.ndarray) -> None:
    """The adjoint of :func:`place`: plane p of ``out`` from plane ``where[p]`` of ``grad``."""
    n_planes, n_rows, n_columns = out.shape
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % n_columns
        for i in range(n_rows):
            _collect_row(grad[where[p]], (i + top + moves[p, 0]) % n_rows, first, n_rows, out[p, i])


@_inner
def _weave(even: Row, odd: Row, line: Row) -> None:
    for j in range(len(even)):
        line[2 * j] = even[j]
        line[2 * j + 1] = odd[j]


@_inner
def _unweave(line: Row, even: Row, odd: Row) -> None:
    for j in range(len(even)):
        even[j] = line[2 * j]
        odd[j] = line[2 * j + 1]


@compiled(f"{PHASES}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def place_phases(x: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, out: np.ndarray) -> None:
    """:func:`place` for planes given by their four phases, ``(plane, phase, rows / 2, columns / 2)``."""
    n_planes, _, n_rows, n_columns = x.shape
    line = np.empty(2 * n_columns, x.dtype)
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % (2 * n_columns)
        for i in range(out.shape[1]):
            source = (i - top - moves[p, 0]) % (2 * n_rows)
            half, phase = source // 2, 2 * (source % 2)
            _weave(x[p, phase, half], x[p, phase + 1, half], line)
            _repeat(line, first, out[where[p], i])


@compiled(f"{PHASES}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def collect_phases(
    out: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, grad: np.ndarray
) -> None:
    """The adjoint of :func:`place_phases`."""
    n_planes, _, n_rows, n_columns = out.shape
    line = np.empty(2 * n_columns, out.dtype)
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % (2 * n_columns)
        for i in range(2 * n_rows):
            _collect_row(grad[where[p]], (i + top + moves[p, 0]) % (2 * n_rows), first, 2 * n_rows, line)
            phase = 2 * (i % 2)
            _unweave(line, out[p, phase, i // 2], out[p, phase + 1, i // 2])


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
def moments(x: np.ndarray, sums: np.ndarray) -> None:
    """Sum and sum of squares of each plane."""
    for p in range(len(x)):
        sums[p, 0], sums[p, 1] = _sums(x[p])


@compiled(f"{PLANES}, float64[:, ::1], float64[:, ::1], {PLANES}, float64, boolean, float64, int64")
def normalise(
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
def normalise_back(
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
    """The adjoint of :func:`normalise` up to the activation, and to the end if the statistics are each plane's own.

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
def statistics_back(x: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
    """The rest of the adjoint for statistics over several planes: mean, scale, first and second of each plane."""
    typed = np.empty(4, x.dtype)
    for p in range(len(x)):
        for k in range(4):
            typed[k] = numbers[p, k]
        _statistics_back(x[p], typed[0], typed[1], typed[2], typed[3], out[p])
