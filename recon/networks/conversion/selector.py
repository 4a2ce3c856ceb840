"""The selector of converted networks: a score that does not tie on maps that are normalised pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recon.layers import split_phases


class FourthPowers(nn.Module):
    """Keep the component with the largest sum of x^4 over all channels and positions.

    Networks of others put per-pixel norms before their strided convolutions (ConvNeXt), after which all components have
    one sum of squares, and averages, after which positive ones have one sum of values. The fourth powers differ.
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
            return split_phases(energy, stride).flatten(2).sum(-1)

    def forward(self, x: Tensor, stride: int | tuple[int, ...]) -> Tensor:
        """The phase ``(batch,)`` with the best score."""
        return self.score(x, stride).argmax(1)
