"""Resampling and the quadratic activation of :mod:`recon.layers.spectrum`, faster on a CPU; the same up to rounding.

Small planes are resampled by two matrix products. Large ones go through all their transforms one by one, so that a
plane stays in the cache from its image to the result, and spectra are transformed no further than they are kept. The
gradients are written by hand: the adjoint of ideal resampling from n to m points is that from m to n, times m / n. A
gradient of a gradient needs the plain form, ``use_kernels(False)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.kernels.switches import has_kernels, must_be_differentiable, runs_eagerly

BY_MATRICES = 64  # the largest side of a plane for which matrix products are as fast
IN_CACHE = 1 << 18  # numbers that stay in a core's cache

Size = Sequence[int]


def can_run(x: Tensor) -> bool:
    """Whether this form may stand for the plain one: two axes, on a CPU, eager, kernels not switched off."""
    plain = type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and has_kernels(x) and runs_eagerly(x)


def resample(x: Tensor, size: Size) -> Tensor:
    """As :func:`recon.layers.spectrum.resample`, ``(batch, channel, rows, columns)``."""
    if max(*x.shape[2:], *size) <= BY_MATRICES * 3 // 2:
        return _by_matrices(x, size)
    result: Tensor = _Resample.apply(x, tuple(size))
    return result


def product(x: Tensor, linear: Tensor, product: Tensor, fine_size: Size) -> Tensor:
    """As :meth:`recon.layers.spectrum.Product.forward`, by way of a grid of ``fine_size``."""
    if max(x.shape[2:]) <= BY_MATRICES:
        fine = _by_matrices(x, fine_size)
        a, b = linear.view(-1, 1, 1), product.view(-1, 1, 1)
        return _by_matrices(fine * torch.addcmul(a, b, fine.roll(1, 1)), x.shape[2:])
    output: Tensor = _Product.apply(x, linear, product, tuple(fine_size))
    return output


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it is kept, and a training may be next
def _matrix(old: int, new: int, dtype: torch.dtype) -> Tensor:
    """Ideal resampling of one axis, ``(new, old)``: sum_k exp(2 pi i k (p / new - q / old)) / old for |k| <= keep."""
    keep = (min(old, new) - 1) // 2
    p, q = (torch.arange(n, dtype=torch.float64, device="cpu") / n for n in (new, old))
    k = torch.arange(1, keep + 1, dtype=torch.float64, device="cpu")
    angle = 2 * torch.pi * (p[:, None, None] - q[:, None]) * k
    return ((1 + 2 * torch.cos(angle).sum(-1)) / old).to(dtype)


def _by_matrices(x: Tensor, size: Size) -> Tensor:
    rows, columns = (_matrix(n, m, x.dtype) for n, m in zip(x.shape[2:], size, strict=True))
    return rows @ (x @ columns.t())


def _keep(old: Size, new: Size) -> tuple[int, int]:
    rows, columns = ((min(n, m) - 1) // 2 for n, m in zip(old, new, strict=True))
    return rows, columns


def _into(spectrum: Tensor, target: Tensor, keep: tuple[int, int]) -> Tensor:
    """The frequencies up to ``keep`` of a half spectrum ``(rows, columns)``, in one that is 0 elsewhere."""
    rows, columns = keep[0], keep[1] + 1
    target[: rows + 1, :columns] = spectrum[: rows + 1, :columns]
    target[len(target) - rows :, :columns] = spectrum[len(spectrum) - rows :, :columns]
    return target


def _to_plane(half: Tensor, columns: int) -> Tensor:
    """The plane of a half spectrum ``(rows, frequencies of the columns)``, which may end before columns // 2."""
    return torch.fft.irfft(torch.fft.ifft(half, dim=0, norm="forward"), n=columns, norm="forward")


def _to_half(plane: Tensor, n_frequencies: int) -> Tensor:
    """The half spectrum of a plane, its first frequencies of the columns alone."""
    return torch.fft.fft(torch.fft.rfft(plane, norm="forward")[:, :n_frequencies], dim=0, norm="forward")


class _Half:
    """Half spectra on a grid of ``size``, 0 above ``keep``, that are filled again and again."""

    def __init__(self, x: Tensor, old: Size, size: Size, n_planes: int) -> None:
        self.size, self.keep = size, _keep(old, size)
        self.values = x.new_zeros(n_planes, size[0], self.keep[1] + 1, dtype=x.dtype.to_complex())

    def resample(self, planes: Tensor, out: Tensor) -> Tensor:
        """Planes ``(at most n_planes, rows, columns)`` on this grid."""
        spectrum = torch.fft.rfft(planes, norm="forward")[..., : self.keep[1] + 1]
        spectrum = torch.fft.fft(spectrum, dim=-2, norm="forward")
        values, rows = self.values[: len(planes)], self.keep[0]
        values[:, : rows + 1] = spectrum[:, : rows + 1]
        values[:, values.shape[1] - rows :] = spectrum[:, spectrum.shape[1] - rows :]
        return torch.fft.irfft(torch.fft.ifft(values, dim=-2, norm="forward"), self.size[1], norm="forward", out=out)


