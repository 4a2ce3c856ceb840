"""A U-Net that commutes with every translation, by whole pixels or between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import can_fuse, check_multiples, normalise_activate, set_padding_mode
from recon.layers.spectrum import Product, resample

IDENTITY = nn.LeakyReLU(1.0)


class _Block(nn.Module):
    """Circular convolution, instance norm and product, then convolution and norm once more."""

    def __init__(self, spatial_dims: int, n_in: int, n_out: int) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        norm = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[spatial_dims - 1]
        self.convolutions = nn.ModuleList(convolution(n, n_out, kernel_size=3, padding=1) for n in (n_in, n_out))
        self.norms = nn.ModuleList(norm(n_out, affine=True) for _ in range(2))
        self.activation = Product(n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self._convolve(0, x))
        return self._convolve(1, x)

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        """A convolution and its norm."""
        x = self.convolutions[number](x)
        norm = self.norms[number]
        y: Tensor = normalise_activate(x, norm, IDENTITY) if can_fuse(x, norm, IDENTITY) else norm(x)
        return y


class AliasFreeUNet(nn.Module):
    """A U-Net all of whose signals are band-limited, so that f(T x) = T f(x) for every real translation T.

    Circular convolutions, instance norm (the mean and the variance of a plane do not change with a translation),
    products of neighbouring channels without aliasing, one in each block, down by cutting the spectrum, up by filling
    it with zeros. The Nyquist frequency of the input is left out, since it cannot be moved between the pixels. The last
    layer starts from 0.

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels of the input; a complex image is two.
        out_channels: channels of the output.
        widths: channels of each level, from the image down.
        residual: add the (band-limited) input to the output.

    Raises:
        InputError: fewer than two levels, or residual with other channels.

    Source: Karras et al., Alias-free generative adversarial networks, arXiv 2106.12423; Michaeli et al., Alias-free
    convnets, arXiv 2303.08085; the form of the U-Net is that of :class:`recon.networks.UNet`.
    """

    stride = 2

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        residual: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise InputError(f"widths {list(widths)} make no U-Net: give at least two levels of 1 channel or more")
        if residual and in_channels != out_channels:
            raise InputError(f"residual needs as many out_channels ({out_channels}) as in_channels ({in_channels})")
        self.n_levels, self.residual = len(widths) - 1, residual
        convolution, pairs = Conv[Conv.CONV, spatial_dims], list(pairwise(widths))
        self.encoders = nn.ModuleList(_Block(spatial_dims, n, m) for n, m in pairwise([in_channels, *widths]))
        self.ups = nn.ModuleList(convolution(coarse, fine, kernel_size=1) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(_Block(spatial_dims, 2 * fine, fine) for fine, _ in pairs)
        self.head = convolution(widths[0], out_channels, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        set_padding_mode(self, "circular")

    @property
    def total_stride(self) -> int:
        """The product of the strides; each side of the input must be a multiple of it."""
        return self.stride**self.n_levels

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            x: ``(batch, in_channels, *spatial)``, each side a multiple of ``total_stride``.

        Returns:
            ``(batch, out_channels, *spatial)``.

        Raises:
            InputError: a side is not a multiple of the total stride.
        """
        check_multiples(x.shape[2:], self.total_stride)
        x = resample(x, x.shape[2:])
        y = self.head(self._level(0, x))
        return x + y if self.residual else y

    def _level(self, level: int, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if level == self.n_levels:
            return self.encoders[level](x)
        fine = self.encoders[level](x)
        coarse = resample(fine, [n // self.stride for n in size])
        up = resample(self.ups[level](self._level(level + 1, coarse)), size)  # a 1 x 1 convolution, cheaper there
        return self.decoders[level](torch.cat([fine, up], 1))
