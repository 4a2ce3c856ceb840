"""What stands around a strided operation so that it samples the grid that the content chooses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers.lowpass import BinomialBlur
from recon.layers.phases import Phase, align, decimate
from recon.layers.selectors import SCORE_ON, FixedPhase, MaxNorm

torch.fx.wrap("align")  # one node for a tracer, as the others; see recon.layers.tracing
torch.fx.wrap("decimate")
torch.fx.wrap("check_blurred_sizes")


def check_blurred_sizes(size: Sequence[int]) -> None:
    """Refuse to score a blurred image whose phases all tie.

    Raises:
        InputError: a side of 2 pixels.
    """
    if any(side <= 2 for side in size):
        raise InputError(
            "a side of 2 pixels is constant once it is blurred, and all its phases tie: use a larger image, "
            "blur 1, or score_on input"
        )


class PolyphaseSampling(nn.Module):
    """Align, run, blur and decimate: the parts of a sampling that are the same for every strided operation.

        x, phase = sampling.before(x)
        y = operation(x)  # with stride 1 if sampling.dense, with its own stride otherwise
        y, phase = sampling.after(y, phase)
        z = sampling.beside(x, phase)  # another branch on the same grid, if there is one

    A selector that scores the input chooses in ``before``; one that scores the output chooses in ``after``, from the
    dense map, blurred if there is a low-pass. It holds no state.

    Args:
        stride: the stride s >= 2.
        selector: FixedPhase, MaxNorm, or any module that obeys the selector law; None means FixedPhase.
        lowpass: BinomialBlur or None.

    Raises:
        InputError: a stride below 2; a selector without ``score_on``; l1 scores of a blurred output at stride 2, whose
            components have equal sums where it is positive.
    """

    def __init__(self, stride: int = 2, selector: nn.Module | None = None, lowpass: BinomialBlur | None = None) -> None:
        super().__init__()
        if stride < 2:
            raise InputError(f"stride {stride} does not down-sample: choose 2 or more")
        self.stride, self.selector, self.lowpass = stride, selector or FixedPhase(), lowpass
        if getattr(self.selector, "score_on", None) not in SCORE_ON:
            name = type(self.selector).__name__
            raise InputError(f"the selector {name} does not say what it scores: set its score_on to output or input")
        criterion = self.selector.criterion if isinstance(self.selector, MaxNorm) else None
        if criterion in ("l1", "l1_min") and self.selector.score_on == "output" and self._blurs and stride == 2:
            raise InputError(
                "l1 cannot choose a phase of a blurred image: the blur removes the frequency by which the sums of "
                "positive values differ; use criterion l2, or score_on input"
            )

    @property
    def _blurs(self) -> bool:
        return self.lowpass is not None and self.lowpass.size > 1

    @property
    def dense(self) -> bool:
        """Whether the operation must run with stride 1, because its dense output is blurred or scored."""
        return self.lowpass is not None or self.selector.score_on == "output"

    def before(self, x: Tensor) -> tuple[Tensor, Phase]:
        """Align the input ``(batch, channel, *spatial)`` if it is what the selector scores."""
        if self.selector.score_on == "output":
            return x, None
        phase = self.selector(x, self.stride)
        return align(x, phase, self.stride), phase

    def after(self, y: Tensor, phase: Phase) -> tuple[Tensor, Phase]:
        """Blur and decimate the operation's output.

        Args:
            y: ``(batch, channel, *spatial)`` if ``dense``, else already strided (and returned as it is).
            phase: from :meth:`before`.

        Returns:
            ``(batch, channel, *spatial / stride)`` and the phase ``(batch,)`` or None.

        Raises:
            InputError: a blurred side of 2 pixels at stride 2 is to be scored: it is constant, a tie for any input.
        """
        if self.selector.score_on == "output":
            if self._blurs and self.stride == 2:
                check_blurred_sizes(y.shape[2:])
            y = y if self.lowpass is None else self.lowpass(y)
            phase = self.selector(y, self.stride)
            return decimate(y, phase, self.stride), phase
        return (y if self.lowpass is None else self.lowpass(y, self.stride)), phase

    def beside(self, x: Tensor, phase: Phase) -> Tensor:
        """Take a branch that runs beside the operation onto the operation's grid.

        Args:
            x: ``(batch, channel, *spatial)``, what :meth:`before` returned.
            phase: from :meth:`after`.

        Returns:
            ``(batch, channel, *spatial / stride)``, blurred, if ``dense``; else x, for the branch to stride itself.
        """
        if not self.dense:
            return x
        moves = phase if self.selector.score_on == "output" else None
        if self.lowpass is None:
            return decimate(x, moves, self.stride)
        return self.lowpass(align(x, moves, self.stride), self.stride)
