"""torchvision's residual blocks, whose two branches share one phase where they stride."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision.models import resnet as torchvision_resnet

from recon.layers import PolyphaseSampling


class StridedBlock:
    """What both blocks have in common: which convolutions stride, and the sampling around them.

    The residual branch's first spatial convolution is followed by norm and ReLU, then by the sampling. The shortcut
    takes the same phase. Blocks of stride 1 are torchvision's.
    """

    strided: str
    stride: int
    downsample: Any
    sampling: PolyphaseSampling

    @property
    def sampled_channels(self) -> tuple[int, int]:
        """The channels of what the block's sampling is handed before and after the convolution."""
        convolutions: Any = self
        return convolutions.conv1.in_channels, getattr(self, self.strided).out_channels

    def sample_by(self, sampling: PolyphaseSampling) -> None:
        """Stride on the grid that ``sampling`` chooses; where it needs the dense map, the convolutions yield it."""
        self.sampling = sampling
        if sampling.dense:
            getattr(self, self.strided).stride = self.downsample[0].stride = (1, 1)


class BasicBlock(StridedBlock, torchvision_resnet.BasicBlock):
    """Two 3x3 convolutions, the first of which strides."""

    strided = "conv1"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channel, *spatial)`` to ``(batch, channel', *spatial / stride)``."""
        if self.stride == 1:
            return torchvision_resnet.BasicBlock.forward(self, x)
        x, phase = self.sampling.before(x)
        y, phase = self.sampling.after(self.relu(self.bn1(self.conv1(x))), phase)
        y = self.bn2(self.conv2(y))
        y += self.downsample(self.sampling.beside(x, phase))
        return self.relu(y)


class Bottleneck(StridedBlock, torchvision_resnet.Bottleneck):
    """A 1x1, a 3x3 that strides, and a 1x1 convolution."""

    strided = "conv2"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channel, *spatial)`` to ``(batch, channel', *spatial / stride)``."""
        if self.stride == 1:
            return torchvision_resnet.Bottleneck.forward(self, x)
        x, phase = self.sampling.before(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y, phase = self.sampling.after(self.relu(self.bn2(self.conv2(y))), phase)
        y = self.bn3(self.conv3(y))
        y += self.downsample(self.sampling.beside(x, phase))
        return self.relu(y)
