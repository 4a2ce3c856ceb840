"""Circular pad, shift of each sample, and the operators' gradients, of torch's own operators alone.

So they can be transformed, exported, and (the gradients, which torch itself derives from the forward forms written out
here) differentiated again. The layers run other forms wherever they may, since those are faster: README.md beside this
file has the table of which one runs when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Pad periodically, y[n] = x[(n - left) mod size], axis by axis.

    Args:
        x: ``(batch, channel, *spatial)``.
        pads: (left, right) for each spatial axis; more than a whole period is allowed.

    Returns:
        ``(batch, channel, *(left + size + right))``.
    """
    for axis, (left, right) in enumerate(pads, x.dim() - len(pads)):
        n = x.shape[axis]
        if left > n or right > n:
            x = x.index_select(axis, torch.arange(-left, n + right, device=x.device) % n)
        elif left or right:
            x = torch.cat([x.narrow(axis, n - left, left), x, x.narrow(axis, 0, right)], axis)
    return x


def shift(x: Tensor, shifts: Tensor) -> Tensor:
    """Shift each sample circularly by its own vector, y[b, c, n] = x[b, c, (n - shifts[b]) mod size].

    It is one gather, so that a GPU need not tell the host its shifts.

    Args:
        x: ``(batch, channel, *spatial)``.
        shifts: int64 ``(batch, spatial_dims)``, in pixels.

    Returns:
        The shape of ``x``.
    """
    batch, channels, *size = x.shape
    index = torch.zeros((batch,) + (1,) * len(size), dtype=torch.int64, device=x.device)
    for axis, n in enumerate(size):
        side = torch.full((), n, dtype=torch.int64, device=x.device)  # ONNX takes no remainder of a symbol
        source = (torch.arange(n, device=x.device) - shifts[:, axis, None]).remainder(side)
        index = index * n + source.view(batch, *(n if i == axis else 1 for i in range(len(size))))
    flat = index.reshape(batch, 1, -1).expand(-1, channels, -1)
    return x.reshape(batch, channels, -1).gather(2, flat).reshape(x.shape)


def join_back(
    grad: Tensor,
    n_channels: Sequence[int],
    by_components: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The gradient of :func:`recon.kernels.join.shift_join_pad`; what ``join_back_op`` computes."""
    top, bottom, left, right = pads
    shapes = [(n, *size) for n in n_channels]
    if by_components:
        shapes[-1] = (4 * n_channels[-1], size[0] // 2, size[1] // 2)

    def join(*images: Tensor) -> Tensor:
        *first, last = images
        last = F.pixel_shuffle(last, 2) if by_components else last
        last = last if shifts is None else shift(last, shifts)
        return pad(torch.cat([*first, last], 1), [(top, bottom), (left, right)])

    zeros = [grad.new_zeros(grad.shape[0], *shape) for shape in shapes]
    return list(_gradients(join, zeros, grad))


def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The gradient of :func:`recon.kernels.pool.pool`, given the phases and where in their windows the maxima are."""
    offsets, index = torch.stack([phase // 2, phase % 2], 1), where.long().unsqueeze(2)

    def pick(x: Tensor) -> Tensor:
        windows = F.pixel_unshuffle(shift(x, -offsets), 2).unflatten(1, (-1, 4))
        return windows.gather(2, index).squeeze(2)

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
    border: int,
) -> tuple[Tensor, ...]:
    """The gradients of :func:`recon.kernels.normalise.normalise` for x, weight and bias; ``border`` is its ``pad``."""

    def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean, scale = (statistic[..., None, None] for statistic in statistics.unbind(-1))
        if over != "given":
            axes = (2, 3) if over == "plane" else (0, 2, 3)
            variance, mean = torch.var_mean(x.double(), axes, correction=0, keepdim=True)
            scale = (variance + eps).rsqrt()
        weight, bias = weight[:, None, None], bias[:, None, None]
        z = (x - mean.to(x)) * (scale * weight).to(x) + bias
        return pad(F.leaky_relu(z, slope), [(border, border), (border, border)])

    return _gradients(normalise, [x, weight, bias], grad)


def _gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        gradients: tuple[Tensor, ...] = torch.func.vjp(function, *inputs)[1](grad)
    return gradients
