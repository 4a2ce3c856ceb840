"""Shifting, concatenating and padding, and their adjoint, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from torch import Tensor

from recon.kernels.planes_cpu import PLANES, Plane, Row, planes_of, run_over_planes
from recon.kernels.runner import compiled

COMPONENTS = "number[:, :, :, ::1]"

_inner = njit(nogil=True, error_model="numpy")


def join(images: Sequence[Tensor], components: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """What :func:`recon.kernels.join.shift_join_pad` computes."""
    top, bottom, left, right = pads
    batch, _, rows, columns = images[0].shape
    n_channels = [x.shape[1] for x in images] + ([] if components is None else [components.shape[1] // 4])
    result = images[0].new_empty(batch, sum(n_channels), rows + top + bottom, columns + left + right)
    targets = _targets(n_channels, shifts, (rows, columns), batch)
    for x, target in zip(images, targets, strict=False):
        run_over_planes(_place, (planes_of(x), *target), top, left, planes_of(result))
    if components is not None:
        run_over_planes(_place_components, (_components_of(components), *targets[-1]), top, left, planes_of(result))
    return result


def join_back(
    grad: Tensor,
    n_channels: Sequence[int],
    by_components: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The adjoint: an image of that size for each number of channels, the last one by its components if so given."""
    batch, results = len(grad), []
    for i, (n, target) in enumerate(zip(n_channels, _targets(n_channels, shifts, size, batch), strict=True)):
        if by_components and i == len(n_channels) - 1:
            results.append(grad.new_empty(batch, 4 * n, size[0] // 2, size[1] // 2))
            run_over_planes(
                _collect_components, (_components_of(results[-1]), *target), pads[0], pads[2], planes_of(grad)
            )
        else:
            results.append(grad.new_empty(batch, n, *size))
            run_over_planes(_collect, (planes_of(results[-1]), *target), pads[0], pads[2], planes_of(grad))
    return results


def _targets(
    n_channels: Sequence[int], shifts: Tensor | None, size: Sequence[int], batch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each image of :func:`join` and each of its planes: the shift, and the number of the joined plane."""
    moves = [np.zeros((batch * n, 2), np.int64) for n in n_channels]
    if shifts is not None:
        moves[-1] = np.repeat(shifts.numpy() % np.array(size), n_channels[-1], axis=0)
    planes = np.arange(batch * sum(n_channels)).reshape(batch, -1)
    parts = np.split(planes, np.cumsum(n_channels)[:-1], axis=1)
    return [(move, np.ascontiguousarray(part).reshape(-1)) for move, part in zip(moves, parts, strict=True)]


def _components_of(x: Tensor) -> np.ndarray:
    """``(batch, 4 channel, rows / 2, columns / 2)`` as ``(batch * channel, 4, rows / 2, columns / 2)``."""
    return x.detach().contiguous().view(-1, 4, *x.shape[2:]).numpy()


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
def _place(x: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, out: np.ndarray) -> None:
    """Shift each plane p by its ``moves[p]``, pad it, and write it as plane ``where[p]``."""
    n_planes, n_rows, n_columns = x.shape
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % n_columns
        for i in range(out.shape[1]):
            _repeat(x[p, (i - top - moves[p, 0]) % n_rows], first, out[where[p], i])


@compiled(f"{PLANES}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def _collect(out: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, grad: np.ndarray) -> None:
    """The adjoint of :func:`_place`: plane p of ``out`` from plane ``where[p]`` of ``grad``."""
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


@compiled(f"{COMPONENTS}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def _place_components(
    x: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, out: np.ndarray
) -> None:
    """:func:`_place` for planes given by their four components, ``(plane, component, rows / 2, columns / 2)``."""
    n_planes, _, n_rows, n_columns = x.shape
    line = np.empty(2 * n_columns, x.dtype)
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % (2 * n_columns)
        for i in range(out.shape[1]):
            source = (i - top - moves[p, 0]) % (2 * n_rows)
            half, component = source // 2, 2 * (source % 2)
            _weave(x[p, component, half], x[p, component + 1, half], line)
            _repeat(line, first, out[where[p], i])


@compiled(f"{COMPONENTS}, int64[:, ::1], int64[::1], int64, int64, {PLANES}")
def _collect_components(
    out: np.ndarray, moves: np.ndarray, where: np.ndarray, top: int, left: int, grad: np.ndarray
) -> None:
    """The adjoint of :func:`_place_components`."""
    n_planes, _, n_rows, n_columns = out.shape
    line = np.empty(2 * n_columns, out.dtype)
    for p in range(n_planes):
        first = (-left - moves[p, 1]) % (2 * n_columns)
        for i in range(2 * n_rows):
            _collect_row(grad[where[p]], (i + top + moves[p, 0]) % (2 * n_rows), first, 2 * n_rows, line)
            component = 2 * (i % 2)
            _unweave(line, out[p, component, i // 2], out[p, component + 1, i // 2])
