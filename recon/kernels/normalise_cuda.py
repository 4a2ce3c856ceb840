"""Normalising, activating and padding, and the gradients, on CUDA."""
# mypy: disable-error-code="no-untyped-def, import-not-found, import-untyped"

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from recon.kernels.tiles_cuda import collected, inner, kernel, launch, repeats_of, space_for_sums, store_sum, tile


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """Normalise, activate and pad; also the statistics ``(batch, channel, 2)``: mean, 1 / deviation."""
    x = x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    if given is not None:
        statistics = given.detach().double().repeat(batch, 1, 1)
    else:
        sums = space_for_sums(x, (rows, columns), 2)
        launch(_moments, batch * channels, (rows, columns), x, sums, rows, columns)
        means = sums.sum(2) / (rows * columns)
        if over == "batch":
            means = means.mean(0, keepdim=True).expand(batch, -1, -1)
        mean, square = means.unbind(-1)
        statistics = torch.stack([mean, 1 / ((square - mean**2).clamp(min=0) + eps).sqrt()], dim=-1)
    size = (rows + 2 * pad, columns + 2 * pad)
    result = x.new_empty(batch, channels, *size)
    numbers = _numbers(statistics, weight, bias)
    launch(_normalise, batch * channels, size, x, numbers, result, rows, columns, pad, SLOPE=slope)
    return result, statistics


def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    grad, x = grad.detach().contiguous(), x.detach().contiguous()
    batch, channels, rows, columns = x.shape
    size = (rows, columns)
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums, numbers = space_for_sums(x, size, 2), _numbers(statistics, weight, bias)
    arguments, repeats = (x, numbers, result, sums, rows, columns, pad), repeats_of(grad.shape[2:], size)
    launch(_activation_back, batch * channels, size, grad, *arguments, SLOPE=slope, **repeats)
    totals = sums.sum(2)
    if over != "given":
        means = totals / (rows * columns)
        if over == "batch":
            means = means.mean(0, keepdim=True).expand(batch, -1, -1)
        rest = torch.stack([means[..., 0], means[..., 1] * statistics[..., 1] ** 2], dim=-1)
    else:
        rest = torch.zeros_like(totals)
    numbers = torch.cat([numbers[..., :2], rest], dim=-1)
    launch(_statistics_back, batch * channels, size, x, numbers, result, rows, columns)
    weights = (totals[..., 1] * statistics[..., 1]).sum(0)
    return result, weights.to(x.dtype), totals[..., 0].sum(0).to(x.dtype)


def _numbers(statistics: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean, weight / deviation and bias of each plane, float64 ``(batch, channel, 3)``."""
    mean, scale = statistics.unbind(-1)
    return torch.stack([mean, scale * weight.detach().double(), bias.detach().double().expand_as(mean)], dim=-1)


@kernel
def _moments(x_ptr, partial_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Sum and sum of squares."""
    plane, i, j, inside = tile(rows, columns, HEIGHT, WIDTH)
    value = tl.load(x_ptr + plane * rows * columns + i * columns + j, inside, 0.0).to(tl.float64)
    store_sum(partial_ptr, 0, 2, value)
    store_sum(partial_ptr, 1, 2, value * value)


@inner
def _before_activation(value, numbers_ptr):
    """(value - mean) scale + bias by a plane's three numbers, and the mean, in the value's dtype."""
    mean, scale = tl.load(numbers_ptr).to(value.dtype), tl.load(numbers_ptr + 1).to(value.dtype)
    return (value - mean) * scale + tl.load(numbers_ptr + 2).to(value.dtype), mean


@kernel
def _normalise(
    x_ptr, numbers_ptr, out_ptr, rows, columns, pad, SLOPE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr
):
    """Leaky ReLU of (x - mean) scale + bias, padded circularly; a plane's numbers are mean, scale and bias."""
    out_rows, out_columns = rows + 2 * pad, columns + 2 * pad
    plane, i, j, inside = tile(out_rows, out_columns, HEIGHT, WIDTH)
    row, column = (i + rows - pad % rows) % rows, (j + columns - pad % columns) % columns
    value = tl.load(x_ptr + plane * rows * columns + row * columns + column, inside)
    z, _ = _before_activation(value, numbers_ptr + 3 * plane)
    tl.store(out_ptr + plane * out_rows * out_columns + i * out_columns + j, tl.where(z > 0, z, SLOPE * z), inside)


@kernel
def _activation_back(
    grad_ptr, x_ptr, numbers_ptr, out_ptr, partial_ptr, rows, columns, pad, SLOPE: tl.constexpr,
    DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradient g before the activation, and the sums of g and of g (x - mean)."""
    out_rows, out_columns = rows + 2 * pad, columns + 2 * pad
    plane, i, j, inside = tile(rows, columns, HEIGHT, WIDTH)
    grad_ptr += plane * out_rows * out_columns
    grad = collected(
        grad_ptr, (i + pad) % rows, (j + pad) % columns, inside, rows, columns, out_rows, out_columns,
        DOWN, ACROSS, HEIGHT, WIDTH,
    )  # fmt: skip
    pixel = plane * rows * columns + i * columns + j
    value = tl.load(x_ptr + pixel, inside, 0.0)
    z, mean = _before_activation(value, numbers_ptr + 3 * plane)
    g = tl.where(z > 0, grad, SLOPE * grad)
    tl.store(out_ptr + pixel, g, inside)
    store_sum(partial_ptr, 0, 2, g.to(tl.float64))
    store_sum(partial_ptr, 1, 2, g.to(tl.float64) * (value.to(tl.float64) - mean.to(tl.float64)))


@kernel
def _statistics_back(x_ptr, numbers_ptr, out_ptr, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """scale (g - first - second (x - mean)), g being in ``out``; a plane's numbers in the order mean to second."""
    plane, i, j, inside = tile(rows, columns, HEIGHT, WIDTH)
    pixel = plane * rows * columns + i * columns + j
    value, g = tl.load(x_ptr + pixel, inside), tl.load(out_ptr + pixel, inside)
    numbers_ptr += 4 * plane
    mean, scale = tl.load(numbers_ptr).to(value.dtype), tl.load(numbers_ptr + 1).to(value.dtype)
    first, second = tl.load(numbers_ptr + 2).to(value.dtype), tl.load(numbers_ptr + 3).to(value.dtype)
    tl.store(out_ptr + pixel, scale * (g - first - second * (value - mean)), inside)
