"""Torch's operations on a periodic image: where an ordinary one would look beyond the border, these wrap around.

Each has ``side / step`` outputs, or ``side * step``, whatever the padding was: output m looks from pixel
``step m - left`` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.layers.padding import circular_pad

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic")


def pad_for_windows(x: Tensor, left: Sequence[int], span: Sequence[int], step: Sequence[int]) -> Tensor:
    """Pad periodically, so that windows without any padding of their own are exactly side / step.

    Args:
        x: ``(batch, channel, *spatial)``, each side a multiple of the step.
        left: how far the first window reaches beyond the first pixel, on each spatial axis.
        span: sides of the window, dilation included.
        step: between two windows.

    Returns:
        ``(batch, channel, *(side + span - step))``.
    """
    right = [length - s - first for first, length, s in zip(left, span, step, strict=True)]
    x = circular_pad(x, [(first, max(last, 0)) for first, last in zip(left, right, strict=True)])
    for axis, last in enumerate(right, start=2):
        if last < 0:
            x = x.narrow(axis, 0, x.shape[axis] + last)
    return x


def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """A transposed convolution that wraps around: y[j] = sum_i x[i] w[j + padding - stride i], i over all periods.

    Args:
        x: ``(batch, channel, *spatial)``.
        weight: ``(channel, out_channels / groups, *kernel)``.
        bias, stride, padding, dilation, groups: as torch's.

    Returns:
        ``(batch, out_channels, *(stride * side))``.
    """
    pads, crops = [], []
    for n, k, s, p, spread in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True):
        left, right = max((spread * (k - 1) - p) // s, 0), (s - 1 + p) // s
        pads.append((left, right))
        crops.append(slice(left * s + p, (left + n) * s + p))
    transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(pads) - 1]
    longer = [s - 1 for s in stride]  # so that there are stride * side outputs for the shortest kernel, too
    full = transpose(circular_pad(x, pads), weight, bias, list(stride), 0, longer, groups, list(dilation))
    return full[(slice(None), slice(None), *crops)]


def _weights(mode: str, index: int, ratio: Fraction) -> dict[int, float]:
    """Which pixels make output ``index``, and how much of each: {pixel: weight}. ``ratio`` is old side / new side."""
    if mode.startswith("nearest"):
        return {floor((index + (Fraction(1, 2) if mode == "nearest-exact" else 0)) * ratio): 1.0}
    position = (index + Fraction(1, 2)) * ratio - Fraction(1, 2)
    first, rest = floor(position), float(position - floor(position))
    if mode != "bicubic":
        return {first: 1 - rest, first + 1: rest}
    a = -0.75  # torch's

    def near(t: float) -> float:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: float) -> float:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return {first - 1: far(1 + rest), first: near(rest), first + 1: near(1 - rest), first + 2: far(2 - rest)}


def resample(x: Tensor, axis: int, ratio: Fraction, mode: str) -> Tensor:
    """Interpolate a periodic image along one axis by a whole factor, as ``F.interpolate`` does away from the border.

    Args:
        x: any shape.
        axis: the one that changes.
        ratio: old side / new side: s or 1 / s.
        mode: one of ``MODES``, with align_corners=False.

    Returns:
        Shape of ``x``, the axis divided by the ratio.
    """
    new = []
    for index in range(ratio.denominator):
        pixels = [(pixel, w) for pixel, w in _weights(mode, index, ratio).items() if w]
        parts = [x.roll(-pixel, axis) if pixel else x for pixel, _ in pixels]
        total = pixels[0][1] * parts[0]
        for part, (_, w) in zip(parts[1:], pixels[1:], strict=True):
            total = total + w * part
        new.append(total)
    axis %= x.dim()
    if ratio.denominator > 1:
        return torch.stack(new, axis + 1).flatten(axis, axis + 1)
    return new[0][(slice(None),) * axis + (slice(None, None, ratio.numerator),)]
