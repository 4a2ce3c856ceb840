"""Pooling, padding and shifting of images on a CPU as compiled loops, one pass each.

The same numbers as the plain forms of :mod:`recon.layers`, bit for bit, but for the scores, which are float64 sums in
another order. Planes are the images of all samples and channels, ``(batch * channel, rows, columns)``. Importing this
module compiles it once per machine (a few seconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.compiled import compiled, share_out

PLANES = "number[:, :, ::1]"


def _planes(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1, *x.shape[2:]).numpy()


class Pool(torch.autograd.Function):
    """2 x 2 circular max-pooling, decimated to the phase of each sample with the most energy (l2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled images ``(batch, channel, rows / 2, columns / 2)`` and the phases ``(batch,)``."""
        batch, channels, rows, columns = x.shape
        planes = _planes(x)
        energies = np.empty((len(planes), 4))
        share_out(lambda a, b: _pool_energies(planes[a:b], energies[a:b]), len(planes), planes.size)
        phase = torch.from_numpy(energies.reshape(batch, channels, 4).sum(1)).argmax(1)
        chosen = phase.repeat_interleave(channels).numpy()
        pooled = x.new_empty(batch, channels, rows // 2, columns // 2)
        where = np.empty((len(planes), rows // 2, columns // 2), np.uint8)
        out = _planes(pooled)
        share_out(lambda a, b: _pool_pick(planes[a:b], chosen[a:b], out[a:b], where[a:b]), len(planes), planes.size)
        ctx.chosen, ctx.where, ctx.shape = chosen, where, x.shape
        ctx.mark_non_differentiable(phase)
        return pooled, phase

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        """Each gradient goes to the window's first maximum; windows of one phase do not overlap."""
        result = grad.new_empty(ctx.shape)
        given, out, where, chosen = _planes(grad), _planes(result), ctx.where, ctx.chosen
        share_out(lambda a, b: _pool_back(given[a:b], chosen[a:b], where[a:b], out[a:b]), len(out), out.size)
        return result


def pad(x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Pad circularly by (top, bottom), (left, right), none of them more than the side."""
    (top, bottom), (left, right) = pads
    rows, columns = x.shape[2:]
    result = x.new_empty(*x.shape[:2], rows + top + bottom, columns + left + right)
    planes, out = _planes(x), _planes(result)
    share_out(lambda a, b: _pad(planes[a:b], top, left, out[a:b]), len(planes), out.size)
    return result


def unpad(grad: Tensor, size: Sequence[int], pads: Sequence[tuple[int, int]]) -> Tensor:
    """The adjoint of :func:`pad`: the borders are added back."""
    (top, _), (left, _) = pads
    result = grad.new_empty(*grad.shape[:2], *size)
    planes, out = _planes(grad), _planes(result)
    share_out(lambda a, b: _unpad(planes[a:b], top, left, out[a:b]), len(planes), planes.size)
    return result


def shift(x: Tensor, shifts: Tensor) -> Tensor:
    """Shift each sample circularly by its own ``(batch, 2)`` pixels."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    planes, out = _planes(x), _planes(result)
    moves = (shifts % torch.tensor(x.shape[2:])).repeat_interleave(x.shape[1], 0).numpy()
    share_out(lambda a, b: _shift(planes[a:b], moves[a:b], out[a:b]), len(planes), planes.size)
    return result


@compiled(f"{PLANES}, float64[:, ::1]")
def _pool_energies(x: np.ndarray, energies: np.ndarray) -> None:
    """The energy of each phase of the dense maximum: (even, odd) rows and columns in row-major order."""
    n_planes, n_rows, n_columns = x.shape
    above = np.empty(n_columns + 1, x.dtype)
    dense = np.empty(n_columns, x.dtype)
    for p in range(n_planes):
        energies[p] = 0
        for i in range(n_rows):
            one, other = x[p, i], x[p, i + 1 if i + 1 < n_rows else 0]
            for j in range(n_columns):
                a, b = one[j], other[j]
                above[j] = b if (b > a or b != b) else a
            above[n_columns] = above[0]
            for j in range(n_columns):
                a, b = above[j], above[j + 1]
                dense[j] = b if (b > a or b != b) else a
            e0, e1, e2, e3, o0, o1, o2, o3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            whole = n_columns - n_columns % 8
            for j in range(0, whole, 8):
                e0 += np.float64(dense[j]) * np.float64(dense[j])
                o0 += np.float64(dense[j + 1]) * np.float64(dense[j + 1])
                e1 += np.float64(dense[j + 2]) * np.float64(dense[j + 2])
                o1 += np.float64(dense[j + 3]) * np.float64(dense[j + 3])
                e2 += np.float64(dense[j + 4]) * np.float64(dense[j + 4])
                o2 += np.float64(dense[j + 5]) * np.float64(dense[j + 5])
                e3 += np.float64(dense[j + 6]) * np.float64(dense[j + 6])
                o3 += np.float64(dense[j + 7]) * np.float64(dense[j + 7])
            for j in range(whole, n_columns, 2):
                e0 += np.float64(dense[j]) * np.float64(dense[j])
                o0 += np.float64(dense[j + 1]) * np.float64(dense[j + 1])
            row = 2 * (i % 2)
            energies[p, row] += (e0 + e1) + (e2 + e3)
            energies[p, row + 1] += (o0 + o1) + (o2 + o3)


@compiled(f"{PLANES}, int64[::1], {PLANES}, uint8[:, :, ::1]")
def _pool_pick(x: np.ndarray, phase: np.ndarray, out: np.ndarray, where: np.ndarray) -> None:
    """The maximum of each window of the chosen phase, and which of its four pixels it is."""
    n_planes, n_rows, n_columns = x.shape
    for p in range(n_planes):
        r, c = phase[p] // 2, phase[p] % 2
        for i in range(n_rows // 2):
            top = 2 * i + r
            one, other = x[p, top], x[p, top + 1 if top + 1 < n_rows else 0]
            for j in range(n_columns // 2):
                left = 2 * j + c
                right = left + 1 if left + 1 < n_columns else 0
                best, at = one[left], 0
                value = one[right]
                if value > best or value != value:
                    best, at = value, 1
                value = other[left]
                if value > best or value != value:
                    best, at = value, 2
                value = other[right]
                if value > best or value != value:
                    best, at = value, 3
                out[p, i, j], where[p, i, j] = best, at


@compiled(f"{PLANES}, int64[::1], uint8[:, :, ::1], {PLANES}")
def _pool_back(grad: np.ndarray, phase: np.ndarray, where: np.ndarray, out: np.ndarray) -> None:
    n_planes, n_rows, n_columns = out.shape
    for p in range(n_planes):
        r, c = phase[p] // 2, phase[p] % 2
        for i in range(n_rows // 2):
            top = 2 * i + r
            one, other = out[p, top], out[p, top + 1 if top + 1 < n_rows else 0]
            for j in range(n_columns // 2):
                left = 2 * j + c
                right = left + 1 if left + 1 < n_columns else 0
                at, g = where[p, i, j], grad[p, i, j]
                one[left] = g if at == 0 else 0
                one[right] = g if at == 1 else 0
                other[left] = g if at == 2 else 0
                other[right] = g if at == 3 else 0


@compiled(f"{PLANES}, int64, int64, {PLANES}")
def _pad(x: np.ndarray, top: int, left: int, out: np.ndarray) -> None:
    n_planes, n_rows, n_columns = x.shape
    rows, columns = out.shape[1:]
    right = columns - left - n_columns
    for p in range(n_planes):
        for i in range(rows):
            source, line = x[p, (i - top + n_rows) % n_rows], out[p, i]
            for j in range(left):
                line[j] = source[n_columns - left + j]
            for j in range(n_columns):
                line[left + j] = source[j]
            for j in range(right):
                line[left + n_columns + j] = source[j]


@compiled(f"{PLANES}, int64, int64, {PLANES}")
def _unpad(grad: np.ndarray, top: int, left: int, out: np.ndarray) -> None:
    n_planes, n_rows, n_columns = out.shape
    rows, columns = grad.shape[1:]
    right = columns - left - n_columns
    for p in range(n_planes):
        for i in range(n_rows):
            source, line = grad[p, i + top], out[p, i]
            for j in range(n_columns):
                line[j] = source[left + j]
        for i in range(rows):
            line = out[p, (i - top + n_rows) % n_rows]
            if i < top or i >= top + n_rows:
                for j in range(n_columns):
                    line[j] += grad[p, i, left + j]
            for j in range(left):
                line[n_columns - left + j] += grad[p, i, j]
            for j in range(right):
                line[j] += grad[p, i, left + n_columns + j]


@compiled(f"{PLANES}, int64[:, ::1], {PLANES}")
def _shift(x: np.ndarray, moves: np.ndarray, out: np.ndarray) -> None:
    """y[i + dy, j + dx] = x[i, j], with moves from 0 to the side less one."""
    n_planes, n_rows, n_columns = x.shape
    for p in range(n_planes):
        dy, dx = moves[p]
        for i in range(n_rows):
            source, line = x[p, i], out[p, (i + dy) % n_rows]
            for j in range(n_columns - dx):
                line[dx + j] = source[j]
            for j in range(dx):
                line[j] = source[n_columns - dx + j]
