"""Selectors: which polyphase component each sample keeps.

A selector is a module ``selector(x, stride) -> phase``. The law it must obey for exact equivariance: its choice
is equivariant to permuting the components and invariant to circular shifts inside a component.
``score_on`` says what it looks at: the dense output of the operation that is about to be decimated, or its input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recon.errors import check_choice
from recon.layers.phases import Phase, split_phases
from recon.layers.tracing import one_node

CRITERIA = ("l1", "l2", "linf", "l1_min", "l2_min", "linf_min")
SCORE_ON = ("output", "input")


class FixedPhase(nn.Module):
    """The plain strided grid: offset 0 for every sample, whatever the content (phase None)."""

    score_on = "input"

    @one_node
    def forward(self, x: Tensor, stride: int) -> Phase:
        """Return None, the phase that moves nothing."""
        return None


class MaxNorm(nn.Module):
    """Adaptive polyphase sampling: keep the component with the largest norm over all channels and positions.

    phase = argmax_r ||x_r||_p, or argmin with a criterion ``*_min``. The score is computed in float64 and outside
    autocast: in float32 the order of summation alone would let near-equal phases flip between shifted inputs.

    Args:
        criterion: l1, l2 (as the sum of squares), linf, or one of them followed by _min.
        score_on: "output" scores the dense output of the operation (the papers' choice), "input" its input.

    Raises:
        InputError: an unknown criterion or score_on.

    Source: arXiv 2011.14214, section 4; arXiv 2105.04040, section 3.
    """

    def __init__(self, criterion: str = "l2", score_on: str = "output") -> None:
        super().__init__()
        check_choice("criterion", criterion, CRITERIA)
        check_choice("score_on", score_on, SCORE_ON)
        self.criterion, self.score_on = criterion, score_on

    @torch.no_grad()
    def score(self, x: Tensor, stride: int) -> Tensor:
        """The score of each component, larger is chosen.

        Args:
            x: ``(batch, channel, *spatial)``.
            stride: the stride s.

        Returns:
            float64 ``(batch, stride^d)``: the sum of |x|, of x^2, or the maximum of |x| (negated for ``*_min``).
        """
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            norm = self.criterion.removesuffix("_min")
            if norm == "linf":
                scores = split_phases(x.abs().amax(1, keepdim=True), stride).flatten(1 + 1).amax(-1).double()
            else:
                energy = x.double().abs() if norm == "l1" else x.double().square()
                scores = split_phases(energy.sum(1, keepdim=True), stride).flatten(2).sum(-1)
        return -scores if self.criterion.endswith("_min") else scores

    @one_node
    def forward(self, x: Tensor, stride: int) -> Tensor:
        """The phase ``(batch,)`` with the best score."""
        return self.score(x, stride).argmax(1)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"criterion={self.criterion}, score_on={self.score_on}"


def phase_margin(scores: Tensor) -> Tensor:
    """How far the best score is from the second, relative: (best - second) / max(|best|, |second|); 0 is a tie.

    Args:
        scores: ``(batch, phase)`` from :meth:`MaxNorm.score`.

    Returns:
        ``(batch,)``, 0 where all scores are 0 (a blank slice).
    """
    best, second = scores.topk(2, dim=1).values.unbind(1)
    largest = torch.maximum(best.abs(), second.abs())
    return torch.where(best == second, 0.0, (best - second) / largest)
