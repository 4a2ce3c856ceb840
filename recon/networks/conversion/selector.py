"""The selector of converted networks: a score that ties neither on flat areas nor after per-pixel norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recon.layers import split_phases

MIXED = 0.37  # of a neighbour's energy


class FourthPowers(nn.Module):
    """Keep the component with the largest energy, the energy of a pixel being x^4 of all channels with some of its
    neighbours' on one side mixed in.

    Networks of others put per-pixel norms before their strided convolutions (ConvNeXt), after which all components have
    one sum of squares, and averages, after which positive ones have one sum of values. The fourth powers differ. Images
    of few values (masks, label maps, clipped ones) have components of equal sums, too: mixed with neighbours at
    distances 1, 2, 4, ... along each axis, flat areas differ by where their borders are. A mixture is a dense circular
    operation, so that the choice still follows the content, though it is no function of one component alone.
    """

    score_on = "input"

    @torch.no_grad()
    def score(self, x: Tensor, stride: int | tuple[int, ...]) -> Tensor:
        """The score of each component, larger is chosen.

        Args:
            x: ``(batch, channel, *spatial)``.
            stride: the stride s, the same on each spatial axis or one for each.

        Returns:
            float64 ``(batch, product of the strides)``, whatever the autocast.
        """
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            energy = x.double().square().square().sum(1, keepdim=True)
            for axis in range(2, x.dim()):
                for distance in (2**i for i in range((x.shape[axis] - 1).bit_length())):
                    energy = energy + MIXED * energy.roll(distance, axis)
            return split_phases(energy.square(), stride).flatten(2).sum(-1)

    def forward(self, x: Tensor, stride: int | tuple[int, ...]) -> Tensor:
        """The phase ``(batch,)`` with the best score."""
        return self.score(x, stride).argmax(1)
