"""The operators of :mod:`recon.layers` on CPU images, by compiled loops; tensors in, tensors out, no autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from recon.compiled import share_out
from recon.layers import _cpu_loops as loops


def _planes(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1, *x.shape[2:]).numpy()


def _phases(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1, 4, *x.shape[2:]).numpy()


def _share(loop: Callable[..., None], planes: Sequence[np.ndarray], *rest: object) -> None:
    """Run a loop over arrays whose first axis is the planes', split between the threads; ``rest`` goes to all."""
    work = max(array.size for array in planes)
    share_out(lambda a, b: loop(*(array[a:b] for array in planes), *rest), len(planes[0]), work)


def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool 2 x 2 in the phase of the most energy: pooled images, phases, and each maximum's place in its window."""
    batch, channels, rows, columns = x.shape
    planes = _planes(x)
    energies = np.empty((len(planes), 4))
    _share(loops.pool_energies, (planes, energies))
    phase = torch.from_numpy(energies.reshape(batch, channels, 4).sum(1)).argmax(1)
    chosen = phase.repeat_interleave(channels).numpy()
    pooled = x.new_empty(batch, channels, rows // 2, columns // 2)
    where = torch.empty(pooled.shape, dtype=torch.uint8)
    _share(loops.pool_pick, (planes, chosen, _planes(pooled), _planes(where)))
    return pooled, phase, where


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima."""
    batch, channels, rows, columns = grad.shape
    result = grad.new_empty(batch, channels, 2 * rows, 2 * columns)
    bits = np.int32 if grad.dtype == torch.float32 else np.int64
    chosen = phase.repeat_interleave(channels).numpy()
    _share(loops.pool_back, (_planes(grad).view(bits), chosen, _planes(where), _planes(result).view(bits)))
    return result


def join(images: Sequence[Tensor], phases: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """Concatenate the channels of images, the last of them shifted (and by its phases, if so given), and pad."""
    top, bottom, left, right = pads
    batch, _, rows, columns = images[0].shape
    n_channels = [x.shape[1] for x in images] + ([] if phases is None else [phases.shape[1] // 4])
    result = images[0].new_empty(batch, sum(n_channels), rows + top + bottom, columns + left + right)
    targets = _targets(n_channels, shifts, (rows, columns), batch)
    for x, target in zip(images, targets, strict=False):
        _share(loops.place, (_planes(x), *target), top, left, _planes(result))
    if phases is not None:
        _share(loops.place_phases, (_phases(phases), *targets[-1]), top, left, _planes(result))
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
    batch, results = len(grad), []
    for i, (n, target) in enumerate(zip(n_channels, _targets(n_channels, shifts, size, batch), strict=True)):
        if by_phases and i == len(n_channels) - 1:
            results.append(grad.new_empty(batch, 4 * n, size[0] // 2, size[1] // 2))
            _share(loops.collect_phases, (_phases(results[-1]), *target), pads[0], pads[2], _planes(grad))
        else:
            results.append(grad.new_empty(batch, n, *size))
            _share(loops.collect, (_planes(results[-1]), *target), pads[0], pads[2], _planes(grad))
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


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, given: Tensor | None, over: str, eps: float, slope: float, pad: int
) -> tuple[Tensor, Tensor]:
    """Normalise, activate and pad; also the statistics ``(batch, channel, 2)``: mean, 1 / deviation."""
    batch, channels, rows, columns = x.shape
    planes = _planes(x)
    statistics = torch.empty(batch, channels, 2, dtype=torch.float64)
    if over == "batch":
        sums = np.empty((len(planes), 2))
        _share(loops.moments, (planes, sums))
        mean, square = (sums.reshape(batch, channels, 2).sum(0) / (batch * rows * columns)).T
        deviation = np.sqrt(np.maximum(square - mean**2, 0) + eps)
        statistics.copy_(torch.from_numpy(np.stack([mean, 1 / deviation], axis=1)))
    elif given is not None:
        statistics.copy_(given)
    result = x.new_empty(batch, channels, rows + 2 * pad, columns + 2 * pad)
    parts = (planes, statistics.view(-1, 2).numpy(), _affine(weight, bias, batch), _planes(result))
    _share(loops.normalise, parts, eps, over == "plane", slope, pad)
    return result, statistics


def normalise_back(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, over: str, slope: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`normalise` for x, weight and bias."""
    batch, channels = x.shape[:2]
    planes, result = _planes(x), torch.empty_like(x, memory_format=torch.contiguous_format)
    numbers, affine = statistics.view(-1, 2).numpy(), _affine(weight, bias, batch)
    sums, out = np.empty((len(planes), 2)), _planes(result)
    _share(loops.normalise_back, (_planes(grad), planes, numbers, affine, sums, out), slope, pad, over == "plane")
    mean, scale = numbers.T
    totals = sums.reshape(batch, channels, 2)
    if over != "plane":
        means = totals.sum(0) / (x.numel() / channels) if over == "batch" else np.zeros((channels, 2))
        first, second = np.tile(means, (batch, 1)).T
        rest = np.stack([mean, scale * affine[:, 0], first, second * scale**2], axis=1)
        _share(loops.statistics_back, (planes, rest, out))
    weights = (totals[:, :, 1] * scale.reshape(batch, channels)).sum(0)
    biases = totals[:, :, 0].sum(0)
    return result, torch.from_numpy(weights).to(x.dtype), torch.from_numpy(biases).to(x.dtype)


def _affine(weight: Tensor, bias: Tensor, batch: int) -> np.ndarray:
    """Weight and bias of each plane, float64."""
    affine = np.empty((batch, len(weight), 2))
    affine[:, :, 0], affine[:, :, 1] = weight.detach().numpy(), bias.detach().numpy()
    return affine.reshape(-1, 2)
