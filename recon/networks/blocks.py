"""The U-Net's blocks: MONAI's, in fewer passes where there are kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from recon.kernels.join import join
from recon.kernels.switches import has_kernels
from recon.layers import can_fuse, circular_shift, is_circular, is_plain, normalise_activate


class ConvBlock(TwoConv):
    """Twice: convolution, normalisation, activation. Parameters and state dict are those of MONAI's TwoConv.

    Where there are kernels, the shift and the concatenation of the up path are one pass, and so are normalisation,
    activation and padding; otherwise, and where somebody hooks into the block, MONAI's own modules run.
    """

    def forward(self, x: Tensor, up: Tensor | None = None, shifts: Tensor | None = None) -> Tensor:
        """Convolve x, or x and what comes up from the coarser level.

        Args:
            x: ``(batch, channel, *spatial)``.
            up: more channels, of the same size or by their phases (see :func:`upsample_phases`).
            shifts: int64 ``(batch, spatial_dims)``, by which ``up`` is shifted first, in pixels.

        Returns:
            ``(batch, out_channels, *spatial)``.
        """
        by_phases = up is not None and up.shape[2:] != x.shape[2:]
        if not self._fuses(x):
            if up is not None:
                up = F.pixel_shuffle(up, 2) if by_phases else up
                x = torch.cat([x, up if shifts is None else circular_shift(up, shifts)], dim=1)
            result: Tensor = super().forward(x)
            return result
        first: Any = self.conv_0
        pad = int(is_circular(first.conv))
        if up is not None or pad:
            images = [x] if up is None or by_phases else [x, up]
            x = join(images, up if by_phases else None, shifts, [pad] * 4)
        x = _convolve(first, x, padded=pad, pad=pad)
        return _convolve(self.conv_1, x, padded=pad, pad=0)

    def _fuses(self, x: Tensor) -> bool:
        parts: tuple[Any, Any] = (self.conv_0, self.conv_1)
        known = all(is_plain(part.conv) and can_fuse(x, part.adn.N, part.adn.A) for part in parts)
        return known and not any(_drops(part.adn) for part in parts) and not _is_watched(self)


def _drops(adn: Any) -> bool:
    dropout = getattr(adn, "D", None)
    return dropout is not None and adn.training and dropout.p > 0


def _is_watched(module: nn.Module) -> bool:
    """Whether a hook waits inside, for which the modules must run one by one."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(m, name) for m in module.modules() for name in hooks)


def _convolve(part: Any, x: Tensor, padded: int, pad: int) -> Tensor:
    """Convolution, normalisation and activation of x, which is already ``padded``; with a ``pad`` for the next."""
    conv = part.conv
    y = F.conv2d(x, conv.weight, conv.bias, conv.stride, 0 if padded else conv.padding, conv.dilation, conv.groups)
    return normalise_activate(y, part.adn.N, part.adn.A, pad)


def upsample_phases(up: nn.Module, x: Tensor) -> Tensor | None:
    """The transposed convolution by the phases of its output: each is a 1 x 1 convolution, in one matrix product.

    Args:
        up: MONAI's up-sampling by a transposed convolution whose kernel and stride are equal.
        x: ``(batch, channel, rows, columns)``.

    Returns:
        ``(batch, 4 out_channels, rows, columns)`` in pixel_shuffle's order, ``up(x) == pixel_shuffle(phases, 2)``; or
        None where there are no kernels that take it so, or another up-sampling.
    """
    if not has_kernels(x) or _is_watched(up):
        return None
    transposed = getattr(up, "deconv", None)
    if not isinstance(transposed, nn.ConvTranspose2d) or not is_plain(transposed):
        return None
    geometry = (transposed.kernel_size, transposed.stride, transposed.padding, transposed.output_padding)
    if geometry != ((2, 2), (2, 2), (0, 0), (0, 0)) or (transposed.dilation, transposed.groups) != ((1, 1), 1):
        return None
    weight = transposed.weight.permute(1, 2, 3, 0).reshape(-1, transposed.in_channels, 1, 1)
    bias = None if transposed.bias is None else transposed.bias.repeat_interleave(4)
    return F.conv2d(x, weight, bias)
