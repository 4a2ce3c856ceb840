"""Other programs' networks and weights as ours, on the grids that the content chooses."""

from __future__ import annotations

import copy
from typing import Any

from monai.networks.blocks import UpSample
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import set_padding_mode
from recon.networks.unet import UNet


def from_basic_unet(network: BasicUNet, **settings: Any) -> UNet:
    """A UNet with copies of the BasicUNet's layers: its weights, norms, activations and dropout.

    With ``sampling="stride"`` and ``padding="zeros"`` it gives the BasicUNet's outputs, wherever each side of the
    image is a multiple of 16. With aps and circular padding (the defaults) f(T x) = T f(x) for every circular shift
    T; at the border, and where other pixels are pooled, its outputs differ from those that the weights were trained
    for, so train on with it for a few epochs.

    Args:
        network: MONAI's, with ``upsample="deconv"``.
        settings: of :class:`UNet`: sampling, blur, padding, criterion, score_on, selector or up_path.

    Raises:
        InputError: another network or way up; a setting that the BasicUNet decides; see :class:`UNet`.
    """
    if not isinstance(network, BasicUNet):
        raise InputError(f"{type(network).__name__} is no BasicUNet of MONAI's: give one with its weights loaded")
    decided = settings.keys() - {"sampling", "blur", "padding", "criterion", "score_on", "selector", "up_path"}
    if decided:
        raise InputError(f"{min(decided)} is what the BasicUNet has: leave it out")
    unknown: Any = network  # its parts are declared by their constructors alone
    downs = [getattr(unknown, f"down_{level}").convs for level in range(1, 5)]
    up_paths = [getattr(unknown, f"upcat_{level}") for level in range(1, 5)]
    if not all(isinstance(part.upsample, UpSample) and hasattr(part.upsample, "deconv") for part in up_paths):
        raise InputError('the BasicUNet does not go up by transposed convolutions: build it with upsample="deconv"')
    first = unknown.conv_0.conv_0.conv
    ours = UNet(first.weight.dim() - 2, first.in_channels, unknown.final_conv.out_channels, (1,) * 5, **settings)
    ours.encoders = nn.ModuleList(copy.deepcopy(part) for part in (unknown.conv_0, *downs))
    ours.ups = nn.ModuleList(copy.deepcopy(part.upsample) for part in up_paths)
    ours.decoders = nn.ModuleList(copy.deepcopy(part.convs) for part in up_paths)
    ours.head = copy.deepcopy(unknown.final_conv)
    set_padding_mode(ours, settings.get("padding", "circular"))
    return ours.train(network.training)


def transposed_weight(weight: Tensor) -> Tensor:
    """The kernel of a convolution after APS-U, as the transposed convolution of ours that computes the same.

    A circular convolution, padded behind, of values with zeros put between them is, ``stride - 1`` pixels later, the
    transposed convolution of the flipped kernel: load the result into ``ups[level].deconv`` of a UNet with
    ``up_path="published"``.

    Args:
        weight: ``(out_channels, in_channels, *kernel)``, the kernel's sides equal to the stride.

    Returns:
        ``(in_channels, out_channels, *kernel)``.

    Source: arXiv 2105.04040, section 3.
    """
    return weight.flip(tuple(range(2, weight.dim()))).transpose(0, 1).contiguous()
