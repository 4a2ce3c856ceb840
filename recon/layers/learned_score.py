"""Learned polyphase selection: a small network scores the components, and is trained along with all else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers.padding import circular_pad
from recon.layers.phases import Phase, split_phases
from recon.layers.selectors import Selector
from recon.layers.tracing import one_node

SMALL = 1e-8  # added to q^2, so that a blank image's gradient stays finite


class LearnedScore(Selector):
    """Keep the component that a small network scores best; the network learns from what becomes of its choice.

    Each component x_r is convolved circularly by the same 3 x 3 filters k, u_r = ReLU((k * x_r - m) / q + b), with the
    mean m and the root mean square q of each filter's output over all components of the sample, without which a filter
    could be 0 or linear everywhere and see no difference. The score is s_r = sum_f a_f mean(u_r), the mean over
    positions; k, b and a are learned. Where components trade places or are shifted, none of this changes but the
    order of the scores, so that the law of a selector holds.

    In eval mode the phase is arg max s, computed in float64 and outside autocast as :class:`MaxNorm` is. In training
    it is drawn with the probabilities softmax(s / d), d the deviation of s over the components, as weights that are 1
    for one component and 0 for the others, with the gradient of softmax((s + g) / temperature), g Gumbel noise: what
    follows sees the hard choices of evaluation, and the filters still have a gradient.

    Args:
        n_channels: of what is scored: the output of the operation, or its input.
        spatial_dims: 1, 2 or 3.
        score_on: "output" scores the dense output of the operation, "input" its input.
        temperature: of the gradient; a lower one has larger gradients, for fewer choices.
        n_features: how many filters.

    Raises:
        InputError: no channel or filter, a temperature that is not positive, or an unknown score_on.

    Source: Rojas-Gomez et al., Learnable polyphase sampling, arXiv 2210.08001, section 4. Theirs has a second
    convolution, whose mean over positions is a linear function of the first one's, as here; no m, q and d; and weights
    that are soft throughout.
    """

    def __init__(
        self,
        n_channels: int,
        spatial_dims: int = 2,
        score_on: str = "output",
        temperature: float = 1.0,
        n_features: int = 4,
    ) -> None:
        super().__init__(score_on)
        if n_channels < 1 or n_features < 1:
            raise InputError(f"n_channels {n_channels} and n_features {n_features} make no score: give 1 or more")
        if not temperature > 0:
            raise InputError(f"temperature {temperature} has no softmax: give a positive number")
        self.temperature = temperature
        side = (3,) * spatial_dims
        self.filters = nn.Parameter(torch.randn(n_channels, n_features, *side) / (n_channels * 3**spatial_dims) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.mix = nn.Parameter(torch.randn(n_features))

    def _scores(self, x: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
        d = x.dim() - 2
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[d - 1]
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            # Dilated by the stride, one convolution is that of every component; transposed, because torch's of float64
            # takes many times longer the other way round. It mirrors the filters, which no one can tell.
            padded = circular_pad(x.to(dtype), [(stride, stride)] * d)
            filtered = convolve(padded, self.filters.to(dtype), padding=2 * stride, dilation=stride)
            filtered = split_phases(filtered, stride).flatten(3)  # (batch, phase, feature, position)
            size = (filtered.square().mean((1, 3), keepdim=True) + SMALL).sqrt()
            scaled = (filtered - filtered.mean((1, 3), keepdim=True)) / size
            return (scaled + self.bias.to(dtype)[:, None]).relu().mean(3) @ self.mix.to(dtype)

    @torch.no_grad()
    def score(self, x: Tensor, stride: int) -> Tensor:
        """The score s of each component, float64 ``(batch, stride^d)``; see :meth:`Selector.score`."""
        return self._scores(x, stride, torch.float64)

    @one_node
    def forward(self, x: Tensor, stride: int) -> Phase:
        """The phase ``(batch,)`` with the best score; in training, the weights ``(batch, stride^d)`` of a draw."""
        if not self.training:
            return self.score(x, stride).argmax(1)
        return self._draw(self._scores(x, stride, torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    def _draw(self, scores: Tensor) -> Tensor:
        """Weights of one component each; the gradient passes as if scores had not been divided, or near ties would
        make it as large as one likes."""
        with torch.no_grad():
            centred = scores - scores.mean(1, keepdim=True)
            logits = centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(torch.finfo(scores.dtype).tiny)
        return F.gumbel_softmax(scores + (logits - scores).detach(), self.temperature, hard=True)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, score_on={self.score_on}"
