"""A level of the U-Net in fewer passes over memory, by kernels. It computes what ``UNet._level_by_layers`` says.

Normalisation, activation and padding are one pass. On the way up, the shift that restores, the concatenation and the
padding are one pass too; the transposed convolution before it is a matrix product that gives the polyphase components
of its output, which that pass interleaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from recon.kernels.join import shift_join_pad
from recon.kernels.switches import has_kernels
from recon.layers import (
    can_fuse,
    circular_pad,
    is_circular,
    is_unmodified,
    is_weighted,
    normalise_activate,
    phase_offsets,
    restore,
)
from recon.layers.phases import Phase

if TYPE_CHECKING:
    from recon.networks.unet import UNet


def can_run(network: UNet, level: int, x: Tensor) -> bool:
    """Whether :func:`run` may stand for ``UNet._level_by_layers``.

    Args:
        network: whose level it is.
        level: 0 for the image's.
        x: what the level is given.

    Returns:
        True where there are kernels for x (which :mod:`recon.kernels.switches` knows), and the level's blocks are
        MONAI's, of layers that the kernels know, outside autocast, without a dropout at work, and without a hook that
        would want to see what passes between the layers.
    """
    blocks = [network.encoders[level], *network.decoders[level : level + 1]]
    return has_kernels(x) and all(_can_fuse(block, x) for block in blocks)


def run(network: UNet, level: int, x: Tensor) -> Tensor:
    """The level; arguments and result are those of ``UNet._level_by_layers``."""
    encoder: Any = network.encoders[level]
    fine = _convolve_twice(encoder, circular_pad(x, [(_padding(encoder.conv_0),) * 2] * 2))
    if level == network.n_levels:
        return fine
    coarse, phase = network.pools[level](fine)
    coarse = network._level(level + 1, coarse)
    decoder: Any = network.decoders[level]
    plain = isinstance(network.lowpass, nn.Identity) and not is_weighted(phase)
    components = upsample_components(network.ups[level], coarse) if plain else None
    images = [fine] if components is not None else [fine, network.lowpass(network.ups[level](coarse))]
    if is_weighted(phase):  # no shift, and so not for the kernel
        images[1], phase = restore(images[1], phase, network.stride), None
    shifts, pads = _shifts(network, phase, coarse), [_padding(decoder.conv_0)] * 4
    joined = [shift_join_pad(images, components, shifts, pads)]
    del fine, coarse, images, components  # the largest that there are: they need not outlive what they became
    return _convolve_twice(decoder, joined.pop())


def _shifts(network: UNet, phase: Phase, coarse: Tensor) -> Tensor | None:
    """By how many pixels each sample is shifted: its phase's offsets, as in restore, and ``up_offset``."""
    shifts = None if phase is None else phase_offsets(phase, network.stride, 2)
    if not network.up_offset:
        return shifts
    if shifts is None:
        shifts = torch.zeros(len(coarse), 2, dtype=torch.int64, device=coarse.device)
    return shifts + network.up_offset


def _can_fuse(block: Any, x: Tensor) -> bool:
    """Whether :func:`_convolve_twice` computes what the block does."""
    if type(block) is not TwoConv or is_watched(block):
        return False
    parts: tuple[Any, Any] = (block.conv_0, block.conv_1)
    known = all(_is_known(part.conv) and can_fuse(x, part.adn.N, part.adn.A) for part in parts)
    return known and not any(_drops(part.adn) for part in parts)


def _is_known(convolution: Any) -> bool:
    """Whether it computes what torch or we say, and pads all sides alike if it pads circularly."""
    padding = convolution.padding
    return is_unmodified(convolution) and (padding == (padding[0],) * 2 or not is_circular(convolution))


def _drops(adn: Any) -> bool:
    dropout = getattr(adn, "D", None)
    return dropout is not None and adn.training and dropout.p > 0


def is_watched(module: nn.Module) -> bool:
    """Whether a hook waits on it or inside it, for which the modules must run one by one."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return _has_any_global_hook() or any(getattr(m, name) for m in module.modules() for name in hooks)


def _padding(part: Any) -> int:
    """By how many pixels on each side the input of a convolution is to be padded circularly."""
    return int(part.conv.padding[0]) if is_circular(part.conv) else 0


def _convolve_twice(block: Any, x: Tensor) -> Tensor:
    """A block of two convolutions on its input, padded by :func:`_padding` of the first."""
    x = _convolve(block.conv_0, x, pad=_padding(block.conv_1))
    return _convolve(block.conv_1, x, pad=0)


def _convolve(part: Any, x: Tensor, pad: int) -> Tensor:
    """Convolution, normalisation and activation of x, which is padded already; with a ``pad`` for the next one."""
    conv = part.conv
    padding = 0 if is_circular(conv) else conv.padding
    x = F.conv2d(x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
    return normalise_activate(x, part.adn.N, part.adn.A, pad)


def upsample_components(up: nn.Module, x: Tensor) -> Tensor | None:
    """The polyphase components of a transposed convolution's output: 1 x 1 convolutions, in one matrix product.

    Args:
        up: MONAI's up-sampling by a transposed convolution whose kernel and stride are equal.
        x: ``(batch, channel, rows, columns)``.

    Returns:
        ``(batch, 4 out_channels, rows, columns)`` in pixel_shuffle's order, ``up(x) == pixel_shuffle(components, 2)``;
        or None where there are no kernels that take it so, or another up-sampling.
    """
    if not has_kernels(x) or is_watched(up):
        return None
    transposed = getattr(up, "deconv", None)
    if not isinstance(transposed, nn.ConvTranspose2d) or not is_unmodified(transposed):
        return None
    geometry = (transposed.kernel_size, transposed.stride, transposed.padding, transposed.output_padding)
    if geometry != ((2, 2), (2, 2), (0, 0), (0, 0)) or (transposed.dilation, transposed.groups) != ((1, 1), 1):
        return None
    weight = transposed.weight.permute(1, 2, 3, 0).reshape(-1, transposed.in_channels, 1, 1)
    bias = None if transposed.bias is None else transposed.bias.repeat_interleave(4)
    return F.conv2d(x, weight, bias)
