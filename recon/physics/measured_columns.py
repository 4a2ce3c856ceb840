"""The zero-filled image of an MRI scan that measured only some columns of k-space, for little more than these cost.

The transform along the rows takes the measured columns only, and the one along the columns only the rows that the crop
keeps. :func:`recon.physics.mri.zero_filled` calls it where it can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def takes_columns(kspace: Tensor, mask: Tensor) -> bool:
    """Whether :func:`magnitude_of_columns` can do it: the mask is bool ``(columns,)``, and no derivative is wanted."""
    derivative = (torch.is_grad_enabled() and kspace.requires_grad) or unpack_dual(kspace).tangent is not None
    return kspace.is_complex() and mask.dtype == torch.bool and mask.shape == kspace.shape[-1:] and not derivative


def magnitude_of_columns(kspace: Tensor, columns: Tensor, size: Sequence[int]) -> Tensor:
    """|crop(F^-1 M k)|, where M k is k in ``columns`` and 0 elsewhere.

    Nothing is moved by an fftshift. That of k-space is left out, since it only turns the phase of each pixel, and the
    magnitude has no phase. That of the image is part of the crop, which takes the pixels around index 0.

    Args:
        kspace: complex ``(..., rows, columns)``, its centre in the middle.
        columns: the numbers of the measured ones, int64 ``(n_measured,)``.
        size: (rows, columns) of the image's centre to keep.

    Returns:
        Real ``(..., *size)``.

    Example:
        >>> kspace = torch.zeros(2, 4) + 0j
        >>> kspace[1, 2] = 8**0.5  # k-space's centre: a flat image of ones
        >>> magnitude_of_columns(kspace, torch.tensor([2]), (1, 2)).round(decimals=3)
        tensor([[1., 1.]])
    """
    measured = torch.fft.ifft(kspace.gather(-1, columns.expand(*kspace.shape[:-1], -1)), dim=-2, norm="ortho")
    filled = kspace.new_zeros(*kspace.shape[:-2], size[0], kspace.shape[-1])
    for to, part in _halves(filled, measured, size[0], -2):
        to.scatter_(-1, columns.expand(part.shape), part)
    images = torch.fft.ifft(filled, dim=-1, norm="ortho")
    magnitude = torch.empty(*kspace.shape[:-2], *size, dtype=images.real.dtype, device=images.device)
    for to, part in _halves(magnitude, images, size[1], -1):
        _write_magnitude(part, to)
    return magnitude


def _halves(to: Tensor, x: Tensor, n: int, dim: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The n entries that a crop of the fftshifted x keeps, in two parts, each with its place in ``to``."""
    before = x.shape[dim] // 2 - (x.shape[dim] - n) // 2
    yield to.narrow(dim, 0, before), x.narrow(dim, x.shape[dim] - before, before)
    yield to.narrow(dim, before, n - before), x.narrow(dim, 0, n - before)


def _write_magnitude(images: Tensor, to: Tensor) -> None:
    """The absolute value; on a CPU NumPy's, which takes a fifth of torch's time."""
    if images.is_cpu:
        np.abs(images.numpy(), out=to.numpy())
    else:
        torch.abs(images, out=to)
