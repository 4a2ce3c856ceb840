"""Shifting, concatenating and padding images in channels_last, and their adjoint, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from torch import Tensor

from recon.kernels.rows_cpu import ROWS, rows_of, run_over_rows
from recon.kernels.runner import compiled
from recon.kernels.switches import new_images

Row = np.ndarray

_inner = njit(nogil=True, error_model="numpy")


def join(images: Sequence[Tensor], components: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """What :func:`recon.kernels.join.shift_join_pad` computes."""
    top, bottom, left, right = pads
    batch, _, rows, columns = images[0].shape
    parts = list(images) + ([] if components is None else [components])
    n_channels = [x.shape[1] for x in images] + ([] if components is None else [components.shape[1] // 4])
    result = new_images(images[0], batch, sum(n_channels), rows + top + bottom, columns + left + right)
    out = rows_of(result)
    for i, (x, n, move) in enumerate(zip(parts, n_channels, _moves(n_channels, shifts, batch), strict=True)):
        loop = _place_components if i == len(images) else _place
        channels = np.array([sum(n_channels[:i]), n, sum(n_channels)])
        run_over_rows(loop, batch, out.shape[1], out.size, rows_of(x), move, channels, top, left, out)
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
    batch, results, given = len(grad), [], rows_of(grad)
    for i, (n, move) in enumerate(zip(n_channels, _moves(n_channels, shifts, batch), strict=True)):
        halved = by_components and i == len(n_channels) - 1
        shape = (4 * n, size[0] // 2, size[1] // 2) if halved else (n, *size)
        results.append(new_images(grad, batch, *shape))
        loop, out = (_collect_components if halved else _collect), rows_of(results[-1])
        channels = np.array([sum(n_channels[:i]), n, sum(n_channels)])
        run_over_rows(loop, batch, out.shape[1], out.size, out, move, channels, pads[0], pads[2], given)
    return results


def _moves(n_channels: Sequence[int], shifts: Tensor | None, batch: int) -> list[np.ndarray]:
    """The shift of each sample of each image."""
    moves = [np.zeros((batch, 2), np.int64) for _ in n_channels]
    if shifts is not None:
        moves[-1] = np.ascontiguousarray(shifts.numpy())
    return moves


@_inner
def _copy(source: Row, line: Row) -> None:
    for j in range(len(line)):
        line[j] = source[j]


@_inner
def _clear(line: Row) -> None:
    for j in range(len(line)):
        line[j] = 0


@_inner
def _add(given: Row, line: Row) -> None:
    for j in range(len(line)):
        line[j] += given[j]


@compiled(f"{ROWS}, int64[:, ::1], int64[::1], int64, int64, {ROWS}, int64, int64")
def _place(
    x: np.ndarray,
    moves: np.ndarray,
    channels: np.ndarray,
    top: int,
    left: int,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Shift each sample by its ``moves``, pad it, and write its channels into those of ``out``.

    ``channels`` are the first one in ``out``, how many they are, and how many ``out`` has. Rows are those of ``out``.
    """
    n_rows, width = x.shape[1:]
    first, n, stride = channels
    n_columns = width // n
    for r in range(start, stop):
        b, i = r // out.shape[1], r % out.shape[1]
        line, target = x[b, (i - top - moves[b, 0]) % n_rows], out[b, i]
        column = (-left - moves[b, 1]) % n_columns
        for j in range(first, len(target), stride):
            _copy(line[column * n : (column + 1) * n], target[j : j + n])
            column = column + 1 if column + 1 < n_columns else 0


@compiled(f"{ROWS}, int64[:, ::1], int64[::1], int64, int64, {ROWS}, int64, int64")
def _collect(
    out: np.ndarray,
    moves: np.ndarray,
    channels: np.ndarray,
    top: int,
    left: int,
    grad: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The adjoint of :func:`_place`; rows are those of ``out``."""
    n_rows, width = out.shape[1:]
    first, n, stride = channels
    n_columns = width // n
    for r in range(start, stop):
        b, i = r // n_rows, r % n_rows
        target = out[b, i]
        _clear(target)
        for row in range((i + top + moves[b, 0]) % n_rows, grad.shape[1], n_rows):
            line = grad[b, row]
            column = (-left - moves[b, 1]) % n_columns
            for j in range(first, len(line), stride):
                _add(line[j : j + n], target[column * n : (column + 1) * n])
                column = column + 1 if column + 1 < n_columns else 0


@_inner
def _pick(source: Row, component: int, line: Row) -> None:
    for c in range(len(line)):
        line[c] = source[4 * c + component]


@_inner
def _add_picked(line: Row, component: int, target: Row) -> None:
    for c in range(len(line)):
        target[4 * c + component] += line[c]


@compiled(f"{ROWS}, int64[:, ::1], int64[::1], int64, int64, {ROWS}, int64, int64")
def _place_components(
    x: np.ndarray,
    moves: np.ndarray,
    channels: np.ndarray,
    top: int,
    left: int,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """:func:`_place` for an image given by its components, ``(batch, rows / 2, columns / 2 * channel * 4)``."""
    first, n, stride = channels
    n_rows, n_columns = 2 * x.shape[1], x.shape[2] // (2 * n)
    for r in range(start, stop):
        b, i = r // out.shape[1], r % out.shape[1]
        source = (i - top - moves[b, 0]) % n_rows
        line, target = x[b, source // 2], out[b, i]
        column = (-left - moves[b, 1]) % n_columns
        for j in range(first, len(target), stride):
            k = column // 2 * 4 * n
            _pick(line[k : k + 4 * n], 2 * (source % 2) + column % 2, target[j : j + n])
            column = column + 1 if column + 1 < n_columns else 0


@compiled(f"{ROWS}, int64[:, ::1], int64[::1], int64, int64, {ROWS}, int64, int64")
def _collect_components(
    out: np.ndarray,
    moves: np.ndarray,
    channels: np.ndarray,
    top: int,
    left: int,
    grad: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The adjoint of :func:`_place_components`; rows are those of ``out``, of the half size."""
    first, n, stride = channels
    n_rows, n_columns = 2 * out.shape[1], out.shape[2] // (2 * n)
    for r in range(start, stop):
        b, i = r // out.shape[1], r % out.shape[1]
        target = out[b, i]
        _clear(target)
        for half in range(2):
            for row in range((2 * i + half + top + moves[b, 0]) % n_rows, grad.shape[1], n_rows):
                line = grad[b, row]
                column = (-left - moves[b, 1]) % n_columns
                for j in range(first, len(line), stride):
                    k = column // 2 * 4 * n
                    _add_picked(line[j : j + n], 2 * half + column % 2, target[k : k + 4 * n])
                    column = column + 1 if column + 1 < n_columns else 0
