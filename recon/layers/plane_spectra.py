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

BY_MATRICES = 96  # the largest side of a plane for which matrix products are as fast

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


def quadratic(x: Tensor, linear: Tensor, square: Tensor, fine_size: Size, sizes: Sequence[Size]) -> tuple[Tensor, ...]:
    """As :meth:`recon.layers.spectrum.Quadratic.forward`, by way of a grid of ``fine_size``."""
    if max(x.shape[2:]) <= BY_MATRICES:
        fine = _by_matrices(x, fine_size)
        a, b = linear.view(-1, 1, 1), square.view(-1, 1, 1)
        y = fine * torch.addcmul(a, b, fine)
        return tuple(_by_matrices(y, size) for size in sizes)
    outputs: tuple[Tensor, ...] = _Quadratic.apply(
        x, linear, square, tuple(fine_size), tuple(map(tuple, sizes)), torch.is_grad_enabled()
    )
    return outputs


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
    """A half spectrum on a grid of ``size``, 0 above ``keep``, that is filled again and again."""

    def __init__(self, x: Tensor, old: Size, size: Size) -> None:
        self.size, self.keep = size, _keep(old, size)
        dtype = torch.complex64 if x.dtype == torch.float32 else torch.complex128
        self.values = torch.zeros(size[0], self.keep[1] + 1, dtype=dtype)

    def plane(self, spectrum: Tensor) -> Tensor:
        """The plane ``size`` of what is kept of a half spectrum."""
        return _to_plane(_into(spectrum, self.values, self.keep), self.size[1])


def _resampled(x: Tensor, size: Size, scale: float = 1.0) -> Tensor:
    planes, y = x.flatten(0, 1), x.new_empty(prod(x.shape[:2]), *size)
    half = _Half(x, x.shape[2:], size)
    for plane, result in zip(planes, y, strict=True):
        torch.mul(half.plane(_to_half(plane, half.keep[1] + 1)), scale, out=result)
    return y.view(*x.shape[:2], *size)


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


class _Quadratic(torch.autograd.Function):
    """Keeps the fine grid of each plane for the backward pass, and nothing else."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linear: Tensor, square: Tensor, fine_size: Size, sizes: Sequence[Size], learns: bool
    ) -> Any:
        old, n_planes = x.shape[2:], prod(x.shape[:2])
        fine = _Half(x, old, fine_size)
        coarse = [_Half(x, old, size) for size in sizes]
        outputs = [x.new_empty(n_planes, *size) for size in sizes]
        wanted = learns and any(ctx.needs_input_grad)
        kept = x.new_empty(n_planes, *fine_size) if wanted else None
        for number, (plane, a, b) in enumerate(zip(x.flatten(0, 1), *_of_planes(len(x), linear, square), strict=True)):
            v = fine.plane(_to_half(plane, fine.keep[1] + 1))
            if kept is not None:
                kept[number] = v
            spectrum = _to_half(v.mul(b).add_(a).mul_(v), fine.keep[1] + 1)
            for half, output in zip(coarse, outputs, strict=True):
                output[number] = half.plane(spectrum)
        ctx.shape, ctx.sizes = x.shape, sizes
        ctx.save_for_backward(kept, linear, square)
        return tuple(y.view(*x.shape[:2], *y.shape[1:]) for y in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        kept, linear, square = ctx.saved_tensors
        old, fine_size = ctx.shape[2:], kept.shape[1:]
        fine, coarse = _Half(kept, old, fine_size), _Half(kept, old, old)
        n_frequencies = fine.keep[1] + 1
        flat = [grad.flatten(0, 1) for grad in grads]
        result = kept.new_empty(len(kept), *old)
        of_linear, of_square = (kept.new_empty(len(kept)) for _ in range(2))
        for number, (v, a, b) in enumerate(zip(kept, *_of_planes(ctx.shape[0], linear, square), strict=True)):
            fine.values.zero_()
            for size, grad in zip(ctx.sizes, flat, strict=True):
                keep = _keep(old, size)
                spectrum = _to_half(grad[number], keep[1] + 1).mul_(prod(size) / prod(old))
                _add(spectrum, fine.values, keep)
            g = _to_plane(fine.values, fine_size[1])
            of_linear[number], of_square[number] = torch.dot(g.view(-1), v.view(-1)), (g * v).view(-1).dot(v.view(-1))
            result[number] = coarse.plane(_to_half(v.mul(2 * b).add_(a).mul_(g), n_frequencies))
        scale = prod(old) / prod(fine_size)
        sums = (part.view(ctx.shape[:2]).sum(0) * scale for part in (of_linear, of_square))
        return result.view(ctx.shape), *sums, None, None, None


def _add(spectrum: Tensor, target: Tensor, keep: tuple[int, int]) -> None:
    rows, columns = keep[0], keep[1] + 1
    target[: rows + 1, :columns] += spectrum[: rows + 1, :columns]
    target[len(target) - rows :, :columns] += spectrum[len(spectrum) - rows :, :columns]


def _of_planes(batch: int, linear: Tensor, square: Tensor) -> list[list[float]]:
    """The coefficients of each plane, as numbers."""
    return [values.repeat(batch).tolist() for values in (linear, square)]
