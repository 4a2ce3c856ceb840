"""Circular padding: with it a convolution or a pooling commutes with circular shifts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.kernels import reference
from recon.kernels.join import shift_join_pad
from recon.kernels.switches import has_kernels, runs_eagerly

Pads = Sequence[tuple[int, int]]
PADDING_MODES = ("circular", "zeros")


def _regions(size: Sequence[int], pads: Pads) -> Iterator[tuple[Any, Any]]:
    """Pairs (where in the padded tensor, where in the one that is padded), the centre first."""
    axes = []
    for n, (left, right) in zip(size, pads, strict=True):
        parts = [(slice(left, left + n), slice(0, n))]
        if left:
            parts.append((slice(0, left), slice(n - left, n)))
        if right:
            parts.append((slice(left + n, left + n + right), slice(0, right)))
        axes.append(parts)
    for combination in product(*axes):
        yield (..., *(p for p, _ in combination)), (..., *(q for _, q in combination))


class _CircularPad(torch.autograd.Function):
    """torch's own circular pad has a backward several times slower; this one adds the borders back."""

    @staticmethod
    def forward(ctx, x: Tensor, pads: Pads) -> Tensor:  # type: ignore[no-untyped-def]
        size = x.shape[-len(pads) :]
        ctx.size, ctx.pads = size, pads
        out = x.new_empty(*x.shape[: -len(pads)], *(n + a + b for n, (a, b) in zip(size, pads, strict=True)))
        for padded, unpadded in _regions(size, pads):
            out[padded] = x[unpadded]
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        if runs_eagerly(grad):
            return _CircularPadBackward.apply(grad, ctx.size, ctx.pads), None
        x = grad.new_zeros(*grad.shape[: -len(ctx.pads)], *ctx.size)
        return torch.func.vjp(lambda x: reference.pad(x, ctx.pads), x)[1](grad)[0], None


class _CircularPadBackward(torch.autograd.Function):
    """The adjoint of the pad, itself differentiable (its adjoint is the pad)."""

    @staticmethod
    def forward(ctx, grad: Tensor, size: torch.Size, pads: Pads) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.pads = pads
        regions = _regions(size, pads)
        out = grad[next(regions)[0]].clone(memory_format=torch.contiguous_format)
        for padded, unpadded in regions:
            out[unpadded] += grad[padded]
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return circular_pad(grad, ctx.pads), None, None


def circular_pad(x: Tensor, pads: Pads) -> Tensor:
    """Pad periodically: y[n] = x[(n - left) mod size] on each spatial axis.

    Args:
        x: ``(batch, channel, *spatial)``.
        pads: (left, right) for each spatial axis in the tensor's order; more than a whole period is allowed.

    Returns:
        ``(batch, channel, *(left + size + right))``.

    There are three forms, with one result: which runs when is in the table of recon/kernels/README.md.
    """
    if not any(a or b for a, b in pads):
        return x
    size = x.shape[-len(pads) :]
    if len(pads) == 2 and has_kernels(x):
        return shift_join_pad([x], pads=[*pads[0], *pads[1]])
    if runs_eagerly(x) and all(a <= n and b <= n for n, (a, b) in zip(size, pads, strict=True)):
        return _CircularPad.apply(x, tuple(pads))
    return reference.pad(x, pads)


torch.fx.wrap("circular_pad")  # torch.fx records a call as one node; see recon.layers.tracing


class _CircularConv(nn.modules.conv._ConvNd):
    """A convolution that pads circularly by its own ``padding``; parameters and state dict are torch's."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.padding, str):
            raise InputError(f"padding={self.padding!r} has no circular form here: give it in pixels")
        pads = [(p, p) for p in self.padding]
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(pads) - 1]
        return convolve(circular_pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _CircularConvTranspose(nn.modules.conv._ConvTransposeNd):
    """A transposed convolution whose output, of size stride * size, wraps around.

    y[j] = sum_i x[i] w[j + padding - stride i] with i over all periods: the input is padded by the samples that
    reach in from outside and the overhang is cut off. Commutes with circular shifts (by the stride times).
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise InputError("a circular transposed convolution makes the image stride times larger: no output_size")
        pads: list[tuple[int, int]] = []
        crops: list[slice] = []
        for n, s, k, p, dilation, extra in zip(
            x.shape[2:], self.stride, self.kernel_size, self.padding, self.dilation, self.output_padding, strict=True
        ):
            reach = dilation * (k - 1)
            if not isinstance(p, int) or reach + 1 - 2 * p + extra != s:
                raise InputError(
                    f"a circular transposed convolution must make the image {s} times larger, but kernel {k}, "
                    f"dilation {dilation}, padding {p} and output_padding {extra} do not"
                )
            left, right = max((reach - p) // s, 0), (s - 1 + p) // s
            pads.append((left, right))
            crops.append(slice(left * s + p, (left + n) * s + p))
        transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(pads) - 1]
        x = circular_pad(x, pads)
        full = transpose(x, self.weight, self.bias, self.stride, 0, self.output_padding, self.groups, self.dilation)
        return full[(slice(None), slice(None), *crops)]


class CircularConv1d(_CircularConv, nn.Conv1d):
    """A 1-D convolution that pads circularly."""


class CircularConv2d(_CircularConv, nn.Conv2d):
    """A 2-D convolution that pads circularly."""


class CircularConv3d(_CircularConv, nn.Conv3d):
    """A 3-D convolution that pads circularly."""


class CircularConvTranspose1d(_CircularConvTranspose, nn.ConvTranspose1d):
    """A 1-D transposed convolution that wraps around."""


class CircularConvTranspose2d(_CircularConvTranspose, nn.ConvTranspose2d):
    """A 2-D transposed convolution that wraps around."""


class CircularConvTranspose3d(_CircularConvTranspose, nn.ConvTranspose3d):
    """A 3-D transposed convolution that wraps around."""


_CIRCULAR: dict[type, type] = {
    nn.Conv1d: CircularConv1d,
    nn.Conv2d: CircularConv2d,
    nn.Conv3d: CircularConv3d,
    nn.ConvTranspose1d: CircularConvTranspose1d,
    nn.ConvTranspose2d: CircularConvTranspose2d,
    nn.ConvTranspose3d: CircularConvTranspose3d,
}
_OF_TORCH = {circular: torchs for torchs, circular in _CIRCULAR.items()}


def is_circular(convolution: nn.Module) -> bool:
    """Whether a (transposed) convolution pads circularly."""
    return isinstance(convolution, _CircularConv | _CircularConvTranspose)


def is_unmodified(convolution: nn.Module) -> bool:
    """Whether a 2-D (transposed) convolution runs torch's forward or ours here, and not one of somebody's subclass."""
    forwards = (nn.Conv2d.forward, _CircularConv.forward, nn.ConvTranspose2d.forward, _CircularConvTranspose.forward)
    return isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) and type(convolution).forward in forwards


def set_padding_mode(module: nn.Module, mode: str) -> Any:
    """Make every (transposed) convolution inside ``module`` pad "circular" or "zeros", in place.

    Only what happens at the border changes: parameters, hooks and state-dict keys stay. For networks whose
    blocks, like MONAI's, do not take a padding mode.

    Returns:
        The module.

    Raises:
        InputError: an unknown mode.
    """
    check_choice("padding", mode, PADDING_MODES)
    classes = _CIRCULAR if mode == "circular" else _OF_TORCH
    for child in module.modules():
        if type(child) in classes:
            child.__class__ = classes[type(child)]
    return module
