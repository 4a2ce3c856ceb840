"""The kernels' gradients in plain torch, which can be differentiated again and mapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.layers.padding import circular_pad
from recon.layers.phases import circular_shift, phase_offsets, split_phases


def join_back(
    grad: Tensor,
    n_channels: Sequence[int],
    by_phases: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """See :func:`recon.layers.ops.join_back_op`."""
    top, bottom, left, right = pads
    shapes = [(n, *size) for n in n_channels]
    if by_phases:
        shapes[-1] = (4 * n_channels[-1], size[0] // 2, size[1] // 2)

    def join(*images: Tensor) -> Tensor:
        *first, last = images
        last = F.pixel_shuffle(last, 2) if by_phases else last
        last = last if shifts is None else circular_shift(last, shifts)
        return circular_pad(torch.cat([*first, last], 1), [(top, bottom), (left, right)])

    zeros = [grad.new_zeros(grad.shape[0], *shape) for shape in shapes]
    return list(_gradients(join, zeros, grad))


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """See :func:`recon.layers.ops.pool_back`."""
    index, shifts = where.long().unsqueeze(1), -phase_offsets(phase, 2, 2)

    def pick(x: Tensor) -> Tensor:
        return split_phases(circular_shift(x, shifts), 2).gather(1, index).squeeze(1)

    batch, channels, rows, columns = grad.shape
    return _gradients(pick, [grad.new_zeros(batch, channels, 2 * rows, 2 * columns)], grad)[0]


def normalise_back(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    over: str,
    eps: float,
    slope: float,
    pad: int,
) -> tuple[Tensor, ...]:
    """See :func:`recon.layers.ops.normalise_back`."""

    def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean, scale = (statistic[..., None, None] for statistic in statistics.unbind(-1))
        if over != "given":
            axes = (2, 3) if over == "plane" else (0, 2, 3)
            variance, mean = torch.var_mean(x.double(), axes, correction=0, keepdim=True)
            scale = (variance + eps).rsqrt()
        weight, bias = weight[:, None, None], bias[:, None, None]
        z = (x - mean.to(x)) * (scale * weight).to(x) + bias
        return circular_pad(F.leaky_relu(z, slope), [(pad, pad), (pad, pad)])

    return _gradients(normalise, [x, weight, bias], grad)


def _gradients(function: Any, inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        gradients: tuple[Tensor, ...] = torch.func.vjp(function, *inputs)[1](grad)
    return gradients