def _at_a_time(*sizes: Size) -> int:
    """As many planes as stay in the cache together."""
    return max(1, IN_CACHE // max(prod(size) for size in sizes))


def _resampled(x: Tensor, size: Size, scale: float = 1.0) -> Tensor:
    y, n_planes = x.new_empty(*x.shape[:2], *size), _at_a_time(x.shape[2:], size)
    half = _Half(x, x.shape[2:], size, n_planes)
    for planes, results in zip(x.flatten(0, 1).split(n_planes), y.flatten(0, 1).split(n_planes), strict=True):
        half.resample(planes, results)
    return y if scale == 1 else y.mul_(scale)


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Size) -> Tensor:
        ctx.old = x.shape[2:]
        return _resampled(x, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        scale = prod(grad.shape[2:]) / prod(ctx.old)
        if must_be_differentiable(grad):
            return _Resample.apply(grad, tuple(ctx.old)) * scale, None
        return _resampled(grad, ctx.old, scale), None


class _Product(torch.autograd.Function):
    """Keeps the fine grid of each plane for the backward pass, and nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: Tensor, product: Tensor, fine_size: Size) -> Tensor:
        size, n_channels, n_planes = x.shape[2:], x.shape[1], _at_a_time(fine_size)
        finer, coarser = _Half(x, size, fine_size, n_planes), _Half(x, fine_size, size, n_planes)
        learns = any(ctx.needs_input_grad)
        # of each sample the last channel, and then all in turn: v below, each after the one that it is multiplied by
        kept = x.new_empty(len(x) if learns else 1, (n_channels if learns else n_planes) + 1, *fine_size)
        result, y = x.new_empty(n_planes, *fine_size), torch.empty_like(x, memory_format=torch.contiguous_format)
        a, b = linear.view(-1, 1, 1), product.view(-1, 1, 1)
        for n, (planes, outputs) in enumerate(zip(x, y, strict=True)):
            v = kept[n if learns else 0]
            finer.resample(planes[-1:], v[:1])
            for first in range(0, n_channels, n_planes):
                chosen = slice(first, min(first + n_planes, n_channels))
                start, stop = (chosen.start, chosen.stop) if learns else (0, chosen.stop - first)
                finer.resample(planes[chosen], v[start + 1 : stop + 1])
                part = torch.mul(v[start:stop], b[chosen], out=result[: stop - start])
                coarser.resample(part.add_(a[chosen]).mul_(v[start + 1 : stop + 1]), outputs[chosen])
                if not learns:
                    v[0] = v[stop]
        ctx.save_for_backward(kept, linear, product)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """With v on the fine grid and g its gradient's, of channel c: a g + b g v_(c-1) + b_(c+1) g_(c+1) v_(c+1)."""
        kept, linear, product = ctx.saved_tensors
        size, fine_size, n_channels = grad.shape[2:], kept.shape[2:], grad.shape[1]
        n_planes = _at_a_time(fine_size)
        finer, coarser = _Half(grad, size, fine_size, n_planes), _Half(grad, fine_size, size, n_planes)
        x_grad = torch.empty_like(grad, memory_format=torch.contiguous_format)
        g, g_v = (grad.new_empty(n_planes + 1, *fine_size) for _ in range(2))
        part, other = (grad.new_empty(n_planes, *fine_size) for _ in range(2))
        a, b = linear.view(-1, 1, 1), product.view(-1, 1, 1)
        b_after, sums = b.roll(-1, 0), grad.new_empty(len(grad), 2, n_channels)
        for n, (planes, v) in enumerate(zip(grad, kept, strict=True)):
            torch.mul(finer.resample(planes[:1], g[:1]), v[1:2], out=g_v[:1])
            for first in range(0, n_channels, n_planes):
                last = min(first + n_planes, n_channels)
                chosen, k, inside = slice(first, last), last - first, min(last + 1, n_channels) - first
                if inside > 1:
                    finer.resample(planes[first + 1 : first + inside], g[1:inside])
                    torch.mul(g[1:inside], v[first + 2 : first + inside + 1], out=g_v[1:inside])
                if inside == k:  # after the last channel comes the first
                    torch.mul(finer.resample(planes[:1], g[k : k + 1]), v[1:2], out=g_v[k : k + 1])
                before = v[chosen]
                sums[n, 0, chosen] = g_v[:k].sum((1, 2))
                sums[n, 1, chosen] = torch.linalg.vecdot(g_v[:k].flatten(1), before.flatten(1))
                result = torch.mul(before, b[chosen], out=part[:k]).add_(a[chosen]).mul_(g[:k])
                result.add_(torch.mul(g_v[1 : k + 1], b_after[chosen], out=other[:k]))
                coarser.resample(result, x_grad[n, chosen])
                g[0], g_v[0] = g[k], g_v[k]
        of_linear, of_product = (sums.sum(0) * (prod(size) / prod(fine_size))).unbind(0)
        return x_grad, of_linear, of_product, None
