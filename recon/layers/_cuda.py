"""The operators of :mod:`recon.layers` on CUDA images, by Triton kernels; tensors in, tensors out, no autograd.

Functions and results are those of :mod:`recon.layers._cpu`. A program computes one tile of one plane, the image of a
sample and a channel, which has fewer than 2^31 pixels. Sums are float64: each program writes the sum of its tile, and
torch adds those up, so that no result depends on which program ran first. Nothing waits for the device.
Multiplications and additions are not fused, so that the backward sees the signs of the forward.
"""
# mypy: disable-error-code="no-untyped-def, import-not-found, import-untyped"

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_inner = triton.jit
_kernel = triton.jit(do_not_specialize=["top", "left", "pad", "channels", "first", "total"])  # not compiled for each


@_inner
def _tile(rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """This program's plane; rows and columns of its tile, and which of them are inside the plane."""
    across, number = tl.cdiv(columns, WIDTH), tl.program_id(0)
    n_tiles = tl.cdiv(rows, HEIGHT) * across
    tile = number % n_tiles
    i = tile // across * HEIGHT + tl.arange(0, HEIGHT)[:, None]
    j = tile % across * WIDTH + tl.arange(0, WIDTH)[None, :]
    return (number // n_tiles).to(tl.int64), i, j, (i < rows) & (j < columns)


@_inner
def _store_sum(partial_ptr, which, n, values):
    """Write the sum of a tile's values, as number ``which`` of the ``n`` sums of this program."""
    tl.store(partial_ptr + tl.program_id(0).to(tl.int64) * n + which, tl.sum(tl.sum(values, 1), 0))


@_inner
def _larger(a, b):
    return tl.where((b > a) | (b != b), b, a)


@_kernel
def _pool_energies(x_ptr, partial_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """The energy of each phase of the dense maximum, over a tile of windows."""
    plane, i, j, inside = _tile(rows // 2, columns // 2, HEIGHT, WIDTH)
    x_ptr += plane * rows * columns
    j0, j1, j2 = 2 * j, 2 * j + 1, (2 * j + 2) % columns
    for r in tl.static_range(2):
        one, other = x_ptr + (2 * i + r) * columns, x_ptr + (2 * i + r + 1) % rows * columns
        a = _larger(tl.load(one + j0, inside, 0.0), tl.load(other + j0, inside, 0.0))
        b = _larger(tl.load(one + j1, inside, 0.0), tl.load(other + j1, inside, 0.0))
        c = _larger(tl.load(one + j2, inside, 0.0), tl.load(other + j2, inside, 0.0))
        even, odd = _larger(a, b).to(tl.float64), _larger(b, c).to(tl.float64)
        _store_sum(partial_ptr, 2 * r, 4, even * even)
        _store_sum(partial_ptr, 2 * r + 1, 4, odd * odd)


@_kernel
def _pool_pick(
    x_ptr, phase_ptr, out_ptr, where_ptr, rows, columns, channels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """The first maximum of each window of the chosen phase (a NaN is larger than all), and its place."""
    plane, i, j, inside = _tile(rows // 2, columns // 2, HEIGHT, WIDTH)
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


@_kernel
def _pool_back(
    grad_ptr, phase_ptr, where_ptr, out_ptr, rows, columns, channels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """The gradient of the window that a pixel lies in, if the pixel was its maximum."""
    plane, i, j, inside = _tile(rows, columns, HEIGHT, WIDTH)
    phase = tl.load(phase_ptr + plane // channels).to(tl.int32)
    row, column = (i + rows - phase // 2) % rows, (j + columns - phase % 2) % columns
    window = plane * (rows // 2) * (columns // 2) + row // 2 * (columns // 2) + column // 2
    chosen = tl.load(where_ptr + window, inside, 0) == row % 2 * 2 + column % 2
    value = tl.where(chosen, tl.load(grad_ptr + window, inside, 0.0), 0.0)
    tl.store(out_ptr + plane * rows * columns + i * columns + j, value, inside)


@_inner
def _pixel(plane, i, j, rows, columns, PHASES: tl.constexpr):
    """Where the pixel (i, j) of a plane lies in memory; with ``PHASES`` each plane is stored as its four phases."""
    phase = (i % 2 * 2 + j % 2) * (rows // 2) * (columns // 2)
    return plane * rows * columns + (phase + i // 2 * (columns // 2) + j // 2 if PHASES else i * columns + j)


@_inner
def _shift(shifts_ptr, sample, axis: tl.constexpr, size):
    """A sample's shift modulo the size, between -size and size."""
    return 0 if shifts_ptr is None else (tl.load(shifts_ptr + 2 * sample + axis) % size).to(tl.int32)


@_kernel
def _place(
    x_ptr, shifts_ptr, out_ptr, rows, columns, out_rows, out_columns, top, left, channels, first, total,
    PHASES: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Shift and pad an image's planes, and write them as the channels from ``first`` on of ``total``."""
    plane, i, j, inside = _tile(out_rows, out_columns, HEIGHT, WIDTH)
    sample = plane // channels
    row = (i + 2 * rows - top - _shift(shifts_ptr, sample, 0, rows)) % rows
    column = (j + 2 * columns - left - _shift(shifts_ptr, sample, 1, columns)) % columns
    value = tl.load(x_ptr + _pixel(plane, row, column, rows, columns, PHASES), inside)
    target = sample * total + first + plane % channels
    tl.store(out_ptr + target * out_rows * out_columns + i * out_columns + j, value, inside)


@_inner
def _collected(
    grad_ptr, row, column, inside, rows, columns, out_rows, out_columns,
    DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The sum over a padded plane's rows ``row``, ``row + rows``, ... and likewise columns, in this order."""
    result = tl.zeros([HEIGHT, WIDTH], grad_ptr.dtype.element_ty)
    for a in tl.static_range(DOWN):
        for b in tl.static_range(ACROSS):
            y, x = row + a * rows, column + b * columns
            result += tl.load(grad_ptr + y * out_columns + x, inside & (y < out_rows) & (x < out_columns), 0.0)
    return result


@_kernel
def _collect(
    grad_ptr, shifts_ptr, out_ptr, rows, columns, out_rows, out_columns, top, left, channels, first, total,
    PHASES: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The adjoint of :func:`_place`."""
    plane, i, j, inside = _tile(rows, columns, HEIGHT, WIDTH)
    sample = plane // channels
    row = (i + rows + top + _shift(shifts_ptr, sample, 0, rows)) % rows
    column = (j + columns + left + _shift(shifts_ptr, sample, 1, columns)) % columns
    grad_ptr += (sample * total + first + plane % channels) * out_rows * out_columns
    value = _collected(grad_ptr, row, column, inside, rows, columns, out_rows, out_columns, DOWN, ACROSS, HEIGHT, WIDTH)
    tl.store(out_ptr + _pixel(plane, i, j, rows, columns, PHASES), value, inside)


@_kernel
def _moments(x_ptr, partial_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Sum and sum of squares."""
    plane, i, j, inside = _tile(rows, columns, HEIGHT, WIDTH)
    value = tl.load(x_ptr + plane * rows * columns + i * columns + j, inside, 0.0).to(tl.float64)
    _store_sum(partial_ptr, 0, 2, value)
    _store_sum(partial_ptr, 1, 2, value * value)


@_inner
def _before_activation(value, numbers_ptr):
    """(value - mean) scale + bias by a plane's three numbers, and the mean, in the value's dtype."""
    mean, scale = tl.load(numbers_ptr).to(value.dtype), tl.load(numbers_ptr + 1).to(value.dtype)
    return (value - mean) * scale + tl.load(numbers_ptr + 2).to(value.dtype), mean


@_kernel
def _normalise(
    x_ptr, numbers_ptr, out_ptr, rows, columns, pad, SLOPE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """Leaky ReLU of (x - mean) scale + bias, padded circularly; a plane's numbers are mean, scale and bias."""
    out_rows, out_columns = rows + 2 * pad, columns + 2 * pad
    plane, i, j, inside = _tile(out_rows, out_columns, HEIGHT, WIDTH)
    row, column = (i + rows - pad % rows) % rows, (j + columns - pad % columns) % columns
    value = tl.load(x_ptr + plane * rows * columns + row * columns + column, inside)
    z, _ = _before_activation(value, numbers_ptr + 3 * plane)
    tl.store(out_ptr + plane * out_rows * out_columns + i * out_columns + j, tl.where(z > 0, z, SLOPE * z), inside)


@_kernel
def _activation_back(
    grad_ptr, x_ptr, numbers_ptr, out_ptr, partial_ptr, rows, columns, pad, SLOPE: tl.constexpr,
    DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradient g before the activation, and the sums of g and of g (x - mean)."""
    out_rows, out_columns = rows + 2 * pad, columns + 2 * pad
    plane, i, j, inside = _tile(rows, columns, HEIGHT, WIDTH)
    grad_ptr += plane * out_rows * out_columns
    grad = _collected(
        grad_ptr, (i + pad) % rows, (j + pad) % columns, inside, rows, columns, out_rows, out_columns,
        DOWN, ACROSS, HEIGHT, WIDTH,
    )  # fmt: skip
    pixel = plane * rows * columns + i * columns + j
    value = tl.load(x_ptr + pixel, inside, 0.0)
    z, mean = _before_activation(value, numbers_ptr + 3 * plane)
    g = tl.where(z > 0, grad, SLOPE * grad)
    tl.store(out_ptr + pixel, g, inside)
    _store_sum(partial_ptr, 0, 2, g.to(tl.float64))
    _store_sum(partial_ptr, 1, 2, g.to(tl.float64) * (value.to(tl.float64) - mean.to(tl.float64)))


@_kernel
def _statistics_back(x_ptr, numbers_ptr, out_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """scale (g - first - second (x - mean)), g being in ``out``; a plane's numbers in the order mean to second."""
    plane, i, j, inside = _tile(rows, columns, HEIGHT, WIDTH)
    pixel = plane * rows * columns + i * columns + j
    value, g = tl.load(x_ptr + pixel, inside), tl.load(out_ptr + pixel, inside)
    numbers_ptr += 4 * plane
    mean, scale = tl.load(numbers_ptr).to(value.dtype), tl.load(numbers_ptr + 1).to(value.dtype)
    first, second = tl.load(numbers_ptr + 2).to(value.dtype), tl.load(numbers_ptr + 3).to(value.dtype)
    tl.store(out_ptr + pixel, scale * (g - first - second * (value - mean)), inside)


def _tile_size(rows: int, columns: int) -> tuple[int, int]:
    """1024 pixels or, for a smaller plane, a tile that covers it."""
    width = min(128, triton.next_power_of_2(columns))
    return min(1024 // width, triton.next_power_of_2(rows)), width


def _n_tiles(size: Sequence[int]) -> int:
    return math.prod(-(-n // side) for n, side in zip(size, _tile_size(*size), strict=True))


def _launch(kernel: Any, n_planes: int, size: Sequence[int], x: Tensor, *arguments: object, **constants: Any) -> None:
    """Run a kernel on the device of ``x``, over the tiles of planes of that size."""
    height, width = _tile_size(*size)
    with torch.cuda.device_of(x):
        run = kernel[(n_planes * _n_tiles(size),)]
        run(x, *arguments, **constants, HEIGHT=height, WIDTH=width, enable_fp_fusion=False)


def _space(x: Tensor, size: Sequence[int], n_sums: int) -> Tensor:
    """For the sums of each tile of planes of that size."""
    return x.new_empty(*x.shape[:2], _n_tiles(size), n_sums, dtype=torch.float64)


def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool 2 x 2 in the phase of the most energy: pooled images, phases, and each maximum's place in its window."""
    x = x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    half = (rows // 2, columns // 2)
    energies = _space(x, half, 4)
    _launch(_pool_energies, batch * channels, half, x, energies, rows, columns)
    phase = energies.flatten(1, 2).sum(1).argmax(1)
    pooled = x.new_empty(batch, channels, *half)
    where = torch.empty_like(pooled, dtype=torch.uint8)
    _launch(_pool_pick, batch * channels, half, x, phase, pooled, where, rows, columns, channels)
    return pooled, phase, where


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima."""
    grad, phase, where = grad.detach().contiguous(), phase.contiguous(), where.contiguous()
    batch, channels, rows, columns = grad.shape
    size = (2 * rows, 2 * columns)
    result = grad.new_empty(batch, channels, *size)
    _launch(_pool_back, batch * channels, size, grad, phase, where, result, *size, channels)
    return result


def join(images: Sequence[Tensor], phases: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """Concatenate the channels of images, the last of them shifted (and by its phases, if so given), and pad."""
    top, bottom, left, right = pads
    batch, _, rows, columns = images[0].shape
    n_channels = [x.shape[1] for x in images] + ([] if phases is None else [phases.shape[1] // 4])
    size = (rows + top + bottom, columns + left + right)
    result = images[0].new_empty(batch, sum(n_channels), *size)
    sources = [*images] if phases is None else [*images, phases]
    for i, (x, part) in enumerate(zip(sources, _parts(n_channels, shifts), strict=True)):
        numbers = (rows, columns, *size, top % rows, left % columns, *part[1:])
        x, halved = x.detach().contiguous(), i == len(images)
        _launch(_place, batch * n_channels[i], size, x, part[0], result, *numbers, PHASES=halved)
    return result


def join_back(
    grad: Tensor,
    n_channels: Sequence[int],
    by_phases: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The adjoint of :func:`join`: an image of that size for each number of channels, the last one by its phases."""
    grad, results = grad.detach().contiguous(), []
    (batch, _, *padded), (rows, columns) = grad.shape, size
    for i, part in enumerate(_parts(n_channels, shifts)):
        n, halved = n_channels[i], by_phases and i == len(n_channels) - 1
        shape = (4 * n, rows // 2, columns // 2) if halved else (n, rows, columns)
        results.append(grad.new_empty(batch, *shape))
        numbers = (rows, columns, *padded, pads[0] % rows, pads[2] % columns, *part[1:])
        constants = {"PHASES": halved, **_repeats(padded, size)}
        _launch(_collect, batch * n, size, grad, part[0], results[-1], *numbers, **constants)
    return results


def _parts(n_channels: Sequence[int], shifts: Tensor | None) -> Iterator[tuple[Tensor | None, int, int, int]]:
    """For each image of :func:`join`: its shifts, its channels, the first of them in the joined image, and all."""
    last = len(n_channels) - 1
    for i, n in enumerate(n_channels):
        own = shifts.contiguous() if shifts is not None and i == last else None
        yield own, n, sum(n_channels[:i]), sum(n_channels)


def _repeats(padded: Sequence[int], size: Sequence[int]) -> dict[str, int]:
    """How often a row and a column can occur in a padded plane."""
    return {"DOWN": -(-padded[0] // size[0]), "ACROSS": -(-padded[1] // size[1])}


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """Normalise, activate and pad; also the statistics ``(batch, channel, 2)``: mean, 1 / deviation."""
    x = x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    if given is not None:
        statistics = given.detach().double().repeat(batch, 1, 1)
    else:
        sums = _space(x, (rows, columns), 2)
        _launch(_moments, batch * channels, (rows, columns), x, sums, rows, columns)
        means = sums.sum(2) / (rows * columns)
        if over == "batch":
            means = means.mean(0, keepdim=True).expand(batch, -1, -1)
        mean, square = means.unbind(-1)
        statistics = torch.stack([mean, 1 / ((square - mean**2).clamp(min=0) + eps).sqrt()], dim=-1)
    size = (rows + 2 * pad, columns + 2 * pad)
    result = x.new_empty(batch, channels, *size)
    numbers = _numbers(statistics, weight, bias)
    _launch(_normalise, batch * channels, size, x, numbers, result, rows, columns, pad, SLOPE=slope)
    return result, statistics


def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    grad, x = grad.detach().contiguous(), x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    size = (rows, columns)
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums, numbers = _space(x, size, 2), _numbers(statistics, weight, bias)
    arguments, repeats = (x, numbers, result, sums, rows, columns, pad), _repeats(grad.shape[2:], size)
    _launch(_activation_back, batch * channels, size, grad, *arguments, SLOPE=slope, **repeats)
    totals = sums.sum(2)
    if over != "given":
        means = totals / (rows * columns)
        if over == "batch":
            means = means.mean(0, keepdim=True).expand(batch, -1, -1)
        rest = torch.stack([means[..., 0], means[..., 1] * statistics[..., 1] ** 2], dim=-1)
    else:
        rest = torch.zeros_like(totals)
    numbers = torch.cat([numbers[..., :2], rest], dim=-1)
    _launch(_statistics_back, batch * channels, size, x, numbers, result, rows, columns)
    weights = (totals[..., 1] * statistics[..., 1]).sum(0)
    return result, weights.to(x.dtype), totals[..., 0].sum(0).to(x.dtype)


def _numbers(statistics: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean, weight / deviation and bias of each plane, float64 ``(batch, channel, 3)``."""
    mean, scale = statistics.unbind(-1)
    return torch.stack([mean, scale * weight.detach().double(), bias.detach().double().expand_as(mean)], dim=-1)
