"""Selectors: which polyphase component each sample keeps.

A selector is a module ``selector(x, stride) -> phase``. The law it must obey for exact equivariance: its choice
is equivariant to permuting the components and invariant to circular shifts inside a component.

:class:`Selector` is the base of all here; a new one needs nothing but a ``score``. A module of somebody else's that has
the attribute ``score_on`` is as good; its methods ``check`` and ``score`` are used where it has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.layers.phases import Phase, split_phases
from recon.layers.tracing import one_node

CRITERIA = ("l1", "l2", "linf", "l1_min", "l2_min", "linf_min")
SCORE_ON = ("output", "input")


class StridedOperation(NamedTuple):
    """What of a strided operation decides whether a selector can score its output.

    Attributes:
        stride: the stride s.
        blurred: whether the output is blurred before it is scored.
        pool_size: side of the window, if the operation is a max-pool; None for any other one.
    """

    stride: int
    blurred: bool = False
    pool_size: int | None = None


class Selector(nn.Module):
    """Keep the component with the best score. A subclass says what the score is.

    Args:
        score_on: what is scored: the dense "output" of the operation that is about to be decimated, or its "input".

    Raises:
        InputError: an unknown score_on.
    """

    def __init__(self, score_on: str = "output") -> None:
        super().__init__()
        check_choice("score_on", score_on, SCORE_ON)
        self.score_on = score_on

    def check(self, operation: StridedOperation) -> None:
        """Raise InputError for an operation for which it cannot choose. By default there is none."""

    def score(self, x: Tensor, stride: int) -> Tensor:
        """The score of each component, larger is chosen; :func:`record_margins` watches it.

        Args:
            x: ``(batch, channel, *spatial)``.
            stride: the stride s.

        Returns:
            float64 ``(batch, stride^d)``, in the order of :func:`recon.layers.split_phases`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no score")

    @one_node
    def forward(self, x: Tensor, stride: int) -> Phase:
        """The phase ``(batch,)`` with the best score."""
        return self.score(x, stride).argmax(1)


class FixedPhase(Selector):
    """The ordinary strided grid: offset 0 for every sample, whatever the content (phase None). It scores nothing."""

    def __init__(self) -> None:
        super().__init__("input")

    @one_node
    def forward(self, x: Tensor, stride: int) -> Phase:
        """Return None, the phase that moves nothing."""
        return None


class MaxNorm(Selector):
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
        super().__init__(score_on)
        check_choice("criterion", criterion, CRITERIA)
        self.criterion = criterion

    def check(self, operation: StridedOperation) -> None:
        """Refuse an operation whose components have equal scores for any input.

        Raises:
            InputError: scores of the output that tie: linf of a dense max-pool, whose maximum stands in every
                component; l1 of a blurred output at stride 2, whose components have equal sums where it is positive.
        """
        norm = self.criterion.removesuffix("_min")
        if self.score_on == "input":
            return
        if norm == "l1" and operation.blurred and operation.stride == 2:
            raise InputError(
                "l1 cannot choose a phase of a blurred image: the blur removes the frequency by which the sums of "
                "positive values differ; use criterion l2, or score_on input"
            )
        pooled = operation.pool_size is not None and operation.pool_size >= operation.stride
        if norm == "linf" and pooled and not operation.blurred:
            raise InputError(
                "linf cannot choose a phase of a max-pooled image, whose maximum stands in all of them: "
                "use criterion l2 or l1, or score_on input"
            )

    @torch.no_grad()
    def score(self, x: Tensor, stride: int) -> Tensor:
        """The sum of |x|, of x^2, or the maximum of |x| (negated for ``*_min``); see :meth:`Selector.score`."""
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            norm = self.criterion.removesuffix("_min")
            if norm == "linf":
                scores = split_phases(x.abs().amax(1, keepdim=True), stride).flatten(2).amax(-1).double()
            else:
                energy = x.double().abs() if norm == "l1" else x.double().square()
                scores = split_phases(energy.sum(1, keepdim=True), stride).flatten(2).sum(-1)
        return -scores if self.criterion.endswith("_min") else scores

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"criterion={self.criterion}, score_on={self.score_on}"


def phase_margin(scores: Tensor) -> Tensor:
    """How far the best score is from the second, relative: (best - second) / max(|best|, |second|); 0 is a tie.

    Args:
        scores: ``(batch, phase)`` from a selector's ``score``, as :meth:`MaxNorm.score`.

    Returns:
        ``(batch,)``, 0 where all scores are 0 (a blank slice).
    """
    best, second = scores.topk(2, dim=1).values.unbind(1)
    largest = torch.maximum(best.abs(), second.abs())
    return torch.where(best == second, 0.0, (best - second) / largest)


@contextmanager
def record_margins(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the phase margins of every selector that has a ``score`` and chooses while the network runs.

    Yields a list that grows by one ``(batch,)`` tensor per selector and forward pass, from the image down:
    relative gap between best and second score, 0 for a tie. Scores twice, so it is for diagnosis, not for training.

        with record_margins(network) as margins:
            network(x)
        smallest = torch.stack(margins).amin(0)
    """
    margins: list[Tensor] = []

    def collect(selector: Any, args: tuple[Tensor, int], phase: Phase) -> None:
        if phase is not None:
            margins.append(phase_margin(selector.score(*args)))

    selectors = [m for m in network.modules() if hasattr(m, "score_on") and callable(getattr(m, "score", None))]
    hooks = [selector.register_forward_hook(collect) for selector in selectors]
    try:
        yield margins
    finally:
        for hook in hooks:
            hook.remove()
