"""Max-pooling in the phase of the most energy, and its adjoint, on CUDA."""
# mypy: disable-error-code="no-untyped-def, import-not-found, import-untyped"

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from recon.kernels.tiles_cuda import inner, kernel, launch, space_for_sums, store_sum, tile


def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool 2 x 2 in the phase of the most energy: pooled images, phases, and each maximum's place in its window."""
    x = x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    half = (rows // 2, columns // 2)
    energies = space_for_sums(x, half, 4)
    launch(_pool_energies, batch * channels, half, x, energies, rows, columns)
    phase = energies.flatten(1, 2).sum(1).argmax(1)
    pooled = x.new_empty(batch, channels, *half)
    where = torch.empty_like(pooled, dtype=torch.uint8)
    launch(_pool_pick, batch * channels, half, x, phase, pooled, where, rows, columns, channels)
    return pooled, phase, where


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima."""
    grad, phase, where = grad.detach().contiguous(), phase.contiguous(), where.contiguous()
    batch, channels, rows, columns = grad.shape
    size = (2 * rows, 2 * columns)
    result = grad.new_empty(batch, channels, *size)
    launch(_pool_back, batch * channels, size, grad, phase, where, result, *size, channels)
    return result


@inner
def _larger(a, b):
    return tl.where((b > a) | (b != b), b, a)


@kernel
def _pool_energies(x_ptr, partial_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """The energy of each phase of the dense maximum, over a tile of windows."""
    plane, i, j, inside = tile(rows // 2, columns // 2, HEIGHT, WIDTH)
    x_ptr += plane * rows * columns
    j0, j1, j2 = 2 * j, 2 * j + 1, (2 * j + 2) % columns
    for r in tl.static_range(2):
        one, other = x_ptr + (2 * i + r) * columns, x_ptr + (2 * i + r + 1) % rows * columns
        a = _larger(tl.load(one + j0, inside, 0.0), tl.load(other + j0, inside, 0.0))
        b = _larger(tl.load(one + j1, inside, 0.0), tl.load(other + j1, inside, 0.0))
        c = _larger(tl.load(one + j2, inside, 0.0), tl.load(other + j2, inside, 0.0))
        even, odd = _larger(a, b).to(tl.float64), _larger(b, c).to(tl.float64)
        store_sum(partial_ptr, 2 * r, 4, even * even)
        store_sum(partial_ptr, 2 * r + 1, 4, odd * odd)


@kernel
def _pool_pick(
    x_ptr, phase_ptr, out_ptr, where_ptr, rows, columns, channels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """The first maximum of each window of the chosen phase (a NaN is larger than all), and its place."""
    plane, i, j, inside = tile(rows // 2, columns // 2, HEIGHT, WIDTH)
    phase = tl.load(phase_ptr + plane // channels).to(tl.int32)
    best = tl.full([HEIGHT, WIDTH], float("-inf"), x_ptr.dtype.element_ty)
    place = tl.zeros([HEIGHT, WIDTH], tl.int32)
    for k in tl.static_range(4):
        row, column = (2 * i + phase // 2 + k // 2) % rows, (2 * j + phase % 2 + k % 2) % columns
        value = tl.load(x_ptr + plane * rows * columns + row * columns + column, inside, 0.0)
        larger = (value > best) | (value != value)
        best, place = tl.where(larger, value, best), tl.where(larger, k, place)
    pixel = plane * (rows // 2) * (columns // 2) + i * (columns // 2) + j
    tl.store(out_ptr + pixel, best, inside)
    tl.store(where_ptr + pixel, place.to(tl.uint8), inside)


@kernel
def _pool_back(
    grad_ptr, phase_ptr, where_ptr, out_ptr, rows, columns, channels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """The gradient of the window that a pixel lies in, if the pixel was its maximum."""
    plane, i, j, inside = tile(rows, columns, HEIGHT, WIDTH)
    phase = tl.load(phase_ptr + plane // channels).to(tl.int32)
    row, column = (i + rows - phase // 2) % rows, (j + columns - phase % 2) % columns
    window = plane * (rows // 2) * (columns // 2) + row // 2 * (columns // 2) + column // 2
    chosen = tl.load(where_ptr + window, inside, 0) == row % 2 * 2 + column % 2
    value = tl.where(chosen, tl.load(grad_ptr + window, inside, 0.0), 0.0)
    tl.store(out_ptr + plane * rows * columns + i * columns + j, value, inside)
