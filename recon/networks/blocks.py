"""The U-Net's block of two convolutions: MONAI's, in fewer passes where there are kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from recon.layers import can_fuse, circular_shift, is_circular, normalise_activate
from recon.layers.ops import join


class ConvBlock(TwoConv):
    """Twice: convolution, normalisation, activation. Parameters and state dict are those of MONAI's TwoConv.

    Where there are kernels, the shift and the concatenation of the up path, and normalisation, activation and padding,
    are one pass each; otherwise, and where somebody hooks into the block, MONAI's own modules run.
    """

    def forward(self, x: Tensor, up: Tensor | None = None, shifts: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: ``(batch, channel, *spatial)``.
            up: more channels, concatenated to x.
            shifts: int64 ``(batch, spatial_dims)``: ``up`` is first shifted by so many pixels.

        Returns:
            ``(batch, out_channels, *spatial)``.
        """
        if not self._fuses(x):
            if up is not None:
                x = torch.cat([x, up if shifts is None else circular_shift(up, shifts)], dim=1)
            result: Tensor = super().forward(x)
            return result
        pad = int(is_circular(self.conv_0.conv))
        if up is not None or pad:
            x = join([x] if up is None else [x, up], shifts, [pad] * 4)
        x = _run(self.conv_0, x, pad, pad)
        return _run(self.conv_1, x, pad, 0)

    def _fuses(self, x: Tensor) -> bool:
        for module in self.modules():
            if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
                return False
        parts = (self.conv_0, self.conv_1)
        return all(can_fuse(x, part.adn.N, part.adn.A) and not _drops(part.adn) for part in parts)


def _drops(adn: nn.Module) -> bool:
    dropout = getattr(adn, "D", None)
    return dropout is not None and adn.training and dropout.p > 0


def _run(part: Convolution, x: Tensor, pad: int, pad_after: int) -> Tensor:
    """Convolve x, which is padded by ``pad`` already, or else padded with zeros on the way."""
    conv = part.conv
    y = F.conv2d(x, conv.weight, conv.bias, conv.stride, 0 if pad else conv.padding, conv.dilation, conv.groups)
    return normalise_activate(y, part.adn.N, part.adn.A, pad_after)
