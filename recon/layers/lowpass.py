"""The binomial low-pass filter of anti-aliased networks."""

from __future__ import annotations

from math import comb

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers.padding import circular_pad
from recon.layers.tracing import one_node

BLUR_SIZES = range(1, 8)


class BinomialBlur(nn.Module):
    """Circular convolution of each channel with the binomial kernel [1], [1,1], [1,2,1], ... of unit sum.

    y[n] = sum_k b[k] x[n + k - left] on each axis in turn (an outer product), with left = floor((size - 1) / 2).
    An even size moves the image by half a pixel; ``mirrored`` moves it the other way, so that a blur on the way
    down and a mirrored one on the way up cancel. It has no parameters and adds nothing to the state dict.

    Args:
        size: 1 to 7; 1 does nothing.
        mirrored: swap the left and the right pad.

    Raises:
        InputError: a size outside 1 to 7.

    Source: Zhang, arXiv 1904.11486, section 3.
    """

    kernel: Tensor

    def __init__(self, size: int, mirrored: bool = False) -> None:
        super().__init__()
        if size not in BLUR_SIZES:
            raise InputError(f"blur {size} is not a size of the binomial filter: choose 1 to 7")
        self.size = size
        left, right = (size - 1) // 2, size // 2
        self.pads = (right, left) if mirrored else (left, right)
        kernel = torch.tensor([comb(size - 1, k) for k in range(size)], dtype=torch.float32) / 2 ** (size - 1)
        self.register_buffer("kernel", kernel, persistent=False)

    @one_node
    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """Blur, and keep every ``stride``-th sample.

        Args:
            x: ``(batch, channel, *spatial)``.
            stride: only 0, stride, 2 stride ... are computed.

        Returns:
            ``(batch, channel, *ceil(spatial / stride))``.
        """
        if self.size == 1 and stride == 1:
            return x
        d, channels = x.dim() - 2, x.shape[1]
        x = circular_pad(x, [self.pads] * d)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[d - 1]
        kernel = self.kernel.to(x.dtype)
        for axis in range(d):
            shape, step = [1] * d, [1] * d
            shape[axis], step[axis] = self.size, stride
            weight = kernel.view(1, 1, *shape).expand(channels, 1, *shape)
            x = convolve(x, weight, stride=step, groups=channels)
        return x

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"{self.size}, pads={self.pads}"
